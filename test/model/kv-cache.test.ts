import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { KvCache, kvCacheBytes } from '../../src/model/kv-cache.ts'
import { Arena, createMemory } from '../../src/tensor/arena.ts'
import { readHfConfig } from '../../src/weights/hf-config.ts'
import { fixtures } from '../paths.ts'

const config = readHfConfig(join(fixtures, 'llama'))
const CONTEXT = 12
const SCRATCH = 6

function setUp() {
  const shape = { context: CONTEXT, scratch: SCRATCH }
  const arena = new Arena(createMemory(kvCacheBytes(config, shape) + 65536))
  const cache = new KvCache(config, shape, arena, 'cache')
  const { headSize, layers, kvHeads } = config
  /** The vector of one slot: keys or values of a layer and head. */
  const slotAt = (base: number, head: number, slot: number): Float32Array =>
    arena.f32(base + head * cache.headStride + slot * headSize * 4, headSize)
  const everywhere = function* () {
    for (let layer = 0; layer < layers; layer++) {
      for (let head = 0; head < kvHeads; head++) {
        yield [cache.keys(layer), layer, head, 0] as const
        yield [cache.values(layer), layer, head, 1] as const
      }
    }
  }
  /** Gives every element of a slot a value of its own. */
  const write = (slot: number, mark: number): void => {
    for (const [base, layer, head, kind] of everywhere()) {
      slotAt(base, head, slot).forEach((_, i, array) => {
        array[i] = mark * 10_000 + layer * 1000 + head * 100 + kind * 50 + i
      })
    }
  }
  const holds = (slot: number, mark: number): boolean => {
    for (const [base, layer, head, kind] of everywhere()) {
      const expected = Array.from(
        { length: headSize },
        (_, i) => mark * 10_000 + layer * 1000 + head * 100 + kind * 50 + i,
      )
      if (slotAt(base, head, slot).some((value, i) => value !== expected[i])) return false
    }
    return true
  }
  return { arena, cache, write, holds }
}

const test = suite('KV cache')

test('it takes as many bytes as were planned, and no address is shared', () => {
  const { arena, cache } = setUp()
  assert.is(arena.regions[0].bytes, kvCacheBytes(config, cache))
  const { layers, kvHeads, headSize } = config
  assert.is(arena.regions[0].bytes, layers * 2 * kvHeads * (CONTEXT + SCRATCH) * headSize * 4)
  const starts = Array.from({ length: layers }, (_, i) => [cache.keys(i), cache.values(i)]).flat()
  starts.forEach((start, i) => {
    if (i > 0) assert.is(start - starts[i - 1], kvHeads * cache.headStride)
  })
})

test('committing moves all heads of all layers from the slots to the prefix, and leaves the slots', () => {
  const { cache, write, holds } = setUp()
  for (let slot = 0; slot < CONTEXT + SCRATCH; slot++) write(slot, slot + 1)
  cache.extend(3)
  const slots = [CONTEXT + 4, CONTEXT, CONTEXT + 2]
  cache.commit(slots, 3)
  assert.is(cache.length, 6)
  for (let slot = 0; slot < 3; slot++) assert.ok(holds(slot, slot + 1), `slot ${slot} stays`)
  slots.forEach((slot, i) => {
    assert.ok(holds(3 + i, slot + 1), `position ${3 + i}`)
  })
  for (let slot = 6; slot < CONTEXT + SCRATCH; slot++) assert.ok(holds(slot, slot + 1), `slot ${slot} stays`)
})

test('committing nothing changes nothing', () => {
  const { cache, write, holds } = setUp()
  for (let slot = 0; slot < 4; slot++) write(slot, slot + 1)
  cache.extend(2)
  cache.commit([], 0)
  assert.is(cache.length, 2)
  for (let slot = 0; slot < 4; slot++) assert.ok(holds(slot, slot + 1))
})

test('truncating forgets the end and never lengthens', () => {
  const { cache } = setUp()
  cache.extend(5)
  cache.truncate(8)
  assert.is(cache.length, 5)
  cache.truncate(2)
  assert.is(cache.length, 2)
  assert.is(cache.scratchStart, CONTEXT)
})

test.run()
