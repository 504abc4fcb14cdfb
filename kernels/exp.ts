// exp in four lanes: the same multiplications and additions on every engine, so the same bits.
//
// x = n ln2 + r with |r| <= ln2/2; exp(r) by its Taylor polynomial of degree 7 (error below 2 ulp);
// 2^n by the exponent bits. ln2 is split in two so that n ln2 is exact to beyond f32.

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

@inline
export function exp4(x: v128): v128 {
  const tiny = f32x4.lt(x, f32x4.splat(LEAST))
  const cut = f32x4.pmin(f32x4.pmax(x, f32x4.splat(LEAST)), f32x4.splat(MOST))
  const shifted = f32x4.add(f32x4.mul(cut, f32x4.splat(LOG2_E)), f32x4.splat(MAGIC))
  const n = f32x4.sub(shifted, f32x4.splat(MAGIC))
  let r = f32x4.sub(cut, f32x4.mul(n, f32x4.splat(LN2_HIGH)))
  r = f32x4.sub(r, f32x4.mul(n, f32x4.splat(LN2_LOW)))
  let p = f32x4.splat(1.98412698e-4)
  p = f32x4.add(f32x4.mul(p, r), f32x4.splat(1.38888889e-3))
  p = f32x4.add(f32x4.mul(p, r), f32x4.splat(8.33333333e-3))
  p = f32x4.add(f32x4.mul(p, r), f32x4.splat(4.16666667e-2))
  p = f32x4.add(f32x4.mul(p, r), f32x4.splat(0.166666667))
  p = f32x4.add(f32x4.mul(p, r), f32x4.splat(0.5))
  p = f32x4.add(f32x4.mul(p, r), f32x4.splat(1.0))
  p = f32x4.add(f32x4.mul(p, r), f32x4.splat(1.0))
  const power = i32x4.shl(i32x4.add(shifted, i32x4.splat(127)), 23)
  return v128.andnot(f32x4.mul(p, power), tiny)
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
  store<f32>(table, 1.98412698e-4, 20)
  store<f32>(table, 1.38888889e-3, 24)
  store<f32>(table, 8.33333333e-3, 28)
  store<f32>(table, 4.16666667e-2, 32)
  store<f32>(table, 0.166666667, 36)
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
