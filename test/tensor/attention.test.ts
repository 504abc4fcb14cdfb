import fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { AttentionWord, attentionScratchBytes, Operation } from '../../src/tensor/operations.ts'
import { Bench, firstDifference, randomFloats, randomNumbers } from './harness.ts'
import { type AttentionParameters, attend } from './twins/attention.ts'

const test = suite('attention')
const bench = new Bench()

interface Heads {
  readonly kvHeads: number
  /** Query heads per KV head. */
  readonly group: number
  readonly headSize: number
}

/** What one row sees: cache slots by position, the first `prefix` of them being the slots 0, 1, 2... */
interface Row {
  readonly prefix: number
  readonly ancestors: readonly number[]
  /** [heads x headSize] */
  readonly query: Float32Array
}

interface Cache {
  readonly slots: number
  /** [kvHeads][slots][headSize] */
  readonly keys: Float32Array
  readonly values: Float32Array
}

interface Run extends AttentionParameters {
  readonly parts: number
  /** Rows that the scratch holds at once; 1 is what the formula promises to suffice. */
  readonly rowsOfScratch: number
}

/** @returns one [heads x headSize] vector per row */
function attention(rows: readonly Row[], cache: Cache, heads: Heads, run: Run): Float32Array[] {
  bench.reset()
  const { kvHeads, group, headSize } = heads
  const width = kvHeads * group * headSize
  const stride = width + 4
  const queries = bench.floats(rows.length * stride)
  rows.forEach(({ query }, i) => void queries.set(query, i * stride))
  const offsets = [0]
  for (const { ancestors } of rows) offsets.push(offsets[offsets.length - 1] + ancestors.length)
  const positions = Math.max(...rows.map(({ prefix, ancestors }) => prefix + ancestors.length))
  const scratchBytes = attentionScratchBytes(group, positions) * run.rowsOfScratch
  const output = bench.floats(rows.length * stride).fill(7)
  const scratch = bench.bytes(scratchBytes * run.parts)
  const behind = bench.integers([123456])
  const words = {
    rows: rows.length,
    heads: kvHeads * group,
    kvHeads,
    headSize,
    queries: queries.byteOffset,
    queryStride: stride * 4,
    keys: bench.floats(cache.keys).byteOffset,
    values: bench.floats(cache.values).byteOffset,
    headStride: cache.slots * headSize * 4,
    output: output.byteOffset,
    outputStride: stride * 4,
    prefixes: bench.integers(rows.map(({ prefix }) => prefix)).byteOffset,
    ancestorOffsets: bench.integers(offsets).byteOffset,
    ancestorSlots: bench.integers(rows.flatMap(({ ancestors }) => ancestors)).byteOffset,
    window: run.window,
    scale: run.scale,
    softcap: run.softcap,
    scratch: scratch.byteOffset,
    scratchBytes,
  }
  bench.run(Operation.attention, AttentionWord, words, run.parts, ['scale', 'softcap'])
  assert.is(behind[0], 123456, 'scratch was overrun')
  return rows.map((_, i) => {
    for (const left of output.subarray(i * stride + width, (i + 1) * stride)) assert.is(left, 7)
    return output.slice(i * stride, i * stride + width)
  })
}

function twin({ prefix, ancestors, query }: Row, cache: Cache, heads: Heads, run: Run): Float32Array {
  const { kvHeads, group, headSize } = heads
  const slots = [...Array.from({ length: prefix }, (_, i) => i), ...ancestors]
  const output = new Float32Array(kvHeads * group * headSize)
  for (let head = 0; head < kvHeads * group; head++) {
    const base = Math.floor(head / group) * cache.slots
    const vectors = (from: Float32Array): Float32Array[] =>
      slots.map((slot) => from.subarray((base + slot) * headSize, (base + slot + 1) * headSize))
    const q = query.subarray(head * headSize, (head + 1) * headSize)
    output.set(attend(q, vectors(cache.keys), vectors(cache.values), run), head * headSize)
  }
  return output
}

function randomCache(slots: number, { kvHeads, headSize }: Heads, seed: number): Cache {
  const length = kvHeads * slots * headSize
  return { slots, keys: randomFloats(length, seed), values: randomFloats(length, seed + 1) }
}

const queryOf = ({ kvHeads, group, headSize }: Heads, seed: number): Float32Array =>
  randomFloats(kvHeads * group * headSize, seed)

const heads = fc.record({
  kvHeads: fc.integer({ min: 1, max: 3 }),
  group: fc.integer({ min: 1, max: 5 }),
  headSize: fc.integer({ min: 2, max: 32 }).map((n) => n * 4),
})
const run = fc.record({
  parts: fc.integer({ min: 1, max: 4 }),
  rowsOfScratch: fc.integer({ min: 1, max: 6 }),
  scale: fc.constantFrom(0.125, 0.3),
  softcap: fc.constantFrom(0, 0, 5, 50),
  window: fc.constantFrom(0, 0, 1, 5, 37),
})
/** parent[i] < i, or -1 for a child of the last prefix token. */
const tree = fc
  .array(fc.nat(), { minLength: 1, maxLength: 14 })
  .map((numbers) => numbers.map((n, i) => (n % (i + 1)) - 1))
const prefix = fc.integer({ min: 0, max: 75 })

/** Rows of a tree whose nodes lie in shuffled slots behind the prefix. */
function treeRows(parents: readonly number[], prefix: number, slots: number, heads: Heads, seed: number): Row[] {
  const next = randomNumbers(seed)
  const free = Array.from({ length: slots - prefix }, (_, i) => [next(), prefix + i]).sort((a, b) => a[0] - b[0])
  const ancestors: number[][] = []
  return parents.map((parent, i) => {
    ancestors.push([...(parent < 0 ? [] : ancestors[parent]), free[i][1]])
    return { prefix, ancestors: ancestors[i], query: queryOf(heads, seed + 10 + i) }
  })
}

test('every node of a random tree equals the scalar twin bit for bit', () => {
  fc.assert(
    fc.property(tree, prefix, heads, run, fc.integer(), (parents, prefix, heads, run, seed) => {
      const slots = prefix + parents.length + 3
      const cache = randomCache(slots, heads, seed)
      const rows = treeRows(parents, prefix, slots, heads, seed)
      const actual = attention(rows, cache, heads, run)
      rows.forEach((row, i) => void assert.is(firstDifference(actual[i], twin(row, cache, heads, run)), -1))
    }),
    { numRuns: 150 },
  )
})

test('a node of a tree repeats the bits of the same path run alone in the plain cache', () => {
  fc.assert(
    fc.property(tree, prefix, heads, run, fc.integer(), (parents, prefix, heads, run, seed) => {
      const slots = prefix + parents.length
      const cache = randomCache(slots, heads, seed)
      const rows = treeRows(parents, prefix, slots, heads, seed)
      const together = attention(rows, cache, heads, run)
      rows.forEach(({ ancestors, query }, i) => {
        const order = [...Array.from({ length: prefix }, (_, slot) => slot), ...ancestors]
        const path = pathCache(cache, order, heads)
        const alone = [{ prefix: order.length, ancestors: [], query }]
        const [expected] = attention(alone, path, heads, { ...run, parts: 1, rowsOfScratch: 1 })
        assert.is(firstDifference(together[i], expected), -1)
      })
    }),
    { numRuns: 40 },
  )
})

/** The slots of `order`, one after the other from slot 0 on. */
function pathCache(cache: Cache, order: readonly number[], { kvHeads, headSize }: Heads): Cache {
  const pick = (from: Float32Array): Float32Array => {
    const to = new Float32Array(kvHeads * order.length * headSize)
    for (let head = 0; head < kvHeads; head++) {
      order.forEach((slot, position) => {
        const at = (head * cache.slots + slot) * headSize
        to.set(from.subarray(at, at + headSize), (head * order.length + position) * headSize)
      })
    }
    return to
  }
  return { slots: order.length, keys: pick(cache.keys), values: pick(cache.values) }
}

test('a causal chunk, where every row has a longer prefix, equals its rows one at a time and the twin', () => {
  fc.assert(
    fc.property(
      prefix,
      fc.integer({ min: 1, max: 20 }),
      heads,
      run,
      fc.integer(),
      (prefix, count, heads, run, seed) => {
        const cache = randomCache(prefix + count, heads, seed)
        const rows = Array.from({ length: count }, (_, i) => ({
          prefix: prefix + i + 1,
          ancestors: [],
          query: queryOf(heads, seed + i),
        }))
        const together = attention(rows, cache, heads, run)
        rows.forEach((row, i) => {
          const [alone] = attention([row], cache, heads, { ...run, parts: 1 })
          assert.is(firstDifference(together[i], alone), -1)
          assert.is(firstDifference(alone, twin(row, cache, heads, run)), -1)
        })
      },
    ),
    { numRuns: 40 },
  )
})

test('the result is the softmax-weighted mean of the values, to f32 precision', () => {
  const shape = { kvHeads: 1, group: 1, headSize: 16 }
  const cache = randomCache(300, shape, 5)
  const query = queryOf(shape, 6)
  const parameters = { parts: 1, rowsOfScratch: 1, scale: 0.25, softcap: 30, window: 0 }
  const [actual] = attention([{ prefix: 300, ancestors: [], query }], cache, shape, parameters)
  const weights = Array.from({ length: 300 }, (_, slot) => {
    const dot = query.reduce((sum, x, d) => sum + x * cache.keys[slot * 16 + d], 0) * 0.25
    return Math.exp(30 * Math.tanh(dot / 30))
  })
  const total = weights.reduce((a, b) => a + b)
  for (let d = 0; d < 16; d++) {
    const exact = weights.reduce((sum, w, slot) => sum + w * cache.values[slot * 16 + d], 0) / total
    assert.ok(Math.abs(actual[d] - exact) < 1e-5, `${actual[d]} ${exact}`)
  }
})

test('a key outside the window has no influence, whatever its value', () => {
  const shape = { kvHeads: 1, group: 2, headSize: 8 }
  const parameters = { parts: 1, rowsOfScratch: 1, scale: 0.3, softcap: 0, window: 6 }
  const query = queryOf(shape, 1)
  const row = { prefix: 9, ancestors: [11, 10], query }
  const cache = randomCache(12, shape, 2)
  const [before] = attention([row], cache, shape, parameters)
  // The row is at position 10 and sees positions 5 to 10; slot 4 is the last that it does not see.
  cache.keys.fill(1e6, 0, 5 * 8)
  cache.values.fill(Number.NaN, 0, 5 * 8)
  const [after] = attention([row], cache, shape, parameters)
  assert.is(firstDifference(after, before), -1)
  cache.values.fill(3, 5 * 8, 6 * 8)
  const [changed] = attention([row], cache, shape, parameters)
  assert.is.not(firstDifference(changed, before), -1)
})

test('NaN and infinite scores do not trap', () => {
  const shape = { kvHeads: 1, group: 1, headSize: 8 }
  for (const odd of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
    for (const softcap of [0, 10]) {
      const cache = randomCache(9, shape, 3)
      cache.keys[20] = odd
      const parameters = { parts: 1, rowsOfScratch: 1, scale: 1, softcap, window: 0 }
      const [result] = attention([{ prefix: 9, ancestors: [], query: queryOf(shape, 4) }], cache, shape, parameters)
      assert.is(result.length, 8)
    }
  }
})

test.run()
