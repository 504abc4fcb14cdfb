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
  rope: 4,
  storeKeysAndValues: 5,
  attention: 6,
  siluGate: 7,
  gather: 8,
  read: 9,
} as const

/** The `kind` word of gemm and gather records. */
export const KIND_CODE = { f32: 0, q8: 1, q4: 2 } as const

/** outputs and columns are padded; xStride counts for f32 only (quantised rows are contiguous); bias 0: none. */
export const GemmWord = {
  kind: 1,
  rows: 2,
  outputs: 3,
  columns: 4,
  x: 5,
  xStride: 6,
  xScales: 7,
  xSums: 8,
  weights: 9,
  y: 10,
  yStride: 11,
  bias: 12,
  accumulate: 13,
} as const

export const QuantiseWord = {
  rows: 1,
  columns: 2,
  paddedColumns: 3,
  source: 4,
  sourceStride: 5,
  values: 6,
  scales: 7,
  sums: 8,
} as const

/** Segment s of a row begins at s * segmentLength; paddedTo 0: no zeros behind; epsilon is f32. */
export const RmsNormWord = {
  rows: 1,
  segments: 2,
  segmentLength: 3,
  source: 4,
  sourceStride: 5,
  weight: 6,
  target: 7,
  targetStride: 8,
  paddedTo: 9,
  epsilon: 10,
} as const

/** Dimensions [0, 2 * half) of each head rotate; cosines and sines are [rows][half]. */
export const RopeWord = {
  rows: 1,
  heads: 2,
  headSize: 3,
  half: 4,
  x: 5,
  stride: 6,
  cosines: 7,
  sines: 8,
} as const

export const StoreKvWord = {
  rows: 1,
  kvHeads: 2,
  headSize: 3,
  k: 4,
  v: 5,
  sourceStride: 6,
  keys: 7,
  values: 8,
  headStride: 9,
  slots: 10,
} as const

/** window 0: none; softcap 0: none; scale and softcap are f32; scratchBytes is per share. */
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
  scratch: 18,
  scratchBytes: 19,
} as const

/** upOffset in bytes from gate to up; paddedTo 0: no zeros behind. */
export const SiluGateWord = {
  rows: 1,
  columns: 2,
  source: 3,
  sourceStride: 4,
  upOffset: 5,
  target: 6,
  targetStride: 7,
  paddedTo: 8,
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
 * Scratch that one share of an attention job needs at the least: scores of one row for the query
 * heads of one group. With more, several rows use a block of keys while it is in the cache.
 * @param group query heads per KV head
 * @param positions keys that a row can see at the most
 */
export const attentionScratchBytes = (group: number, positions: number): number => group * (positions + 8) * 4
