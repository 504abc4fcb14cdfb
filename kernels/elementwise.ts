// Everything of a layer that is neither a matrix product nor attention.
import { exp4 } from './exp'
import { half1 } from './half'
import { storeVector } from './kv-vector'
import { firstLanes, partial, sum4 } from './lanes'
import { operandBlockBytes, tileAddress, tileBegin, tileOf } from './operand'
import { quantiseBlock, quantiseRow } from './quantise'
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
  KIND_F16,
  KIND_F32,
  KIND_Q4,
  KIND_Q8,
  kindBlockBytes,
  pointer,
  RMS_NORM_COLUMNS,
  RMS_NORM_EPSILON,
  RMS_NORM_KIND,
  RMS_NORM_ROWS,
  RMS_NORM_SOURCE,
  RMS_NORM_SOURCE_ROWS,
  RMS_NORM_SOURCE_STRIDE,
  RMS_NORM_TARGET,
  RMS_NORM_TARGET_STRIDE,
  RMS_NORM_VALUES,
  RMS_NORM_WEIGHT,
  ROTATE_AND_STORE_COSINES,
  ROTATE_AND_STORE_EPSILON,
  ROTATE_AND_STORE_HALF,
  ROTATE_AND_STORE_HEAD_SIZE,
  ROTATE_AND_STORE_HEAD_STRIDE,
  ROTATE_AND_STORE_HEADS,
  ROTATE_AND_STORE_K,
  ROTATE_AND_STORE_K_NORM,
  ROTATE_AND_STORE_KEYS,
  ROTATE_AND_STORE_KV_HEADS,
  ROTATE_AND_STORE_Q,
  ROTATE_AND_STORE_Q_NORM,
  ROTATE_AND_STORE_ROWS,
  ROTATE_AND_STORE_SCALES_OFFSET,
  ROTATE_AND_STORE_SINES,
  ROTATE_AND_STORE_SLOTS,
  ROTATE_AND_STORE_STRIDE,
  ROTATE_AND_STORE_V,
  ROTATE_AND_STORE_VALUES,
  shareBegin,
  SILU_GATE_COLUMNS,
  SILU_GATE_KIND,
  SILU_GATE_ROWS,
  SILU_GATE_SOURCE,
  SILU_GATE_SOURCE_STRIDE,
  SILU_GATE_TARGET,
  SILU_GATE_TARGET_STRIDE,
  SILU_GATE_UP_OFFSET,
  SILU_GATE_VALUES,
} from './record'

// Zeros in columns [begin, end) of a row of f32.
@inline
function fillZeros(row: usize, begin: i32, end: i32): void {
  if (end > begin) memory.fill(row + (<usize>begin << 2), 0, <usize>(end - begin) << 2)
}

// 1 / sqrt(mean(x^2) + epsilon). Squares are summed in four lanes, then (l0 + l1) + (l2 + l3), then the rest.
@inline
function rmsFactor(x: usize, n: i32, epsilon: f32): f32 {
  const whole = <usize>(n & ~3) << 2
  let squares = f32x4.splat(0)
  for (let i: usize = 0; i < whole; i += 16) {
    const lanes = v128.load(x + i)
    squares = f32x4.add(squares, f32x4.mul(lanes, lanes))
  }
  let sum = sum4(squares)
  for (let i = whole; i < <usize>n << 2; i += 4) sum += load<f32>(x + i) * load<f32>(x + i)
  return 1 / sqrt<f32>(sum / <f32>n + epsilon)
}

@inline
function normed4(x: usize, weight: usize, factor: v128): v128 {
  return f32x4.mul(f32x4.mul(v128.load(x), factor), v128.load(weight))
}

@inline
function normed1(x: usize, weight: usize, factor: f32): f32 {
  return load<f32>(x) * factor * load<f32>(weight)
}

function normedPart(x: usize, weight: usize, factor: v128, left: i32): v128 {
  return v128.and(f32x4.mul(f32x4.mul(partial(x, left), factor), partial(weight, left)), firstLanes(left))
}

// x * factor * weight as f32.
@inline
function normalise(x: usize, weight: usize, target: usize, n: i32, factor: f32): void {
  const whole = <usize>(n & ~3) << 2
  const factors = f32x4.splat(factor)
  for (let i: usize = 0; i < whole; i += 16) v128.store(target + i, normed4(x + i, weight + i, factors))
  for (let i = whole; i < <usize>n << 2; i += 4) store<f32>(target + i, normed1(x + i, weight + i, factor))
}

// Whole rows, to f32 or, where there is no target for that, to integers. Shares are runs of rows.
export function rmsNorm(record: usize, part: i32, parts: i32): void {
  const rows = int(record, RMS_NORM_ROWS)
  const n = int(record, RMS_NORM_COLUMNS)
  const blocks = (n + 31) >> 5
  const weight = pointer(record, RMS_NORM_WEIGHT)
  const sourceRows = pointer(record, RMS_NORM_SOURCE_ROWS)
  const targets = pointer(record, RMS_NORM_TARGET)
  const end = shareBegin(rows, part + 1, parts)
  for (let row = shareBegin(rows, part, parts); row < end; row++) {
    const sourceRow = sourceRows == 0 ? row : load<i32>(sourceRows + (<usize>row << 2))
    const x = pointer(record, RMS_NORM_SOURCE) + <usize>sourceRow * pointer(record, RMS_NORM_SOURCE_STRIDE)
    const factor = rmsFactor(x, n, float(record, RMS_NORM_EPSILON))
    if (targets == 0) {
      normaliseToIntegers(record, row, x, weight, n, factor)
    } else {
      const target = targets + <usize>row * pointer(record, RMS_NORM_TARGET_STRIDE)
      normalise(x, weight, target, n, factor)
      fillZeros(target, n, blocks << 5)
    }
  }
}

// Columns [0, n) of one row as blocks.
@inline
function normaliseToIntegers(record: usize, row: i32, x: usize, weight: usize, n: i32, factor: f32): void {
  const rows = int(record, RMS_NORM_ROWS)
  const kind = int(record, RMS_NORM_KIND)
  const tile = tileOf(rows, row)
  const begin = tileBegin(rows, tile)
  const tileRows = tileBegin(rows, tile + 1) - begin
  const bytes = <usize>tileRows * operandBlockBytes(kind)
  let block = tileAddress(pointer(record, RMS_NORM_VALUES), kind, begin, (n + 31) >> 5)
  const factors = f32x4.splat(factor)
  let left = n
  for (; left >= 32; left -= 32) {
    quantiseBlock(
      block,
      tileRows,
      row - begin,
      kind,
      normed4(x, weight, factors),
      normed4(x + 16, weight + 16, factors),
      normed4(x + 32, weight + 32, factors),
      normed4(x + 48, weight + 48, factors),
      normed4(x + 64, weight + 64, factors),
      normed4(x + 80, weight + 80, factors),
      normed4(x + 96, weight + 96, factors),
      normed4(x + 112, weight + 112, factors),
    )
    block += bytes
    x += 128
    weight += 128
  }
  if (left > 0) {
    quantiseBlock(
      block,
      tileRows,
      row - begin,
      kind,
      normedPart(x, weight, factors, left),
      normedPart(x + 16, weight + 16, factors, left - 4),
      normedPart(x + 32, weight + 32, factors, left - 8),
      normedPart(x + 48, weight + 48, factors, left - 12),
      normedPart(x + 64, weight + 64, factors, left - 16),
      normedPart(x + 80, weight + 80, factors, left - 20),
      normedPart(x + 96, weight + 96, factors, left - 24),
      normedPart(x + 112, weight + 112, factors, left - 28),
    )
  }
}

// Heads of q and k: norm where the model has one, and rotation, in place; k and v then go to the cache.
// Shares are runs of (row, head of q) and (row, head of k and v).
export function rotateAndStore(record: usize, part: i32, parts: i32): void {
  const heads = int(record, ROTATE_AND_STORE_HEADS)
  const perRow = heads + int(record, ROTATE_AND_STORE_KV_HEADS)
  const headSize = int(record, ROTATE_AND_STORE_HEAD_SIZE)
  const bytes = <usize>headSize << 2
  const epsilon = float(record, ROTATE_AND_STORE_EPSILON)
  const half = int(record, ROTATE_AND_STORE_HALF)
  const units = int(record, ROTATE_AND_STORE_ROWS) * perRow
  const end = shareBegin(units, part + 1, parts)
  for (let unit = shareBegin(units, part, parts); unit < end; unit++) {
    const row = unit / perRow
    const head = unit - row * perRow
    const from = <usize>row * pointer(record, ROTATE_AND_STORE_STRIDE)
    const table = <usize>(row * half) << 2
    const isQ = head < heads
    const at = from + <usize>(isQ ? head : head - heads) * bytes
    const x = pointer(record, isQ ? ROTATE_AND_STORE_Q : ROTATE_AND_STORE_K) + at
    const weight = pointer(record, isQ ? ROTATE_AND_STORE_Q_NORM : ROTATE_AND_STORE_K_NORM)
    if (weight != 0) normalise(x, weight, x, headSize, rmsFactor(x, headSize, epsilon))
    const cosines = pointer(record, ROTATE_AND_STORE_COSINES) + table
    rotate(x, half, cosines, pointer(record, ROTATE_AND_STORE_SINES) + table)
    if (isQ) continue
    const slot = load<i32>(pointer(record, ROTATE_AND_STORE_SLOTS) + (<usize>row << 2))
    const to = <usize>(head - heads) * pointer(record, ROTATE_AND_STORE_HEAD_STRIDE)
    const scales = pointer(record, ROTATE_AND_STORE_SCALES_OFFSET)
    storeVector(x, headSize, pointer(record, ROTATE_AND_STORE_KEYS) + to, slot, scales)
    const v = pointer(record, ROTATE_AND_STORE_V) + at
    storeVector(v, headSize, pointer(record, ROTATE_AND_STORE_VALUES) + to, slot, scales)
  }
}

// (a, b) -> (a cos - b sin, b cos + a sin) for pairs (i, i + half), in place.
@inline
function rotate(x: usize, half: i32, cosines: usize, sines: usize): void {
  const bytes = <usize>half << 2
  const whole = <usize>(half & ~3) << 2
  const y = x + bytes
  for (let i: usize = 0; i < whole; i += 16) {
    const a = v128.load(x + i)
    const b = v128.load(y + i)
    const c = v128.load(cosines + i)
    const s = v128.load(sines + i)
    v128.store(x + i, f32x4.sub(f32x4.mul(a, c), f32x4.mul(b, s)))
    v128.store(y + i, f32x4.add(f32x4.mul(b, c), f32x4.mul(a, s)))
  }
  for (let i = whole; i < bytes; i += 4) {
    const a = load<f32>(x + i)
    const b = load<f32>(y + i)
    const c = load<f32>(cosines + i)
    const s = load<f32>(sines + i)
    store<f32>(x + i, a * c - b * s)
    store<f32>(y + i, b * c + a * s)
  }
}

// gate / (1 + exp(-gate)) * up, to f32 or, where there is no target for that, to integers, by way of
// the gate's own place. Shares are runs of blocks of 32 columns, counted over all rows.
export function siluGate(record: usize, part: i32, parts: i32): void {
  const rows = int(record, SILU_GATE_ROWS)
  const columns = int(record, SILU_GATE_COLUMNS)
  const blocks = (columns + 31) >> 5
  const upOffset = pointer(record, SILU_GATE_UP_OFFSET)
  const targets = pointer(record, SILU_GATE_TARGET)
  const values = pointer(record, SILU_GATE_VALUES)
  const kind = int(record, SILU_GATE_KIND)
  const units = rows * blocks
  const end = shareBegin(units, part + 1, parts)
  for (let unit = shareBegin(units, part, parts); unit < end; ) {
    const row = unit / blocks
    const first = unit - row * blocks
    const last = min(blocks, first + end - unit)
    const gate = pointer(record, SILU_GATE_SOURCE) + <usize>row * pointer(record, SILU_GATE_SOURCE_STRIDE)
    const target = targets == 0 ? gate : targets + <usize>row * pointer(record, SILU_GATE_TARGET_STRIDE)
    const at = <usize>first << 7
    gated(gate + at, gate + upOffset + at, target + at, min(last << 5, columns) - (first << 5))
    if (targets == 0) quantiseRow(values, kind, rows, row, gate, columns, first, last)
    else fillZeros(target, columns, last << 5)
    unit += last - first
  }
}

@inline
function gated(gate: usize, up: usize, target: usize, count: i32): void {
  const whole = <usize>(count & ~3) << 2
  for (let i: usize = 0; i < whole; i += 16) v128.store(target + i, silu4(v128.load(gate + i), v128.load(up + i)))
  for (let i = whole; i < <usize>count << 2; i += 4) {
    store<f32>(target + i, f32x4.extract_lane(silu4(v128.load32_zero(gate + i), v128.load32_zero(up + i)), 0))
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
  const blockBytes = kindBlockBytes(kind)
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
      } else if (kind == KIND_F16) {
        value = half1(group + (<usize>k << 4) + (output << 1))
      } else if (kind == KIND_Q8) {
        const q = load<i8>(block + run * 32 + output * 4 + inner)
        value = <f32>q * half1(block + 256 + output * 2)
      } else {
        const byte = load<u8>(block + run * 16 + (output & 3) * 4 + inner)
        const q = <i32>(output < 4 ? byte & 15 : byte >> 4)
        const scale = half1(block + 128 + output * 2)
        value = kind == KIND_Q4 ? <f32>(q - 8) * scale : <f32>q * scale + half1(block + 144 + output * 2)
      }
      store<f32>(target + (<usize>k << 2), value)
    }
    fillZeros(target, columns, padded)
  }
}
