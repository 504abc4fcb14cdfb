// The search for the scales of q4 and q4a: several are tried on 16-bit integers, and the one with the least error in the
// weights is taken. The numbers are those of src/tensor/quantisers.ts bit for bit.
import {
  FITS,
  fromHalves,
  INTEGERS,
  inverseOf,
  lane4,
  largestOf,
  largestOfRows,
  lowHalves,
  MINIMUMS,
  nearest,
  orZero,
  SCALES,
  smallestOf,
  smallestOfRows,
  storeColumns,
  toHalves,
} from './pack-vectors'

// constants.ts says why it is a variable.
export let halfStep: v128 = i16x8.splat(2048)

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

// The first three candidates of q4: what is rounded for the second and third is a sum more and less than for the first.
function startQ4(integers: usize): void {
  let products0 = i32x4.splat(0)
  let products1 = products0
  let products2 = products0
  let squares0 = products0
  let squares1 = products0
  let squares2 = products0
  const offset = halfStep
  const first = i16x8.splat(16384)
  const spacing = i16x8.splat(3200)
  for (const end = integers + 256; integers < end; integers += 16) {
    const n = v128.load(integers)
    const half = i16x8.q15mulr_sat_s(n, first)
    const apart = i16x8.q15mulr_sat_s(n, spacing)
    const steps = i16x8.add_sat_s(half, i16x8.add(half, offset))
    const q0 = i16x8.shr_s(steps, 12)
    products0 = i32x4.add(products0, i32x4.dot_i16x8_s(n, q0))
    squares0 = i32x4.add(squares0, i32x4.dot_i16x8_s(q0, q0))
    const q1 = i16x8.shr_s(i16x8.add_sat_s(steps, apart), 12)
    products1 = i32x4.add(products1, i32x4.dot_i16x8_s(n, q1))
    squares1 = i32x4.add(squares1, i32x4.dot_i16x8_s(q1, q1))
    const q2 = i16x8.shr_s(i16x8.sub_sat_s(steps, apart), 12)
    products2 = i32x4.add(products2, i32x4.dot_i16x8_s(n, q2))
    squares2 = i32x4.add(squares2, i32x4.dot_i16x8_s(q2, q2))
  }
  bestScore = i32x4.splat(0)
  bestStep = i32x4.splat(0)
  judgeQ4(products0, squares0)
  judgeQ4(products1, squares1)
  judgeQ4(products2, squares2)
}

// Sums over two candidates' nibbles, for each of four rows: at `fits` of n q, of q q, and of q if `intercept`. Two
// functions come of it.
@inline
function sumPair(integers: usize, m0: v128, o0: v128, m1: v128, o1: v128, fits: usize, intercept: bool): void {
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
    if (intercept) steps0 = i16x8.add(steps0, q0)
    const q1 = steps8(n, m1, o1)
    products1 = i32x4.add(products1, i32x4.dot_i16x8_s(n, q1))
    squares1 = i32x4.add(squares1, i32x4.dot_i16x8_s(q1, q1))
    if (intercept) steps1 = i16x8.add(steps1, q1)
  }
  v128.store(fits, products0)
  v128.store(fits, squares0, 16)
  v128.store(fits, products1, 48)
  v128.store(fits, squares1, 64)
  if (!intercept) return
  v128.store(fits, i32x4.extadd_pairwise_i16x8_s(steps0), 32)
  v128.store(fits, i32x4.extadd_pairwise_i16x8_s(steps1), 80)
}

function fitPairQ4(integers: usize, m0: v128, m1: v128, fits: usize): void {
  sumPair(integers, m0, halfStep, m1, halfStep, fits, false)
  judgeQ4(v128.load(fits), v128.load(fits, 16))
  judgeQ4(v128.load(fits, 48), v128.load(fits, 64))
}

function fitPairQ4a(integers: usize, m0: v128, o0: v128, m1: v128, o1: v128, sums: v128, fits: usize): void {
  sumPair(integers, m0, o0, m1, o1, fits, true)
  judgeQ4a(fits, sums)
  judgeQ4a(fits + 48, sums)
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
function judgeQ4(sums: v128, squares: v128): void {
  const products = f32x4.convert_i32x4_s(sums)
  const step = f32x4.div(products, f32x4.convert_i32x4_s(squares))
  const score = f32x4.mul(step, products)
  const better = f32x4.gt(score, bestScore)
  bestScore = v128.bitselect(score, bestScore, better)
  bestStep = v128.bitselect(step, bestStep, better)
}

// Multipliers and offsets that are known beforehand.
@inline
function fixed(x: i32): v128 {
  return i16x8.splat(<i16>x)
}

export function packQ4(rows: usize, stride: usize, target: usize, scratch: usize): void {
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
    startQ4(integers)
    fitPairQ4(integers, multiplierNear(68451040), multiplierNear(65766688), fits)
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
function sumsOf(integers: usize): v128 {
  const ones = i16x8.splat(1)
  let sums = i32x4.splat(0)
  for (let k: usize = 0; k < 256; k += 16) sums = i32x4.add(sums, i32x4.dot_i16x8_s(v128.load(integers + k), ones))
  return sums
}

export function packQ4a(rows: usize, stride: usize, target: usize, scratch: usize): void {
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
    fitPairQ4a(integers, fixed(15360), fixed(0), fixed(15872), fixed(-1024), sums, fits)
    fitPairQ4a(integers, fixed(15872), fixed(1024), fixed(16691), fixed(0), sums, fits)
    fitPairQ4a(integers, fixed(16896), fixed(-2458), fixed(16896), fixed(2458), sums, fits)
    const upper = multiplierNear(68451040)
    const lower = multiplierNear(65766688)
    fitPairQ4a(integers, upper, offsetNear(sums, 68451040), lower, offsetNear(sums, 65766688), sums, fits)
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
