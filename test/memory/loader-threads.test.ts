/** A store whose units come from loader threads: what they read, when they stop, and what happens when reads fail. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { CoppiceError } from '../../src/errors.ts'
import { LayerStore, storeRequests } from '../../src/memory/layer-store.ts'
import { LoadBoard, pieceCount, type Unit, unitFootprint } from '../../src/memory/load-board.ts'
import { findAccess } from '../../src/memory/packed-reader.ts'
import { Arena, createMemory, type Place } from '../../src/tensor/arena.ts'
import { checksum } from '../../src/tensor/checksum.ts'
import { Control } from '../../src/tensor/control.ts'
import { FaultSwitch } from './faulty-files.ts'
import type { LoaderChildData } from './loader-child.ts'

const test = suite('loader threads')
const directory = mkdtempSync(join(tmpdir(), 'coppice-loaders-'))
process.on('exit', () => rmSync(directory, { recursive: true, force: true }))

const LEAD = 4096
/** Two chunks of more than half a piece: two pieces per unit, which two loaders share. */
const CHUNK = 2.5 * 1024 * 1024
const BYTES = 2 * CHUNK
const UNITS = 5
const HEAD_START = 4
const SLOTS = 3

const wordOf = (unit: number, word: number): number => Math.imul(unit * 7919 + word, 0x9e3779b1)

const units: Unit[] = Array.from({ length: UNITS }, (_, unit) => {
  const words = new Int32Array((LEAD + BYTES) / 4)
  for (let i = 0; i < BYTES / 4; i++) words[LEAD / 4 + i] = wordOf(unit, i)
  const path = join(directory, `unit-${unit}`)
  const data = new Uint8Array(words.buffer)
  writeFileSync(path, data)
  const checksums = [0, CHUNK].map((at) => checksum(data.subarray(LEAD + at, LEAD + at + CHUNK)))
  return { name: `unit ${unit}`, path, fileBytes: data.length, start: LEAD, bytes: BYTES, chunkBytes: CHUNK, checksums }
})
const [unit] = units

interface Setup {
  readonly store: LayerStore
  readonly control: Control
  readonly faults: FaultSwitch
  check(unit: number, place: Place): void
}

async function withLoaders(
  { loaders = 2, pinned: pinnedUnits = [] as readonly number[] },
  use: (setup: Setup) => void | Promise<void>,
): Promise<void> {
  const footprint = unitFootprint(unit)
  const memory = createMemory((SLOTS + pinnedUnits.length + 1) * footprint)
  const arena = new Arena(memory)
  const control = new Control()
  const shape = { units, requests: storeRequests(SLOTS) }
  const board = new LoadBoard(shape, control)
  const faults = new FaultSwitch()
  const files = findAccess(
    units.map(({ path }) => path),
    'buffered',
  )
  const workerData: LoaderChildData = {
    shape,
    board: board.buffer,
    control: control.buffer,
    memory,
    files,
    faults: faults.buffer,
  }
  const url = new URL('./loader-child.js', import.meta.url)
  const workers = Array.from({ length: loaders }, () => new Worker(url, { workerData }))
  await Promise.all(workers.map((worker) => new Promise((resolve) => worker.once('message', resolve))))
  try {
    const store = new LayerStore({
      board,
      control,
      firstRequest: 0,
      units: units.map((_, i) => i),
      headStart: HEAD_START,
      pinned: new Map(pinnedUnits.map((i) => [i, { bank: 0, pointer: arena.allocate(`unit ${i}`, footprint, 4096) }])),
      slots: Array.from({ length: SLOTS }, (_, i) => arena.allocate(`slot ${i}`, footprint, 4096)),
    })
    const check = (which: number, { pointer }: Place): void => {
      const words = arena.i32(pointer, BYTES / 4)
      for (let i = 0; i < words.length; i += 509) {
        if (words[i] !== wordOf(which, i)) assert.is(words[i], wordOf(which, i), `unit ${which}, word ${i}`)
      }
    }
    await use({ store, control, faults, check })
  } finally {
    faults.set('none')
    control.stop()
    await Promise.all(workers.map((worker) => new Promise((resolve) => worker.once('exit', resolve))))
  }
}

function pass({ store, check }: Setup, to = UNITS): void {
  for (let i = 0; i < to; i++) {
    check(i, store.acquire(i))
    store.release(i)
  }
}

function thrown(run: () => unknown): CoppiceError {
  try {
    run()
  } catch (error) {
    if (error instanceof CoppiceError) return error
    throw error
  }
  throw new Error('nothing was thrown')
}

/** As `sleep`, for work in idle time, which cannot wait for timers. */
const pause = (ms: number): void => void Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms)

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))

/** Waits until something holds, which it does soon. */
async function until(holds: () => boolean): Promise<void> {
  for (let i = 0; i < 500 && !holds(); i++) await sleep(10)
  assert.ok(holds(), 'in good time')
}

/** The units of which reads began, each once per time that it was read. */
const order = (reads: readonly number[]): number[] => reads.filter((_, i) => i % pieceCount(unit) === 0)

test('after the head comes the first unit of the next pass', () =>
  withLoaders({ loaders: 1 }, async (setup) => {
    pass(setup)
    const ahead = [0, 1, 2]
    const all = [0, 1, 2, 3, 4, ...ahead]
    await until(() => setup.faults.reads.length === all.length * pieceCount(unit))
    assert.equal(order(setup.faults.reads), all)
    setup.check(0, setup.store.acquire(0))
  }))

test('without a head the first unit comes after the last layer', () =>
  withLoaders({ loaders: 1 }, async (setup) => {
    setup.store.headFollows = false
    pass(setup, HEAD_START)
    const all = [0, 1, 2, 3, 0, 1, 2]
    await until(() => setup.faults.reads.length === all.length * pieceCount(unit))
    assert.equal(order(setup.faults.reads), all)
    pass(setup, HEAD_START)
  }))

test('loaders that rest end with the reads that are under way, and go on with the next call', () =>
  withLoaders({}, async (setup) => {
    const { store, faults } = setup
    faults.set('slow')
    for (const i of [0, 1]) {
      setup.check(i, store.acquire(i))
      store.release(i)
    }
    store.rest()
    await sleep(100)
    const read = faults.reads.length
    // There is room and work for more.
    assert.ok(read < (2 + SLOTS) * pieceCount(unit), `${read} pieces were read`)
    await sleep(300)
    assert.is(faults.reads.length, read)
    faults.set('none')
    pass(setup)
  }))

for (const pinned of [[], [2]]) {
  const what = pinned.length > 0 ? 'pinned' : 'streamed'
  test(`${what}: a failed read is told with what was read, and read again by whoever asks again`, () =>
    withLoaders({ pinned }, (setup) => {
      const { store, faults } = setup
      faults.set('EIO', 2)
      for (let attempt = 0; attempt < 3; attempt++) {
        const error = thrown(() => pass(setup))
        assert.is(error.code, 'FILE_SYSTEM')
        assert.match(error.message, /unit-2 could not be read.*EIO.*\(unit 2\)/)
        store.releaseAll()
        store.rest()
      }
      faults.set('none')
      pass(setup)
      pass(setup)
    }))

  test(`${what}: a place is not used again before a late read of it is over`, () =>
    withLoaders({ pinned }, async (setup) => {
      const { store, faults, control, check } = setup
      faults.set('hang', 2, LEAD + CHUNK - 4096)
      store.begin()
      for (const i of [0, 1]) {
        check(i, store.acquire(i))
        store.release(i)
      }
      await until(() => faults.hanging === 1)
      const aborted = thrown(() =>
        store.acquire(2, () => {
          control.requestAbort()
          return true
        }),
      )
      assert.is(aborted.code, 'ABORTED')
      store.releaseAll()
      store.rest()
      control.clearAbort()
      // The next call asks for the same unit, waits for the late read, and gives up when it is told to.
      let looks = 0
      const again = thrown(() =>
        store.acquire(2, () => {
          pause(10)
          if (++looks === 20) control.requestAbort()
          return true
        }),
      )
      assert.is(again.code, 'ABORTED')
      assert.is(faults.hanging, 1)
      control.clearAbort()
      faults.set('none')
      pass(setup)
    }))
}

test('what could not be read ahead in an earlier call is read again', () =>
  withLoaders({}, async (setup) => {
    const { store, faults } = setup
    for (let i = 0; i < UNITS; i++) {
      setup.check(i, store.acquire(i))
      // From here on unit 1 is only read for the next pass.
      if (i === 3) faults.set('EIO', 1)
      store.release(i)
    }
    await until(() => order(faults.reads).slice(UNITS).includes(2) && faults.underWay === 0)
    store.rest()
    faults.set('none')
    pass(setup)
  }))

test('an error is told at once, though another read for the same unit hangs', () =>
  withLoaders({}, (setup) => {
    const { store, faults, control } = setup
    faults.set('EIO beside a hang', 1, LEAD + CHUNK - 4096)
    assert.is(thrown(() => pass(setup)).code, 'FILE_SYSTEM')
    assert.is(faults.hanging, 1)
    store.releaseAll()
    store.rest()
    // The place is still being written to.
    let looks = 0
    const again = thrown(() =>
      store.acquire(1, () => {
        pause(10)
        if (++looks === 20) control.requestAbort()
        return true
      }),
    )
    assert.is(again.code, 'ABORTED')
    assert.is(faults.hanging, 1)
    control.clearAbort()
    faults.set('none')
    pass(setup)
  }))

test.run()
