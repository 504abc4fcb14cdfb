// f16 widened by integer arithmetic: WASM has no conversion. Weights, scales and minimums are finite:
// an exponent of 31 does not occur.

// Four f16 at `at` as f32.
@inline
export function halves4(at: usize): v128 {
  const bits = i32x4.extend_low_i16x8_u(v128.load64_zero(at))
  const sign = i32x4.shl(v128.and(bits, i32x4.splat(0x8000)), 16)
  const magnitude = i32x4.shl(v128.and(bits, i32x4.splat(0x7fff)), 13)
  // Exponents are rebased by a multiplication, which also makes subnormals right.
  const value = f32x4.mul(magnitude, f32x4.splat(reinterpret<f32>(0x77800000)))
  return v128.or(value, sign)
}

// What `widenHalves` needs in registers: the bits that stay, and the factor 2^112 that rebases exponents.
// Node 24 rebuilds constant vectors at every use in a loop; these it cannot know to be constant. `positive`
// is any number that is not negative.
@inline
export function halvesMask(positive: i32): v128 {
  return i32x4.splat(0x8fffffff | (positive >> 31))
}

@inline
export function halvesRebase(positive: i32): v128 {
  return i32x4.splat(0x77800000 | (positive >> 31))
}

// Four f16 at `at` as f32, in fewer instructions. They are extended with their signs, so that the shift
// leaves the sign in place; the mask takes away its copies above the exponent.
@inline
export function widenHalves(at: usize, mask: v128, rebase: v128): v128 {
  return f32x4.mul(v128.and(i32x4.shl(v128.load_ext<i16>(at), 13), mask), rebase)
}

// One f16.
@inline
export function half1(at: usize): f32 {
  const bits = <i32>load<u16>(at)
  const magnitude = reinterpret<f32>((bits & 0x7fff) << 13) * reinterpret<f32>(0x77800000)
  return bits & 0x8000 ? -magnitude : magnitude
}
