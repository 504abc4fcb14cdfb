// Words of a job record; src/tensor/operations.ts holds the same numbers.

export const OP_GEMM: i32 = 1
export const OP_QUANTISE: i32 = 2
export const OP_RMS_NORM: i32 = 3
export const OP_ROTATE_AND_STORE: i32 = 4
export const OP_ATTENTION: i32 = 6
export const OP_SILU_GATE: i32 = 7
export const OP_GATHER: i32 = 8
export const OP_READ: i32 = 9

export const KIND_F32: i32 = 0
export const KIND_Q8: i32 = 1
export const KIND_Q4: i32 = 2
export const KIND_F16: i32 = 3
export const KIND_Q4A: i32 = 4

export const GEMM_KIND: i32 = 1
export const GEMM_ROWS: i32 = 2
export const GEMM_OUTPUTS: i32 = 3
export const GEMM_COLUMNS: i32 = 4
export const GEMM_X: i32 = 5
export const GEMM_X_STRIDE: i32 = 6
export const GEMM_WEIGHTS: i32 = 7
export const GEMM_Y: i32 = 8
export const GEMM_Y_STRIDE: i32 = 9
export const GEMM_BIAS: i32 = 10
export const GEMM_ACCUMULATE: i32 = 11
export const GEMM_SIDE_BY_SIDE: i32 = 12

export const QUANTISE_ROWS: i32 = 1
export const QUANTISE_COLUMNS: i32 = 2
export const QUANTISE_SOURCE: i32 = 3
export const QUANTISE_SOURCE_STRIDE: i32 = 4
export const QUANTISE_VALUES: i32 = 5
export const QUANTISE_KIND: i32 = 6

export const RMS_NORM_ROWS: i32 = 1
export const RMS_NORM_COLUMNS: i32 = 2
export const RMS_NORM_SOURCE: i32 = 3
export const RMS_NORM_SOURCE_STRIDE: i32 = 4
export const RMS_NORM_SOURCE_ROWS: i32 = 5
export const RMS_NORM_WEIGHT: i32 = 6
export const RMS_NORM_EPSILON: i32 = 7
export const RMS_NORM_TARGET: i32 = 8
export const RMS_NORM_TARGET_STRIDE: i32 = 9
export const RMS_NORM_VALUES: i32 = 10
export const RMS_NORM_KIND: i32 = 11

export const ROTATE_AND_STORE_ROWS: i32 = 1
export const ROTATE_AND_STORE_HEADS: i32 = 2
export const ROTATE_AND_STORE_KV_HEADS: i32 = 3
export const ROTATE_AND_STORE_HEAD_SIZE: i32 = 4
export const ROTATE_AND_STORE_HALF: i32 = 5
export const ROTATE_AND_STORE_Q: i32 = 6
export const ROTATE_AND_STORE_K: i32 = 7
export const ROTATE_AND_STORE_V: i32 = 8
export const ROTATE_AND_STORE_STRIDE: i32 = 9
export const ROTATE_AND_STORE_Q_NORM: i32 = 10
export const ROTATE_AND_STORE_K_NORM: i32 = 11
export const ROTATE_AND_STORE_EPSILON: i32 = 12
export const ROTATE_AND_STORE_COSINES: i32 = 13
export const ROTATE_AND_STORE_SINES: i32 = 14
export const ROTATE_AND_STORE_KEYS: i32 = 15
export const ROTATE_AND_STORE_VALUES: i32 = 16
export const ROTATE_AND_STORE_HEAD_STRIDE: i32 = 17
export const ROTATE_AND_STORE_SLOTS: i32 = 18
export const ROTATE_AND_STORE_SCALES_OFFSET: i32 = 19

export const ATTENTION_ROWS: i32 = 1
export const ATTENTION_HEADS: i32 = 2
export const ATTENTION_KV_HEADS: i32 = 3
export const ATTENTION_HEAD_SIZE: i32 = 4
export const ATTENTION_QUERIES: i32 = 5
export const ATTENTION_QUERY_STRIDE: i32 = 6
export const ATTENTION_KEYS: i32 = 7
export const ATTENTION_VALUES: i32 = 8
export const ATTENTION_HEAD_STRIDE: i32 = 9
export const ATTENTION_OUTPUT: i32 = 10
export const ATTENTION_OUTPUT_STRIDE: i32 = 11
export const ATTENTION_PREFIXES: i32 = 12
export const ATTENTION_ANCESTOR_OFFSETS: i32 = 13
export const ATTENTION_ANCESTOR_SLOTS: i32 = 14
export const ATTENTION_WINDOW: i32 = 15
export const ATTENTION_SCALE: i32 = 16
export const ATTENTION_SOFTCAP: i32 = 17
export const ATTENTION_SCORES: i32 = 18
export const ATTENTION_SCORE_STRIDE: i32 = 19
export const ATTENTION_PHASE: i32 = 20
export const ATTENTION_SCALES_OFFSET: i32 = 21

export const PHASE_QUERIES: i32 = 0
export const PHASE_SCORES: i32 = 1
export const PHASE_WEIGHTS: i32 = 2
export const PHASE_VALUES: i32 = 3

export const SILU_GATE_ROWS: i32 = 1
export const SILU_GATE_COLUMNS: i32 = 2
export const SILU_GATE_SOURCE: i32 = 3
export const SILU_GATE_SOURCE_STRIDE: i32 = 4
export const SILU_GATE_UP_OFFSET: i32 = 5
export const SILU_GATE_TARGET: i32 = 6
export const SILU_GATE_TARGET_STRIDE: i32 = 7
export const SILU_GATE_VALUES: i32 = 8
export const SILU_GATE_KIND: i32 = 9

export const GATHER_ROWS: i32 = 1
export const GATHER_KIND: i32 = 2
export const GATHER_COLUMNS: i32 = 3
export const GATHER_PADDED_COLUMNS: i32 = 4
export const GATHER_IDS: i32 = 5
export const GATHER_WEIGHTS: i32 = 6
export const GATHER_TARGET: i32 = 7
export const GATHER_TARGET_STRIDE: i32 = 8

export const READ_SOURCE: i32 = 1
export const READ_BYTES: i32 = 2
export const READ_SUMS: i32 = 3

// Word `index` of the record as an integer or an address.
@inline
export function int(record: usize, index: i32): i32 {
  return load<i32>(record + (<usize>index << 2))
}

@inline
export function pointer(record: usize, index: i32): usize {
  return <usize>load<u32>(record + (<usize>index << 2))
}

@inline
export function float(record: usize, index: i32): f32 {
  return load<f32>(record + (<usize>index << 2))
}

// Bytes of 8 outputs over 32 inner values.
export function kindBlockBytes(kind: i32): usize {
  if (kind == KIND_F32) return 1024
  if (kind == KIND_F16) return 512
  if (kind == KIND_Q8) return 272
  return kind == KIND_Q4A ? 160 : 144
}

// First unit of share `part` of `parts` of `units`; the share ends where the next one begins.
@inline
export function shareBegin(units: i32, part: i32, parts: i32): i32 {
  return <i32>((<i64>units * <i64>part) / <i64>parts)
}
