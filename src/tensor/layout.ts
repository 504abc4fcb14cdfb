/**
 * Kinds of weights, their byte layouts, and the quantisers that make them. A matrix W[N x K] (N
 * outputs, K inner) is stored as groups of 8 outputs, each contiguous over the whole inner
 * dimension; kernels/README.md has a picture.
 */
import { floatToHalf, halfToFloat } from './half.ts'

/** f32; int8 and int4 with one f16 scale per output and block of 32 inner values. */
export type Kind = 'f32' | 'q8' | 'q4'

export const KINDS: readonly Kind[] = ['f32', 'q8', 'q4']

/** Kinds whose products take activations as they are; the others take them as integers. */
export const isFloat = (kind: Kind): kind is 'f32' => kind === 'f32'

/** Inner values that share a scale. */
export const BLOCK = 32

/** Outputs in a group. */
export const TILE = 8

/** Byte alignment of tensors and regions: a cache line. */
export const ALIGNMENT = 64

/** Inner values of one output that lie side by side within a block. */
const RUN = 4

/** K rounded up to whole blocks; the rest is zeros. */
export const paddedInner = (columns: number): number => Math.ceil(columns / BLOCK) * BLOCK

/** N rounded up to whole groups; the rest is zeros. */
export const paddedOutputs = (rows: number): number => Math.ceil(rows / TILE) * TILE

/** Bytes of one group over 32 inner values: values, then 8 scales. */
const BLOCK_BYTES: Readonly<Record<Kind, number>> = {
  f32: BLOCK * TILE * 4,
  q8: BLOCK * TILE + TILE * 2,
  q4: (BLOCK * TILE) / 2 + TILE * 2,
}

/** Bytes of one group of 8 outputs with `columns` inner values. */
export const groupBytes = (kind: Kind, columns: number): number => (paddedInner(columns) / BLOCK) * BLOCK_BYTES[kind]

/** Bytes of a matrix with `rows` outputs and `columns` inner values. */
export const matrixBytes = (kind: Kind, rows: number, columns: number): number =>
  (paddedOutputs(rows) / TILE) * groupBytes(kind, columns)

/**
 * Packs up to 8 outputs into one group.
 * @param source row-major [rows x columns] f32 from `sourceOffset` (elements) on
 * @param rows outputs that exist, 1 to 8; the others become zeros
 * @param target receives `groupBytes(kind, columns)` bytes from `targetOffset` on; f32 needs a multiple of 4
 */
export function packGroup(
  kind: Kind,
  columns: number,
  source: Float32Array,
  sourceOffset: number,
  rows: number,
  target: Uint8Array,
  targetOffset: number,
): void {
  const bytes = groupBytes(kind, columns)
  target.fill(0, targetOffset, targetOffset + bytes)
  if (kind === 'f32') {
    const out = new Float32Array(target.buffer, target.byteOffset + targetOffset, bytes / 4)
    for (let r = 0; r < rows; r++) {
      const from = sourceOffset + r * columns
      for (let k = 0; k < columns; k++) out[k * TILE + r] = source[from + k]
    }
    return
  }
  const packBlock = kind === 'q8' ? packBlockQ8 : packBlockQ4
  const blocks = paddedInner(columns) / BLOCK
  for (let r = 0; r < rows; r++) {
    const from = sourceOffset + r * columns
    for (let b = 0; b < blocks; b++) {
      const count = Math.min(BLOCK, columns - b * BLOCK)
      const at = targetOffset + b * BLOCK_BYTES[kind]
      const scale = packBlock(source, from + b * BLOCK, count, r, target, at)
      const scaleAt = at + BLOCK_BYTES[kind] - TILE * 2 + r * 2
      target[scaleAt] = scale & 255
      target[scaleAt + 1] = scale >> 8
    }
  }
  // A nibble of 8 means zero; rows and columns that do not exist must mean zero as well.
  if (kind === 'q4') fillAbsentNibbles(columns, rows, target, targetOffset)
}

/** Byte of a q8 block that holds output `r`, inner value `k`. */
const byteQ8 = (r: number, k: number): number => (k >> 2) * (TILE * RUN) + r * RUN + (k & 3)

/** Byte of a q4 block that holds output `r`, inner value `k`: low nibble for outputs 0-3, high for 4-7. */
const byteQ4 = (r: number, k: number): number => (k >> 2) * 16 + (r & 3) * RUN + (k & 3)

/** @returns the block's scale as f16 bits */
function packBlockQ8(
  source: Float32Array,
  from: number,
  count: number,
  r: number,
  target: Uint8Array,
  at: number,
): number {
  const half = floatToHalf(Math.abs(extremeOf(source, from, count)) / 127)
  const scale = halfToFloat(half)
  if (scale === 0) return 0
  const inverse = 1 / scale
  for (let i = 0; i < count; i++) {
    const q = nearest(source[from + i] * inverse, 128)
    target[at + byteQ8(r, i)] = Math.max(-127, Math.min(127, q))
  }
  return half
}

/** The value of the largest magnitude, with its sign. */
function extremeOf(source: Float32Array, from: number, count: number): number {
  let extreme = 0
  let magnitude = 0
  for (let i = 0; i < count; i++) {
    const w = source[from + i]
    const m = w < 0 ? -w : w
    if (m > magnitude) {
      magnitude = m
      extreme = w
    }
  }
  return extreme
}

/** x rounded, for x > -offset; several times as fast as Math.round. */
const nearest = (x: number, offset: number): number => ((x + offset + 0.5) | 0) - offset

const NIBBLE_ZERO = 8

/** First scales tried, over the one that maps the largest magnitude to -8: the best is often a little smaller. */
const Q4_CANDIDATES = [1, 0.96, 0.92, 0.88, 0.84, 1.04, 1.08, 1.14]

/** Signed values -8..7 at the scale that `scaleQ4` finds. @returns the block's scale as f16 bits */
function packBlockQ4(
  source: Float32Array,
  from: number,
  count: number,
  r: number,
  target: Uint8Array,
  at: number,
): number {
  const half = scaleQ4(source, from, count)
  const scale = halfToFloat(half)
  const inverse = scale === 0 ? 0 : 1 / scale
  const shift = r < 4 ? 0 : 4
  for (let i = 0; i < count; i++) target[at + byteQ4(r, i)] |= nibble(source[from + i] * inverse) << shift
  return half
}

/** A multiple of the scale as a nibble: the nearest of -8..7, plus 8. */
function nibble(multiple: number): number {
  // Truncation, which is all that a conversion to integers does, rounds down here: only what is clamped is negative.
  const q = (multiple + NIBBLE_ZERO + 0.5) | 0
  return q < 0 ? 0 : q > 15 ? 15 : q
}

/**
 * The scale of a q4 block with the least squared error that a short search finds. It starts at the
 * scale that maps the largest magnitude to -8 (ggml's Q4_0) and at others near it. Each of them
 * rounds the block to integers q; the best scale for these integers is sum(w q) / sum(q q), which is
 * the candidate. A last one starts at the best so far.
 * @returns f16 bits
 */
function scaleQ4(source: Float32Array, from: number, count: number): number {
  let extreme = 0
  for (let i = 0; i < count; i++) {
    if (Math.abs(source[from + i]) > Math.abs(extreme)) extreme = source[from + i]
  }
  const first = halfToFloat(floatToHalf(extreme / -NIBBLE_ZERO))
  if (first === 0) return 0
  let bestHalf = 0
  let bestScale = first
  let least = Number.POSITIVE_INFINITY
  for (let c = 0; c <= Q4_CANDIDATES.length; c++) {
    const inverse = 1 / (c < Q4_CANDIDATES.length ? first * Q4_CANDIDATES[c] : bestScale)
    let products = 0
    let squares = 0
    for (let i = 0; i < count; i++) {
      const w = source[from + i]
      const q = nibble(w * inverse) - NIBBLE_ZERO
      products += w * q
      squares += q * q
    }
    const half = floatToHalf(products / squares)
    const scale = halfToFloat(half)
    // The squared error less the sum of w * w, which is the same for all.
    const error = scale * (scale * squares - 2 * products)
    if (error < least) {
      least = error
      bestHalf = half
      bestScale = scale
    }
  }
  return bestHalf
}

function fillAbsentNibbles(columns: number, rows: number, target: Uint8Array, targetOffset: number): void {
  const padded = paddedInner(columns)
  for (let r = 0; r < TILE; r++) {
    for (let k = r < rows ? columns : 0; k < padded; k++) {
      const at = targetOffset + Math.floor(k / BLOCK) * BLOCK_BYTES.q4 + byteQ4(r, k % BLOCK)
      target[at] |= NIBBLE_ZERO << (r < 4 ? 0 : 4)
    }
  }
}

/**
 * Dequantises one output of a group.
 * @param row 0 to 7
 * @param target receives `columns` values from `targetOffset` (elements) on
 */
export function unpackRow(
  kind: Kind,
  columns: number,
  source: Uint8Array,
  sourceOffset: number,
  row: number,
  target: Float32Array,
  targetOffset: number,
): void {
  if (kind === 'f32') {
    const view = new DataView(source.buffer, source.byteOffset + sourceOffset)
    for (let k = 0; k < columns; k++) target[targetOffset + k] = view.getFloat32((k * TILE + row) * 4, true)
    return
  }
  for (let k = 0; k < columns; k++) {
    const at = sourceOffset + Math.floor(k / BLOCK) * BLOCK_BYTES[kind]
    const scaleAt = at + BLOCK_BYTES[kind] - TILE * 2 + row * 2
    const scale = halfToFloat(source[scaleAt] | (source[scaleAt + 1] << 8))
    const inBlock = k % BLOCK
    const q =
      kind === 'q8'
        ? (source[at + byteQ8(row, inBlock)] << 24) >> 24
        : ((source[at + byteQ4(row, inBlock)] >> (row < 4 ? 0 : 4)) & 15) - NIBBLE_ZERO
    target[targetOffset + k] = q * scale
  }
}

/** Dequantises a group: [8 x columns] f32, row-major. */
export function unpackGroup(
  kind: Kind,
  columns: number,
  source: Uint8Array,
  sourceOffset: number,
  target: Float32Array,
): void {
  for (let row = 0; row < TILE; row++) unpackRow(kind, columns, source, sourceOffset, row, target, row * columns)
}
