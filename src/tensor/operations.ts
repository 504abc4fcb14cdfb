/**
 * Job records: what a kernel is to do, as 32 words of 32 bits in shared memory. The kernels read the
 * same words by the same indices (kernels/record.ts); a test compares the two lists.
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
} as const

/** Word 1 of gemm and gather records. */
export const KIND_CODE = { f32: 0, q8: 1, q4: 2 } as const

/**
 * Scratch that one share of an attention job needs at the least: scores of one row for the query
 * heads of one group.
 * @param group query heads per KV head
 * @param positions keys that a row can see at the most
 */
export const attentionScratchBytes = (group: number, positions: number): number => group * (positions + 8) * 4
