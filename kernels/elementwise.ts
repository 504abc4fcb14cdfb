// Everything of a layer that is neither a matrix product nor attention. Shares are runs of rows.
import { exp4 } from './exp'
import { half1 } from './half'
import { storeVector } from './kv-vector'
import { max4, sum4 } from './lanes'
import {
  float,
  GATHER_COLUMNS,
  GATHER_IDS,
  GATHER_KIND,
  GATHER_PADDED_COLUMNS,
  GATHER_ROWS,
  GATHER_TARGET,
  GATHER_TARGET_STRIDE,
  GATHER_WEIGHTS,
  int,
  KIND_F32,
  KIND_Q8,
  pointer,
  QUANTISE_COLUMNS,
  QUANTISE_PADDED_COLUMNS,
  QUANTISE_ROWS,
  QUANTISE_SCALES,
  QUANTISE_SOURCE,
  QUANTISE_SOURCE_STRIDE,
  QUANTISE_SUMS,
  QUANTISE_VALUES,
  RMS_NORM_EPSILON,
  RMS_NORM_PADDED_TO,
  RMS_NORM_ROWS,
  RMS_NORM_SEGMENT_LENGTH,
  RMS_NORM_SEGMENTS,
  RMS_NORM_SOURCE,
  RMS_NORM_SOURCE_STRIDE,
  RMS_NORM_TARGET,
  RMS_NORM_TARGET_STRIDE,
  RMS_NORM_WEIGHT,
  ROPE_COSINES,
  ROPE_HALF,
  ROPE_HEAD_SIZE,
  ROPE_HEADS,
  ROPE_ROWS,
  ROPE_SINES,
  ROPE_STRIDE,
  ROPE_X,
  shareBegin,
  SILU_GATE_COLUMNS,
  SILU_GATE_PADDED_TO,
  SILU_GATE_ROWS,
  SILU_GATE_SOURCE,
  SILU_GATE_SOURCE_STRIDE,
  SILU_GATE_TARGET,
  SILU_GATE_TARGET_STRIDE,
  SILU_GATE_UP_OFFSET,
  STORE_KV_HEAD_SIZE,
  STORE_KV_HEAD_STRIDE,
  STORE_KV_K,
  STORE_KV_KEYS,
  STORE_KV_KV_HEADS,
  STORE_KV_ROWS,
  STORE_KV_SCALES_OFFSET,
  STORE_KV_SLOTS,
  STORE_KV_SOURCE_STRIDE,
  STORE_KV_V,
  STORE_KV_VALUES,
} from './record'

// Zeros in columns [begin, end) of a row of f32.
@inline
function fillZeros(row: usize, begin: i32, end: i32): void {
  if (end > begin) memory.fill(row + (<usize>begin << 2), 0, <usize>(end - begin) << 2)
}

// q = nearest(x * 127/amax) per block of 32, scale = amax/127, and the sum of the block's integers.
export function quantise(record: usize, part: i32, parts: i32): void {
  const rows = int(record, QUANTISE_ROWS)
  const columns = int(record, QUANTISE_COLUMNS)
  const padded = int(record, QUANTISE_PADDED_COLUMNS)
  const blocks = padded >> 5
  const end = shareBegin(rows, part + 1, parts)
  for (let row = shareBegin(rows, part, parts); row < end; row++) {
    const source = pointer(record, QUANTISE_SOURCE) + <usize>row * pointer(record, QUANTISE_SOURCE_STRIDE)
    const q = pointer(record, QUANTISE_VALUES) + <usize>row * <usize>padded
    const scales = pointer(record, QUANTISE_SCALES) + (<usize>(row * blocks) << 2)
    const sums = pointer(record, QUANTISE_SUMS) + (<usize>(row * blocks) << 2)
    for (let block = 0; block < blocks; block++) {
      const at = <usize>block << 2
      const from = source + (<usize>block << 7)
      const to = q + (<usize>block << 5)
      if ((block + 1) << 5 <= columns) quantiseBlock(from, to, scales + at, sums + at)
      else quantiseTail(from, max(0, columns - (block << 5)), to, scales + at, sums + at)
    }
  }
}

// amax, or 0 where 127 / amax overflows: such a block counts as all zeros.
@inline
function significant(amax: f32): f32 {
  return <f32>127 / amax == Infinity ? 0 : amax
}

@inline
function quantiseBlock(source: usize, q: usize, scale: usize, sum: usize): void {
  let largest = f32x4.splat(0)
  for (let i: usize = 0; i < 128; i += 16) largest = f32x4.max(largest, f32x4.abs(v128.load(source + i)))
  const amax = significant(max4(largest))
  const inverse = f32x4.splat(amax == 0 ? 0 : 127 / amax)
  let total = i32x4.splat(0)
  for (let i: usize = 0; i < 128; i += 16) {
    const n = i32x4.trunc_sat_f32x4_s(f32x4.nearest(f32x4.mul(v128.load(source + i), inverse)))
    total = i32x4.add(total, n)
    const words = i16x8.narrow_i32x4_s(n, n)
    v128.store32_lane(q + (i >> 2), i8x16.narrow_i16x8_s(words, words), 0)
  }
  store<f32>(scale, amax / 127)
  store<i32>(
    sum,
    i32x4.extract_lane(total, 0) +
      i32x4.extract_lane(total, 1) +
      i32x4.extract_lane(total, 2) +
      i32x4.extract_lane(total, 3),
  )
}

function quantiseTail(source: usize, count: i32, q: usize, scale: usize, sum: usize): void {
  let amax: f32 = 0
  for (let i = 0; i < count; i++) amax = max(amax, abs(load<f32>(source + (<usize>i << 2))))
  amax = significant(amax)
  const inverse: f32 = amax == 0 ? 0 : 127 / amax
  let total = 0
  for (let i = 0; i < 32; i++) {
    const n = i < count ? <i32>nearest(load<f32>(source + (<usize>i << 2)) * inverse) : 0
    store<i8>(q + <usize>i, <i8>n)
    total += n
  }
  store<f32>(scale, amax / 127)
  store<i32>(sum, total)
}

// y = x * (1 / sqrt(mean(x^2) + epsilon)) * w. Squares are summed in four lanes, then (l0+l1)+(l2+l3).
export function rmsNorm(record: usize, part: i32, parts: i32): void {
  const rows = int(record, RMS_NORM_ROWS)
  const segments = int(record, RMS_NORM_SEGMENTS)
  const n = int(record, RMS_NORM_SEGMENT_LENGTH)
  const bytes = <usize>n << 2
  const end = shareBegin(rows, part + 1, parts)
  for (let row = shareBegin(rows, part, parts); row < end; row++) {
    const source = pointer(record, RMS_NORM_SOURCE) + <usize>row * pointer(record, RMS_NORM_SOURCE_STRIDE)
    const target = pointer(record, RMS_NORM_TARGET) + <usize>row * pointer(record, RMS_NORM_TARGET_STRIDE)
    for (let s = 0; s < segments; s++) {
      const at = <usize>s * bytes
      normalise(source + at, pointer(record, RMS_NORM_WEIGHT), target + at, n, float(record, RMS_NORM_EPSILON))
    }
    fillZeros(target, segments * n, int(record, RMS_NORM_PADDED_TO))
  }
}

@inline
function normalise(source: usize, weight: usize, target: usize, n: i32, epsilon: f32): void {
  const whole = <usize>(n & ~3) << 2
  let squares = f32x4.splat(0)
  for (let i: usize = 0; i < whole; i += 16) {
    const x = v128.load(source + i)
    squares = f32x4.add(squares, f32x4.mul(x, x))
  }
  let sum = sum4(squares)
  const all = <usize>n << 2
  for (let i = whole; i < all; i += 4) {
    const x = load<f32>(source + i)
    sum += x * x
  }
  const factor: f32 = 1 / sqrt<f32>(sum / <f32>n + epsilon)
  const factors = f32x4.splat(factor)
  for (let i: usize = 0; i < whole; i += 16) {
    v128.store(target + i, f32x4.mul(f32x4.mul(v128.load(source + i), factors), v128.load(weight + i)))
  }
  for (let i = whole; i < all; i += 4) store<f32>(target + i, load<f32>(source + i) * factor * load<f32>(weight + i))
}

// (a, b) -> (a cos - b sin, b cos + a sin) for pairs (i, i + half) of each head, in place.
export function rope(record: usize, part: i32, parts: i32): void {
  const rows = int(record, ROPE_ROWS)
  const heads = int(record, ROPE_HEADS)
  const headBytes = <usize>int(record, ROPE_HEAD_SIZE) << 2
  const half = int(record, ROPE_HALF)
  const halfBytes = <usize>half << 2
  const whole = <usize>(half & ~3) << 2
  const end = shareBegin(rows, part + 1, parts)
  for (let row = shareBegin(rows, part, parts); row < end; row++) {
    const cosines = pointer(record, ROPE_COSINES) + <usize>row * halfBytes
    const sines = pointer(record, ROPE_SINES) + <usize>row * halfBytes
    for (let head = 0; head < heads; head++) {
      const x = pointer(record, ROPE_X) + <usize>row * pointer(record, ROPE_STRIDE) + <usize>head * headBytes
      const y = x + halfBytes
      for (let i: usize = 0; i < whole; i += 16) {
        const a = v128.load(x + i)
        const b = v128.load(y + i)
        const c = v128.load(cosines + i)
        const s = v128.load(sines + i)
        v128.store(x + i, f32x4.sub(f32x4.mul(a, c), f32x4.mul(b, s)))
        v128.store(y + i, f32x4.add(f32x4.mul(b, c), f32x4.mul(a, s)))
      }
      for (let i = whole; i < halfBytes; i += 4) {
        const a = load<f32>(x + i)
        const b = load<f32>(y + i)
        const c = load<f32>(cosines + i)
        const s = load<f32>(sines + i)
        store<f32>(x + i, a * c - b * s)
        store<f32>(y + i, b * c + a * s)
      }
    }
  }
}

export function storeKeysAndValues(record: usize, part: i32, parts: i32): void {
  const rows = int(record, STORE_KV_ROWS)
  const heads = int(record, STORE_KV_KV_HEADS)
  const size = int(record, STORE_KV_HEAD_SIZE)
  const end = shareBegin(rows, part + 1, parts)
  for (let row = shareBegin(rows, part, parts); row < end; row++) {
    const from = <usize>row * pointer(record, STORE_KV_SOURCE_STRIDE)
    const slot = load<i32>(pointer(record, STORE_KV_SLOTS) + (<usize>row << 2))
    for (let head = 0; head < heads; head++) {
      const source = from + <usize>(head * size) * 4
      const base = <usize>head * pointer(record, STORE_KV_HEAD_STRIDE)
      const scales = pointer(record, STORE_KV_SCALES_OFFSET)
      storeVector(pointer(record, STORE_KV_K) + source, size, pointer(record, STORE_KV_KEYS) + base, slot, scales)
      storeVector(pointer(record, STORE_KV_V) + source, size, pointer(record, STORE_KV_VALUES) + base, slot, scales)
    }
  }
}

// gate / (1 + exp(-gate)) * up.
export function siluGate(record: usize, part: i32, parts: i32): void {
  const rows = int(record, SILU_GATE_ROWS)
  const n = int(record, SILU_GATE_COLUMNS)
  const end = shareBegin(rows, part + 1, parts)
  for (let row = shareBegin(rows, part, parts); row < end; row++) {
    const gate = pointer(record, SILU_GATE_SOURCE) + <usize>row * pointer(record, SILU_GATE_SOURCE_STRIDE)
    const up = gate + pointer(record, SILU_GATE_UP_OFFSET)
    const target = pointer(record, SILU_GATE_TARGET) + <usize>row * pointer(record, SILU_GATE_TARGET_STRIDE)
    const all = <usize>n << 2
    const whole = all & ~15
    for (let i: usize = 0; i < whole; i += 16) {
      v128.store(target + i, silu4(v128.load(gate + i), v128.load(up + i)))
    }
    for (let i = whole; i < all; i += 4) {
      const value = silu4(v128.load32_zero(gate + i), v128.load32_zero(up + i))
      store<f32>(target + i, f32x4.extract_lane(value, 0))
    }
    fillZeros(target, n, int(record, SILU_GATE_PADDED_TO))
  }
}

@inline
function silu4(gate: v128, up: v128): v128 {
  const silu = f32x4.div(gate, f32x4.add(f32x4.splat(1), exp4(f32x4.neg(gate))))
  return f32x4.mul(silu, up)
}

// Embedding rows out of the tiled layout.
export function gather(record: usize, part: i32, parts: i32): void {
  const rows = int(record, GATHER_ROWS)
  const kind = int(record, GATHER_KIND)
  const columns = int(record, GATHER_COLUMNS)
  const padded = int(record, GATHER_PADDED_COLUMNS)
  const blockBytes: usize = kind == KIND_F32 ? 1024 : kind == KIND_Q8 ? 272 : 144
  const groupBytes = <usize>(padded >> 5) * blockBytes
  const end = shareBegin(rows, part + 1, parts)
  for (let row = shareBegin(rows, part, parts); row < end; row++) {
    const id = load<i32>(pointer(record, GATHER_IDS) + (<usize>row << 2))
    const output = <usize>(id & 7)
    const group = pointer(record, GATHER_WEIGHTS) + <usize>(id >> 3) * groupBytes
    const target = pointer(record, GATHER_TARGET) + <usize>row * pointer(record, GATHER_TARGET_STRIDE)
    for (let k = 0; k < columns; k++) {
      const block = group + <usize>(k >> 5) * blockBytes
      const run = <usize>((k & 31) >> 2)
      const inner = <usize>(k & 3)
      let value: f32
      if (kind == KIND_F32) {
        value = load<f32>(group + (<usize>k << 5) + (output << 2))
      } else if (kind == KIND_Q8) {
        const q = load<i8>(block + run * 32 + output * 4 + inner)
        value = <f32>q * half1(block + 256 + output * 2)
      } else {
        const byte = load<u8>(block + run * 16 + (output & 3) * 4 + inner)
        const q = <i32>(output < 4 ? byte & 15 : byte >> 4) - 8
        value = <f32>q * half1(block + 128 + output * 2)
      }
      store<f32>(target + (<usize>k << 2), value)
    }
    fillZeros(target, columns, padded)
  }
}
