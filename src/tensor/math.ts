/**
 * exp, log, sin, cos and pow that give the same bits on every engine and processor.
 *
 * ECMAScript leaves `Math.exp` and its relatives to the implementation, and implementations differ
 * in the last bits. These use only operations that IEEE 754 rounds exactly: + - * / and bit access.
 * The methods are the classical ones (Muller, "Elementary Functions", ch. 11: Cody-Waite argument
 * reduction, then a polynomial on a short interval).
 */

/** ln 2 in two parts: the first has 32 significant bits, so its product with an exponent is exact. */
const LN2_HIGH = 0.6931471803691238
const LN2_LOW = 1.9082149292705877e-10
const LOG2_E = Math.LOG2E

/** pi/2 in three parts: 33 + 33 + 53 bits, so products with integers below 2^20 are exact for the first two. */
const HALF_PI_1 = 1.5707963267341256
const HALF_PI_2 = 6.077100506303966e-11
const HALF_PI_3 = 2.0222662487959506e-21
const TWO_OVER_PI = 0.6366197723675814

/** Beyond these exp is Infinity, or 0. */
const EXP_OVERFLOW = 709.782712893384
const EXP_UNDERFLOW = -745.1332191019412

const SQRT_2 = Math.SQRT2
const TWO_POW_54 = 18014398509481984

/** Bit access to one double. The WASM memories of this program demand a little-endian host anyway. */
const double = new Float64Array(1)
const words = new Uint32Array(double.buffer)

/** 2^n for -1022 <= n <= 1023. */
function powerOfTwo(n: number): number {
  words[0] = 0
  words[1] = (n + 1023) << 20
  return double[0]
}

/** e^x within one unit in the last place or so. */
export function exp(x: number): number {
  if (!(x <= EXP_OVERFLOW)) return x > EXP_OVERFLOW ? Infinity : NaN
  if (x < EXP_UNDERFLOW) return 0
  // x = n ln 2 + r with |r| <= ln 2 / 2, r = high - low to more than double precision.
  const n = Math.floor(x * LOG2_E + 0.5)
  const high = x - n * LN2_HIGH
  const low = n * LN2_LOW
  const r = high - low
  // Taylor: the first term left out is below 1e-17 of the result.
  let p = 1 / 6227020800
  p = p * r + 1 / 479001600
  p = p * r + 1 / 39916800
  p = p * r + 1 / 3628800
  p = p * r + 1 / 362880
  p = p * r + 1 / 40320
  p = p * r + 1 / 5040
  p = p * r + 1 / 720
  p = p * r + 1 / 120
  p = p * r + 1 / 24
  p = p * r + 1 / 6
  p = p * r + 0.5
  // The rounding error of r itself, (high - r) - low, belongs to the smallest addend.
  const y = 1 + (r + (r * r * p + (high - r - low)))
  // 2^n in two steps where n leaves the range of normal numbers, so that the result rounds once.
  if (n > 1023) return y * 2 * powerOfTwo(n - 1)
  if (n < -1021) return (y * powerOfTwo(n + 54)) / TWO_POW_54
  return y * powerOfTwo(n)
}

/** Natural logarithm within one unit in the last place or so; -Infinity at 0, NaN below. */
export function log(x: number): number {
  if (!(x > 0)) return x === 0 ? -Infinity : NaN
  if (x === Infinity) return Infinity
  let k = 0
  if (x < 2.2250738585072014e-308) {
    x *= TWO_POW_54
    k = -54
  }
  double[0] = x
  k += (words[1] >>> 20) - 1023
  words[1] = (words[1] & 0x000fffff) | 0x3ff00000
  let m = double[0]
  if (m > SQRT_2) {
    m *= 0.5
    k++
  }
  // log m = 2 atanh s = 2s + s R(s^2) with s = f / (2 + f), |s| < 0.172, and 2s = f - s f, where f is exact.
  const f = m - 1
  const s = f / (2 + f)
  const z = s * s
  let p = 2 / 23
  p = p * z + 2 / 21
  p = p * z + 2 / 19
  p = p * z + 2 / 17
  p = p * z + 2 / 15
  p = p * z + 2 / 13
  p = p * z + 2 / 11
  p = p * z + 2 / 9
  p = p * z + 2 / 7
  p = p * z + 2 / 5
  p = p * z + 2 / 3
  return k * LN2_HIGH - (s * (f - z * p) - k * LN2_LOW - f)
}

/** sin on [-pi/4, pi/4], Taylor to r^17. */
function sinPolynomial(r: number): number {
  const z = r * r
  let p = 1 / 355687428096000
  p = p * z - 1 / 1307674368000
  p = p * z + 1 / 6227020800
  p = p * z - 1 / 39916800
  p = p * z + 1 / 362880
  p = p * z - 1 / 5040
  p = p * z + 1 / 120
  p = p * z - 1 / 6
  return r + r * z * p
}

/** cos on [-pi/4, pi/4], Taylor to r^16. */
function cosPolynomial(r: number): number {
  const z = r * r
  let p = 1 / 20922789888000
  p = p * z - 1 / 87178291200
  p = p * z + 1 / 479001600
  p = p * z - 1 / 3628800
  p = p * z + 1 / 40320
  p = p * z - 1 / 720
  p = p * z + 1 / 24
  return 1 - z * 0.5 + z * z * p
}

/** sin(x + quarters * pi/2). */
function sinShifted(x: number, quarters: number): number {
  const n = Math.floor(x * TWO_OVER_PI + 0.5)
  const r = x - n * HALF_PI_1 - n * HALF_PI_2 - n * HALF_PI_3
  switch ((n + quarters) & 3) {
    case 0:
      return sinPolynomial(r)
    case 1:
      return cosPolynomial(r)
    case 2:
      return -sinPolynomial(r)
    default:
      return -cosPolynomial(r)
  }
}

/** Sine of x radians, within 1e-15 (absolute) for |x| up to 1e6; larger arguments lose accuracy gradually. */
export function sin(x: number): number {
  return x - x === 0 ? sinShifted(x, 0) : NaN
}

/** Cosine of x radians, within 1e-15 (absolute) for |x| up to 1e6; larger arguments lose accuracy gradually. */
export function cos(x: number): number {
  return x - x === 0 ? sinShifted(x, 1) : NaN
}

/** base^y for base > 0, with a relative error of about 2e-16 * (1 + |y ln base|); NaN for a base below 0. */
export function pow(base: number, y: number): number {
  return y === 0 || base === 1 ? 1 : exp(y * log(base))
}
