// exp of f64, two lanes at a time, with the bits of src/tensor/math.ts, whose operations these are in the same order.

// As `opaque` of exp.ts has it, and for the same reason.
@inline
function opaque64(value: f64, zero: i64): v128 {
  return i64x2.splat(reinterpret<i64>(value) ^ zero)
}

// `total` and exp(x) of `count` f64 from `at` on, added one after the other, for -700 <= x <= 700, where 2^n is a normal
// number.
export function sumExp64(at: usize, count: i32, total: f64): f64 {
  // Addresses of f64 are even.
  const zero = <i64>(at & 1)
  const log2e = opaque64(1.4426950408889634, zero)
  const ln2High = opaque64(0.6931471803691238, zero)
  const ln2Low = opaque64(1.9082149292705877e-10, zero)
  // 1.5 * 2^52: adding it leaves the integer in the low bits.
  const magic = opaque64(6755399441055744.0, zero)
  const c13 = opaque64(1.0 / 6227020800.0, zero)
  const c12 = opaque64(1.0 / 479001600.0, zero)
  const c11 = opaque64(1.0 / 39916800.0, zero)
  const c10 = opaque64(1.0 / 3628800.0, zero)
  const c9 = opaque64(1.0 / 362880.0, zero)
  const c8 = opaque64(1.0 / 40320.0, zero)
  const c7 = opaque64(1.0 / 5040.0, zero)
  const c6 = opaque64(1.0 / 720.0, zero)
  const c5 = opaque64(1.0 / 120.0, zero)
  const c4 = opaque64(1.0 / 24.0, zero)
  const c3 = opaque64(1.0 / 6.0, zero)
  const half = opaque64(0.5, zero)
  const one = opaque64(1.0, zero)
  const bias = i64x2.splat(1023 ^ zero)
  for (let left = count; left > 0; left -= 2) {
    const x = left == 1 ? v128.load64_splat(at) : v128.load(at)
    const n = f64x2.floor(f64x2.add(f64x2.mul(x, log2e), half))
    const high = f64x2.sub(x, f64x2.mul(n, ln2High))
    const low = f64x2.mul(n, ln2Low)
    const r = f64x2.sub(high, low)
    let p = f64x2.add(f64x2.mul(c13, r), c12)
    p = f64x2.add(f64x2.mul(p, r), c11)
    p = f64x2.add(f64x2.mul(p, r), c10)
    p = f64x2.add(f64x2.mul(p, r), c9)
    p = f64x2.add(f64x2.mul(p, r), c8)
    p = f64x2.add(f64x2.mul(p, r), c7)
    p = f64x2.add(f64x2.mul(p, r), c6)
    p = f64x2.add(f64x2.mul(p, r), c5)
    p = f64x2.add(f64x2.mul(p, r), c4)
    p = f64x2.add(f64x2.mul(p, r), c3)
    p = f64x2.add(f64x2.mul(p, r), half)
    const rest = f64x2.sub(f64x2.sub(high, r), low)
    const y = f64x2.add(one, f64x2.add(r, f64x2.add(f64x2.mul(f64x2.mul(r, r), p), rest)))
    const power = i64x2.shl(i64x2.add(f64x2.add(n, magic), bias), 52)
    const two = f64x2.mul(y, power)
    total += f64x2.extract_lane(two, 0)
    if (left > 1) total += f64x2.extract_lane(two, 1)
    at += 16
  }
  return total
}
