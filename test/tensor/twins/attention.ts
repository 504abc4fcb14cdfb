/** Attention of one query over a list of keys, one number at a time, rounded as the kernels round. */
import { exp, sum4 } from './exp.ts'

const f = Math.fround

export interface AttentionParameters {
  readonly scale: number
  /** 0: none */
  readonly softcap: number
  /** 0: none */
  readonly window: number
}

/**
 * @param query [headSize], of a row at position keys.length - 1
 * @param keys one [headSize] vector per position
 * @param values one [headSize] vector per position
 * @returns [headSize]
 */
export function attend(
  query: Float32Array,
  keys: readonly Float32Array[],
  values: readonly Float32Array[],
  { scale, softcap, window }: AttentionParameters,
): Float32Array {
  const end = keys.length
  const begin = window > 0 ? Math.max(0, end - window) : 0
  const scores = new Float32Array(end)
  let maximum = Number.NEGATIVE_INFINITY
  for (let position = begin; position < end; position++) {
    const lanes = new Float32Array(4)
    for (let d = 0; d < query.length; d++) lanes[d % 4] += f(query[d] * keys[position][d])
    scores[position] = sum4(lanes) * f(scale)
    if (softcap !== 0) scores[position] = cap(scores[position], f(softcap))
    maximum = Math.max(maximum, scores[position])
  }
  const sums = new Float32Array(4)
  for (let position = begin; position < end; position++) {
    scores[position] = exp(f(scores[position] - maximum))
    sums[position % 4] += scores[position]
  }
  const sum = sum4(sums)
  const output = new Float32Array(query.length)
  for (let position = begin; position < end; position++) {
    for (let d = 0; d < query.length; d++) output[d] += f(scores[position] * values[position][d])
  }
  return output.map((value) => f(value / sum))
}

const cap = (x: number, limit: number): number => {
  const tanh = f(1 - f(2 / f(exp(f(f(x / limit) * 2)) + 1)))
  return f(limit * tanh)
}
