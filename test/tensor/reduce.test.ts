import fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { type Bench, randomFloats } from './harness.ts'
import { sumExp } from './twins/elementwise.ts'
import { everyVariant } from './variants.ts'

const test = suite('reductions of a row of logits')
let bench: Bench
const testEach = everyVariant(test, (next) => {
  bench = next
})

testEach('exp is within 2 ulp of the exact value, 0 below -87 and finite above 88', () => {
  bench.reset()
  const one = bench.floats(1)
  // sumExp of one number is exp of that number.
  const exp = (x: number): number => {
    one[0] = x
    return bench.kernels.sumExp(one.byteOffset, 1, 1, 0)
  }
  let worst = 0
  for (let i = 0; i <= 200_000; i++) {
    const x = Math.fround(-87 + (i * 175) / 200_000)
    const exact = Math.exp(x)
    const ulp = 2 ** (Math.max(-126, Math.floor(Math.log2(exact))) - 23)
    worst = Math.max(worst, Math.abs(exp(x) - exact) / ulp)
  }
  assert.ok(worst <= 2, `${worst} ulp`)
  assert.is(exp(0), 1)
  assert.is(exp(-87.5), 0)
  assert.is(exp(Number.NEGATIVE_INFINITY), 0)
  assert.ok(Number.isFinite(exp(1000)))
  assert.ok(Number.isNaN(exp(Number.NaN)))
})

testEach('sums of exponentials equal their twin', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 300 }), fc.integer(), fc.constantFrom(1, 0.7, 1.5), (n, seed, scale) => {
      bench.reset()
      const x = bench.floats(randomFloats(n, seed, 10))
      const maximum = Math.max(...x)
      assert.is(bench.kernels.sumExp(x.byteOffset, n, scale, maximum), sumExp(x, scale, maximum))
    }),
  )
})

testEach('coarse sums of exponentials are within 4 per cent, and exact where the largest is all there is', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 300 }),
      fc.integer(),
      fc.constantFrom(0.1, 3, 30, 300),
      fc.constantFrom(0, -20, 1000),
      (n, seed, spread, shift) => {
        bench.reset()
        const x = bench.floats(randomFloats(n, seed, spread).map((value) => value + shift))
        const maximum = Math.max(...x)
        const exact = x.reduce((sum, value) => sum + Math.exp(value - maximum), 0)
        const ratio = bench.kernels.coarseSumExp(x.byteOffset, n, maximum) / exact
        assert.ok(Math.abs(ratio - 1) < 0.04, `${ratio} times the sum of ${n}, spread ${spread}`)
      },
    ),
  )
  for (const others of [Number.NEGATIVE_INFINITY, Number.NaN, -200]) {
    bench.reset()
    const x = bench.floats([others, others, 3, others, others, others])
    assert.is(bench.kernels.coarseSumExp(x.byteOffset, x.length, 3), 1)
  }
})

/** Few distinct values, so that ties are the rule; NaN among them. */
const ties = fc.array(fc.constantFrom(-1, 0, 0.5, 2, Number.NaN, Number.NEGATIVE_INFINITY), {
  minLength: 1,
  maxLength: 200,
})

testEach('topK is a stable descending sort, cut off', () => {
  const some = fc.array(fc.float({ noNaN: true, min: -4, max: 4 }), { minLength: 1, maxLength: 300 })
  fc.assert(
    fc.property(fc.oneof(ties, some), fc.integer({ min: 1, max: 64 }), (list, k) => {
      bench.reset()
      const x = bench.floats(list)
      const ids = bench.integers(64)
      const values = bench.floats(64)
      const count = bench.kernels.topK(x.byteOffset, list.length, k, ids.byteOffset, values.byteOffset)
      const expected = Array.from(x, (value, id) => ({ value, id }))
        .filter(({ value }) => !Number.isNaN(value))
        .sort((a, b) => (a.value === b.value ? a.id - b.id : b.value > a.value ? 1 : -1))
        .slice(0, k)
      assert.is(count, expected.length)
      assert.equal(
        [...ids.subarray(0, count)],
        expected.map(({ id }) => id),
      )
      assert.equal(
        [...values.subarray(0, count)],
        expected.map(({ value }) => value),
      )
    }),
  )
})

test.run()
