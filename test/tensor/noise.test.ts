/** Large random words, against the generator itself. */
import fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { scanInTurn } from '../../src/generate/noise.ts'
import { type Bench, soleOperators } from './harness.ts'
import { everyVariant } from './variants.ts'

const test = suite('noise kernel')
let bench: Bench
const each = everyVariant(test, (used) => {
  bench = used
})

const word = fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 })
/** Nothing, little, half and nearly all is left out. */
const edge = fc.oneof(fc.constantFrom(0, 1, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1), fc.nat(2 ** 32 - 1))

each('the tokens are those that the generator gives words so large, with these words', () => {
  const shape = fc.record({
    key: fc.tuple(word, word),
    position: fc.nat(2 ** 31 - 1),
    first: fc.nat(300_000),
    count: fc.nat(50),
    least: edge,
  })
  fc.assert(
    fc.property(shape, ({ key, position, first, count, least }) => {
      bench.reset()
      const expected: number[] = []
      scanInTurn(key, position, first + count, least, (token, word0, word1) => {
        if (token >= first) expected.push(token, word0, word1)
      })
      // What the kernel may write to, and nothing behind it.
      const list = bench.integers(3 * count + 20)
      const behind = bench.integers(16).fill(7)
      const found = bench.kernels.outliers(...key, position, first, first + count, least, list.byteOffset)
      assert.equal([...list.subarray(0, 3 * found)], expected)
      assert.ok(behind.every((value) => value === 7))
    }),
    { numRuns: 30 },
  )
})

test('a whole vocabulary, in pieces, by ascending token', () => {
  const { operators } = soleOperators()
  for (const vocabulary of [0, 1, 7, 1024, 1025, 5000]) {
    for (const least of [0, 0xf0000000]) {
      const lists = [scanInTurn, operators.outliers.bind(operators)].map((scan) => {
        const list: number[] = []
        scan([77, -5], 12, vocabulary, least, (...of) => list.push(...of))
        return list
      })
      assert.equal(lists[1], lists[0])
      if (least === 0) assert.is(lists[1].length, 3 * vocabulary)
    }
  }
})

test.run()
