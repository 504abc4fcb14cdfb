import fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { Operation, ReadWord } from '../../src/tensor/operations.ts'
import { Bench, randomNumbers } from './harness.ts'
import { sumWords } from './twins/bandwidth.ts'

const test = suite('bandwidth')
const bench = new Bench()

const LINE_WORDS = 16

test('reading adds up every word of the region and none beside it, in any number of shares', () => {
  const shape = fc.record({
    turns: fc.integer({ min: 0, max: 40 }),
    parts: fc.integer({ min: 1, max: 9 }),
    seed: fc.integer(),
  })
  fc.assert(
    fc.property(shape, ({ turns, parts, seed }) => {
      bench.reset()
      const next = randomNumbers(seed)
      const before = bench.integers(LINE_WORDS).fill(1)
      const words = bench.integers(Array.from({ length: turns * 64 }, () => next() * 2 ** 32))
      const behind = bench.integers(LINE_WORDS).fill(1)
      const sums = bench.integers((parts + 1) * LINE_WORDS).fill(7)
      assert.is(before.byteOffset + before.byteLength, words.byteOffset)
      assert.is(words.byteOffset + words.byteLength, behind.byteOffset)
      const record = { source: words.byteOffset, bytes: words.byteLength, sums: sums.byteOffset }
      bench.run(Operation.read, ReadWord, record, parts)
      const shares = sums.filter((_, i) => i % LINE_WORDS === 0)
      assert.is(sumWords(shares.subarray(0, parts)), sumWords(words))
      assert.is(shares[parts], 7)
      assert.ok(sums.every((value, i) => i % LINE_WORDS === 0 || value === 7))
    }),
  )
})

test.run()
