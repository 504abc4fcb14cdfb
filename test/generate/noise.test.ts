import * as fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { LARGEST_NOISE, Noise, threefry } from '../../src/generate/noise.ts'

const test = suite('noise')

const seeds = fc.integer({ min: Number.MIN_SAFE_INTEGER, max: Number.MAX_SAFE_INTEGER })

test('Threefry-2x32-20 gives the known answers that its authors published with Random123', () => {
  const cases = [
    { counter: [0, 0], key: [0, 0], answer: [0x6b200159, 0x99ba4efe] },
    { counter: [0xffffffff, 0xffffffff], key: [0xffffffff, 0xffffffff], answer: [0x1cb996fc, 0xbb002be7] },
    { counter: [0x243f6a88, 0x85a308d3], key: [0x13198a2e, 0x03707344], answer: [0xc4923a9c, 0x483df7a0] },
  ]
  const out = new Int32Array(2)
  for (const { counter, key, answer } of cases) {
    threefry(key[0], key[1], counter[0], counter[1], out)
    assert.equal(
      [...out].map((word) => word >>> 0),
      answer,
    )
  }
})

test('the same seed, position and token give the same noise, whatever was asked before', () => {
  const a = new Noise(42)
  const b = new Noise(42)
  b.gumbel(7, 7)
  b.uniform(1, 2)
  assert.is(a.gumbel(100, 5), b.gumbel(100, 5))
  assert.is(a.uniform(100, 5), b.uniform(100, 5))
})

test('seed (all 53 bits and the sign), position and token all matter', () => {
  const base = new Noise(42).uniform(10, 20)
  assert.is.not(base, new Noise(43).uniform(10, 20))
  assert.is.not(base, new Noise(42 + 2 ** 32).uniform(10, 20))
  assert.is.not(base, new Noise(42 + 2 ** 52).uniform(10, 20))
  assert.is.not(base, new Noise(-42).uniform(10, 20))
  assert.is.not(base, new Noise(42).uniform(20, 10))
  assert.is.not(base, new Noise(42).uniform(11, 20))
  assert.is.not(base, new Noise(42).uniform(10, 21))
})

test('noise is these bits, on every engine', () => {
  const noise = new Noise(123456789012345)
  assert.equal(
    [noise.gumbel(0, 0), noise.gumbel(17, 128255), noise.gumbel(4095, 3)],
    [-0.6229012336493697, 2.0906387263829247, 0.8657108318105244],
  )
})

test('uniform numbers are in (0, 1) and spread evenly', () => {
  const noise = new Noise(1)
  const bins = new Array<number>(64).fill(0)
  const draws = 64_000
  for (let i = 0; i < draws; i++) {
    const u = noise.uniform(i >> 8, i & 255)
    assert.ok(u > 0 && u < 1)
    bins[Math.floor(u * 64)]++
  }
  const chiSquare = bins.reduce((sum, n) => sum + (n - draws / 64) ** 2 / (draws / 64), 0)
  // 63 degrees of freedom: above 120 has a probability of about 2e-5; the seed is fixed.
  assert.ok(chiSquare < 120, `chi-square ${chiSquare}`)
})

test('Gumbel noise has the mean and variance of the distribution and stays below its bound', () => {
  const noise = new Noise(2)
  const draws = 100_000
  let sum = 0
  let squares = 0
  for (let i = 0; i < draws; i++) {
    const g = noise.gumbel(i, 3)
    assert.ok(g <= LARGEST_NOISE && g > -3.63)
    sum += g
    squares += g * g
  }
  const mean = sum / draws
  assert.ok(Math.abs(mean - 0.5772156649) < 0.015, `mean ${mean}`)
  assert.ok(Math.abs(squares / draws - mean * mean - Math.PI ** 2 / 6) < 0.05)
})

test('asking only for noise above a bound never changes noise that reaches it', () => {
  fc.assert(
    fc.property(
      seeds,
      fc.nat(1e6),
      fc.nat(3e5),
      fc.double({ min: -5, max: 40, noNaN: true }),
      (seed, position, token, least) => {
        const noise = new Noise(seed)
        const exact = noise.gumbel(position, token)
        const bounded = noise.gumbel(position, token, least)
        assert.ok(exact >= least ? bounded === exact : bounded === exact || bounded === -Infinity)
        assert.is(noise.gumbel(position, token, exact), exact)
      },
    ),
    { numRuns: 2000 },
  )
})

test('the outliers of a position are the tokens whose noise reaches the edge, about 64 of them', () => {
  for (const vocabulary of [1, 64, 65, 1000, 20_000]) {
    const noise = new Noise(99, vocabulary)
    for (const position of [0, 5, 70, 5]) {
      const { tokens, noise: found } = noise.outliers(position)
      const all = Array.from({ length: vocabulary }, (_, token) => ({ token, noise: noise.gumbel(position, token) }))
      const expected = all.filter((one) => one.noise >= noise.edge)
      assert.equal(
        Array.from(tokens, (token, i) => ({ token, noise: found[i] })),
        expected,
      )
      if (vocabulary > 64) assert.ok(tokens.length > 30 && tokens.length < 110, `${tokens.length}`)
    }
  }
})

test('outliers of many positions are forgotten, and found again as they were', () => {
  const noise = new Noise(4, 500)
  const first = noise.outliers(0)
  assert.is(noise.outliers(0), first)
  for (let position = 1; position <= 64; position++) noise.outliers(position)
  assert.is.not(noise.outliers(0), first)
  assert.equal(noise.outliers(0), first)
})

test('asking only for noise above a high bound is nearly always answered without a logarithm', () => {
  const noise = new Noise(3)
  let skipped = 0
  for (let token = 0; token < 1000; token++) if (noise.gumbel(0, token, 8) === -Infinity) skipped++
  assert.ok(skipped > 980)
})

test.run()
