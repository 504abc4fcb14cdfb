/** How often passes are watched while guessing rests. No clock: what things take is given. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { WatchPace } from '../../src/speculate/watch-pace.ts'

const PASS = 4e-3
const LOOK = 3e-5

/** @returns watched passes of so many, the guesses of which are right as `isRight` says */
function watch(pace: WatchPace, passes: number, isRight: (watched: number) => boolean, look = LOOK): number {
  let watched = 0
  for (let pass = 0; pass < passes; pass++) {
    if (pace.isDue) {
      pace.begin(look)
      pace.observeGuess(isRight(watched++))
    }
    pace.observePass(PASS)
  }
  return watched
}

const test = suite('watch pace')

test('watching takes a two-hundredth of the time, what is beside looking up included', () => {
  // (30 + 50) microseconds of every 16 milliseconds.
  assert.is(
    watch(new WatchPace(), 400, () => true),
    100,
  )
  assert.is(
    watch(new WatchPace(), 400, () => true, 11e-5),
    50,
  )
})

test('after a dozen fruitless ones in a row it takes a fourth of that, until one is right', () => {
  const pace = new WatchPace()
  assert.is(
    watch(pace, 48, () => false),
    12,
  )
  assert.is(
    watch(pace, 160, () => false),
    10,
  )
  // The first right one comes within 16 passes, and then every fourth pass is watched.
  assert.is(
    watch(pace, 160, () => true),
    37,
  )
})

test('a right one among eleven wrong ones is enough', () => {
  assert.is(
    watch(new WatchPace(), 400, (watched) => watched % 12 === 11),
    100,
  )
})

test('a text that begins is watched from its first pass on, and as often as any other', () => {
  const pace = new WatchPace()
  watch(pace, 200, () => false)
  pace.begin(LOOK)
  pace.startText()
  assert.ok(pace.isDue)
  assert.is(
    watch(pace, 48, () => false),
    12,
  )
})

test('nothing is due before as much time has passed', () => {
  const pace = new WatchPace()
  pace.begin(LOOK)
  assert.not(pace.isDue)
  pace.observePass(15.9e-3)
  assert.not(pace.isDue)
  pace.observePass(0.2e-3)
  assert.ok(pace.isDue)
})

test.run()
