/** Sums of exp in f64, against the function itself. */
import fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { exp } from '../../src/tensor/math.ts'
import { type Bench, soleOperators } from './harness.ts'
import { everyVariant } from './variants.ts'

const test = suite('exp64 kernel')
let bench: Bench
const each = everyVariant(test, (used) => {
  bench = used
})

const value = fc.oneof(
  fc.double({ min: -60, max: 0, noNaN: true }),
  fc.double({ min: -700, max: 700, noNaN: true }),
  // Halfway between two multiples of ln 2, where it is decided which one is taken away.
  fc.integer({ min: -1000, max: 1000 }).map((n) => (n + 0.5) * Math.LN2),
  fc.constantFrom(0, -0, -700, 700, Number.MIN_VALUE, -Number.MIN_VALUE),
)

each('the sum has the bits of adding one after the other', () => {
  fc.assert(
    fc.property(fc.array(value, { maxLength: 40 }), fc.double({ min: 0, max: 1e6, noNaN: true }), (values, before) => {
      bench.reset()
      const list = bench.doubles(values)
      const expected = values.reduce((total, x) => total + exp(x), before)
      assert.is(bench.kernels.sumExp64(list.byteOffset, values.length, before), expected)
    }),
    { numRuns: 500 },
  )
})

each('nothing behind the list is read', () => {
  for (const length of [1, 2, 3]) {
    const bytes = bench.lastBytes(length * 8).fill(0)
    assert.is(bench.kernels.sumExp64(bytes.byteOffset, length, 0), length)
  }
})

test('lists that are longer than what a call takes', () => {
  const { operators } = soleOperators()
  for (const length of [0, 1, 1023, 1024, 1025, 5000]) {
    const values = Float64Array.from({ length: length + 3 }, (_, i) => -((i * 7919) % 6007) / 100)
    const expected = values.subarray(0, length).reduce((total, x) => total + exp(x), 0)
    assert.is(operators.sumExp(values, length), expected)
  }
})

test.run()
