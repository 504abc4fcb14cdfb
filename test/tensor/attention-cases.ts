/** Attention of some rows over a cache, by the kernels and by the scalar twin. */
import * as assert from 'uvu/assert'
import { ATTENTION_PHASE, AttentionWord, Operation, scoreStride, WIDENED_BYTES } from '../../src/tensor/operations.ts'
import { Bench, randomFloats } from './harness.ts'
import { type AttentionParameters, attend, type CachedVector, plain, quantiseVector } from './twins/attention.ts'

export const bench = new Bench()

export interface Heads {
  readonly kvHeads: number
  /** Query heads per KV head. */
  readonly group: number
  readonly headSize: number
}

/** What one row sees: cache slots by position, the first `prefix` of them being the slots 0, 1, 2... */
export interface Row {
  readonly prefix: number
  readonly ancestors: readonly number[]
  /** [heads x headSize] */
  readonly query: Float32Array
}

export interface Cache {
  readonly slots: number
  /** [kvHeads][slots][headSize] */
  readonly keys: Float32Array
  readonly values: Float32Array
}

export type Kind = 'f32' | 'q8'

export interface Run extends AttentionParameters {
  readonly kind: Kind
  readonly parts: number
  /** Which of the cache's parts are the last bytes of the memory. */
  readonly ending?: 'keys' | 'values'
}

const vectorsOf = (from: Float32Array, headSize: number): Float32Array[] =>
  Array.from({ length: from.length / headSize }, (_, i) => from.subarray(i * headSize, (i + 1) * headSize))

const cached = (vector: Float32Array, kind: Kind): CachedVector =>
  kind === 'f32' ? plain(vector) : quantiseVector(vector, 127)

/**
 * Keys or values in the memory's form: per head the vectors of all slots, then their scales.
 * @param ending at the memory's end @returns the address
 */
export function store(
  from: Float32Array,
  { kvHeads, headSize }: Heads,
  slots: number,
  kind: Kind,
  ending = false,
): number {
  const { headStride, scalesOffset, vectorBytes } = layoutOf(headSize, slots, kind)
  const bytes = ending ? bench.lastBytes(kvHeads * headStride) : bench.bytes(kvHeads * headStride)
  if (kind === 'f32') {
    new Float32Array(bytes.buffer, bytes.byteOffset, from.length).set(from)
    return bytes.byteOffset
  }
  const view = new DataView(bench.memory.buffer, bytes.byteOffset, bytes.length)
  vectorsOf(from, headSize).forEach((vector, i) => {
    const { values, scale } = quantiseVector(vector, 127)
    const head = Math.floor(i / slots) * headStride
    bytes.fill(0, head + (i % slots) * vectorBytes, head + ((i % slots) + 1) * vectorBytes)
    values.forEach((value, d) => void view.setInt8(head + (i % slots) * vectorBytes + d, value))
    view.setFloat32(head + scalesOffset + (i % slots) * 4, scale, true)
  })
  return bytes.byteOffset
}

export function layoutOf(headSize: number, slots: number, kind: Kind) {
  if (kind === 'f32') return { vectorBytes: headSize * 4, headStride: slots * headSize * 4, scalesOffset: 0 }
  const vectorBytes = Math.ceil(headSize / 8) * 8
  return { vectorBytes, headStride: slots * (vectorBytes + 4), scalesOffset: slots * vectorBytes }
}

/** What rows see, in memory. */
export function visibility(rows: readonly Row[]) {
  const offsets = [0]
  for (const { ancestors } of rows) offsets.push(offsets[offsets.length - 1] + ancestors.length)
  return {
    prefixes: bench.integers(rows.map(({ prefix }) => prefix)),
    ancestorOffsets: bench.integers(offsets),
    ancestorSlots: bench.integers(rows.flatMap(({ ancestors }) => ancestors)),
  }
}

/** @returns one [heads x headSize] vector per row */
export function attention(rows: readonly Row[], cache: Cache, heads: Heads, run: Run): Float32Array[] {
  bench.reset()
  const { kvHeads, group, headSize } = heads
  const width = kvHeads * group * headSize
  const stride = width + 4
  const queries = bench.floats(rows.length * stride)
  rows.forEach(({ query }, i) => void queries.set(query, i * stride))
  const bytesPerQuery = scoreStride(Math.max(...rows.map(({ prefix, ancestors }) => prefix + ancestors.length)))
  const output = bench.floats(rows.length * stride).fill(7)
  const { headStride, scalesOffset } = layoutOf(headSize, cache.slots, run.kind)
  const seen = visibility(rows)
  const scores = bench.bytes(
    bytesPerQuery * rows.length * kvHeads * group + (run.kind === 'q8' ? run.parts * WIDENED_BYTES : 0),
  )
  const behind = bench.integers([123456])
  const words = {
    rows: rows.length,
    heads: kvHeads * group,
    kvHeads,
    headSize,
    queries: queries.byteOffset,
    queryStride: stride * 4,
    keys: store(cache.keys, heads, cache.slots, run.kind, run.ending === 'keys'),
    values: store(cache.values, heads, cache.slots, run.kind, run.ending === 'values'),
    headStride,
    output: output.byteOffset,
    outputStride: stride * 4,
    prefixes: seen.prefixes.byteOffset,
    ancestorOffsets: seen.ancestorOffsets.byteOffset,
    ancestorSlots: seen.ancestorSlots.byteOffset,
    window: run.window,
    scale: run.scale,
    softcap: run.softcap,
    scores: scores.byteOffset,
    scoreStride: bytesPerQuery,
    scalesOffset,
  }
  for (const [name, phase] of Object.entries(ATTENTION_PHASE)) {
    if (name === 'queries' && run.kind === 'f32') continue
    bench.run(Operation.attention, AttentionWord, { ...words, phase }, run.parts, ['scale', 'softcap'])
  }
  assert.is(behind[0], 123456, 'the scores were overrun')
  return rows.map((_, i) => {
    for (const left of output.subarray(i * stride + width, (i + 1) * stride)) assert.is(left, 7)
    return output.slice(i * stride, i * stride + width)
  })
}

export function twin({ prefix, ancestors, query }: Row, cache: Cache, heads: Heads, run: Run): Float32Array {
  const { kvHeads, group, headSize } = heads
  const slots = [...Array.from({ length: prefix }, (_, i) => i), ...ancestors]
  const output = new Float32Array(kvHeads * group * headSize)
  const [keys, values] = [cache.keys, cache.values].map((from) => vectorsOf(from, headSize))
  for (let head = 0; head < kvHeads * group; head++) {
    const base = Math.floor(head / group) * cache.slots
    const seen = (from: Float32Array[]): CachedVector[] => slots.map((slot) => cached(from[base + slot], run.kind))
    const q = query.subarray(head * headSize, (head + 1) * headSize)
    output.set(attend(q, seen(keys), seen(values), run, run.kind), head * headSize)
  }
  return output
}

export function randomCache(slots: number, { kvHeads, headSize }: Heads, seed: number): Cache {
  const length = kvHeads * slots * headSize
  return { slots, keys: randomFloats(length, seed), values: randomFloats(length, seed + 1) }
}

export const queryOf = ({ kvHeads, group, headSize }: Heads, seed: number): Float32Array =>
  randomFloats(kvHeads * group * headSize, seed)
