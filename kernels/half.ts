// f16 widened by integer arithmetic: WASM has no conversion. Weights, scales and minimums are finite:
// an exponent of 31 does not occur.

// Four f16 at `at` as f32; the other arguments are halfBits and halfRebase.
@inline
export function halves4(at: usize, bits: v128, rebase: v128): v128 {
  return f32x4.mul(v128.and(i32x4.shl(i32x4.extend_low_i16x8_s(v128.load64_zero(at)), 13), bits), rebase)
}

// Eight f16 of one vector as f32: the first four and the last four.
@inline
export function lowHalves(bits: v128): v128 {
  return extendedHalves(i32x4.extend_low_i16x8_s(bits))
}

@inline
export function highHalves(bits: v128): v128 {
  return extendedHalves(i32x4.extend_high_i16x8_s(bits))
}

// Four f16 extended with their signs: the sign is in place after the shift, its copies before the exponent go.
@inline
function extendedHalves(bits: v128): v128 {
  const rebased = v128.and(i32x4.shl(bits, 13), i32x4.splat(0x8fffffff))
  return f32x4.mul(rebased, f32x4.splat(reinterpret<f32>(0x77800000)))
}

// One f16.
@inline
export function half1(at: usize): f32 {
  const bits = <i32>load<u16>(at)
  const magnitude = reinterpret<f32>((bits & 0x7fff) << 13) * reinterpret<f32>(0x77800000)
  return bits & 0x8000 ? -magnitude : magnitude
}
