import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { chooseDrafterMemory, sourcesOf } from '../../src/engine/drafter-share.ts'
import type { EngineOptions } from '../../src/engine/protocol.ts'
import { chooseSpeculation } from '../../src/engine/speculation-options.ts'
import { leastOwnerBytes, mostOwnerBytes } from '../../src/speculate/sources/capacities.ts'
import { assertFails } from '../runtime/failures.ts'

const test = suite('memory of drafters')

const of = (options: EngineOptions, vocabulary = 4096) =>
  sourcesOf(chooseSpeculation(options, false), { vocabulary, context: 512 })

test('a 32nd of the budget, between what the drafters need and 48 MB', () => {
  const sources = of({})
  const bytes = chooseDrafterMemory(undefined, sources)
  assert.is(bytes(320e6), 10e6)
  assert.is(bytes(320e6 + 31), 10e6)
  assert.is(bytes(1e12), 48e6)
  assert.is(bytes(1e6), 2 * leastOwnerBytes(sources))
  // Two owners that remember as much as they may.
  assert.ok(bytes(1e12) >= 2 * mostOwnerBytes(sources))
})

test('no more than all owners that are kept can come to take', () => {
  const sources = of({ drafters: ['recycle', 'ngram'] })
  assert.is(chooseDrafterMemory(undefined, sources)(1e12), 17 * mostOwnerBytes(sources))
  assert.ok(17 * mostOwnerBytes(sources) < 5e6)
})

test('what is given holds for any budget, in numbers and in text', () => {
  for (const given of [5e6, '5MB', 5e6 + 0.5]) {
    const bytes = chooseDrafterMemory(given, of({}))
    assert.equal([bytes(10e6), bytes(1e12)], [5e6, 5e6])
  }
})

test('without sources there is nothing to remember, whatever is given', () => {
  for (const options of [{ draft: 'none' }, { nodes: 0 }, { drafters: [] }] as EngineOptions[]) {
    for (const given of [undefined, '48MB', 1]) assert.is(chooseDrafterMemory(given, of(options))(1e9), 0)
  }
})

test('too little is refused with a figure that works, and a byte less than it is refused, too', () => {
  for (const options of [
    {},
    { drafters: ['trie'], nodes: 1000 },
    { drafters: ['recycle'] },
    { drafters: ['hybrid', 'jacobi'], drafterOptions: { trie: { capacity: 300_000 }, trigram: { pairs: 100_000 } } },
  ] as EngineOptions[]) {
    const sources = of(options, 30_000)
    const { message } = assertFails(() => chooseDrafterMemory('100kB', sources), 'INVALID_OPTION')
    assert.match(message, /^drafterMemory is 100000 bytes \(100 kB\)/)
    for (const name of sources.names) assert.match(message, name)
    const least = Number(/need at least (\d+) /.exec(message)?.[1])
    assert.is(chooseDrafterMemory(least, sources)(1e6), least)
    assertFails(() => chooseDrafterMemory(least - 1, sources), 'INVALID_OPTION')
  }
})

test('what is no size is refused by name', () => {
  for (const given of [0, -3, Number.NaN, Number.POSITIVE_INFINITY]) {
    assert.match(
      assertFails(() => chooseDrafterMemory(given, of({})), 'INVALID_OPTION').message,
      'drafterMemory must be',
    )
  }
  assert.match(assertFails(() => chooseDrafterMemory('much', of({})), 'INVALID_OPTION').message, 'is not a size')
})

test.run()
