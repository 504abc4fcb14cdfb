// Everything of a layer that is neither a matrix product nor attention. Shares are runs of rows.
import { exp4 } from './exp'
import { half1 } from './half'
import { float, int, KIND_F32, KIND_Q8, pointer, shareBegin } from './record'

// q = nearest(x * 127/amax) per block of 32, scale = amax/127, and the sum of the block's integers.
// 1 rows, 2 columns, 3 padded columns, 4 source, 5 source stride, 6 q, 7 scales, 8 sums
export function quantise(record: usize, part: i32, parts: i32): void {
  const rows = int(record, 1)
  const columns = int(record, 2)
  const padded = int(record, 3)
  const blocks = padded >> 5
  const end = shareBegin(rows, part + 1, parts)
  for (let row = shareBegin(rows, part, parts); row < end; row++) {
    const source = pointer(record, 4) + <usize>row * pointer(record, 5)
    const q = pointer(record, 6) + <usize>row * <usize>padded
    const scales = pointer(record, 7) + (<usize>(row * blocks) << 2)
    const sums = pointer(record, 8) + (<usize>(row * blocks) << 2)
    for (let block = 0; block < blocks; block++) {
      const at = <usize>block << 2
      const from = source + (<usize>block << 7)
      const to = q + (<usize>block << 5)
      if ((block + 1) << 5 <= columns) quantiseBlock(from, to, scales + at, sums + at)
      else quantiseTail(from, max(0, columns - (block << 5)), to, scales + at, sums + at)
    }
  }
}

// @ts-ignore: decorator
@inline
function quantiseBlock(source: usize, q: usize, scale: usize, sum: usize): void {
  let largest = f32x4.splat(0)
  for (let i: usize = 0; i < 128; i += 16) largest = f32x4.max(largest, f32x4.abs(v128.load(source + i)))
  const amax = max(
    max(f32x4.extract_lane(largest, 0), f32x4.extract_lane(largest, 1)),
    max(f32x4.extract_lane(largest, 2), f32x4.extract_lane(largest, 3)),
  )
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
// 1 rows, 2 segments, 3 n, 4 source, 5 source stride, 6 weight, 7 target, 8 target stride, 9 padded to, 10 epsilon
export function rmsNorm(record: usize, part: i32, parts: i32): void {
  const rows = int(record, 1)
  const segments = int(record, 2)
  const n = int(record, 3)
  const bytes = <usize>n << 2
  const end = shareBegin(rows, part + 1, parts)
  for (let row = shareBegin(rows, part, parts); row < end; row++) {
    const source = pointer(record, 4) + <usize>row * pointer(record, 5)
    const target = pointer(record, 7) + <usize>row * pointer(record, 8)
    for (let s = 0; s < segments; s++) {
      normalise(source + <usize>s * bytes, pointer(record, 6), target + <usize>s * bytes, n, float(record, 10))
    }
    const used = segments * n
    if (int(record, 9) > used) memory.fill(target + (<usize>used << 2), 0, <usize>(int(record, 9) - used) << 2)
  }
}

// @ts-ignore: decorator
@inline
function normalise(source: usize, weight: usize, target: usize, n: i32, epsilon: f32): void {
  const whole = <usize>(n & ~3) << 2
  let squares = f32x4.splat(0)
  for (let i: usize = 0; i < whole; i += 16) {
    const x = v128.load(source + i)
    squares = f32x4.add(squares, f32x4.mul(x, x))
  }
  let sum =
    f32x4.extract_lane(squares, 0) +
    f32x4.extract_lane(squares, 1) +
    (f32x4.extract_lane(squares, 2) + f32x4.extract_lane(squares, 3))
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
// 1 rows, 2 heads, 3 head size, 4 half, 5 x, 6 stride, 7 cos, 8 sin
export function rope(record: usize, part: i32, parts: i32): void {
  const rows = int(record, 1)
  const heads = int(record, 2)
  const headBytes = <usize>int(record, 3) << 2
  const half = int(record, 4)
  const halfBytes = <usize>half << 2
  const whole = <usize>(half & ~3) << 2
  const end = shareBegin(rows, part + 1, parts)
  for (let row = shareBegin(rows, part, parts); row < end; row++) {
    const cosines = pointer(record, 7) + <usize>row * halfBytes
    const sines = pointer(record, 8) + <usize>row * halfBytes
    for (let head = 0; head < heads; head++) {
      const x = pointer(record, 5) + <usize>row * pointer(record, 6) + <usize>head * headBytes
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

// 1 rows, 2 KV heads, 3 head size, 4 k, 5 v, 6 source stride, 7 keys, 8 values, 9 head stride, 10 slots
export function storeKeysAndValues(record: usize, part: i32, parts: i32): void {
  const rows = int(record, 1)
  const heads = int(record, 2)
  const bytes = <usize>int(record, 3) << 2
  const end = shareBegin(rows, part + 1, parts)
  for (let row = shareBegin(rows, part, parts); row < end; row++) {
    const from = <usize>row * pointer(record, 6)
    const to = <usize>load<i32>(pointer(record, 10) + (<usize>row << 2)) * bytes
    for (let head = 0; head < heads; head++) {
      const source = from + <usize>head * bytes
      const target = to + <usize>head * pointer(record, 9)
      memory.copy(pointer(record, 7) + target, pointer(record, 4) + source, bytes)
      memory.copy(pointer(record, 8) + target, pointer(record, 5) + source, bytes)
    }
  }
}

// gate / (1 + exp(-gate)) * up.
// 1 rows, 2 n, 3 source, 4 source stride, 5 offset of up in bytes, 6 target, 7 target stride, 8 padded to
export function siluGate(record: usize, part: i32, parts: i32): void {
  const rows = int(record, 1)
  const n = int(record, 2)
  const end = shareBegin(rows, part + 1, parts)
  const one = f32x4.splat(1)
  for (let row = shareBegin(rows, part, parts); row < end; row++) {
    const gate = pointer(record, 3) + <usize>row * pointer(record, 4)
    const up = gate + pointer(record, 5)
    const target = pointer(record, 6) + <usize>row * pointer(record, 7)
    // Rows are padded to whole vectors, so the last vector may read and write beyond n.
    for (let i: usize = 0; i < <usize>n << 2; i += 16) {
      const g = v128.load(gate + i)
      const silu = f32x4.div(g, f32x4.add(one, exp4(f32x4.neg(g))))
      v128.store(target + i, f32x4.mul(silu, v128.load(up + i)))
    }
    if (int(record, 8) > n) memory.fill(target + (<usize>n << 2), 0, <usize>(int(record, 8) - n) << 2)
  }
}

// Embedding rows out of the tiled layout.
// 1 rows, 2 kind, 3 columns, 4 padded columns, 5 ids, 6 w, 7 target, 8 target stride
export function gather(record: usize, part: i32, parts: i32): void {
  const rows = int(record, 1)
  const kind = int(record, 2)
  const columns = int(record, 3)
  const padded = int(record, 4)
  const blockBytes: usize = kind == KIND_F32 ? 1024 : kind == KIND_Q8 ? 272 : 144
  const groupBytes = <usize>(padded >> 5) * blockBytes
  const end = shareBegin(rows, part + 1, parts)
  for (let row = shareBegin(rows, part, parts); row < end; row++) {
    const id = load<i32>(pointer(record, 5) + (<usize>row << 2))
    const output = <usize>(id & 7)
    const group = pointer(record, 6) + <usize>(id >> 3) * groupBytes
    const target = pointer(record, 7) + <usize>row * pointer(record, 8)
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
    memory.fill(target + (<usize>columns << 2), 0, <usize>(padded - columns) << 2)
  }
}
