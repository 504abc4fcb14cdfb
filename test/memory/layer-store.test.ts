import { mkdtempSync, rmSync, truncateSync, unlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { CoppiceError } from '../../src/errors.ts'
import { type Unit, unitFootprint } from '../../src/memory/load-board.ts'
import { Loader } from '../../src/memory/loader.ts'
import type { Place } from '../../src/tensor/arena.ts'
import { byteOf, type InlineStore, LEAD, openStore, writeLayer } from './inline-store.ts'

const test = suite('layer store')
const directory = mkdtempSync(join(tmpdir(), 'coppice-store-'))
process.on('exit', () => rmSync(directory, { recursive: true, force: true }))

interface Setup extends InlineStore<Loader> {
  readonly units: readonly Unit[]
}

const setUpOn = (units: readonly Unit[], pinnedLayers: readonly number[] = []): Setup => ({
  ...openStore(Loader, units, pinnedLayers),
  units,
})

const setUp = (name: string, layers: number, pinnedLayers: readonly number[]): Setup =>
  setUpOn(
    Array.from({ length: layers }, (_, i) => writeLayer(directory, `${name}-${i}`, i, 9000)),
    pinnedLayers,
  )

function checkBytes({ arenas, units, store }: Setup, layer: number, { bank, pointer }: Place): void {
  assert.is(bank, store.bankOf(layer))
  const bytes = arenas[bank].u8(pointer, units[layer].bytes)
  for (let i = 0; i < bytes.length; i += 97) assert.is(bytes[i], byteOf(layer, i), `layer ${layer} byte ${i}`)
}

const codeOf = (run: () => unknown): string => {
  try {
    run()
  } catch (error) {
    if (error instanceof CoppiceError) return `${error.code}: ${error.message}`
    throw error
  }
  return 'nothing was thrown'
}

test('every pass finds every layer, pinned or streamed, pass after pass', () => {
  const setup = setUp('passes', 5, [1, 3])
  assert.equal([setup.store.bankOf(0), setup.store.bankOf(1), setup.store.bankOf(3)], [0, 1, 0])
  setup.store.begin()
  for (let pass = 0; pass < 3; pass++) {
    for (let layer = 0; layer < 5; layer++) {
      checkBytes(setup, layer, setup.store.acquire(layer))
      setup.store.release(layer)
    }
  }
  setup.loader.close()
})

test('layers may be asked for in any order', () => {
  const setup = setUp('order', 6, [2])
  setup.store.begin()
  fc.assert(
    fc.property(fc.array(fc.nat(5), { maxLength: 30 }), (order) => {
      for (const layer of order) {
        checkBytes(setup, layer, setup.store.acquire(layer))
        setup.store.release(layer)
      }
    }),
    { numRuns: 30 },
  )
  setup.loader.close()
})

test('after a whole pass the loaders have begun the next one, and nothing pinned is read again', () => {
  const setup = setUp('bytes', 4, [0])
  setup.store.begin()
  const footprint = unitFootprint(setup.units[0])
  for (let pass = 0; pass < 4; pass++) {
    for (let layer = 0; layer < 4; layer++) {
      setup.store.acquire(layer)
      setup.store.release(layer)
    }
  }
  assert.is(setup.store.bytesRead, footprint * (1 + 4 * 3))
  setup.loader.close()
})

test('idle work runs while a layer is on its way, and stops when it has nothing left', () => {
  const setup = setUp('idle', 4, [])
  setup.store.begin()
  let calls = 0
  setup.store.acquire(0, () => ++calls < 5)
  assert.is(calls, 5)
  setup.store.release(0)
  setup.loader.close()
})

test('a flipped bit is found on the first read and named with its file', () => {
  const setup = setUp('flip', 3, [])
  const { path } = setup.units[2]
  const data = new Uint8Array(LEAD + 12288)
  for (let i = 0; i < 9000; i++) data[LEAD + i] = byteOf(2, i)
  data[LEAD + 5000] ^= 4
  writeFileSync(path, data)
  setup.loader.close()
  const damaged = setUpOn(setup.units)
  const message = codeOf(() => {
    damaged.store.begin()
    for (let layer = 0; layer < 3; layer++) {
      damaged.store.acquire(layer)
      damaged.store.release(layer)
    }
  })
  assert.match(message, 'CORRUPT_FILE')
  assert.match(message, path)
  damaged.loader.close()
})

test('a file that is cut short while in use is an error that names it', () => {
  const setup = setUp('cut', 3, [])
  setup.store.begin()
  setup.store.acquire(0)
  truncateSync(setup.units[2].path, 6000)
  setup.store.release(0)
  const message = codeOf(() => {
    for (const layer of [1, 2]) {
      setup.store.acquire(layer)
      setup.store.release(layer)
    }
  })
  assert.match(message, 'CORRUPT_FILE')
  assert.match(message, setup.units[2].path)
  setup.loader.close()
})

test('a file that is missing when the store opens is an error that names it', () => {
  const units = [0, 1, 2].map((i) => writeLayer(directory, `gone-${i}`, i, 5000))
  unlinkSync(units[1].path)
  const message = codeOf(() => setUpOn(units))
  assert.match(message, 'MODEL_NOT_FOUND')
  assert.match(message, units[1].path)
})

test('an abort ends the wait for a layer, and the store works on afterwards', () => {
  const setup = setUp('abort', 4, [])
  setup.control.requestAbort()
  assert.match(
    codeOf(() => {
      setup.store.begin()
      setup.store.acquire(0)
    }),
    'ABORTED',
  )
  setup.control.clearAbort()
  setup.store.releaseAll()
  for (let layer = 0; layer < 4; layer++) {
    checkBytes(setup, layer, setup.store.acquire(layer))
    setup.store.release(layer)
  }
  setup.loader.close()
})

test('a fault ends the wait for a layer', () => {
  const setup = setUp('fault', 3, [])
  setup.store.begin()
  setup.control.raiseFault()
  assert.match(
    codeOf(() => setup.store.acquire(0)),
    'WORKER_FAILED',
  )
  setup.loader.close()
})

test.run()
