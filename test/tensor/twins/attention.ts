/** Attention of one query over a list of keys, one number at a time, rounded as the kernels round. */
import { exp, nearest, sum4 } from './exp.ts'

const f = Math.fround

export interface AttentionParameters {
  readonly scale: number
  /** 0: none */
  readonly softcap: number
  /** 0: none */
  readonly window: number
}

/** A key or value as a cache keeps it; `scale` 1 for f32. */
export interface CachedVector {
  readonly values: Float32Array
  readonly scale: number
}

export const plain = (values: Float32Array): CachedVector => ({ values, scale: 1 })

/** nearest(x * (levels / amax)), scale amax / levels; all zeros where levels / amax is infinite. */
export function quantiseVector(x: Float32Array, levels: number): CachedVector {
  const amax = x.reduce((largest, value) => Math.max(largest, Math.abs(value)), 0)
  const inverse = f(levels / amax)
  if (inverse === Number.POSITIVE_INFINITY) return { values: new Float32Array(x.length), scale: 0 }
  return { values: x.map((value) => nearest(f(value * inverse))), scale: f(amax / levels) }
}

/**
 * @param query [headSize], of a row at position keys.length - 1
 * @param keys one vector per position
 * @param values one vector per position
 * @param kind what the vectors are: quantised ones meet a query of 16 bits
 * @returns [headSize]
 */
export function attend(
  query: Float32Array,
  keys: readonly CachedVector[],
  values: readonly CachedVector[],
  { scale, softcap, window }: AttentionParameters,
  kind: 'f32' | 'q8' = 'f32',
): Float32Array {
  const end = keys.length
  const begin = window > 0 ? Math.max(0, end - window) : 0
  const scores = new Float32Array(end)
  let maximum = Number.NEGATIVE_INFINITY
  const q = quantiseVector(query, 32767)
  const factor = f(q.scale * f(scale))
  for (let position = begin; position < end; position++) {
    const key = keys[position]
    scores[position] =
      kind === 'f32'
        ? f(dotOfLanes(query, key.values) * f(scale))
        : f(f(exactDot(q.values, key.values)) * f(key.scale * factor))
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
    const weight = f(scores[position] * values[position].scale)
    for (let d = 0; d < query.length; d++) output[d] += f(weight * values[position].values[d])
  }
  return output.map((value) => f(value / sum))
}

function dotOfLanes(x: Float32Array, y: Float32Array): number {
  const lanes = new Float32Array(4)
  for (let d = 0; d < x.length; d++) lanes[d % 4] += f(x[d] * y[d])
  return sum4(lanes)
}

const exactDot = (x: Float32Array, y: Float32Array): number => x.reduce((sum, value, d) => sum + value * y[d], 0)

const cap = (x: number, limit: number): number => {
  const tanh = f(1 - f(2 / f(exp(f(f(x / limit) * 2)) + 1)))
  return f(limit * tanh)
}
