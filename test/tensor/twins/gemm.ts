/** Matrix products on plain arrays, one multiplication at a time, rounded as the kernels round. */
import { BLOCK, groupBytes, paddedInner, paddedOutputs, TILE, unpackGroup } from '../../../src/tensor/layout.ts'
import { nearest } from './exp.ts'

const f = Math.fround

export interface Epilogue {
  /** [N] */
  readonly bias?: Float32Array
  /** [M x N], what y held before. */
  readonly previous?: Float32Array
}

/** @returns y [M x N] of x [M x K] and w [N x K] */
export function gemmF32(
  x: Float32Array,
  w: Float32Array,
  rows: number,
  outputs: number,
  columns: number,
  epilogue: Epilogue = {},
): Float32Array {
  const y = new Float32Array(rows * outputs)
  for (let m = 0; m < rows; m++) {
    for (let n = 0; n < outputs; n++) {
      let sum = 0
      const xAt = m * columns
      const wAt = n * columns
      for (let k = 0; k < columns; k++) sum = f(sum + f(x[xAt + k] * w[wAt + k]))
      y[m * outputs + n] = finish(sum, m, n, outputs, epilogue)
    }
  }
  return y
}

/** A matrix as integers and one scale per row and block of 32 columns. */
export interface Quantised {
  /** [rows x columns], columns a multiple of 32 */
  readonly values: Int8Array
  /** [rows x columns/32] */
  readonly scales: Float32Array
  /** [rows x columns/32], sums of the values of each block */
  readonly sums: Int32Array
}

/** Weights as integers; of q4a these are 0..15, and each block adds a minimum. */
export interface QuantisedWeights extends Pick<Quantised, 'values' | 'scales'> {
  /** [rows x columns/32] */
  readonly minimums?: Float32Array
}

/** @returns y [M x N] of quantised x and w */
export function gemmQuantised(
  x: Quantised,
  w: QuantisedWeights,
  rows: number,
  outputs: number,
  columns: number,
  epilogue: Epilogue = {},
): Float32Array {
  const y = new Float32Array(rows * outputs)
  const blocks = columns / BLOCK
  for (let m = 0; m < rows; m++) {
    for (let n = 0; n < outputs; n++) {
      let sum = 0
      for (let block = 0; block < blocks; block++) {
        let dot = 0
        const xAt = m * columns + block * BLOCK
        const wAt = n * columns + block * BLOCK
        for (let i = 0; i < BLOCK; i++) dot += x.values[xAt + i] * w.values[wAt + i]
        const activationScale = x.scales[m * blocks + block]
        sum = f(sum + f(dot * f(w.scales[n * blocks + block] * activationScale)))
        if (w.minimums === undefined) continue
        sum = f(sum + f(x.sums[m * blocks + block] * f(w.minimums[n * blocks + block] * activationScale)))
      }
      y[m * outputs + n] = finish(sum, m, n, outputs, epilogue)
    }
  }
  return y
}

function finish(sum: number, m: number, n: number, outputs: number, { bias, previous }: Epilogue): number {
  let y = f(sum)
  if (bias !== undefined) y = f(y + bias[n])
  if (previous !== undefined) y = f(previous[m * outputs + n] + y)
  return y
}

/** Activations to integers: nearest(x * 127/amax) per block of 32, zeros behind `columns`. */
export function quantise(x: Float32Array, rows: number, columns: number, padded: number): Quantised {
  const values = new Int8Array(rows * padded)
  const scales = new Float32Array((rows * padded) / BLOCK)
  const sums = new Int32Array((rows * padded) / BLOCK)
  for (let m = 0; m < rows; m++) {
    for (let from = 0; from < padded; from += BLOCK) {
      let largest = 0
      const to = Math.min(from + BLOCK, columns)
      for (let k = from; k < to; k++) largest = Math.max(largest, Math.abs(x[m * columns + k]))
      const inverse = f(127 / largest)
      if (inverse === Number.POSITIVE_INFINITY) continue
      const block = (m * padded + from) / BLOCK
      scales[block] = f(largest / 127)
      for (let k = from; k < to; k++) {
        const q = nearest(f(x[m * columns + k] * inverse))
        values[m * padded + k] = q
        sums[block] += values[m * padded + k]
      }
    }
  }
  return { values, scales, sums }
}

/** Bytes of values in a block, before its scales and minimums. */
const VALUE_BYTES = { q8: 256, q4a: 128, q4: 128 } as const

/**
 * The integers, scales and minimums of a packed matrix: [paddedOutputs x paddedInner]. The integers
 * are what the unpacker makes of it when every scale is 1 and every minimum 0.
 */
export function integersOf(
  kind: keyof typeof VALUE_BYTES,
  packed: Uint8Array,
  outputs: number,
  columns: number,
): QuantisedWeights {
  const padded = paddedInner(columns)
  const blocks = padded / BLOCK
  const count = paddedOutputs(outputs)
  const values = new Int8Array(count * padded)
  const scales = new Float32Array(count * blocks)
  const minimums = new Float32Array(count * blocks)
  const scratch = new Float32Array(TILE * padded)
  const bytes = groupBytes(kind, columns)
  const ones = packed.slice()
  for (let n = 0; n < count; n += TILE) {
    for (let block = 0; block < blocks; block++) {
      const scaleAt = (n / TILE) * bytes + block * (bytes / blocks) + VALUE_BYTES[kind]
      for (let r = 0; r < TILE; r++) {
        scales[(n + r) * blocks + block] = halfAt(packed, scaleAt + 2 * r)
        setHalf(ones, scaleAt + 2 * r, ONE)
        if (kind !== 'q4a') continue
        const minimumAt = scaleAt + 2 * TILE + 2 * r
        minimums[(n + r) * blocks + block] = halfAt(packed, minimumAt)
        setHalf(ones, minimumAt, 0)
      }
    }
    unpackGroup(kind, padded, ones, (n / TILE) * bytes, scratch)
    values.set(scratch, n * padded)
  }
  return { values, scales, minimums: kind === 'q4a' ? minimums : undefined }
}

/** 1 in f16. */
const ONE = 0x3c00

export function setHalf(bytes: Uint8Array, at: number, half: number): void {
  bytes[at] = half & 255
  bytes[at + 1] = half >> 8
}

export function halfAt(bytes: Uint8Array, at: number): number {
  const bits = bytes[at] | (bytes[at + 1] << 8)
  const magnitude =
    ((bits >> 10) & 31) === 0 ? (bits & 1023) * 2 ** -24 : (1 + (bits & 1023) / 1024) * 2 ** (((bits >> 10) & 31) - 15)
  return bits & 0x8000 ? -magnitude : magnitude
}
