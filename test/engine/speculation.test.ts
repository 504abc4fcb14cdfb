import * as fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { sourcesOf } from '../../src/engine/drafter-share.ts'
import type { EngineOptions } from '../../src/engine/protocol.ts'
import { Speculation } from '../../src/engine/speculation.ts'
import { chooseSpeculation } from '../../src/engine/speculation-options.ts'
import { emptyStats, type Stats } from '../../src/generate/statistics.ts'
import { SOURCES } from '../../src/speculate/drafter.ts'
import type { DrafterMemory } from '../../src/speculate/memory.ts'
import { leastOwnerBytes } from '../../src/speculate/sources/capacities.ts'
import { sourceBytes } from '../../src/speculate/sources/catalogue.ts'
import { DRAFT, TARGET } from '../e2e/models.ts'
import { openInline } from './harness.ts'
import { PROMPT } from './open-model.ts'

const test = suite('what is said of guessing')
const LOADED = { weights: 'q8', context: 256, draft: DRAFT } as const
const TEXT = { temperature: 0, maxTokens: 24 }

test('a text without a drafter has neither figures nor verdict', () => {
  const { stats } = openInline(TARGET, { ...LOADED, draft: 'none' }).generate(PROMPT, TEXT)
  assert.not('speculation' in stats)
  assert.not('verdict' in stats)
})

test('trees of a fixed size: nothing is declined, and no plain pass is made up', () => {
  const { stats } = openInline(TARGET, { ...LOADED, nodes: 6 }).generate(PROMPT, TEXT)
  const { streams, declined, draftedSecondsPerPass } = stats.speculation!
  assert.is(streams, false)
  assert.is(declined, 0)
  assert.ok(draftedSecondsPerPass! > 0)
  assert.match(stats.verdict!, /^resident: /)
})

test('what a planner declined is counted text by text', () => {
  const model = openInline(TARGET, { ...LOADED, nodes: 'auto' })
  for (let text = 0; text < 3; text++) {
    const { stats } = model.generate(PROMPT, TEXT)
    const { declined } = stats.speculation!
    assert.ok(declined >= 0 && declined <= stats.depths[0], `${declined} of ${stats.depths[0]}`)
  }
})

test('a model that streams says so', () => {
  const streaming = { ...LOADED, weights: 'f32', memory: '22MB', nodes: 6 } as const
  const { stats } = openInline(TARGET, streaming).generate(PROMPT, TEXT)
  assert.is(stats.speculation!.streams, true)
  assert.match(stats.verdict!, /^streaming: /)
})

type Parts = ConstructorParameters<typeof Speculation>[0]

/** What guesses without a draft model. */
const speculationOf = (options: EngineOptions, parts: Partial<Parts> = {}): Speculation =>
  new Speculation({
    choices: chooseSpeculation(options, false),
    draft: undefined,
    rows: 64,
    vocabulary: 100,
    targetVocabulary: 100,
    context: 256,
    drafterBytes: 1e6,
    streams: false,
    readAhead: 0,
    ...parts,
  })

test('tables that do not fit are an error: what was planned was wrong', () => {
  assert.throws(
    () => speculationOf({ drafters: ['trie'] }, { drafterBytes: 1000 }).memoryOf(''),
    '1000 bytes are too few for trie',
  )
})

test('what a plain pass takes follows from the disk only in texts that waited for it', () => {
  const speculation = speculationOf({ drafters: ['trie'], nodes: 16 }, { streams: true })
  // No pass of one row; one that was kept waiting, once.
  speculation.costs.observePass(17, 0.01, 0.02)
  const after = (wait: number, draftHidden: number, prefill = 0): Stats => {
    const stats = emptyStats(0)
    // Half a second of drafting is not hidden, and the prompt waited as long as it took.
    const waits = { wait: wait + prefill, draft: 0.5 + draftHidden, draftHidden, prefill }
    const seconds = { ...stats.seconds, ...waits, verify: 1, total: prefill + 1.5 + wait + draftHidden }
    return { ...stats, passes: 10, tokens: 40, nodesPerPass: 16, depths: [0, 10], seconds }
  }
  assert.is(speculation.statistics(after(0.1, 0.05))!.plainSecondsPerPass, undefined)
  assert.is(speculation.statistics(after(0.1, 0, 5))!.plainSecondsPerPass, undefined)
  for (const [wait, hidden] of [
    [0.6, 0],
    [0.1, 0.5],
  ]) {
    assert.is(speculation.statistics(after(wait, hidden))!.plainSecondsPerPass, 0.02)
  }
})

test('owners have planners and judges of their own', () => {
  const speculation = speculationOf({ drafters: ['trie'] })
  const [a, b] = ['a', 'b'].map((owner) => speculation.memoryOf(owner))
  const { costs } = speculation
  for (let i = 0; i < 40; i++) {
    costs.observePass(1, 0.01, 0.01)
    costs.observePass(64, 1, 1)
  }
  // Guesses that cost much and bring nothing: whoever makes them gives up, and nobody else.
  for (let i = 0; i < 20; i++) a.pacing.observe({ nodes: 63, tokens: 1, draftSeconds: 0.1, passSeconds: 1 })
  const drafts = ({ pacing }: DrafterMemory): number =>
    Array.from({ length: 8 }, () => pacing.shouldDraft()).filter((should) => should).length
  assert.is(drafts(a), 0)
  assert.ok(drafts(b) >= 6)
  assert.is.not(a.learnt('greedy').judge, b.learnt('greedy').judge)
  assert.is.not(a.learnt('greedy').judge, a.learnt('sampled 3').judge)
  assert.is(speculation.memoryOf('a'), a)
  speculation.forget('a')
  assert.is.not(speculation.memoryOf('a'), a)
})

test('owners that wrote longest ago are forgotten until there is room for the writer’s share, the default owner never', () => {
  // A table of recycled tokens has its size from the beginning.
  const targetVocabulary = 10_000
  const { held } = sourceBytes('recycle', { vocabulary: targetVocabulary, context: 256, proposed: 0 })
  // A share is two tables and a half.
  const speculation = speculationOf({ drafters: ['recycle'] }, { targetVocabulary, drafterBytes: 5 * held })
  const kept = (): string[] => [...speculation.memories.keys()]
  const first = speculation.memoryOf('')
  for (const owner of ['a', 'b', 'a', 'c']) speculation.memoryOf(owner)
  assert.equal(kept(), ['', 'a', 'c'])
  speculation.memoryOf('b')
  assert.equal(kept(), ['', 'c', 'b'])
  assert.is(speculation.memoryOf(''), first)
  assert.equal(kept(), ['c', 'b', ''])
  const bytes = [...speculation.memories.values()].flatMap(({ heldBytes }) => heldBytes)
  assert.is(
    bytes.reduce((sum, { bytes }) => sum + bytes, 0),
    3 * held,
  )
})

test('whatever owners write, and however much, all of them stay within the bytes that drafters have', () => {
  const targetVocabulary = 500
  const names = ['', 'a', 'b', 'c', 'd', 'e'] as const
  let forgotten = 0
  const choice = fc.record({
    drafters: fc.subarray([...SOURCES], { minLength: 1 }),
    times: fc.double({ min: 1, max: 4, noNaN: true }),
    turns: fc.array(fc.tuple(fc.constantFrom(...names), fc.integer({ min: 0, max: 4000 })), {
      minLength: 5,
      maxLength: 25,
    }),
  })
  fc.assert(
    fc.property(choice, fc.nat(), ({ drafters, times, turns }, seed) => {
      const options: EngineOptions = { drafters, nodes: 16 }
      const target = { vocabulary: targetVocabulary, context: 256 }
      const sources = sourcesOf(chooseSpeculation(options, false), target)
      const drafterBytes = Math.floor(2 * leastOwnerBytes(sources) * times)
      const speculation = speculationOf(options, { targetVocabulary, drafterBytes })
      const heldBy = ({ heldBytes }: DrafterMemory): number => heldBytes.reduce((sum, { bytes }) => sum + bytes, 0)
      const share = Math.floor(drafterBytes / 2)
      const known = new Set<string>()
      let state = seed
      for (const [owner, length] of turns) {
        const wasThere = speculation.memories.get(owner)
        const memory = speculation.memoryOf(owner)
        if (wasThere !== undefined) assert.is(memory, wasThere)
        const others = [...speculation.memories.values()].filter((one) => one !== memory)
        assert.ok(others.reduce((sum, one) => sum + heldBy(one), share) <= drafterBytes)
        const text = Array.from({ length }, () => {
          state = (Math.imul(state, 1103515245) + 12345) >>> 0
          return (state >>> 8) % targetVocabulary
        })
        memory.warm(text)
        assert.ok(heldBy(memory) <= share, `${heldBy(memory)} of ${share}`)
        known.add(owner)
        if (known.has('')) assert.ok(speculation.memories.has(''))
      }
      forgotten += known.size - speculation.memories.size
    }),
    { numRuns: 40 },
  )
  assert.ok(forgotten > 20, `${forgotten} owners were forgotten`)
})

test.run()
