/** Matrix products on plain arrays, one multiplication at a time, rounded as the kernels round. */
import { BLOCK } from '../../../src/tensor/layout.ts'
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
