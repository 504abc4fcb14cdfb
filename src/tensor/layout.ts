/**
 * Kinds of weights, their byte layouts, and the quantisers that make them. A matrix W[N x K] (N
 * outputs, K inner) is stored as groups of 8 outputs, each contiguous over the whole inner
 * dimension; kernels/README.md has a picture.
 */
import { floatToHalf, halfToFloat } from './half.ts'

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
  const packBlock = BLOCK_PACKERS[kind]
  const blocks = paddedInner(columns) / BLOCK
  for (let r = 0; r < rows; r++) {
    const from = sourceOffset + r * columns
    for (let b = 0; b < blocks; b++) {
      const count = Math.min(BLOCK, columns - b * BLOCK)
      packBlock(source, from + b * BLOCK, count, r, target, targetOffset + b * BLOCK_BYTES[kind])
    }
  }
  // A nibble of 8 means zero; rows and columns that do not exist must mean zero as well.
  if (kind === 'q4') fillAbsentNibbles(columns, rows, target, targetOffset)
}

/** Packs `count` values of output `r` into the block at `at`. */
type BlockPacker = (
  source: Float32Array,
  from: number,
  count: number,
  r: number,
  target: Uint8Array,
  at: number,
) => void

const BLOCK_PACKERS: Readonly<Record<'q8' | 'q4a' | 'q4', BlockPacker>> = {
  q8: packBlockQ8,
  q4a: packBlockQ4a,
  q4: packBlockQ4,
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

function packBlockQ8(
  source: Float32Array,
  from: number,
  count: number,
  r: number,
  target: Uint8Array,
  at: number,
): void {
  const half = floatToHalf(Math.abs(extremeOf(source, from, count)) / 127)
  const scale = halfToFloat(half)
  if (scale === 0) return
  storeHalf(target, at + Q8_VALUES + r * 2, half)
  const inverse = 1 / scale
  for (let i = 0; i < count; i++) {
    const q = nearest(source[from + i] * inverse, 128)
    target[at + byteQ8(r, i)] = Math.max(-127, Math.min(127, q))
  }
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

/** Signed values -8..7 at the scale that `scaleQ4` finds. */
function packBlockQ4(
  source: Float32Array,
  from: number,
  count: number,
  r: number,
  target: Uint8Array,
  at: number,
): void {
  const half = scaleQ4(source, from, count)
  const scale = halfToFloat(half)
  const inverse = scale === 0 ? 0 : 1 / scale
  const shift = r < 4 ? 0 : 4
  for (let i = 0; i < count; i++) target[at + byteQ4(r, i)] |= nibble(source[from + i] * inverse) << shift
  storeHalf(target, at + Q4_VALUES + r * 2, half)
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

/**
 * What the search for a q4a block starts at: steps that its range is divided into (beyond 15 the ends
 * are clipped), and how many steps the 15 that are there are moved up from its middle.
 */
const Q4A_CANDIDATES: readonly (readonly [steps: number, shift: number])[] = [
  [15, 0],
  [15.5, 0.25],
  [15.5, -0.25],
  [16.2, 0],
  [16.5, 0.6],
  [16.5, -0.6],
  [17.5, 0],
  [18.5, 0],
]

const NIBBLE_MAXIMUM = 15

/** The scale and minimum that `fitQ4a` found last, as f16 bits; packing a block allocates nothing. */
const fitted = { scale: 0, minimum: 0 }

/** Nibbles 0..15 at the scale and minimum that `fitQ4a` finds. Where columns are absent, activations are zero. */
function packBlockQ4a(
  source: Float32Array,
  from: number,
  count: number,
  r: number,
  target: Uint8Array,
  at: number,
): void {
  fitQ4a(source, from, count)
  const scale = halfToFloat(fitted.scale)
  const minimum = halfToFloat(fitted.minimum)
  const inverse = scale === 0 ? 0 : 1 / scale
  const shift = r < 4 ? 0 : 4
  for (let i = 0; i < count; i++) {
    target[at + byteQ4(r, i)] |= clampedStep((source[from + i] - minimum) * inverse) << shift
  }
  storeHalf(target, at + Q4_VALUES + r * 2, fitted.scale)
  storeHalf(target, at + Q4_VALUES + TILE * 2 + r * 2, fitted.minimum)
}

/** The nearest of 0..15. */
function clampedStep(steps: number): number {
  const q = (steps + 0.5) | 0
  return q < 0 ? 0 : q > NIBBLE_MAXIMUM ? NIBBLE_MAXIMUM : q
}

/**
 * The scale and minimum of a q4a block with the least squared error that a short search finds. It
 * starts at the block's range in 15 steps and at others near it. Each rounds the block to integers q; the least-squares line w = scale q + minimum through these is the
 * candidate, its minimum fitted to the rounded scale. A last one starts at the best so far.
 */
function fitQ4a(source: Float32Array, from: number, count: number): void {
  let low = source[from]
  let high = low
  let sum = 0
  for (let i = 0; i < count; i++) {
    const w = source[from + i]
    if (w < low) low = w
    if (w > high) high = w
    sum += w
  }
  const range = high - low
  const middle = (low + high) / 2
  fitted.scale = 0
  fitted.minimum = floatToHalf(sum / count)
  // The squared error less the sum of w * w, which is the same for all.
  let least = halfToFloat(fitted.minimum) * (halfToFloat(fitted.minimum) * count - 2 * sum)
  for (let c = 0; c <= Q4A_CANDIDATES.length; c++) {
    const isLast = c === Q4A_CANDIDATES.length
    const first = isLast ? halfToFloat(fitted.scale) : range / Q4A_CANDIDATES[c][0]
    if (first === 0) return
    const inverse = 1 / first
    const start = isLast ? halfToFloat(fitted.minimum) : middle - (NIBBLE_MAXIMUM / 2 - Q4A_CANDIDATES[c][1]) * first
    let steps = 0
    let squares = 0
    let products = 0
    for (let i = 0; i < count; i++) {
      const w = source[from + i]
      const q = clampedStep((w - start) * inverse)
      steps += q
      squares += q * q
      products += w * q
    }
    const spread = count * squares - steps * steps
    if (spread === 0) continue
    const scaleHalf = floatToHalf((count * products - steps * sum) / spread)
    const scale = halfToFloat(scaleHalf)
    const minimumHalf = floatToHalf((sum - scale * steps) / count)
    const minimum = halfToFloat(minimumHalf)
    const error = scale * (scale * squares - 2 * products) + minimum * (minimum * count - 2 * sum + 2 * scale * steps)
    if (error < least) {
      least = error
      fitted.scale = scaleHalf
      fitted.minimum = minimumHalf
    }
  }
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
