/** Tables of an owner stay within the bytes that are given for them, whatever is read and however long. */
import * as fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { SOURCES } from '../../../src/speculate/drafter.ts'
import {
  fitCapacities,
  leastOwnerBytes,
  mostOwnerBytes,
  ownerBytes,
  type Sources,
} from '../../../src/speculate/sources/capacities.ts'
import { makeSource } from '../../../src/speculate/sources/catalogue.ts'
import type { SourceOptions } from '../../../src/speculate/sources/source-options.ts'
import { TRIE_NODES } from '../../../src/speculate/sources/trie.ts'
import { PAIRS, PROMPT_PAIRS } from '../../../src/speculate/sources/trigram.ts'
import { contextOf, propose } from './guessing.ts'

const test = suite('capacities of sources')

const sources: fc.Arbitrary<Sources> = fc
  .record({
    names: fc.subarray([...SOURCES], { minLength: 1 }),
    vocabulary: fc.integer({ min: 50, max: 20_000 }),
    context: fc.integer({ min: 2, max: 5000 }),
    nodes: fc.integer({ min: 1, max: 1024 }),
    branchLength: fc.option(fc.integer({ min: 2, max: 64 }), { nil: undefined }),
  })
  .map(({ names, vocabulary, context, nodes, branchLength }) => ({
    names,
    sizes: { vocabulary, context, proposed: names.length === 1 ? nodes : 0 },
    options: branchLength === undefined ? {} : { trie: { branchLength } },
  }))

/** Bytes of what is no typed array, or is made by a method of one. */
const UNSEEN = { trie: 0, trigram: 0, recycle: 2048, ngram: 0, jacobi: 2048 * 40 }

/** Bytes of all typed arrays that are constructed meanwhile, and of the largest one. */
function constructed(run: () => void): { all: number; largest: number } {
  const scope = globalThis as unknown as Record<string, new (...given: unknown[]) => ArrayBufferView>
  const names = ['Uint8Array', 'Uint16Array', 'Int32Array', 'Float32Array', 'Float64Array']
  const own = names.map((name) => scope[name])
  let all = 0
  let largest = 0
  for (const [i, name] of names.entries()) {
    scope[name] = new Proxy(own[i], {
      construct(type, given, target) {
        const made = Reflect.construct(type, given, target) as ArrayBufferView
        all += made.byteLength
        largest = Math.max(largest, made.byteLength)
        return made
      },
    })
  }
  try {
    run()
  } finally {
    for (const [i, name] of names.entries()) scope[name] = own[i]
  }
  return { all, largest }
}

function* numbers(below: number, seed: number): Generator<number, never> {
  let state = seed
  for (;;) {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0
    yield (state >>> 8) % below
  }
}

function texts(below: number, seed: number): (length: number) => number[] {
  const next = numbers(below, seed)
  return (length) => Array.from({ length }, () => next.next().value)
}

test('after long texts all tables together are within the bytes, also while one of them grows or is cleared up', () => {
  let whole = 0
  fc.assert(
    fc.property(sources, fc.double({ min: 1, max: 6, noNaN: true }), fc.nat(), (wanted, share, seed) => {
      const bytes = Math.floor(leastOwnerBytes(wanted) * share)
      const options = fitCapacities(wanted, bytes)
      assert.ok(options !== undefined)
      assert.ok(ownerBytes({ ...wanted, options }) <= bytes)
      const { vocabulary, context, proposed } = wanted.sizes
      const text = texts(vocabulary, seed)
      const prompt = text(Math.min(context, 1 + (seed % context)))
      let held = 0
      const all: ReturnType<typeof makeSource>[] = []
      const heldNow = (): number => all.reduce((sum, { heldBytes }) => sum + heldBytes, 0)
      for (const name of wanted.names) {
        const made = constructed(() => all.push(makeSource(name, vocabulary, options)))
        const unseen = heldNow() - held - made.all
        assert.ok(unseen >= 0 && unseen <= UNSEEN[name], `${name} says what it takes, and ${unseen} bytes more`)
        held = heldNow()
      }
      for (const source of all) {
        // So short that nothing is made twice, of which the first would be garbage.
        for (let part = 0; part < 500; part++) {
          const more = text(12)
          const made = constructed(() => source.warm?.(more)).all
          assert.ok(held + made <= bytes, `${source.name} reads: ${held} and ${made} of ${bytes}`)
          held = heldNow()
        }
      }
      for (const source of all) {
        const before = contextOf(prompt, context - prompt.length)
        const made = constructed(() => source.begin(before, 0)).largest
        assert.ok(held + made <= bytes, `${source.name} begins: ${held} and ${made} of ${bytes}`)
        held = heldNow()
        assert.ok(held <= bytes)
        if (proposed > 0 && source.propose !== undefined) propose(source, contextOf(prompt, 0), proposed)
        held = heldNow()
        assert.ok(held <= bytes, `${source.name} proposes: ${held} of ${bytes}`)
        if (held > 0.6 * bytes) whole++
      }
      for (const source of all) {
        const made = constructed(() => source.end()).all
        assert.ok(held + made <= bytes, `${source.name} ends`)
      }
    }),
    { numRuns: 25 },
  )
  assert.ok(whole > 10, `${whole} times most of the bytes were taken`)
})

test('capacities grow with the bytes, up to their defaults and no further', () => {
  fc.assert(
    fc.property(sources, fc.array(fc.double({ min: 1, max: 60, noNaN: true }), { maxLength: 8 }), (wanted, shares) => {
      let before = [0, 0, 0]
      const least = leastOwnerBytes(wanted)
      const all = mostOwnerBytes(wanted)
      for (const share of [1, ...shares].sort((a, b) => a - b)) {
        const { trie, trigram } = fitCapacities(wanted, Math.floor(least * share))!
        const found = [trie?.capacity ?? 0, trigram?.pairs ?? 0, trigram?.promptPairs ?? 0]
        for (const [i, capacity] of found.entries()) assert.ok(capacity >= before[i])
        before = found
      }
      for (const bytes of [Math.max(least, all), 100 * all]) {
        const { trie, trigram } = fitCapacities(wanted, bytes)!
        if (wanted.names.includes('trie')) assert.is(trie?.capacity, TRIE_NODES)
        const promptPairs = Math.min(PROMPT_PAIRS, wanted.sizes.context)
        if (wanted.names.includes('trigram'))
          assert.equal(trigram, { ...wanted.options.trigram, pairs: PAIRS, promptPairs })
      }
    }),
    { numRuns: 60 },
  )
})

test('with a byte less than the least nothing fits', () => {
  fc.assert(
    fc.property(sources, (wanted) => {
      const least = leastOwnerBytes(wanted)
      assert.ok(fitCapacities(wanted, least) !== undefined)
      assert.is(fitCapacities(wanted, least - 1), undefined)
    }),
  )
})

test('capacities that are given stay as they are, and the others make room for them', () => {
  const sizes = { vocabulary: 4096, context: 512, proposed: 0 }
  const names = ['trie', 'trigram'] as const
  const fitted = (options: SourceOptions, bytes: number): SourceOptions | undefined =>
    fitCapacities({ names, sizes, options }, bytes)
  const open = fitted({}, 3.5e6)!
  const options: SourceOptions = { trie: { capacity: 50_000, branchLength: 5 } }
  const given = fitted(options, 3.5e6)!
  assert.equal(given.trie, options.trie)
  assert.ok(given.trigram!.pairs! < open.trigram!.pairs!)
  assert.is(fitted({ trie: { capacity: 200_000 } }, 3e6), undefined)
  const pairs = { pairs: 3, promptPairs: 2 }
  assert.equal(fitted({ trigram: pairs }, 3e6)!.trigram, pairs)
})

test.run()
