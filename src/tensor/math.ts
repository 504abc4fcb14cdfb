/**
 * exp, log, sin, cos and pow in f64 from operations that IEEE 754 rounds the same everywhere. The
 * built-in Math functions differ between engines in the last bit, which sampling would turn into
 * different text.
 */

const double = new Float64Array(1)
const words = new Uint32Array(double.buffer)
/** Index of the upper word; every platform with WebAssembly shared memory is little-endian. */
const HIGH = 1

const LN2_HIGH = 6.93147180369123816490e-1
const LN2_LOW = 1.90821492927058770002e-10
const INVERSE_LN2 = 1.44269504088896338700

/** 2^n for an integer n in the range of normal numbers. */
function powerOfTwo(n: number): number {
  words[0] = 0
  words[HIGH] = (n + 1023) << 20
  return double[0]
}

/** e^x. Relative error below 1e-15; 0 below -745, Infinity above 709.78. */
export function exp(x: number): number {
  if (x !== x) return x
  if (x > 709.782712893384) return Number.POSITIVE_INFINITY
  if (x < -745.1332191019412) return 0
  const n = Math.floor(x * INVERSE_LN2 + 0.5)
  const r = x - n * LN2_HIGH - n * LN2_LOW
  // Taylor series; |r| <= 0.347, so the term r^14/14! is below 1e-17.
  let p = 1 / 6227020800
  for (let i = EXP_COEFFICIENTS.length - 1; i >= 0; i--) p = p * r + EXP_COEFFICIENTS[i]
  const half = Math.floor(n / 2)
  return p * powerOfTwo(half) * powerOfTwo(n - half)
}

/** 1/i! for i from 0 to 12. */
const EXP_COEFFICIENTS: readonly number[] = (() => {
  const list = [1]
  for (let i = 1; i <= 12; i++) list.push(list[i - 1] / i)
  return list
})()

/** Natural logarithm. Relative error below 1e-15; -Infinity at 0, NaN below. */
export function log(x: number): number {
  if (x !== x || x === Number.POSITIVE_INFINITY) return x
  if (x < 0) return Number.NaN
  if (x === 0) return Number.NEGATIVE_INFINITY
  let shift = 0
  let value = x
  if (value < 2.2250738585072014e-308) {
    value *= 18014398509481984
    shift = -54
  }
  double[0] = value
  let exponent = ((words[HIGH] >>> 20) & 2047) - 1023
  words[HIGH] = (words[HIGH] & 0x000fffff) | 0x3ff00000
  let m = double[0]
  if (m > Math.SQRT2) {
    m /= 2
    exponent += 1
  }
  exponent += shift
  // ln m = 2 atanh(s), s = (m - 1)/(m + 1), |s| <= 0.1716.
  const s = (m - 1) / (m + 1)
  const z = s * s
  let p = 1 / 23
  for (let i = 21; i >= 3; i -= 2) p = p * z + 1 / i
  return exponent * LN2_HIGH + (exponent * LN2_LOW + (2 * s + 2 * s * z * p))
}

/** base^y for base > 0. Relative error about 1e-16 times (1 + |y ln base|). */
export function pow(base: number, y: number): number {
  return exp(y * log(base))
}

/** pi/2 in three parts of 33, 33 and 53 bits: n times the first two is exact for n below 2^20. */
const HALF_PI_1 = 1.57079632673412561417
const HALF_PI_2 = 6.07710050630396597660e-11
const HALF_PI_3 = 2.02226624879595063154e-21
const TWO_OVER_PI = 6.36619772367581382433e-1

/** Largest argument, in radians, for which the reduction keeps its precision. */
export const ANGLE_LIMIT = 1e6

/** Sine. Absolute error below 1e-15 for |x| up to `ANGLE_LIMIT`. */
export function sin(x: number): number {
  const n = Math.floor(x * TWO_OVER_PI + 0.5)
  return quadrant(reduce(x, n), n)
}

/** Cosine. Absolute error below 1e-15 for |x| up to `ANGLE_LIMIT`. */
export function cos(x: number): number {
  const n = Math.floor(x * TWO_OVER_PI + 0.5)
  return quadrant(reduce(x, n), n + 1)
}

const reduce = (x: number, n: number): number => x - n * HALF_PI_1 - n * HALF_PI_2 - n * HALF_PI_3

/** sin(r + n pi/2) for |r| <= pi/4. */
function quadrant(r: number, n: number): number {
  const z = r * r
  const turn = ((n % 4) + 4) % 4
  const value = turn % 2 === 0 ? sinSeries(r, z) : cosSeries(z)
  return turn < 2 ? value : -value
}

function sinSeries(r: number, z: number): number {
  let p = 1 / 355687428096000
  p = -1 / 1307674368000 + z * p
  p = 1 / 6227020800 + z * p
  p = -1 / 39916800 + z * p
  p = 1 / 362880 + z * p
  p = -1 / 5040 + z * p
  p = 1 / 120 + z * p
  p = -1 / 6 + z * p
  return r + r * z * p
}

function cosSeries(z: number): number {
  let p = -1 / 6402373705728000
  p = 1 / 20922789888000 + z * p
  p = -1 / 87178291200 + z * p
  p = 1 / 479001600 + z * p
  p = -1 / 3628800 + z * p
  p = 1 / 40320 + z * p
  p = -1 / 720 + z * p
  p = 1 / 24 + z * p
  return 1 - z / 2 + z * z * p
}
