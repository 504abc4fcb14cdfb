// Vectors that inner loops need. As variables that the module exports they count as unknown to the compilers,
// which keep them in registers; V8 makes a constant anew, in three instructions, wherever a loop uses it.

// The low nibble of every byte, and of every i16.
export let byteNibbles: v128 = i8x16.splat(15)
export let shortNibbles: v128 = i16x8.splat(15)

// The sign bit of every byte.
export let byteSigns: v128 = i8x16.splat(-128)

// Sign, exponent and mantissa of an f16 that was extended with its sign and shifted left by 13.
export let halfBits: v128 = i32x4.splat(0x8fffffff)

// 2^112: from the exponents of f16 to those of f32.
export let halfRebase: v128 = f32x4.splat(reinterpret<f32>(0x77800000))
