import * as fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { cos, exp, log, pow, sin } from '../../src/tensor/math.ts'

const test = suite('deterministic math')

/** Largest relative difference from the engine's own function over evenly spread arguments. */
function worstRelative(
  ours: (x: number) => number,
  theirs: (x: number) => number,
  arguments_: Iterable<number>,
): number {
  let worst = 0
  for (const x of arguments_) {
    const expected = theirs(x)
    worst = Math.max(worst, expected === 0 ? Math.abs(ours(x)) : Math.abs((ours(x) - expected) / expected))
  }
  return worst
}

function* range(from: number, to: number, steps: number): Generator<number> {
  for (let i = 0; i <= steps; i++) yield from + ((to - from) * i) / steps
}

test('exp is within 5e-16 of the true value over its whole normal range', () => {
  assert.ok(worstRelative(exp, Math.exp, range(-708, 709.7, 100_003)) < 5e-16)
  assert.ok(worstRelative(exp, Math.exp, range(-1, 1, 100_003)) < 5e-16)
})

test('exp knows its limits', () => {
  assert.is(exp(0), 1)
  assert.is(exp(-0), 1)
  assert.ok(Math.abs(exp(1) - Math.E) < 5e-16)
  assert.is(exp(Infinity), Infinity)
  assert.is(exp(-Infinity), 0)
  assert.is(exp(710), Infinity)
  assert.is(exp(-746), 0)
  assert.ok(Number.isNaN(exp(NaN)))
  assert.ok(Number.isFinite(exp(709.78)))
  assert.ok(Math.abs(exp(-740) - 4.2e-322) <= 5e-324, 'subnormal results round to the nearest subnormal')
})

test('log is within 5e-16 of the true value, also close to 1 and for subnormal numbers', () => {
  assert.ok(worstRelative(log, Math.log, range(1e-3, 1e3, 100_003)) < 5e-16)
  assert.ok(worstRelative(log, Math.log, range(1 - 1e-6, 1 + 1e-6, 10_003)) < 5e-16)
  assert.ok(worstRelative(log, Math.log, [5e-324, 1e-310, 1e-300, 1e300, Number.MAX_VALUE]) < 5e-16)
})

test('log knows its limits', () => {
  assert.is(log(1), 0)
  assert.is(log(2), Math.LN2)
  assert.is(log(10), Math.LN10)
  assert.is(log(0), -Infinity)
  assert.is(log(Infinity), Infinity)
  assert.ok(Number.isNaN(log(-1)))
  assert.ok(Number.isNaN(log(NaN)))
})

test('log and exp undo each other', () => {
  fc.assert(
    fc.property(fc.double({ min: 1e-300, max: 1e300, noNaN: true }), (x) => Math.abs(exp(log(x)) / x - 1) < 1e-13),
  )
})

test('sin and cos are within 1e-15 up to a million radians', () => {
  let worst = 0
  for (const limit of [1, 10, 1000, 1e6]) {
    for (const x of range(-limit, limit, 50_021)) {
      worst = Math.max(worst, Math.abs(sin(x) - Math.sin(x)), Math.abs(cos(x) - Math.cos(x)))
    }
  }
  assert.ok(worst < 1e-15, `worst difference ${worst}`)
})

test('sin and cos near multiples of pi/2 keep the distance to them', () => {
  // The double nearest to such a multiple differs from it by a tiny rest, which argument reduction must not lose.
  for (let n = 1; n < 636_000; n += 997) {
    const x = (n * Math.PI) / 2
    const small = n % 2 === 0 ? sin(x) : cos(x)
    const expected = n % 2 === 0 ? Math.sin(x) : Math.cos(x)
    assert.ok(Math.abs(small - expected) < 1e-20 + 1e-9 * Math.abs(expected), `n = ${n}: ${small}, ${expected}`)
  }
})

test('sin and cos of special values', () => {
  assert.is(sin(0), 0)
  assert.is(cos(0), 1)
  assert.is(sin(Math.PI / 2), 1)
  assert.ok(Number.isNaN(sin(Infinity)))
  assert.ok(Number.isNaN(cos(NaN)))
})

test('pow gives the frequencies of rotary embeddings within 1e-14', () => {
  for (const theta of [1e4, 1e5, 5e5, 1e6, 1e7]) {
    for (const size of [32, 64, 80, 96, 128, 256]) {
      for (let i = 0; i < size / 2; i++) {
        const y = (-2 * i) / size
        assert.ok(Math.abs(pow(theta, y) / theta ** y - 1) < 1e-14)
      }
    }
  }
  assert.is(pow(7, 0), 1)
  assert.is(pow(1, 1234.5), 1)
})

test('results are these bits, on every engine', () => {
  const bits = (x: number): string => new BigUint64Array(new Float64Array([x]).buffer)[0].toString(16)
  const sample = [exp(-0.7), exp(12.3456), log(0.3), log(123456.789), sin(1234.5), cos(987654.25), pow(10000, -0.34375)]
  assert.equal(sample.map(bits), [
    '3fdfc80db9dd5542',
    '410c11d068ac4e91',
    'bff34378fcbda721',
    '40277281cad8a844',
    '3fc29c531dfd031b',
    '3fee0aeff3330caa',
    '3fa59742aa36710c',
  ])
})

test.run()
