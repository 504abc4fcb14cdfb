/** Chances follow what guesses turn out to be worth, whatever the draft promises. */
import * as fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { Calibration } from '../../src/speculate/calibration.ts'

const RANKS = 8

const rank = fc.integer({ min: 0, max: RANKS - 1 })
const promised = fc.double({ min: 0, max: 1, noNaN: true })

/** Tells of `count` guesses of which a share `rate` is accepted, evenly spread. */
function tell(calibration: Calibration, guess: { rank: number; promised: number }, rate: number, count: number): void {
  let due = 0
  for (let i = 0; i < count; i++) {
    due += rate
    const accepted = due >= 1
    if (accepted) due--
    calibration.observe(guess.rank, guess.promised, accepted)
  }
}

function assertNear(actual: number, expected: number, tolerance: number, what = ''): void {
  assert.ok(Math.abs(actual - expected) <= tolerance, `${what} ${actual}, should be ${expected}`)
}

const test = suite('calibration')

test('before anything was seen, chances are the draft’s promises', () => {
  fc.assert(
    fc.property(rank, fc.double({ min: 0, max: 0.999, noNaN: true }), (at, value) => {
      assertNear(new Calibration(RANKS).chance(at, value), value, 1e-12)
    }),
  )
})

test('the chance of a class becomes the share of its guesses that came true', () => {
  // A pair of guesses per class of rank, with promises that are too high, too low and right.
  const cases = [
    { rank: 0, promised: 0.9, rate: 0.7 },
    { rank: 0, promised: 0.5, rate: 0.85 },
    { rank: 0, promised: 0.2, rate: 0.2 },
    { rank: 1, promised: 0.3, rate: 0.1 },
    { rank: 1, promised: 0.05, rate: 0.12 },
    { rank: 2, promised: 0.1, rate: 0.04 },
    { rank: 2, promised: 0.02, rate: 0.05 },
    { rank: 5, promised: 0.02, rate: 0.01 },
    { rank: 5, promised: 0.008, rate: 0.03 },
  ]
  const calibration = new Calibration(RANKS)
  for (const { rate, ...guess } of cases) tell(calibration, guess, rate, 4000)
  // What was learnt of one class stays, whatever was told of others afterwards.
  for (const { rate, ...guess } of cases) {
    // The promise still weighs as much as one and a half acceptances do.
    const remembered = 512
    const prior = 1.5 / (guess.promised * remembered + 1.5)
    const slack = 0.1 * rate + prior * Math.abs(rate - guess.promised)
    assertNear(calibration.chance(guess.rank, guess.promised), rate, slack + 0.002, `${guess.rank} ${guess.promised}:`)
  }
})

test('within a class a guess that promises more keeps the better chance', () => {
  const calibration = new Calibration(RANKS)
  tell(calibration, { rank: 0, promised: 0.5 }, 0.8, 500)
  assert.ok(calibration.chance(0, 0.54) > calibration.chance(0, 0.5))
  assert.ok(calibration.chance(0, 0.5) > calibration.chance(0, 0.46))
})

test('guesses from the fourth of their siblings on are one class, those before it are not', () => {
  const calibration = new Calibration(RANKS)
  tell(calibration, { rank: 3, promised: 0.05 }, 0.4, 300)
  assert.is(calibration.chance(7, 0.05), calibration.chance(3, 0.05))
  for (const earlier of [0, 1, 2]) assertNear(calibration.chance(earlier, 0.05), 0.05, 1e-12)
})

test('a few guesses move a chance a little, many move it to where they are', () => {
  const calibration = new Calibration(RANKS)
  const chances = [calibration.chance(0, 0.8)]
  for (let i = 0; i < 20; i++) {
    calibration.observe(0, 0.8, false)
    chances.push(calibration.chance(0, 0.8))
  }
  assert.ok(chances[1] > 0.5, 'one failure is not a verdict')
  for (let i = 1; i < chances.length; i++) assert.ok(chances[i] < chances[i - 1])
  assert.ok(chances[20] < 0.1)
})

test('a text that changes is followed: old counts fade', () => {
  const guess = { rank: 0, promised: 0.6 }
  const calibration = new Calibration(RANKS)
  tell(calibration, guess, 0.95, 5000)
  assertNear(calibration.chance(0, 0.6), 0.95, 0.01)
  tell(calibration, guess, 0.3, 512)
  const half = calibration.chance(0, 0.6)
  // After as many guesses as are remembered, e^-1 of the old is left.
  assertNear(half, 0.3 + 0.65 * Math.exp(-1), 0.03)
  tell(calibration, guess, 0.3, 2560)
  assertNear(calibration.chance(0, 0.6), 0.3, 0.01)
})

test('a chance is never negative, and never certain, whatever was seen', () => {
  const seen = fc.array(fc.tuple(rank, promised, fc.boolean(), fc.integer({ min: 1, max: 30 })), { maxLength: 20 })
  fc.assert(
    fc.property(seen, fc.array(fc.tuple(rank, promised), { minLength: 1, maxLength: 10 }), (all, asked) => {
      const calibration = new Calibration(RANKS)
      for (const [at, value, accepted, times] of all) {
        for (let i = 0; i < times; i++) calibration.observe(at, value, accepted)
      }
      for (const [at, value] of [...asked, ...all]) {
        const chance = calibration.chance(at, value)
        assert.ok(chance >= 0 && chance <= 0.999, `${chance}`)
        const mean = calibration.meanChance(at)
        assert.ok(mean >= 0 && mean <= 1, `${mean}`)
      }
    }),
  )
  const sure = new Calibration(RANKS)
  tell(sure, { rank: 0, promised: 0.99 }, 1, 2000)
  assert.is(sure.chance(0, 1), 0.999)
})

test('the mean chance of a rank is that of all its guesses, whatever they promised', () => {
  const calibration = new Calibration(RANKS)
  for (let i = 0; i < 3000; i++) {
    calibration.observe(0, 0.9, i % 5 !== 0)
    calibration.observe(0, 0.1, i % 5 === 0)
    calibration.observe(4, 0.01, i % 20 === 0)
  }
  assertNear(calibration.meanChance(0), 0.5, 0.01)
  assertNear(calibration.meanChance(4), 0.05, 0.01)
})

test('the mean chances of ranks that were never seen fall from one to the next, and fit in one', () => {
  const calibration = new Calibration(RANKS)
  const means = Array.from({ length: RANKS }, (_, at) => calibration.meanChance(at))
  for (let at = 1; at < RANKS; at++) assert.ok(means[at] <= means[at - 1])
  assert.ok(means[0] > 0.3 && means[0] < 0.9)
  assert.ok(means.reduce((a, b) => a + b) < 1)
})

test('ranks do not share their means', () => {
  const calibration = new Calibration(RANKS)
  const before = calibration.meanChance(4)
  tell(calibration, { rank: 5, promised: 0.2 }, 1, 200)
  assert.is(calibration.meanChance(4), before)
  assert.ok(calibration.meanChance(5) > 0.9)
})

test.run()
