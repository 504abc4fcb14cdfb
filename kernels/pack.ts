// Quantises and packs the rows of a checkpoint: a module of its own, which only packing loads. The numbers are those
// of src/tensor/quantisers.ts bit for bit, the bytes those of src/tensor/layout.ts. Eight whole rows make a group;
// only whole blocks of 32 columns come here. All weights are finite: `largest16` and `largest32` find those that are not.
import { packQ4, packQ4a } from './pack-fit'
import {
  bfloatBits,
  firstHalves,
  fromHalves,
  high2,
  highBfloats,
  inverseOf,
  lane4,
  largestOf,
  largestOfRows,
  low2,
  lowBfloats,
  lowHalves,
  magnitudeBits,
  magnitudeBits16,
  nearest,
  ROWS,
  smallestOf,
  storeColumns,
  toHalves,
  widenBfloats,
  widenHalves,
} from './pack-vectors'
import { KIND_F16, KIND_F32, KIND_Q4, KIND_Q4A, KIND_Q8, kindBlockBytes } from './record'

export { halfBits, halfRebase } from './constants'
export { halfStep } from './pack-fit'
export { bfloatBits, magnitudeBits, magnitudeBits16, rounding, roundingBits } from './pack-vectors'
export { checksum } from './reduce'

const DTYPE_F32: i32 = 0
const DTYPE_BF16: i32 = 2

// Packs the first `blocks` whole blocks of eight rows, which lie `stride` bytes apart.
export function packBlocks(
  kind: i32,
  dtype: i32,
  source: usize,
  stride: usize,
  blocks: i32,
  target: usize,
  scratch: usize,
): void {
  const bytes = kindBlockBytes(kind)
  const step: usize = dtype == DTYPE_F32 ? 128 : 64
  for (let b = 0; b < blocks; b++) {
    if (dtype == DTYPE_F32) packBlock(kind, source, stride, target, scratch)
    else if (dtype == DTYPE_BF16 && kind == KIND_Q8) packQ8<u16>(source, stride, target)
    else {
      if (dtype == DTYPE_BF16) widenBfloats(source, stride, scratch + ROWS)
      else widenHalves(source, stride, scratch + ROWS)
      packBlock(kind, scratch + ROWS, 128, target, scratch)
    }
    source += step
    target += bytes
  }
}

function packBlock(kind: i32, rows: usize, stride: usize, target: usize, scratch: usize): void {
  if (kind == KIND_Q4) packQ4(rows, stride, target, scratch)
  else if (kind == KIND_Q4A) packQ4a(rows, stride, target, scratch)
  else if (kind == KIND_Q8) packQ8<f32>(rows, stride, target)
  else if (kind == KIND_F16) packF16(rows, stride, target)
  else packF32(rows, stride, target)
}

function packF32(rows: usize, stride: usize, target: usize): void {
  for (let half: usize = 0; half < 32; half += 16) {
    for (let k: usize = 0; k < 128; k += 16) {
      const at = rows + k
      const a = v128.load(at)
      const b = v128.load(at + stride)
      const c = v128.load(at + 2 * stride)
      const d = v128.load(at + 3 * stride)
      storeColumns(target + half + 8 * k, 32, a, b, c, d)
    }
    rows += 4 * stride
  }
}

function packF16(rows: usize, stride: usize, target: usize): void {
  for (let k: usize = 0; k < 128; k += 16) {
    // Columns k and k + 1 of all rows, then k + 2 and k + 3: as words that hold two halves each.
    const out = target + 4 * k
    for (let r: usize = 0; r < 8; r += 4) {
      const at = rows + r * stride + k
      const a = toHalves(v128.load(at))
      const b = toHalves(v128.load(at + stride))
      const c = toHalves(v128.load(at + 2 * stride))
      const d = toHalves(v128.load(at + 3 * stride))
      const ab = v128.or(a, i32x4.shl(b, 16))
      const cd = v128.or(c, i32x4.shl(d, 16))
      const low = low2(ab, cd)
      const high = high2(ab, cd)
      v128.store64_lane(out + 2 * r, low, 0)
      v128.store64_lane(out + 2 * r, low, 1, 16)
      v128.store64_lane(out + 2 * r, high, 0, 32)
      v128.store64_lane(out + 2 * r, high, 1, 48)
    }
  }
}

// `T` is f32, or u16 for bf16 as it is: most checkpoints are in bf16, and widening a block first took a third of the time.
function packQ8<T>(rows: usize, stride: usize, target: usize): void {
  for (let half: usize = 0; half < 2; half++) {
    const first = rows + 4 * half * stride
    const inverse = storeScales(
      largestMagnitudeOf<T>(first),
      largestMagnitudeOf<T>(first + stride),
      largestMagnitudeOf<T>(first + 2 * stride),
      largestMagnitudeOf<T>(first + 3 * stride),
      target + 256 + 8 * half,
    )
    for (let k: usize = 0; k < 32 * sizeof<T>(); k += 16 * sizeof<T>()) {
      const at = first + k
      const a = bytes16<T>(at, lane4(inverse, 0))
      const b = bytes16<T>(at + stride, lane4(inverse, 1))
      const c = bytes16<T>(at + 2 * stride, lane4(inverse, 2))
      const d = bytes16<T>(at + 3 * stride, lane4(inverse, 3))
      storeColumns(target + 16 * half + (8 / sizeof<T>()) * k, 32, a, b, c, d)
    }
  }
}

// Stores the scales of four rows, of which each has its largest magnitude in one of four lanes; returns 1 / scale.
@inline
function storeScales(a: v128, b: v128, c: v128, d: v128, at: usize): v128 {
  const halves = toHalves(f32x4.div(largestOfRows(a, b, c, d), f32x4.splat(127)))
  v128.store64_lane(at, lowHalves(halves, halves), 0)
  return inverseOf(fromHalves(halves))
}

@inline
function largestMagnitudeOf<T>(row: usize): v128 {
  if (sizeof<T>() == 2) return largestOfBfloats(row)
  // Without a sign that zeros may have.
  return v128.and(f32x4.pmax(largestOf(row), f32x4.neg(smallestOf(row))), magnitudeBits)
}

// The bits of magnitudes are in the order of the magnitudes.
@inline
function largestOfBfloats(row: usize): v128 {
  const a = v128.and(v128.load(row), magnitudeBits16)
  const b = v128.and(v128.load(row, 16), magnitudeBits16)
  const c = v128.and(v128.load(row, 32), magnitudeBits16)
  const d = v128.and(v128.load(row, 48), magnitudeBits16)
  const largest = i16x8.max_s(i16x8.max_s(a, b), i16x8.max_s(c, d))
  return f32x4.pmax(i32x4.shl(largest, 16), v128.and(largest, bfloatBits))
}

// Sixteen values of a row as integers -127..127.
@inline
function bytes16<T>(at: usize, inverse: v128): v128 {
  if (sizeof<T>() == 2) return bytes16OfBfloats(at, inverse)
  const a = nearest(f32x4.mul(v128.load(at), inverse))
  const b = nearest(f32x4.mul(v128.load(at, 16), inverse))
  const c = nearest(f32x4.mul(v128.load(at, 32), inverse))
  const d = nearest(f32x4.mul(v128.load(at, 48), inverse))
  return narrow16(a, b, c, d)
}

@inline
function bytes16OfBfloats(at: usize, inverse: v128): v128 {
  const zero = i32x4.splat(0)
  const low = v128.load(at)
  const high = v128.load(at, 16)
  const a = nearest(f32x4.mul(lowBfloats(zero, low), inverse))
  const b = nearest(f32x4.mul(highBfloats(zero, low), inverse))
  const c = nearest(f32x4.mul(lowBfloats(zero, high), inverse))
  const d = nearest(f32x4.mul(highBfloats(zero, high), inverse))
  return narrow16(a, b, c, d)
}

@inline
function narrow16(a: v128, b: v128, c: v128, d: v128): v128 {
  const bytes = i8x16.narrow_i16x8_s(i16x8.narrow_i32x4_s(a, b), i16x8.narrow_i32x4_s(c, d))
  return i8x16.max_s(bytes, i8x16.splat(-127))
}

// The largest magnitude among `count` 16-bit floats (f16 or bf16), as bits: these are in the order of the magnitudes,
// infinities and NaN above all.
export function largest16(at: usize, count: i32): u32 {
  let most = i16x8.splat(0)
  let next = most
  const end = at + (<usize>count << 1)
  for (; at + 32 <= end; at += 32) {
    most = i16x8.max_u(most, v128.and(v128.load(at), magnitudeBits16))
    next = i16x8.max_u(next, v128.and(v128.load(at, 16), magnitudeBits16))
  }
  most = i16x8.max_u(most, next)
  most = i16x8.max_u(most, v128.shuffle<i64>(most, most, 1, 0))
  most = i16x8.max_u(most, v128.shuffle<i32>(most, most, 1, 0, 1, 0))
  let largest: u32 = max<u32>(i16x8.extract_lane_u(most, 0), i16x8.extract_lane_u(most, 1))
  for (; at < end; at += 2) largest = max<u32>(largest, <u32>load<u16>(at) & 0x7fff)
  return largest
}

// The same for f32.
export function largest32(at: usize, count: i32): u32 {
  let most = i32x4.splat(0)
  let next = most
  const end = at + (<usize>count << 2)
  for (; at + 32 <= end; at += 32) {
    most = i32x4.max_u(most, v128.and(v128.load(at), magnitudeBits))
    next = i32x4.max_u(next, v128.and(v128.load(at, 16), magnitudeBits))
  }
  most = i32x4.max_u(most, next)
  most = i32x4.max_u(most, v128.shuffle<i64>(most, most, 1, 0))
  let largest = max<u32>(i32x4.extract_lane(most, 0), i32x4.extract_lane(most, 1))
  for (; at < end; at += 4) largest = max<u32>(largest, load<u32>(at) & 0x7fffffff)
  return largest
}
