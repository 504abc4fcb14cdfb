import fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { Arena } from '../../src/tensor/arena.ts'
import { attentionBlock } from '../../src/tensor/attention.ts'
import { Compute } from '../../src/tensor/compute.ts'
import { Control } from '../../src/tensor/control.ts'
import { scoreStride, WIDENED_BYTES } from '../../src/tensor/operations.ts'
import { JOB_BYTES, Operators } from '../../src/tensor/operators.ts'
import { Rows } from '../../src/tensor/rows.ts'
import {
  attention,
  bench,
  type Cache,
  type Heads,
  type Kind,
  layoutOf,
  queryOf,
  type Row,
  randomCache,
  store,
  twin,
  visibility,
} from './attention-cases.ts'
import { firstDifference, randomNumbers } from './harness.ts'

const test = suite('attention')

const heads = fc.record({
  kvHeads: fc.integer({ min: 1, max: 3 }),
  group: fc.integer({ min: 1, max: 5 }),
  headSize: fc.integer({ min: 2, max: 32 }).map((n) => n * 4),
})
const run = fc.record({
  kind: fc.constantFrom<Kind>('f32', 'q8'),
  parts: fc.integer({ min: 1, max: 9 }),
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
        const [expected] = attention(alone, path, heads, { ...run, parts: 1 })
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

for (const [kind, tolerance] of [
  ['f32', 1e-5],
  ['q8', 0.02],
] as const) {
  test(`the result is the softmax-weighted mean of the values, to ${kind} precision`, () => {
    const shape = { kvHeads: 1, group: 1, headSize: 16 }
    const cache = randomCache(300, shape, 5)
    const query = queryOf(shape, 6)
    const parameters = { kind, parts: 1, scale: 0.25, softcap: 30, window: 0 }
    const [actual] = attention([{ prefix: 300, ancestors: [], query }], cache, shape, parameters)
    const weights = Array.from({ length: 300 }, (_, slot) => {
      const dot = query.reduce((sum, x, d) => sum + x * cache.keys[slot * 16 + d], 0) * 0.25
      return Math.exp(30 * Math.tanh(dot / 30))
    })
    const total = weights.reduce((a, b) => a + b)
    for (let d = 0; d < 16; d++) {
      const exact = weights.reduce((sum, w, slot) => sum + w * cache.values[slot * 16 + d], 0) / total
      assert.ok(Math.abs(actual[d] - exact) < tolerance, `${actual[d]} ${exact}`)
    }
  })
}

test('a key outside the window has no influence, whatever its value', () => {
  const shape = { kvHeads: 1, group: 2, headSize: 8 }
  for (const kind of ['f32', 'q8'] as const) {
    const parameters = { kind, parts: 1, scale: 0.3, softcap: 0, window: 6 }
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
  }
})

// Threads that get whole KV heads (parts 1 and 2) touch the next values ahead, those that get stripes (5) do not.
for (const parts of [1, 2, 5]) {
  test(`contexts of thousands of positions equal the twin, with windows that begin far behind, in ${parts} parts`, () => {
    const shape = { kvHeads: 2, group: 3, headSize: 20 }
    const cache = randomCache(3010, shape, 7)
    for (const kind of ['f32', 'q8'] as const) {
      for (const window of [0, 1000]) {
        const parameters = { kind, parts, scale: 0.3, softcap: 0, window }
        const rows = [
          { prefix: 2999, ancestors: [3003, 3004, 3001], query: queryOf(shape, 8) },
          { prefix: 2999, ancestors: [3003], query: queryOf(shape, 9) },
          { prefix: 1777, ancestors: [], query: queryOf(shape, 10) },
        ]
        const actual = attention(rows, cache, shape, parameters)
        rows.forEach((row, i) => void assert.is(firstDifference(actual[i], twin(row, cache, shape, parameters)), -1))
      }
    }
  })
}

test('a cache that ends with the memory is never touched behind its end', () => {
  for (const headSize of [16, 20, 64]) {
    const shape = { kvHeads: 2, group: 3, headSize }
    // Whole blocks of positions, up to one too few and one too many.
    for (const slots of [191, 192, 193]) {
      const cache = randomCache(slots, shape, slots)
      const rows = [1, 2].map((seed) => ({ prefix: slots, ancestors: [], query: queryOf(shape, seed) }))
      for (const kind of ['f32', 'q8'] as const) {
        for (const ending of ['keys', 'values'] as const) {
          for (const parts of [1, 2, 5]) {
            for (const some of [rows, rows.slice(1)]) {
              const parameters = { kind, parts, ending, scale: 0.3, softcap: 0, window: 0 }
              const actual = attention(some, cache, shape, parameters)
              some.forEach((row, i) => {
                assert.is(firstDifference(actual[i], twin(row, cache, shape, parameters)), -1)
              })
            }
          }
        }
      }
    }
  }
})

test('what the cache holds behind a row and between its ancestors has no influence, even NaN', () => {
  const shape = { kvHeads: 1, group: 3, headSize: 16 }
  for (const kind of ['f32', 'q8'] as const) {
    const cache = randomCache(40, shape, 11)
    const rows = [29, 30, 21].map((prefix, i) => ({ prefix, ancestors: [38, 36], query: queryOf(shape, 12 + i) }))
    const parameters = { kind, parts: 2, scale: 0.3, softcap: 0, window: 0 }
    const before = attention(rows, cache, shape, parameters)
    for (const slot of [30, 31, 32, 37, 39]) {
      cache.keys.fill(Number.NaN, slot * 16, (slot + 1) * 16)
      cache.values.fill(Number.NaN, slot * 16, (slot + 1) * 16)
    }
    const after = attention(rows, cache, shape, parameters)
    rows.forEach((_, i) => void assert.is(firstDifference(after[i], before[i]), -1))
  }
})

test('a buffer for the scores of few rows and heads gives what one for all gives', () => {
  fc.assert(
    fc.property(
      tree,
      prefix,
      heads,
      fc.constantFrom<Kind>('f32', 'q8'),
      fc.integer({ min: 1, max: 40 }),
      fc.integer(),
      (parents, prefix, heads, kind, room, seed) => {
        const { kvHeads, group, headSize } = heads
        const slots = prefix + parents.length
        const cache = randomCache(slots, heads, seed)
        const rows = treeRows(parents, prefix, slots, heads, seed)
        const scale = Math.fround(1 / Math.sqrt(headSize))
        const expected = attention(rows, cache, heads, { kind, parts: 1, scale, softcap: 0, window: 9 })

        bench.reset()
        const width = kvHeads * group * headSize
        const asRows = (array: Float32Array): Rows => new Rows(array.byteOffset, width * 4, width)
        const queries = bench.floats(rows.flatMap(({ query }) => [...query]))
        const output = bench.floats(rows.length * width)
        const { headStride, scalesOffset } = layoutOf(headSize, slots, kind)
        const keys = store(cache.keys, heads, slots, kind)
        const values = store(cache.values, heads, slots, kind)
        const positions = Math.max(...rows.map(({ prefix, ancestors }) => prefix + ancestors.length))
        const scoresBytes = scoreStride(positions) * Math.max(group, room) + (kind === 'q8' ? WIDENED_BYTES : 0)
        const batch = visibility(rows)
        const records = bench.bytes(JOB_BYTES).byteOffset
        const scores = bench.bytes(scoresBytes).byteOffset
        const behind = bench.integers([123456])
        const compute = new Compute({ kernels: [bench.kernels], control: new Control(), threads: 1, cores: 1 })
        const operators = new Operators(bench.kernels, compute, new Arena(bench.memory), records)
        operators.attention({
          rows: rows.length,
          heads: kvHeads * group,
          queries: asRows(queries),
          cache: { kvHeads, headSize, keys, values, headStride, scalesOffset },
          output: asRows(output),
          batch,
          window: 9,
          scores,
          scoresBytes,
        })
        operators.run()
        assert.is(behind[0], 123456, 'the scores were overrun')
        rows.forEach((_, i) => {
          assert.is(firstDifference(output.slice(i * width, (i + 1) * width), expected[i]), -1)
        })
      },
    ),
    { numRuns: 60 },
  )
})

test('blocks of rows and KV heads fit in the buffer and are of nearly equal size', () => {
  const some = fc.integer({ min: 1, max: 70 })
  fc.assert(
    fc.property(some, some, some, fc.integer({ min: 1, max: 3000 }), (rows, kvHeads, group, more) => {
      const queries = group + more
      const [rowsAtOnce, kvHeadsAtOnce] = attentionBlock(rows, kvHeads, group, queries)
      assert.ok(rowsAtOnce >= 1 && rowsAtOnce <= rows && kvHeadsAtOnce >= 1 && kvHeadsAtOnce <= kvHeads)
      assert.ok(rowsAtOnce * kvHeadsAtOnce * group <= queries)
      assert.ok(rowsAtOnce * Math.ceil(rows / rowsAtOnce) - rows < Math.ceil(rows / rowsAtOnce))
    }),
  )
  assert.equal(attentionBlock(1, 4, 8, 32), [1, 4])
  assert.equal(attentionBlock(64, 4, 8, 100), [6, 2])
})

test('the integer products of the largest head that a q8 cache takes do not overflow', () => {
  const shape = { kvHeads: 1, group: 1, headSize: 512 }
  const cache = randomCache(5, shape, 15)
  cache.keys.fill(3)
  cache.keys.fill(-3, 0, 512)
  const rows = [{ prefix: 5, ancestors: [], query: new Float32Array(512).fill(0.001) }]
  const parameters = { kind: 'q8', parts: 1, scale: 0.3, softcap: 0, window: 0 } as const
  const [actual] = attention(rows, cache, shape, parameters)
  assert.is(firstDifference(actual, twin(rows[0], cache, shape, parameters)), -1)
})

test('NaN and infinite scores do not trap', () => {
  const shape = { kvHeads: 1, group: 1, headSize: 8 }
  for (const odd of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
    for (const softcap of [0, 10]) {
      const cache = randomCache(9, shape, 3)
      cache.keys[20] = odd
      const parameters = { kind: 'f32', parts: 1, scale: 1, softcap, window: 0 } as const
      const [result] = attention([{ prefix: 9, ancestors: [], query: queryOf(shape, 4) }], cache, shape, parameters)
      assert.is(result.length, 8)
    }
  }
})

test.run()
