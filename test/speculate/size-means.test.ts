/** Means by size against a plain list of them that is searched every time. */
import * as fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { meanWith, SizeMeans } from '../../src/speculate/size-means.ts'

const ROWS = 24
const GAIN = 0.1
const HINT = 0.2
/** Of what a pass over one row takes, a further row takes, while only one size is known. */
const ASSUMED_SLOPE = 0.25

interface Known {
  readonly rows: number
  mean: number
  count: number
}

/** What is said of a size by those that are known, the smallest first. */
function expected(known: readonly Known[], rows: number): number {
  if (known.length === 0) return 0
  const below = known.findLast((one) => one.rows <= rows)
  const above = known.find((one) => one.rows >= rows)
  if (below !== undefined && above !== undefined) {
    const share = below === above ? 0 : (rows - below.rows) / (above.rows - below.rows)
    return below.mean + share * (above.mean - below.mean)
  }
  const nearest = below ?? above!
  const smallest = known[0]
  if (below === undefined || smallest === nearest) {
    return (nearest.mean * (1 + ASSUMED_SLOPE * (rows - 1))) / (1 + ASSUMED_SLOPE * (nearest.rows - 1))
  }
  const slope = Math.max(0, (nearest.mean - smallest.mean) / (nearest.rows - smallest.rows))
  return nearest.mean + slope * (rows - nearest.rows)
}

const isNear = (actual: number, wanted: number): boolean => Math.abs(actual - wanted) <= 1e-9 * Math.abs(wanted)

/** Some so often that their figures are hints of others. */
const size = fc.oneof(
  { weight: 3, arbitrary: fc.constantFrom(1, 3) },
  { weight: 1, arbitrary: fc.integer({ min: 1, max: ROWS }) },
)
const figure = fc.double({ min: 1e-4, max: 10, noNaN: true })
const steps = fc.array(
  fc.oneof(
    { weight: 6, arbitrary: fc.record({ kind: fc.constant('add' as const), rows: size, value: figure }) },
    {
      weight: 2,
      arbitrary: fc.record({
        kind: fc.constant('observe' as const),
        rows: size,
        value: figure,
      }),
    },
    {
      weight: 1,
      arbitrary: fc.record({ kind: fc.constant('forget' as const), rows: fc.constant(1), value: fc.constant(0) }),
    },
  ),
  { maxLength: 80, size: 'max' },
)

const test = suite('means by size')

test('whatever was added, observed and forgotten, all sizes are what the known ones say', () => {
  fc.assert(
    fc.property(steps, (list) => {
      const means = new SizeMeans(ROWS, GAIN, HINT)
      let known: Known[] = []
      for (const { kind, rows, value } of list) {
        let one = known.find((other) => other.rows === rows)
        if (kind === 'observe' && one !== undefined && one.count >= 2) {
          const away = Math.max(-0.5, Math.min(0.5, value / one.mean - 1))
          one.mean *= Math.exp(away * Math.max(GAIN, 1 / ++one.count))
          for (const other of known) other.mean *= Math.exp(away * HINT)
          means.observe(rows, value)
        } else if (kind !== 'forget') {
          if (one === undefined) {
            one = { rows, mean: 0, count: 0 }
            known = [...known, one].sort((a, b) => a.rows - b.rows)
          }
          one.mean = meanWith(value, one.mean, one.count++, GAIN)
          if (kind === 'add') means.add(rows, value)
          else means.observe(rows, value)
        } else {
          known = known.filter((one) => one.rows !== rows)
          means.forget(rows)
        }
        for (let at = 1; at <= ROWS; at++) {
          const one = known.find((other) => other.rows === at)
          assert.is(means.count(at), one?.count ?? 0)
          assert.ok(isNear(means.at(at), one?.mean ?? 0), `${at} rows: ${means.at(at)}, not ${one?.mean}`)
          const wanted = expected(known, at)
          assert.ok(isNear(means.estimate(at), wanted), `${at} rows: ${means.estimate(at)}, not ${wanted}`)
        }
        const limit = 2
        const isBelow = known.some((one) => one.rows > 1 && one.count >= 2 && one.mean < limit)
        assert.is(means.isAnyBelow(limit, 2), isBelow)
      }
    }),
  )
})

test('of two first figures the lesser counts, of later ones what is no disturbance', () => {
  assert.is(meanWith(5, 0, 0, GAIN), 5)
  assert.is(meanWith(5, 0, 3, GAIN), 5)
  assert.is(meanWith(3, 5, 1, GAIN), 3)
  assert.is(meanWith(5, 3, 1, GAIN), 3)
  assert.is(meanWith(6, 3, 2, GAIN), 4)
  assert.is(meanWith(100, 2, 1000, GAIN), meanWith(5, 2, 1000, GAIN))
})

test('however far all sizes go up or down together, one that is not seen follows, and what is added next is exact', () => {
  for (const factor of [1.5, 1 / 1.5]) {
    const means = new SizeMeans(ROWS, GAIN, HINT)
    let other = 7
    means.add(5, other)
    for (let i = 0, seconds = 1; i < 200; i++, seconds *= factor) {
      const away = i < 2 ? 0 : seconds / means.at(1) - 1
      other *= Math.exp(HINT * Math.max(-0.5, Math.min(0.5, away)))
      means.observe(1, seconds)
    }
    assert.ok(
      Math.abs(Math.log(other / 7)) > Math.log(1e6) && isNear(means.at(5), other),
      `${means.at(5)}, not ${other}`,
    )
    // Far beyond what a number holds, had all that they were scaled by been kept as one factor.
    for (let round = 0; round < 100; round++) {
      means.forget(1)
      for (let i = 0, seconds = 1; i < 200; i++, seconds *= factor) means.observe(1, seconds)
    }
    means.add(3, 2)
    assert.ok(isNear(means.at(3), 2), `${means.at(3)}`)
  }
})

test('noise of one size, however it is distributed, does not move what others are said to take', () => {
  const noises = [
    fc.double({ min: 0.7, max: 1.3, noNaN: true }),
    // Hitches, and a machine that is better than usual now and then.
    fc.oneof({ weight: 19, arbitrary: fc.constant(1) }, { weight: 1, arbitrary: fc.constant(2) }),
    fc.oneof({ weight: 9, arbitrary: fc.constant(1) }, { weight: 1, arbitrary: fc.constant(0.6) }),
  ]
  for (const noise of noises) {
    fc.assert(
      fc.property(fc.array(noise, { minLength: 4000, maxLength: 4000, size: 'max' }), (figures) => {
        const means = new SizeMeans(ROWS, GAIN, HINT)
        for (let i = 0; i < 8; i++) for (const rows of [1, ROWS]) means.observe(rows, rows)
        for (const figure of figures) means.observe(1, figure)
        const ratio = means.estimate(ROWS) / means.estimate(1)
        assert.ok(ratio > 0.75 * ROWS && ratio < 1.33 * ROWS, `${ratio} in place of ${ROWS}`)
      }),
      { numRuns: 10 },
    )
  }
})

test('a clock that did not move says nothing', () => {
  const means = new SizeMeans(ROWS, GAIN, HINT)
  for (let i = 0; i < 9; i++) means.observe(2, 0)
  means.observe(2, 1)
  assert.ok(isNear(means.at(2), 1), `${means.at(2)}`)
})

test.run()
