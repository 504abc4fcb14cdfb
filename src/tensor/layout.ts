/**
 * Kinds of weights and their byte layouts. A matrix W[N x K] (N
 * outputs, K inner) is stored as groups of 8 outputs, each contiguous over the whole inner
 * dimension; kernels/README.md has a picture.
 */
import { floatToHalf, halfToFloat } from './half.ts'
import { type QuantisedBlock, type Quantiser, quantiseQ4, quantiseQ4a, quantiseQ8 } from './quantisers.ts'

/**
 * f32 and f16; int8 and int4 with one f16 scale per output and block of 32 inner values; q4a is int4
 * with an f16 minimum beside the scale.
 */
export type Kind = 'f32' | 'f16' | 'q8' | 'q4a' | 'q4'

export const KINDS: readonly Kind[] = ['f32', 'f16', 'q8', 'q4a', 'q4']

/** Kinds whose products take activations as they are; the others take them as integers. */
export const isFloat = (kind: Kind): kind is 'f32' | 'f16' => kind === 'f32' || kind === 'f16'

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

/** Bytes of one group over 32 inner values: values, then 8 scales, then 8 minimums. */
const BLOCK_BYTES: Readonly<Record<Kind, number>> = {
  f32: BLOCK * TILE * 4,
  f16: BLOCK * TILE * 2,
  q8: BLOCK * TILE + TILE * 2,
  q4a: (BLOCK * TILE) / 2 + TILE * 2 + TILE * 2,
  q4: (BLOCK * TILE) / 2 + TILE * 2,
}

/** Bytes of a block before its scales. */
const Q8_VALUES = BLOCK * TILE
const Q4_VALUES = (BLOCK * TILE) / 2

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
  if (kind === 'f16') {
    for (let r = 0; r < rows; r++) {
      const from = sourceOffset + r * columns
      for (let k = 0; k < columns; k++) {
        storeHalf(target, targetOffset + (k * TILE + r) * 2, floatToHalf(source[from + k]))
      }
    }
    return
  }
  const blocks = paddedInner(columns) / BLOCK
  for (let r = 0; r < rows; r++) {
    const from = sourceOffset + r * columns
    for (let b = 0; b < blocks; b++) {
      const count = Math.min(BLOCK, columns - b * BLOCK)
      QUANTISERS[kind](source, from + b * BLOCK, count, quantised)
      storeBlock(kind, r, count, target, targetOffset + b * BLOCK_BYTES[kind])
    }
  }
  // A nibble of 8 means zero; rows and columns that do not exist must mean zero as well.
  if (kind === 'q4') fillAbsentNibbles(columns, rows, target, targetOffset)
}

const QUANTISERS: Readonly<Record<'q8' | 'q4a' | 'q4', Quantiser>> = {
  q8: quantiseQ8,
  q4a: quantiseQ4a,
  q4: quantiseQ4,
}

/** The block that is being packed: packing allocates nothing per block. */
const quantised: QuantisedBlock = { integers: new Int32Array(BLOCK), scale: 0, minimum: 0 }

/** Stores `quantised` as output `r` of the block at `at`. */
function storeBlock(kind: 'q8' | 'q4a' | 'q4', r: number, count: number, target: Uint8Array, at: number): void {
  const { integers, scale, minimum } = quantised
  if (kind === 'q8') {
    for (let i = 0; i < count; i++) target[at + byteQ8(r, i)] = integers[i]
    storeHalf(target, at + Q8_VALUES + r * 2, scale)
    return
  }
  const zero = kind === 'q4' ? NIBBLE_ZERO : 0
  const shift = r < 4 ? 0 : 4
  for (let i = 0; i < count; i++) target[at + byteQ4(r, i)] |= (integers[i] + zero) << shift
  storeHalf(target, at + Q4_VALUES + r * 2, scale)
  if (kind === 'q4a') storeHalf(target, at + Q4_VALUES + TILE * 2 + r * 2, minimum)
}

function storeHalf(target: Uint8Array, at: number, half: number): void {
  target[at] = half & 255
  target[at + 1] = half >> 8
}

const loadHalf = (source: Uint8Array, at: number): number => halfToFloat(source[at] | (source[at + 1] << 8))

/** Byte of a q8 block that holds output `r`, inner value `k`. */
const byteQ8 = (r: number, k: number): number => (k >> 2) * (TILE * RUN) + r * RUN + (k & 3)

/** Byte of a q4 or q4a block that holds output `r`, inner value `k`: low nibble for outputs 0-3, high for 4-7. */
const byteQ4 = (r: number, k: number): number => (k >> 2) * 16 + (r & 3) * RUN + (k & 3)

const NIBBLE_ZERO = 8

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
  if (kind === 'f16') {
    for (let k = 0; k < columns; k++) target[targetOffset + k] = loadHalf(source, sourceOffset + (k * TILE + row) * 2)
    return
  }
  const unpackValue = VALUE_UNPACKERS[kind]
  for (let k = 0; k < columns; k++) {
    target[targetOffset + k] = unpackValue(
      source,
      sourceOffset + Math.floor(k / BLOCK) * BLOCK_BYTES[kind],
      row,
      k % BLOCK,
    )
  }
}

const nibbleAt = (source: Uint8Array, at: number, r: number, k: number): number =>
  (source[at + byteQ4(r, k)] >> (r < 4 ? 0 : 4)) & 15

/** The weight of output `r`, inner value `k` of the block at `at`. */
const VALUE_UNPACKERS: Readonly<
  Record<'q8' | 'q4a' | 'q4', (source: Uint8Array, at: number, r: number, k: number) => number>
> = {
  q8: (source, at, r, k) => ((source[at + byteQ8(r, k)] << 24) >> 24) * loadHalf(source, at + Q8_VALUES + r * 2),
  q4a: (source, at, r, k) =>
    // Exact in f64, so that storing it as f32 is the only rounding, as in the kernel.
    nibbleAt(source, at, r, k) * loadHalf(source, at + Q4_VALUES + r * 2) +
    loadHalf(source, at + Q4_VALUES + TILE * 2 + r * 2),
  q4: (source, at, r, k) => (nibbleAt(source, at, r, k) - NIBBLE_ZERO) * loadHalf(source, at + Q4_VALUES + r * 2),
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
