/**
 * From 32 weights to integers and a scale. Every operation is one of f32 or an exact one of integers, in an
 * order that does not matter to the result or is the kernel's: `kernels/pack.ts` computes the same bits.
 */
import { floatToHalf, halfToFloat } from './half.ts'

const { fround } = Math

/** What a block became; one of these is used again and again. */
export interface QuantisedBlock {
  /** q8: -127..127. q4: -8..7. q4a: 0..15. */
  readonly integers: Int32Array
  /** As f16 bits. */
  scale: number
  /** What q4a adds to the integers times the scale, as f16 bits. */
  minimum: number
}

/** @param count 1 to 32 weights from `from` on */
export type Quantiser = (source: Float32Array, from: number, count: number, target: QuantisedBlock) => void

/** Adding it rounds to integers, ties to even, for magnitudes below 2^22. */
const ROUNDING = 12582912

const nearest = (x: number): number => fround(fround(x) + ROUNDING) - ROUNDING

const clamp = (x: number, least: number, most: number): number => (x < least ? least : x > most ? most : x)

const inverseOf = (scale: number): number => (scale === 0 ? 0 : fround(1 / scale))

/** The nearest multiple of the scale that maps the largest magnitude to 127. */
export function quantiseQ8(source: Float32Array, from: number, count: number, target: QuantisedBlock): void {
  let largest = 0
  for (let i = from; i < from + count; i++) largest = Math.max(largest, Math.abs(source[i]))
  target.scale = floatToHalf(largest / 127)
  const inverse = inverseOf(halfToFloat(target.scale))
  for (let i = 0; i < count; i++) target.integers[i] = clamp(nearest(source[from + i] * inverse), -127, 127)
}

/** Ranges below this have no f16 scale but 0. */
const SMALLEST = 2 ** -24

/** A block as 16-bit integers, in which scales are searched for. */
const shorts = new Int32Array(32)

/** Fills `shorts` with (w - middle) * inverse. @returns their sum */
function toShorts(source: Float32Array, from: number, count: number, middle: number, inverse: number): number {
  let sum = 0
  for (let i = 0; i < count; i++) {
    shorts[i] = clamp(nearest(fround(source[from + i] - middle) * inverse), -32768, 32767)
    sum += shorts[i]
  }
  return sum
}

/** Sums over the integers q that `fit` rounded `shorts` to: of n q, of q q, and of q. */
const fitted = { products: 0, squares: 0, steps: 0 }

/**
 * Rounds to -8..7, by a multiplication that keeps 15 bits and a saturating addition: what the kernel has
 * instructions for. A step of q is 2^26 / multiplier of n; an offset of 2048 rounds to the nearest.
 * @param apart by how much the multiplier is another one, doubled
 */
function fit(count: number, multiplier: number, offset: number, apart = 0): void {
  let products = 0
  let squares = 0
  let steps = 0
  for (let i = 0; i < count; i++) {
    const half = (shorts[i] * multiplier + 0x4000) >> 15
    const whole = clamp(half + (half + offset), -32768, 32767)
    const further = Math.sign(apart) * ((shorts[i] * Math.abs(apart) + 0x4000) >> 15)
    const q = clamp(whole + further, -32768, 32767) >> 12
    products += shorts[i] * q
    squares += q * q
    steps += q
  }
  fitted.products = products
  fitted.squares = squares
  fitted.steps = steps
}

/** Largest multiplier that cannot overflow; no search comes near. */
const MULTIPLIER_LIMIT = 28672

const UNIT = 2 ** 26

/** Last scales tried, 2 % below and above the best so far: near 2^26 * 1.02 and 2^26 * 0.98, numbers that f32 has. */
const NEAR = [68451040, 65766688]

const multiplierNear = (step: number, numerator: number): number =>
  Math.min(nearest(numerator / step), MULTIPLIER_LIMIT)

/**
 * First scales tried: the one that maps the largest magnitude to -8 (ggml's Q4_0), and those whose multipliers are a tenth
 * more and less. With sixty of them, or with six and the last ones, squared errors of made-up and real weights are 0.4
 * and 0.25 % less at the most; with the first one alone 7 to 9 % more.
 */
const Q4_START = 16384
const Q4_APART = [0, 3200, -3200]

/**
 * The scale with the least squared error that a short search finds. Each start rounds the block to integers q; the best
 * scale for these integers is sum(w q) / sum(q q), which is the candidate. Two more start beside the best of these.
 */
export function quantiseQ4(source: Float32Array, from: number, count: number, target: QuantisedBlock): void {
  let low = 0
  let high = 0
  for (let i = from; i < from + count; i++) {
    low = Math.min(low, source[i])
    high = Math.max(high, source[i])
  }
  const extreme = -low >= high ? low : high
  const counts = Math.abs(extreme) >= SMALLEST
  toShorts(source, from, count, 0, counts ? fround(-32767 / extreme) : 0)
  let best = 0
  let bestStep = 0
  const judge = (): void => {
    const step = fround(fitted.products / fitted.squares)
    // The squared error is the sum of w w less this.
    const score = fround(step * fitted.products)
    if (score > best) {
      best = score
      bestStep = step
    }
  }
  for (const apart of Q4_APART) {
    fit(count, Q4_START, 2048, apart)
    judge()
  }
  const first = bestStep
  for (const numerator of NEAR) {
    fit(count, multiplierNear(first, numerator), 2048)
    judge()
  }
  target.scale = floatToHalf(counts ? fround(bestStep * fround(extreme / -32767)) : 0)
  const inverse = inverseOf(halfToFloat(target.scale))
  for (let i = 0; i < count; i++) target.integers[i] = clamp(nearest(source[from + i] * inverse), -8, 7)
}

/**
 * What the search for a q4a block starts at: steps that its range is divided into (beyond 15 the ends are
 * clipped), and how many steps the 15 that are there are moved up from its middle. As multipliers, 1024 times
 * the steps, and offsets, -4096 times the shift: (15, 0), (15.5, 0.25), (15.5, -0.25), (16.3, 0), (16.5, 0.6),
 * (16.5, -0.6).
 */
const Q4A_STARTS: readonly (readonly [multiplier: number, offset: number])[] = [
  [15360, 0],
  [15872, -1024],
  [15872, 1024],
  [16691, 0],
  [16896, -2458],
  [16896, 2458],
]

const OFFSET_LIMIT = 4096
const LARGEST_HALF = 65504

/**
 * The scale and minimum with the least squared error that a short search finds. It starts at the block's
 * range in 15 steps and at others near it. Each rounds the block to integers q; the least-squares line
 * w = scale q + minimum through these is the candidate. Two more start beside the best of these. The minimum
 * is fitted to the rounded scale.
 */
export function quantiseQ4a(source: Float32Array, from: number, count: number, target: QuantisedBlock): void {
  let low = source[from]
  let high = low
  for (let i = from; i < from + count; i++) {
    low = Math.min(low, source[i])
    high = Math.max(high, source[i])
  }
  const range = fround(high - low)
  const middle = fround(fround(low + high) * 0.5)
  const counts = range >= SMALLEST
  const sum = toShorts(source, from, count, middle, counts ? fround(65534 / range) : 0)
  let best = 0
  let bestStep = 0
  let bestSteps = 0
  const judge = (): void => {
    const numerator = fround(count * fitted.products - fitted.steps * sum)
    const step = fround(numerator / fround(count * fitted.squares - fitted.steps * fitted.steps))
    const score = fround(step * numerator)
    if (score > best) {
      best = score
      bestStep = step
      bestSteps = fitted.steps
    }
  }
  for (const [multiplier, offset] of Q4A_STARTS) {
    fit(count, multiplier, offset)
    judge()
  }
  const first = bestStep
  const intercept = fround(fround(sum - fround(bestStep * bestSteps)) / count)
  for (const numerator of NEAR) {
    fit(count, multiplierNear(first, numerator), offsetNear(first, intercept, numerator))
    judge()
  }
  const unit = counts ? fround(range / 65534) : 0
  target.scale = floatToHalf(fround(bestStep * unit))
  const scale = halfToFloat(target.scale)
  const mean = fround(middle + fround(unit * fround(sum / count)))
  const lift = fround(scale * fround(fround(bestSteps / count) + 8))
  // The mean of the largest halves less half a range may be beyond them.
  target.minimum = floatToHalf(clamp(fround(mean - lift), -LARGEST_HALF, LARGEST_HALF))
  const minimum = halfToFloat(target.minimum)
  const inverse = inverseOf(scale)
  for (let i = 0; i < count; i++) {
    const steps = fround(fround(source[from + i] - minimum) * inverse)
    target.integers[i] = nearest(clamp(steps, 0, 15))
  }
}

/** The offset of `fit` that goes with `multiplierNear`: the line meets n = step * q + intercept at n = 0. */
function offsetNear(step: number, intercept: number, numerator: number): number {
  const steps = fround(fround(4096 * intercept) / step)
  const offset = nearest(2048 - fround(steps * fround(numerator / UNIT)))
  return clamp(offset, -OFFSET_LIMIT, OFFSET_LIMIT)
}
