/** When a layer store lets others work while it waits. Its clock is the test's: no time passes but what is said here. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { Piece } from '../../src/memory/load-board.ts'
import { Loader } from '../../src/memory/loader.ts'
import { type InlineStore, openStore, writeLayer } from './inline-store.ts'

const directory = mkdtempSync(join(tmpdir(), 'coppice-idle-'))
process.on('exit', () => rmSync(directory, { recursive: true, force: true }))

const LAYERS = 4
const BYTES = 4096
/** Calls of other work per wait, if it is called at all. */
const CALLS = 3
/** One wait of so many is spent with nothing else. */
const QUIET_EVERY = 8

/** The clock of everything here, in ms. */
let clock = 0
const realNow = performance.now
const test = suite('idle work of a layer store')
test.before(() => {
  performance.now = () => clock
})
test.after(() => {
  performance.now = realNow
})

/** Takes as long as it is told. */
class SlowLoader extends Loader {
  milliseconds = 0

  override perform(piece: Piece): void {
    clock += this.milliseconds
    super.perform(piece)
  }
}

type Setup = InlineStore<SlowLoader>

function setUp(name: string, pinnedLayers: readonly number[] = []): Setup {
  const units = Array.from({ length: LAYERS }, (_, layer) => writeLayer(directory, `${name}-${layer}`, layer, BYTES))
  return openStore(SlowLoader, units, pinnedLayers)
}

interface Wait {
  /** Of other work during the wait. */
  readonly calls: number
  /** What the first call was given, counted from when it was made. */
  readonly slice: number | undefined
}

/** Asks for layers in the order of passes, each of which takes `milliseconds` to come, as do calls of other work. */
function wait({ store, loader }: Setup, waits: number, milliseconds: number, work: number): Wait[] {
  loader.milliseconds = milliseconds
  const all: Wait[] = []
  for (let i = 0; i < waits; i++) {
    let calls = 0
    let slice: number | undefined
    store.acquire(i % LAYERS, (deadline) => {
      slice ??= deadline - clock
      clock += work
      return ++calls < CALLS
    })
    store.release(i % LAYERS)
    all.push({ calls, slice })
  }
  return all
}

const callsOf = (waits: readonly Wait[]): number[] => waits.map(({ calls }) => calls)

test('other work goes on during every wait that is longer than one of its calls, but for one in eight', () => {
  const waits = wait(setUp('long'), 5 * QUIET_EVERY, 10, 1)
  waits.forEach(({ calls }, i) => {
    assert.is(calls, (i + 1) % QUIET_EVERY === 0 ? 0 : CALLS, `wait ${i}`)
  })
})

test('other work is left alone once its calls are known to be longer than waits', () => {
  const waits = callsOf(wait(setUp('short'), 6 * QUIET_EVERY, 1, 5))
  // Before the first quiet wait nobody knows how long waits are.
  assert.equal(waits.slice(0, QUIET_EVERY - 1), Array(QUIET_EVERY - 1).fill(CALLS))
  assert.equal(waits.slice(QUIET_EVERY - 1), Array(5 * QUIET_EVERY + 1).fill(0))
})

test('a disk that gets slower brings other work back, and a faster one ends it', () => {
  const setup = setUp('changing')
  const bounds = 12 * QUIET_EVERY
  assert.ok(callsOf(wait(setup, bounds, 1, 5)).at(-1) === 0)
  const slower = callsOf(wait(setup, bounds, 50, 5))
  // The mean follows: 1 + 0.2 * 49 ms after the first quiet wait is more than a call takes.
  assert.equal(slower.slice(0, QUIET_EVERY), Array(QUIET_EVERY).fill(0))
  assert.equal(slower.slice(QUIET_EVERY, 2 * QUIET_EVERY - 1), Array(QUIET_EVERY - 1).fill(CALLS))
  const faster = callsOf(wait(setup, 3 * bounds, 1, 5))
  assert.is(faster[0], CALLS)
  assert.equal(faster.slice(-QUIET_EVERY), Array(QUIET_EVERY).fill(0))
})

test('work whose calls get longer is left alone', () => {
  const setup = setUp('growing')
  assert.is(callsOf(wait(setup, 2 * QUIET_EVERY, 10, 1))[0], CALLS)
  const longer = callsOf(wait(setup, 2 * QUIET_EVERY, 10, 100))
  assert.is(longer[0], CALLS)
  assert.equal(longer.slice(1), Array(2 * QUIET_EVERY - 1).fill(0))
})

test('a call is given two milliseconds, or a quarter of a wait where waits are short', () => {
  const near = (actual: number | undefined, expected: number) => assert.ok(Math.abs(actual! - expected) < 1e-6)
  near(wait(setUp('patient'), 2 * QUIET_EVERY, 100, 1)[QUIET_EVERY].slice, 2)
  near(wait(setUp('hurried'), 2 * QUIET_EVERY, 4, 1)[QUIET_EVERY].slice, 1)
  near(wait(setUp('new'), 1, 4, 1)[0].slice, 2)
})

test('layers that are there, and waits with nothing else to do, count for nothing', () => {
  const setup = setUp('uncounted', [0, 1])
  const { store, loader } = setup
  loader.milliseconds = 10
  // Everything pinned has come in; the others were waited for with no work at hand.
  for (let pass = 0; pass < 10; pass++) {
    for (let layer = 0; layer < LAYERS; layer++) {
      store.acquire(layer)
      store.release(layer)
    }
  }
  const calls: number[] = []
  for (let i = 0; i < 4 * QUIET_EVERY; i++) {
    let count = 0
    store.acquire(i % LAYERS, () => {
      clock += 1
      return ++count < CALLS
    })
    store.release(i % LAYERS)
    calls.push(count)
  }
  // Two layers of four are waited for: of 16 waits the eighth and the last are quiet.
  const waited = calls.filter((_, i) => i % LAYERS >= 2)
  assert.equal(
    waited,
    waited.map((_, i) => ((i + 1) % QUIET_EVERY === 0 ? 0 : CALLS)),
  )
  assert.ok(calls.every((count, i) => i % LAYERS >= 2 || count === 0))
})

test('a store is warm when all that stays in memory has come in, and not before', () => {
  const { store } = setUp('warm', [0, 2])
  assert.not(store.isWarm, 'nothing was asked for')
  store.begin()
  assert.not(store.isWarm, 'all is on its way')
  const warm: boolean[] = []
  for (let layer = 0; layer < LAYERS; layer++) {
    store.acquire(layer)
    warm.push(store.isWarm)
    store.release(layer)
  }
  assert.is(warm[0], false, 'one of two')
  assert.is(warm.at(-1), true)
  assert.is(setUp('nothing pinned').store.isWarm, true)
})

test.run()
