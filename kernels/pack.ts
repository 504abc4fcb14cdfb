// Quantises and packs the rows of a checkpoint: a module of its own, which only packing loads. The numbers are those
// of src/tensor/quantisers.ts bit for bit, the bytes those of src/tensor/layout.ts. Eight whole rows make a group;
// only whole blocks of 32 columns come here. All weights are finite: `largest16` and `largest32` find those that are not.
import { halves4 } from './half'
import { KIND_F16, KIND_F32, KIND_Q4, KIND_Q4A, KIND_Q8, kindBlockBytes } from './record'

export { checksum } from './reduce'

export const DTYPE_F32: i32 = 0
export const DTYPE_F16: i32 = 1
export const DTYPE_BF16: i32 = 2

// Vectors for the loops; constants.ts says why they are variables.
export let magnitudeBits: v128 = i32x4.splat(0x7fffffff)
export let magnitudeBits16: v128 = i16x8.splat(0x7fff)
export let rounding: v128 = f32x4.splat(12582912.0)
export let roundingBits: v128 = i32x4.splat(0x4b400000)
export let halfStep: v128 = i16x8.splat(2048)
export let halfBits: v128 = i32x4.splat(0x8fffffff)
export let halfRebase: v128 = f32x4.splat(reinterpret<f32>(0x77800000))

// Scratch memory of `packBlocks`.
const ROWS: usize = 0 // f32 [8 x 32]: a block, widened
const INTEGERS: usize = 1024 // i16 [16 x 4 x 2]: pairs of inner values of four outputs
const FITS: usize = 1280 // what `fitPair` found: two candidates, three v128 each
const SCALES: usize = 1376 // f32 [8]: of 1 / scale
const MINIMUMS: usize = 1408 // f32 [8]
export const PACK_SCRATCH_BYTES: usize = 1440

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
  else if (kind == KIND_Q8) packQ8(rows, stride, target, scratch)
  else if (kind == KIND_F16) packF16(rows, stride, target)
  else packF32(rows, stride, target)
}

function widenBfloats(source: usize, stride: usize, target: usize): void {
  const zero = i32x4.splat(0)
  for (const end = target + 1024; target < end; target += 128) {
    const a = v128.load(source)
    const b = v128.load(source, 16)
    const c = v128.load(source, 32)
    const d = v128.load(source, 48)
    v128.store(target, v128.shuffle<i16>(zero, a, 0, 8, 1, 9, 2, 10, 3, 11))
    v128.store(target, v128.shuffle<i16>(zero, a, 4, 12, 5, 13, 6, 14, 7, 15), 16)
    v128.store(target, v128.shuffle<i16>(zero, b, 0, 8, 1, 9, 2, 10, 3, 11), 32)
    v128.store(target, v128.shuffle<i16>(zero, b, 4, 12, 5, 13, 6, 14, 7, 15), 48)
    v128.store(target, v128.shuffle<i16>(zero, c, 0, 8, 1, 9, 2, 10, 3, 11), 64)
    v128.store(target, v128.shuffle<i16>(zero, c, 4, 12, 5, 13, 6, 14, 7, 15), 80)
    v128.store(target, v128.shuffle<i16>(zero, d, 0, 8, 1, 9, 2, 10, 3, 11), 96)
    v128.store(target, v128.shuffle<i16>(zero, d, 4, 12, 5, 13, 6, 14, 7, 15), 112)
    source += stride
  }
}

function widenHalves(source: usize, stride: usize, target: usize): void {
  for (const end = target + 1024; target < end; target += 128) {
    for (let k: usize = 0; k < 64; k += 8) v128.store(target + 2 * k, halves4(source + k, halfBits, halfRebase))
    source += stride
  }
}

// Four rows of four as four columns; the results come one by one, as there is only one to return.
@inline
function low2(a: v128, b: v128): v128 {
  return v128.shuffle<i32>(a, b, 0, 4, 1, 5)
}

@inline
function high2(a: v128, b: v128): v128 {
  return v128.shuffle<i32>(a, b, 2, 6, 3, 7)
}

@inline
function firstHalves(a: v128, b: v128): v128 {
  return v128.shuffle<i64>(a, b, 0, 2)
}

@inline
function lastHalves(a: v128, b: v128): v128 {
  return v128.shuffle<i64>(a, b, 1, 3)
}

// Stores four rows of four words as columns, `stride` bytes apart.
@inline
function storeColumns(at: usize, stride: usize, a: v128, b: v128, c: v128, d: v128): void {
  const ab = low2(a, b)
  const cd = low2(c, d)
  v128.store(at, firstHalves(ab, cd))
  v128.store(at + stride, lastHalves(ab, cd))
  const efgh = high2(a, b)
  const ijkl = high2(c, d)
  v128.store(at + 2 * stride, firstHalves(efgh, ijkl))
  v128.store(at + 3 * stride, lastHalves(efgh, ijkl))
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

// f32 to the nearest f16, ties to even, in the low halves; below 65520.
@inline
function toHalves(x: v128): v128 {
  const magnitude = v128.and(x, i32x4.splat(0x7fffffff))
  const odd = v128.and(i32x4.shr_u(magnitude, 13), i32x4.splat(1))
  const normal = i32x4.shr_u(i32x4.add(i32x4.add(magnitude, odd), i32x4.splat(0xfff - 0x38000000)), 13)
  // In a sum with 0.5 the last bit stands for 2^-24, the unit of subnormal halves.
  const subnormal = i32x4.sub(f32x4.add(magnitude, f32x4.splat(0.5)), i32x4.splat(0x3f000000))
  const bits = v128.bitselect(subnormal, normal, i32x4.lt_s(magnitude, i32x4.splat(0x38800000)))
  return v128.or(bits, v128.and(i32x4.shr_u(x, 16), i32x4.splat(0x8000)))
}

// The f32 that halves in the low halves stand for.
@inline
function fromHalves(h: v128): v128 {
  const magnitude = f32x4.mul(i32x4.shl(v128.and(h, i32x4.splat(0x7fff)), 13), f32x4.splat(reinterpret<f32>(0x77800000)))
  return v128.or(magnitude, i32x4.shl(v128.and(h, i32x4.splat(0x8000)), 16))
}

// The low halves of eight words.
@inline
function lowHalves(a: v128, b: v128): v128 {
  return v128.shuffle<i16>(a, b, 0, 2, 4, 6, 8, 10, 12, 14)
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

// Integers nearest to x, ties to even, for |x| < 2^22.
@inline
function nearest(x: v128): v128 {
  return i32x4.sub(f32x4.add(x, rounding), roundingBits)
}

// x where it counts, elsewhere 0.
@inline
function orZero(x: v128, counts: v128): v128 {
  return v128.and(x, counts)
}

@inline
function lane4(x: v128, lane: i32): v128 {
  if (lane == 0) return v128.shuffle<i32>(x, x, 0, 0, 0, 0)
  if (lane == 1) return v128.shuffle<i32>(x, x, 1, 1, 1, 1)
  if (lane == 2) return v128.shuffle<i32>(x, x, 2, 2, 2, 2)
  return v128.shuffle<i32>(x, x, 3, 3, 3, 3)
}

// The largest of every row's four lanes.
@inline
function largestOfRows(a: v128, b: v128, c: v128, d: v128): v128 {
  const ab = f32x4.pmax(low2(a, b), high2(a, b))
  const cd = f32x4.pmax(low2(c, d), high2(c, d))
  return f32x4.pmax(firstHalves(ab, cd), lastHalves(ab, cd))
}

@inline
function smallestOfRows(a: v128, b: v128, c: v128, d: v128): v128 {
  const ab = f32x4.pmin(low2(a, b), high2(a, b))
  const cd = f32x4.pmin(low2(c, d), high2(c, d))
  return f32x4.pmin(firstHalves(ab, cd), lastHalves(ab, cd))
}

// Printed out: as loops of eight turns these took as long as all else that is done once per block.
@inline
function largestOf(row: usize): v128 {
  const a = f32x4.pmax(v128.load(row), v128.load(row, 16))
  const b = f32x4.pmax(v128.load(row, 32), v128.load(row, 48))
  const c = f32x4.pmax(v128.load(row, 64), v128.load(row, 80))
  const d = f32x4.pmax(v128.load(row, 96), v128.load(row, 112))
  return f32x4.pmax(f32x4.pmax(a, b), f32x4.pmax(c, d))
}

@inline
function smallestOf(row: usize): v128 {
  const a = f32x4.pmin(v128.load(row), v128.load(row, 16))
  const b = f32x4.pmin(v128.load(row, 32), v128.load(row, 48))
  const c = f32x4.pmin(v128.load(row, 64), v128.load(row, 80))
  const d = f32x4.pmin(v128.load(row, 96), v128.load(row, 112))
  return f32x4.pmin(f32x4.pmin(a, b), f32x4.pmin(c, d))
}

@inline
function largestMagnitudeOf(row: usize): v128 {
  // Without a sign that zeros may have.
  return v128.and(f32x4.pmax(largestOf(row), f32x4.neg(smallestOf(row))), magnitudeBits)
}

// 1 / scale, and 0 for a scale of 0.
@inline
function inverseOf(scale: v128): v128 {
  return orZero(f32x4.div(f32x4.splat(1), scale), f32x4.ne(scale, f32x4.splat(0)))
}

function packQ8(rows: usize, stride: usize, target: usize, scratch: usize): void {
  for (let half: usize = 0; half < 2; half++) {
    const first = rows + 4 * half * stride
    const largest = largestOfRows(
      largestMagnitudeOf(first),
      largestMagnitudeOf(first + stride),
      largestMagnitudeOf(first + 2 * stride),
      largestMagnitudeOf(first + 3 * stride),
    )
    const halves = toHalves(f32x4.div(largest, f32x4.splat(127)))
    v128.store64_lane(target + 256 + 8 * half, lowHalves(halves, halves), 0)
    const inverse = inverseOf(fromHalves(halves))
    for (let k: usize = 0; k < 128; k += 64) {
      const at = first + k
      const a = bytes16(at, lane4(inverse, 0))
      const b = bytes16(at + stride, lane4(inverse, 1))
      const c = bytes16(at + 2 * stride, lane4(inverse, 2))
      const d = bytes16(at + 3 * stride, lane4(inverse, 3))
      storeColumns(target + 16 * half + 2 * k, 32, a, b, c, d)
    }
  }
}

// Sixteen values of a row as integers -127..127.
@inline
function bytes16(at: usize, inverse: v128): v128 {
  const a = nearest(f32x4.mul(v128.load(at), inverse))
  const b = nearest(f32x4.mul(v128.load(at, 16), inverse))
  const c = nearest(f32x4.mul(v128.load(at, 32), inverse))
  const d = nearest(f32x4.mul(v128.load(at, 48), inverse))
  const bytes = i8x16.narrow_i16x8_s(i16x8.narrow_i32x4_s(a, b), i16x8.narrow_i32x4_s(c, d))
  return i8x16.max_s(bytes, i8x16.splat(-127))
}

// Four rows as 16-bit integers nearest to (w - middle) * inverse, in pairs of inner values: for each of the sixteen
// pairs, those of the four rows side by side.
@inline
function storeIntegers(rows: usize, stride: usize, middle: v128, inverse: v128, integers: usize): void {
  for (let k: usize = 0; k < 128; k += 32) {
    const at = rows + k
    const a = shorts8(at, lane4(middle, 0), lane4(inverse, 0))
    const b = shorts8(at + stride, lane4(middle, 1), lane4(inverse, 1))
    const c = shorts8(at + 2 * stride, lane4(middle, 2), lane4(inverse, 2))
    const d = shorts8(at + 3 * stride, lane4(middle, 3), lane4(inverse, 3))
    storeColumns(integers + 2 * k, 16, a, b, c, d)
  }
}

@inline
function shorts8(at: usize, middle: v128, inverse: v128): v128 {
  const a = nearest(f32x4.mul(f32x4.sub(v128.load(at), middle), inverse))
  const b = nearest(f32x4.mul(f32x4.sub(v128.load(at, 16), middle), inverse))
  return i16x8.narrow_i32x4_s(a, b)
}

// The nibbles, less 8, that a multiplier and an offset give.
@inline
function steps8(n: v128, multiplier: v128, offset: v128): v128 {
  const half = i16x8.q15mulr_sat_s(n, multiplier)
  return i16x8.shr_s(i16x8.add_sat_s(half, i16x8.add(half, offset)), 12)
}

// Sums over two candidates' nibbles, for each of four rows: at `fits` of n q, of q q, and of q.
function fitPair(integers: usize, m0: v128, o0: v128, m1: v128, o1: v128, fits: usize): void {
  let products0 = i32x4.splat(0)
  let products1 = products0
  let squares0 = products0
  let squares1 = products0
  let steps0 = products0
  let steps1 = products0
  for (const end = integers + 256; integers < end; integers += 16) {
    const n = v128.load(integers)
    const q0 = steps8(n, m0, o0)
    products0 = i32x4.add(products0, i32x4.dot_i16x8_s(n, q0))
    squares0 = i32x4.add(squares0, i32x4.dot_i16x8_s(q0, q0))
    steps0 = i16x8.add(steps0, q0)
    const q1 = steps8(n, m1, o1)
    products1 = i32x4.add(products1, i32x4.dot_i16x8_s(n, q1))
    squares1 = i32x4.add(squares1, i32x4.dot_i16x8_s(q1, q1))
    steps1 = i16x8.add(steps1, q1)
  }
  v128.store(fits, products0)
  v128.store(fits, squares0, 16)
  v128.store(fits, i32x4.extadd_pairwise_i16x8_s(steps0), 32)
  v128.store(fits, products1, 48)
  v128.store(fits, squares1, 64)
  v128.store(fits, i32x4.extadd_pairwise_i16x8_s(steps1), 80)
}

// Both halves of every word as i16.
@inline
function twice(x: v128): v128 {
  return v128.or(v128.and(x, i32x4.splat(0xffff)), i32x4.shl(x, 16))
}

// The best of the candidates so far, per row; one search at a time.
let bestScore: v128 = f32x4.splat(0)
let bestStep: v128 = f32x4.splat(0)
let bestSteps: v128 = i32x4.splat(0)

// The multiplier of a step some per cent off the best, as f32(2^26 * (1 + per cent)) / step.
@inline
function multiplierNear(numerator: f32): v128 {
  return twice(i32x4.min_s(nearest(f32x4.div(f32x4.splat(numerator), bestStep)), i32x4.splat(28672)))
}

// A line through zero.
@inline
function judgeQ4(fit: usize): void {
  const products = f32x4.convert_i32x4_s(v128.load(fit))
  const step = f32x4.div(products, f32x4.convert_i32x4_s(v128.load(fit, 16)))
  const score = f32x4.mul(step, products)
  const better = f32x4.gt(score, bestScore)
  bestScore = v128.bitselect(score, bestScore, better)
  bestStep = v128.bitselect(step, bestStep, better)
}

@inline
function fitPairQ4(integers: usize, m0: i32, m1: i32, fits: usize): void {
  fitPair(integers, i16x8.splat(<i16>m0), halfStep, i16x8.splat(<i16>m1), halfStep, fits)
  judgeQ4(fits)
  judgeQ4(fits + 48)
}

function packQ4(rows: usize, stride: usize, target: usize, scratch: usize): void {
  const integers = scratch + INTEGERS
  const fits = scratch + FITS
  for (let half: usize = 0; half < 2; half++) {
    const first = rows + 4 * half * stride
    const zero = f32x4.splat(0)
    const high = f32x4.pmax(zero, largestOfRows(
      largestOf(first),
      largestOf(first + stride),
      largestOf(first + 2 * stride),
      largestOf(first + 3 * stride),
    ))
    const low = f32x4.pmin(zero, smallestOfRows(
      smallestOf(first),
      smallestOf(first + stride),
      smallestOf(first + 2 * stride),
      smallestOf(first + 3 * stride),
    ))
    const extreme = v128.bitselect(low, high, f32x4.ge(f32x4.neg(low), high))
    const counts = f32x4.ge(f32x4.abs(extreme), f32x4.splat(reinterpret<f32>(0x33800000)))
    const inverse = orZero(f32x4.div(f32x4.splat(-32767), extreme), counts)
    const unit = orZero(f32x4.div(extreme, f32x4.splat(-32767)), counts)
    storeIntegers(first, stride, zero, inverse, integers)
    bestScore = zero
    bestStep = zero
    fitPairQ4(integers, 16384, 17246, fits)
    fitPairQ4(integers, 18204, 19275, fits)
    fitPairQ4(integers, 15604, 14760, fits)
    fitPair(integers, multiplierNear(68115496), halfStep, multiplierNear(66102232), halfStep, fits)
    judgeQ4(fits)
    judgeQ4(fits + 48)
    const halves = toHalves(f32x4.mul(bestStep, unit))
    v128.store64_lane(target + 128 + 8 * half, lowHalves(halves, halves), 0)
    v128.store(scratch + SCALES + 16 * half, inverseOf(fromHalves(halves)))
  }
  const low = v128.load(scratch + SCALES)
  const high = v128.load(scratch + SCALES, 16)
  for (let k: usize = 0; k < 128; k += 64) {
    const at = rows + k
    const a = nibblesQ4(at, stride, lane4(low, 0), lane4(high, 0))
    const b = nibblesQ4(at + stride, stride, lane4(low, 1), lane4(high, 1))
    const c = nibblesQ4(at + 2 * stride, stride, lane4(low, 2), lane4(high, 2))
    const d = nibblesQ4(at + 3 * stride, stride, lane4(low, 3), lane4(high, 3))
    storeColumns(target + k, 16, a, b, c, d)
  }
}

// Sixteen values of a row as low nibbles, and of the fourth row after it as high ones.
@inline
function nibblesQ4(at: usize, stride: usize, low: v128, high: v128): v128 {
  return v128.or(signedNibbles(at, low), i16x8.shl(signedNibbles(at + 4 * stride, high), 4))
}

@inline
function signedNibbles(at: usize, inverse: v128): v128 {
  const a = nearest(f32x4.mul(v128.load(at), inverse))
  const b = nearest(f32x4.mul(v128.load(at, 16), inverse))
  const c = nearest(f32x4.mul(v128.load(at, 32), inverse))
  const d = nearest(f32x4.mul(v128.load(at, 48), inverse))
  const bytes = i8x16.narrow_i16x8_s(i16x8.narrow_i32x4_s(a, b), i16x8.narrow_i32x4_s(c, d))
  const clamped = i8x16.max_s(i8x16.min_s(bytes, i8x16.splat(7)), i8x16.splat(-8))
  return i8x16.add(clamped, i8x16.splat(8))
}

// A line with an intercept: n = step * q + intercept. `sums` are of n.
@inline
function judgeQ4a(fit: usize, sums: v128): void {
  const steps = v128.load(fit, 32)
  const products = i32x4.sub(i32x4.shl(v128.load(fit), 5), i32x4.mul(steps, sums))
  const spread = i32x4.sub(i32x4.shl(v128.load(fit, 16), 5), i32x4.mul(steps, steps))
  const numerator = f32x4.convert_i32x4_s(products)
  const step = f32x4.div(numerator, f32x4.convert_i32x4_s(spread))
  const score = f32x4.mul(step, numerator)
  const better = f32x4.gt(score, bestScore)
  bestScore = v128.bitselect(score, bestScore, better)
  bestStep = v128.bitselect(step, bestStep, better)
  bestSteps = v128.bitselect(steps, bestSteps, better)
}

@inline
function fitPairQ4a(integers: usize, m0: i32, o0: i32, m1: i32, o1: i32, sums: v128, fits: usize): void {
  fitPair(
    integers,
    i16x8.splat(<i16>m0),
    i16x8.splat(<i16>o0),
    i16x8.splat(<i16>m1),
    i16x8.splat(<i16>o1),
    fits,
  )
  judgeQ4a(fits, sums)
  judgeQ4a(fits + 48, sums)
}

@inline
function sumsOf(integers: usize): v128 {
  const ones = i16x8.splat(1)
  let sums = i32x4.splat(0)
  for (let k: usize = 0; k < 256; k += 16) sums = i32x4.add(sums, i32x4.dot_i16x8_s(v128.load(integers + k), ones))
  return sums
}

function packQ4a(rows: usize, stride: usize, target: usize, scratch: usize): void {
  const integers = scratch + INTEGERS
  const fits = scratch + FITS
  for (let half: usize = 0; half < 2; half++) {
    const first = rows + 4 * half * stride
    const zero = f32x4.splat(0)
    const high = largestOfRows(
      largestOf(first),
      largestOf(first + stride),
      largestOf(first + 2 * stride),
      largestOf(first + 3 * stride),
    )
    const low = smallestOfRows(
      smallestOf(first),
      smallestOf(first + stride),
      smallestOf(first + 2 * stride),
      smallestOf(first + 3 * stride),
    )
    const range = f32x4.sub(high, low)
    const middle = f32x4.mul(f32x4.add(low, high), f32x4.splat(0.5))
    const counts = f32x4.ge(range, f32x4.splat(reinterpret<f32>(0x33800000)))
    const inverse = orZero(f32x4.div(f32x4.splat(65534), range), counts)
    const unit = orZero(f32x4.div(range, f32x4.splat(65534)), counts)
    storeIntegers(first, stride, middle, inverse, integers)
    const sums = sumsOf(integers)
    bestScore = zero
    bestStep = zero
    bestSteps = zero
    fitPairQ4a(integers, 15360, 0, 15872, -1024, sums, fits)
    fitPairQ4a(integers, 15872, 1024, 16691, 0, sums, fits)
    fitPairQ4a(integers, 16896, -2458, 16896, 2458, sums, fits)
    const upper = multiplierNear(68451040)
    const lower = multiplierNear(65766688)
    fitPair(integers, upper, offsetNear(sums, 68451040), lower, offsetNear(sums, 65766688), fits)
    judgeQ4a(fits, sums)
    judgeQ4a(fits + 48, sums)
    const scales = toHalves(f32x4.mul(bestStep, unit))
    const scale = fromHalves(scales)
    const mean = f32x4.add(middle, f32x4.mul(unit, thirtySecond(sums)))
    const steps = f32x4.add(thirtySecond(bestSteps), f32x4.splat(8))
    const minimum = f32x4.sub(mean, f32x4.mul(scale, steps))
    // The mean of the largest halves less half a range may be beyond them.
    const minimums = toHalves(f32x4.pmax(f32x4.splat(-65504), f32x4.pmin(f32x4.splat(65504), minimum)))
    v128.store64_lane(target + 128 + 8 * half, lowHalves(scales, scales), 0)
    v128.store64_lane(target + 144 + 8 * half, lowHalves(minimums, minimums), 0)
    v128.store(scratch + SCALES + 16 * half, inverseOf(scale))
    v128.store(scratch + MINIMUMS + 16 * half, fromHalves(minimums))
  }
  const low = v128.load(scratch + SCALES)
  const high = v128.load(scratch + SCALES, 16)
  const lowMinimum = v128.load(scratch + MINIMUMS)
  const highMinimum = v128.load(scratch + MINIMUMS, 16)
  for (let k: usize = 0; k < 128; k += 64) {
    const a = nibblesQ4a(rows + k, stride, 0, low, high, lowMinimum, highMinimum)
    const b = nibblesQ4a(rows + k, stride, 1, low, high, lowMinimum, highMinimum)
    const c = nibblesQ4a(rows + k, stride, 2, low, high, lowMinimum, highMinimum)
    const d = nibblesQ4a(rows + k, stride, 3, low, high, lowMinimum, highMinimum)
    storeColumns(target + k, 16, a, b, c, d)
  }
}

@inline
function thirtySecond(sums: v128): v128 {
  return f32x4.mul(f32x4.convert_i32x4_s(sums), f32x4.splat(0.03125))
}

// The offset of `steps8` that goes with `multiplierNear`: the line meets the best one at n = 0.
@inline
function offsetNear(sums: v128, numerator: f32): v128 {
  const fitted = f32x4.mul(bestStep, f32x4.convert_i32x4_s(bestSteps))
  const intercept = f32x4.mul(f32x4.sub(f32x4.convert_i32x4_s(sums), fitted), f32x4.splat(0.03125))
  const steps = f32x4.div(f32x4.mul(f32x4.splat(4096), intercept), bestStep)
  const moved = f32x4.mul(steps, f32x4.splat(numerator / 67108864))
  const offset = nearest(f32x4.sub(f32x4.splat(2048), moved))
  return twice(i32x4.max_s(i32x4.min_s(offset, i32x4.splat(4096)), i32x4.splat(-4096)))
}

@inline
function nibblesQ4a(
  rows: usize,
  stride: usize,
  row: i32,
  low: v128,
  high: v128,
  lowMinimum: v128,
  highMinimum: v128,
): v128 {
  const at = rows + <usize>row * stride
  const below = stepNibbles(at, lane4(low, row), lane4(lowMinimum, row))
  const above = stepNibbles(at + 4 * stride, lane4(high, row), lane4(highMinimum, row))
  return v128.or(below, i16x8.shl(above, 4))
}

@inline
function stepNibbles(at: usize, inverse: v128, minimum: v128): v128 {
  const a = step4(v128.load(at), inverse, minimum)
  const b = step4(v128.load(at, 16), inverse, minimum)
  const c = step4(v128.load(at, 32), inverse, minimum)
  const d = step4(v128.load(at, 48), inverse, minimum)
  return i8x16.narrow_i16x8_u(i16x8.narrow_i32x4_s(a, b), i16x8.narrow_i32x4_s(c, d))
}

// The nearest of 0..15. Clamped before it is rounded: a minimum far from zero can be many steps off.
@inline
function step4(x: v128, inverse: v128, minimum: v128): v128 {
  const steps = f32x4.mul(f32x4.sub(x, minimum), inverse)
  return nearest(f32x4.pmax(f32x4.splat(0), f32x4.pmin(f32x4.splat(15), steps)))
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
