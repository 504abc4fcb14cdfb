import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { KV_KINDS, KvCache, type KvKind, kvCacheBytes } from '../../src/model/kv-cache.ts'
import { Arena, createMemory } from '../../src/tensor/arena.ts'
import type { KvLayer } from '../../src/tensor/attention.ts'
import { readHfConfig } from '../../src/weights/hf-config.ts'
import { fixtures } from '../paths.ts'

const config = readHfConfig(join(fixtures, 'llama'))
const CONTEXT = 12
const SCRATCH = 6

function setUp(kind: KvKind) {
  const shape = { context: CONTEXT, scratch: SCRATCH, kind }
  // The last layer in a memory of its own.
  const arenas = [config.layers - 1, 1].map(
    (count) => new Arena(createMemory(kvCacheBytes(config, shape, count) + 65536)),
  )
  const arenaOf = (layer: number): Arena => arenas[layer < config.layers - 1 ? 0 : 1]
  const cache = new KvCache(
    config,
    shape,
    Array.from({ length: config.layers }, (_, i) => arenaOf(i)),
    'cache',
  )
  const { headSize, layers, kvHeads } = config
  const bytes = kind === 'f32' ? headSize * 4 : headSize
  /** The bytes of one slot: its vector, and the scale of a q8 cache. */
  const slotAt = (arena: Arena, base: number, layer: KvLayer, head: number, slot: number): Uint8Array[] => {
    const start = base + head * layer.headStride
    const vector = arena.u8(start + slot * bytes, bytes)
    return kind === 'f32' ? [vector] : [vector, arena.u8(start + layer.scalesOffset + slot * 4, 4)]
  }
  const everywhere = function* (slot: number) {
    for (let i = 0; i < layers; i++) {
      const layer = cache.layers[i]
      for (let head = 0; head < kvHeads; head++) {
        for (const part of slotAt(arenaOf(i), layer.keys, layer, head, slot)) yield [part, i * 64 + head * 4] as const
        for (const part of slotAt(arenaOf(i), layer.values, layer, head, slot))
          yield [part, i * 64 + head * 4 + 2] as const
      }
    }
  }
  /** Gives the slot in each layer and head bytes of its own. */
  const write = (slot: number, mark: number): void => {
    for (const [part, place] of everywhere(slot)) part.set(Uint8Array.from(part, (_, i) => mark * 7 + place + i))
  }
  const holds = (slot: number, mark: number): boolean => {
    for (const [part, place] of everywhere(slot)) {
      if (part.some((value, i) => value !== ((mark * 7 + place + i) & 255))) return false
    }
    return true
  }
  return { arenas, cache, write, holds }
}

const test = suite('KV cache')

for (const kind of KV_KINDS) {
  test(`${kind}: it takes as many bytes as were planned, and no address is shared`, () => {
    const { arenas, cache } = setUp(kind)
    const shape = { context: CONTEXT, scratch: SCRATCH, kind }
    arenas.forEach(({ regions: [region] }, i) => {
      assert.is(region.bytes, kvCacheBytes(config, shape, i === 0 ? config.layers - 1 : 1))
    })
    const { layers, kvHeads, headSize } = config
    const perSlot = kind === 'f32' ? headSize * 4 : headSize + 4
    const heads = layers * 2 * kvHeads
    const least = heads * (CONTEXT + SCRATCH) * perSlot
    assert.ok(kvCacheBytes(config, shape) >= least && kvCacheBytes(config, shape) < least + heads * 16)
    const starts = cache.layers.flatMap(({ keys, values }) => [keys, values])
    const bytes = kvHeads * cache.layers[0].headStride
    starts.forEach((start, i) => {
      const beginsMemory = i === 0 || i === 2 * (layers - 1)
      assert.is(start, beginsMemory ? starts[0] : starts[i - 1] + bytes)
    })
  })

  test(`${kind}: committing moves all heads of all layers from the slots to the prefix, and leaves the slots`, () => {
    const { cache, write, holds } = setUp(kind)
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
}

test('committing nothing changes nothing', () => {
  const { cache, write, holds } = setUp('f32')
  for (let slot = 0; slot < 4; slot++) write(slot, slot + 1)
  cache.extend(2)
  cache.commit([], 0)
  assert.is(cache.length, 2)
  for (let slot = 0; slot < 4; slot++) assert.ok(holds(slot, slot + 1))
})

test('truncating forgets the end and never lengthens', () => {
  const { cache } = setUp('f32')
  cache.extend(5)
  cache.truncate(8)
  assert.is(cache.length, 5)
  cache.truncate(2)
  assert.is(cache.length, 2)
  assert.is(cache.scratchStart, CONTEXT)
})

test.run()
