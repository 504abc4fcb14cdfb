// f16 widened by integer arithmetic: WASM has no conversion. Weights, scales and minimums are finite:
// an exponent of 31 does not occur.

// Four f16 at `at` as f32; the other arguments are halfBits and halfRebase. Extended with their signs, they
// have the sign in place after the shift, and the mask takes its copies out of the exponent. The product
// rebases exponents, which makes subnormals right as well.
@inline
export function halves4(at: usize, bits: v128, rebase: v128): v128 {
  return f32x4.mul(v128.and(i32x4.shl(v128.load_ext<i16>(at), 13), bits), rebase)
}

// One f16.
@inline
export function half1(at: usize): f32 {
  const bits = <i32>load<u16>(at)
  const magnitude = reinterpret<f32>((bits & 0x7fff) << 13) * reinterpret<f32>(0x77800000)
  return bits & 0x8000 ? -magnitude : magnitude
}
