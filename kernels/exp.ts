// exp in four lanes: the same multiplications and additions on every engine, so the same bits.
//
// x = n ln2 + r with |r| <= ln2/2; exp(r) by its Taylor polynomial of degree 7 (error below 2 ulp);
// 2^n by the exponent bits. ln2 is split in two so that n ln2 is exact to beyond f32.

// The constants come in three ways, each the fastest at its place (us, Zen 3, Node 20 / Node 24): sumOfExp4 keeps
// them in variables, 157 / 172 for 128,256 logits; softmax takes them from a table, 83 / 104 for 65,536 scores; single
// vectors (gates: 44 / 75 for 22,528) have them as constants. The variables of constants.ts, read where they are used:
// 251 / 204, 132 / 127, 50 / 64; read into locals before each loop: 144 / 189, 79 / 103, 47 / 41, which would be as
// good on the whole, but hands fourteen parameters through every function between. One loop for sum and softmax: the
// sum 157 / 198.

const LOG2_E: f32 = 1.44269504
const LN2_HIGH: f32 = 0.693359375
const LN2_LOW: f32 = -2.12194440e-4
// 1.5 * 2^23: adding it rounds to the nearest integer, which is then in the low bits of the sum. (Three
// cheap instructions; converting by trunc_sat costs about ten.)
const MAGIC: f32 = 12582912.0
// Below this exp(x) is less than the smallest normal f32; it is taken as 0.
const LEAST: f32 = -87.0
// Above this exp(x) overflows; arguments are cut there, so that the result is finite. (The order of the
// operands of pmin and pmax lets NaN through.)
const MOST: f32 = 88.0

// 1/7! to 1/3!; 1/2!, 1/1! and 1/0! are exact.
const C7: f32 = 1.98412698e-4
const C6: f32 = 1.38888889e-3
const C5: f32 = 8.33333333e-3
const C4: f32 = 4.16666667e-2
const C3: f32 = 0.166666667

@inline
export function exp4(x: v128): v128 {
  return expBy(
    x,
    f32x4.splat(LEAST),
    f32x4.splat(MOST),
    f32x4.splat(LOG2_E),
    f32x4.splat(MAGIC),
    f32x4.splat(LN2_HIGH),
    f32x4.splat(LN2_LOW),
    f32x4.splat(C7),
    f32x4.splat(C6),
    f32x4.splat(C5),
    f32x4.splat(C4),
    f32x4.splat(C3),
    f32x4.splat(0.5),
    f32x4.splat(1),
    i32x4.splat(127),
  )
}

@inline
function expBy(
  x: v128,
  least: v128,
  most: v128,
  log2e: v128,
  magic: v128,
  ln2High: v128,
  ln2Low: v128,
  c7: v128,
  c6: v128,
  c5: v128,
  c4: v128,
  c3: v128,
  half: v128,
  one: v128,
  bias: v128,
): v128 {
  const tiny = f32x4.lt(x, least)
  const cut = f32x4.pmin(f32x4.pmax(x, least), most)
  const shifted = f32x4.add(f32x4.mul(cut, log2e), magic)
  const n = f32x4.sub(shifted, magic)
  let r = f32x4.sub(cut, f32x4.mul(n, ln2High))
  r = f32x4.sub(r, f32x4.mul(n, ln2Low))
  let p = f32x4.add(f32x4.mul(c7, r), c6)
  p = f32x4.add(f32x4.mul(p, r), c5)
  p = f32x4.add(f32x4.mul(p, r), c4)
  p = f32x4.add(f32x4.mul(p, r), c3)
  p = f32x4.add(f32x4.mul(p, r), half)
  p = f32x4.add(f32x4.mul(p, r), one)
  p = f32x4.add(f32x4.mul(p, r), one)
  const power = i32x4.shl(i32x4.add(shifted, bias), 23)
  return v128.andnot(f32x4.mul(p, power), tiny)
}

// A constant that the compiler takes for a variable, given a 0 that it does not know for one. Node 24
// builds constants of a loop anew in every turn, with three instructions each: half of the time of exp.
@inline
function opaque(value: f32, zero: i32): v128 {
  return i32x4.splat(reinterpret<i32>(value) ^ zero)
}

// Sum of exp((x - top) * scale) over four lanes, of `bytes` (a multiple of 16) from `at` on. Four vectors
// a turn hide the latency of each other.
export function sumOfExp4(at: usize, bytes: usize, scale: f32, top: f32): v128 {
  const tops = f32x4.splat(top)
  const scales = f32x4.splat(scale)
  const zero = <i32>(bytes & 1)
  const least = opaque(LEAST, zero)
  const most = opaque(MOST, zero)
  const log2e = opaque(LOG2_E, zero)
  const magic = opaque(MAGIC, zero)
  const high = opaque(LN2_HIGH, zero)
  const low = opaque(LN2_LOW, zero)
  const c7 = opaque(C7, zero)
  const c6 = opaque(C6, zero)
  const c5 = opaque(C5, zero)
  const c4 = opaque(C4, zero)
  const c3 = opaque(C3, zero)
  const half = opaque(0.5, zero)
  const one = opaque(1, zero)
  const bias = i32x4.splat(127 ^ zero)
  const whole = bytes & ~63
  let sum = f32x4.splat(0)
  for (let i: usize = 0; i < whole; i += 64) {
    let a = f32x4.mul(f32x4.sub(v128.load(at + i), tops), scales)
    let b = f32x4.mul(f32x4.sub(v128.load(at + i, 16), tops), scales)
    let c = f32x4.mul(f32x4.sub(v128.load(at + i, 32), tops), scales)
    let d = f32x4.mul(f32x4.sub(v128.load(at + i, 48), tops), scales)
    a = expBy(a, least, most, log2e, magic, high, low, c7, c6, c5, c4, c3, half, one, bias)
    b = expBy(b, least, most, log2e, magic, high, low, c7, c6, c5, c4, c3, half, one, bias)
    c = expBy(c, least, most, log2e, magic, high, low, c7, c6, c5, c4, c3, half, one, bias)
    d = expBy(d, least, most, log2e, magic, high, low, c7, c6, c5, c4, c3, half, one, bias)
    sum = f32x4.add(f32x4.add(f32x4.add(f32x4.add(sum, a), b), c), d)
  }
  for (let i = whole; i < bytes; i += 16) {
    sum = f32x4.add(sum, exp4(f32x4.mul(f32x4.sub(v128.load(at + i), tops), scales)))
  }
  return sum
}

// Bytes of the table of constants for expNegative4.
export const EXP_TABLE_BYTES: usize = 48

// A loop over exp4 builds a dozen constant vectors in every turn: on Node 24 that is half the time. From a
// table each of them is one load.
@inline
export function storeExpTable(table: usize): void {
  store<f32>(table, LEAST)
  store<f32>(table, LOG2_E, 4)
  store<f32>(table, MAGIC, 8)
  store<f32>(table, LN2_HIGH, 12)
  store<f32>(table, LN2_LOW, 16)
  store<f32>(table, C7, 20)
  store<f32>(table, C6, 24)
  store<f32>(table, C5, 28)
  store<f32>(table, C4, 32)
  store<f32>(table, C3, 36)
  store<f32>(table, 0.5, 40)
  store<f32>(table, 1.0, 44)
}

// The same operations as exp4, for x that is not above 0.
@inline
export function expNegative4(x: v128, table: usize): v128 {
  const tiny = f32x4.lt(x, v128.load32_splat(table))
  const cut = f32x4.pmax(x, v128.load32_splat(table))
  const shifted = f32x4.add(f32x4.mul(cut, v128.load32_splat(table, 4)), v128.load32_splat(table, 8))
  const n = f32x4.sub(shifted, v128.load32_splat(table, 8))
  let r = f32x4.sub(cut, f32x4.mul(n, v128.load32_splat(table, 12)))
  r = f32x4.sub(r, f32x4.mul(n, v128.load32_splat(table, 16)))
  let p = v128.load32_splat(table, 20)
  p = f32x4.add(f32x4.mul(p, r), v128.load32_splat(table, 24))
  p = f32x4.add(f32x4.mul(p, r), v128.load32_splat(table, 28))
  p = f32x4.add(f32x4.mul(p, r), v128.load32_splat(table, 32))
  p = f32x4.add(f32x4.mul(p, r), v128.load32_splat(table, 36))
  p = f32x4.add(f32x4.mul(p, r), v128.load32_splat(table, 40))
  p = f32x4.add(f32x4.mul(p, r), v128.load32_splat(table, 44))
  p = f32x4.add(f32x4.mul(p, r), v128.load32_splat(table, 44))
  const power = i32x4.shl(i32x4.add(shifted, i32x4.splat(127)), 23)
  return v128.andnot(f32x4.mul(p, power), tiny)
}
