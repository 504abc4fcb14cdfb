// Words of a job record; src/tensor/operations.ts holds the same numbers.

export const OP_GEMM: i32 = 1
export const OP_QUANTISE: i32 = 2
export const OP_RMS_NORM: i32 = 3
export const OP_ROPE: i32 = 4
export const OP_STORE_KV: i32 = 5
export const OP_ATTENTION: i32 = 6
export const OP_SILU_GATE: i32 = 7
export const OP_GATHER: i32 = 8

export const KIND_F32: i32 = 0
export const KIND_Q8: i32 = 1
export const KIND_Q4: i32 = 2

// Word `index` of the record as an integer or an address.
// @ts-ignore: decorator
@inline
export function int(record: usize, index: i32): i32 {
  return load<i32>(record + (<usize>index << 2))
}

// @ts-ignore: decorator
@inline
export function pointer(record: usize, index: i32): usize {
  return <usize>load<u32>(record + (<usize>index << 2))
}

// @ts-ignore: decorator
@inline
export function float(record: usize, index: i32): f32 {
  return load<f32>(record + (<usize>index << 2))
}

// First unit of share `part` of `parts` of `units`; the share ends where the next one begins.
// @ts-ignore: decorator
@inline
export function shareBegin(units: i32, part: i32, parts: i32): i32 {
  return <i32>((<i64>units * <i64>part) / <i64>parts)
}
