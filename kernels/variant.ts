// Which of the modules is being compiled: build.mjs compiles the same sources once per variant and sets
// the number. Code behind `if (VARIANT == ...)`, with `VARIANT` a constant, exists only in its module.

export const SIMD128: i32 = 0
export const RELAXED_I16: i32 = 1
export const RELAXED_I32: i32 = 2

export const VARIANT: i32 = COPPICE_VARIANT
