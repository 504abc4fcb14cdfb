/**
 * Job records: what a kernel is to do, as 32 words of 32 bits in shared memory. Word 0 is the
 * operation; the tables below name the others. Addresses are u32, strides are bytes. The kernels
 * read the same words by the same numbers (kernels/record.ts); a test compares the two lists.
 */

export const RECORD_WORDS = 32
export const RECORD_BYTES = RECORD_WORDS * 4

/** Word 0 of a record. */
export const Operation = {
  gemm: 1,
  quantise: 2,
  rmsNorm: 3,
  rotateAndStore: 4,
  attention: 6,
  siluGate: 7,
  gather: 8,
  read: 9,
} as const

/** The `kind` word of records. */
export const KIND_CODE = { f32: 0, q8: 1, q4: 2, f16: 3, q4a: 4 } as const

/**
 * outputs and columns are padded; xStride counts for f32 and f16 only; bias 0: none; sideBySide: whether
 * products of one or two rows read the weights of several groups at once.
 */
export const GemmWord = {
  kind: 1,
  rows: 2,
  outputs: 3,
  columns: 4,
  x: 5,
  xStride: 6,
  weights: 7,
  y: 8,
  yStride: 9,
  bias: 10,
  accumulate: 11,
  sideBySide: 12,
} as const

/** values: `quantisedBytes` for weights of `kind`. */
export const QuantiseWord = {
  rows: 1,
  columns: 2,
  source: 3,
  sourceStride: 4,
  values: 5,
  kind: 6,
} as const

/** sourceRows: which rows of the source, 0: the first ones; target 0: to values for weights of `kind`; epsilon is f32. */
export const RmsNormWord = {
  rows: 1,
  columns: 2,
  source: 3,
  sourceStride: 4,
  sourceRows: 5,
  weight: 6,
  epsilon: 7,
  target: 8,
  targetStride: 9,
  values: 10,
  kind: 11,
} as const

/**
 * Of each row: q [heads][headSize], k and v [kvHeads][headSize], `stride` bytes from row to row; norms 0: none;
 * dimensions [0, 2 * half) of each head of q and k rotate, cosines and sines are [rows][half]; epsilon is f32;
 * scalesOffset: bytes from the vectors of a KV head to their f32 scales in a q8 cache, 0: f32 cache.
 */
export const RotateAndStoreWord = {
  rows: 1,
  heads: 2,
  kvHeads: 3,
  headSize: 4,
  half: 5,
  q: 6,
  k: 7,
  v: 8,
  stride: 9,
  qNorm: 10,
  kNorm: 11,
  epsilon: 12,
  cosines: 13,
  sines: 14,
  keys: 15,
  values: 16,
  headStride: 17,
  slots: 18,
  scalesOffset: 19,
} as const

/**
 * One phase of attention; the record of the others differs in `phase` only. window 0: none; softcap 0:
 * none; scale and softcap are f32; scalesOffset 0: f32 cache.
 */
export const AttentionWord = {
  rows: 1,
  heads: 2,
  kvHeads: 3,
  headSize: 4,
  queries: 5,
  queryStride: 6,
  keys: 7,
  values: 8,
  headStride: 9,
  output: 10,
  outputStride: 11,
  prefixes: 12,
  ancestorOffsets: 13,
  ancestorSlots: 14,
  window: 15,
  scale: 16,
  softcap: 17,
  scores: 18,
  scoreStride: 19,
  phase: 20,
  scalesOffset: 21,
} as const

/** The `phase` word of attention records, in order; `queries` for a q8 cache only. */
export const ATTENTION_PHASE = { queries: 0, scores: 1, weights: 2, values: 3 } as const

/** upOffset in bytes from gate to up; target 0: to values for weights of `kind`, and the gate is overwritten. */
export const SiluGateWord = {
  rows: 1,
  columns: 2,
  source: 3,
  sourceStride: 4,
  upOffset: 5,
  target: 6,
  targetStride: 7,
  values: 8,
  kind: 9,
} as const

export const GatherWord = {
  rows: 1,
  kind: 2,
  columns: 3,
  paddedColumns: 4,
  ids: 5,
  weights: 6,
  target: 7,
  targetStride: 8,
} as const

/** bytes: a multiple of 256; sums: 64 bytes per share, of which the first 4 receive the sum of its i32 words. */
export const ReadWord = {
  source: 1,
  bytes: 2,
  sums: 3,
} as const

/**
 * Bytes of one query's scores: whole vectors of four positions, and behind them 64 bytes for the constants
 * of exp and the sum.
 */
export const scoreStride = (positions: number): number => Math.ceil(positions / 4) * 16 + 64

/** Behind the scores of all queries, for each share of a job over a q8 cache: 64 positions x 16 dimensions as f32. */
export const WIDENED_BYTES = 4096
