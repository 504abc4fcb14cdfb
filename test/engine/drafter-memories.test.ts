import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { readState } from '../../src/engine/drafter-state.ts'
import type { EngineOptions } from '../../src/engine/protocol.ts'
import type { Stats } from '../../src/index.ts'
import { decodeState, encodeState } from '../../src/speculate/state-file.ts'
import { DRAFT, TARGET } from '../e2e/models.ts'
import { fixtures } from '../paths.ts'
import { assertFails } from '../runtime/failures.ts'
import { type InlineModel, openInline, scratch } from './harness.ts'
import { PROMPT } from './open-model.ts'

const ALL = ['trie', 'trigram', 'recycle', 'ngram', 'jacobi'] as const
const LOADED: EngineOptions = { weights: 'q8', context: 256, drafters: [...ALL], nodes: 12 }
const TEXT = { temperature: 0, maxTokens: 32, ignoreEos: true }
const OTHER = 'Once upon a time there was a'

const open = (options: EngineOptions = {}): InlineModel => openInline(TARGET, { ...LOADED, ...options })
const file = (name: string): string => join(scratch, name)

/** What of a text's cost depends on nothing but guesses. */
const costOf = ({ passes, tokens, nodesPerPass, perDrafter, acceptedHistogram, depths }: Stats) => ({
  passes,
  tokens,
  nodesPerPass,
  perDrafter,
  acceptedHistogram,
  depths,
})

const saving = suite('the state of drafters')

saving('a model goes on with what another learnt, and writes the same text in fewer passes', () => {
  const first = open()
  const cold = first.generate(PROMPT, TEXT)
  first.engine.memories.save(file('learnt'), '')
  const warm = open({ drafterState: file('learnt') }).generate(PROMPT, TEXT)
  assert.is(warm.text, cold.text)
  assert.ok(warm.stats.passes <= cold.stats.passes / 1.5, `${warm.stats.passes} of ${cold.stats.passes} passes`)
})

saving('what is saved holds what was written, and no prompt', () => {
  const model = open({ drafters: ['trie'] })
  const { tokens } = model.generate({ tokens: [700, 701, 702, 703] }, TEXT)
  model.engine.memories.save(file('no-prompt'), '')
  const { sections, meaning } = readState(file('no-prompt'))
  assert.is(meaning.vocabulary, model.engine.config.vocabulary)
  assert.match(meaning.tokens, /^[0-9a-f]{16}$/)
  assert.is(sections.length, 1)
  const bytes = Buffer.from(sections[0].bytes)
  // As LEB128 writes a token, beside a count of one.
  const leb = (token: number): Buffer => Buffer.of((token & 127) | 128, token >> 7)
  const written = tokens.filter((token) => token >= 128 && token < 16384)
  assert.ok(written.length > 0 && bytes.includes(leb(written[0])))
  for (const token of [700, 701, 702, 703]) if (!tokens.includes(token)) assert.not.ok(bytes.includes(leb(token)))
})

saving('sections of drafters that are not loaded outlive a run without them', () => {
  const first = open()
  first.generate(PROMPT, TEXT)
  first.engine.memories.save(file('whole'), '')
  const next = open({ drafters: ['ngram'], drafterState: file('whole') })
  next.engine.memories.save(file('again'), '')
  assert.equal(readFileSync(file('again')), readFileSync(file('whole')))
})

/** Texts that no small table remembers all of. */
function longText(vocabulary: number, length: number): number[] {
  let state = 5
  return Array.from({ length }, () => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0
    return (state >>> 8) % vocabulary
  })
}

saving('a state that is larger than what drafters may hold is loaded as far as it fits, what counts most first', () => {
  const large = open({ drafterMemory: '40MB' })
  const first = large.generate(PROMPT, TEXT)
  const written = [...large.engine.config.eosTokens, ...first.tokens]
  // What comes often counts more than all the rest.
  for (let i = 0; i < 8; i++) large.engine.warm(written, '')
  large.engine.warm(longText(4096, 20_000), '')
  large.engine.memories.save(file('large'), '')
  const least = /need at least (\d+) /.exec(
    assertFails(() => open({ drafterMemory: 1000 }), 'INVALID_OPTION').message,
  )?.[1]
  const drafterMemory = Math.round(1.2 * Number(least))
  const held = ({ engine }: InlineModel): number => engine.memories.uses().reduce((sum, { bytes }) => sum + bytes, 0)
  assert.ok(held(large) > drafterMemory)
  const small = open({ drafterMemory, drafterState: file('large') })
  assert.ok(held(small) <= drafterMemory / 2, `${held(small)} bytes`)
  const { text, stats } = small.generate(PROMPT, TEXT)
  assert.is(text, first.text)
  assert.ok(stats.passes <= first.stats.passes / 1.5, `${stats.passes} of ${first.stats.passes} passes`)
  assert.ok(held(small) <= drafterMemory / 2)
  // What did not fit is nowhere else.
  const whole = readFileSync(file('large'))
  for (const path of [file('large'), relative(process.cwd(), file('large'))]) {
    const { message } = assertFails(() => small.engine.memories.save(path, ''), 'INVALID_OPTION')
    assert.match(message, 'more than trie, trigram could take')
  }
  assert.equal(readFileSync(file('large')), whole)
  small.engine.memories.save(file('part'), '')
  large.engine.memories.save(file('large'), '')
  open({ drafterMemory: '40MB', drafterState: file('large') }).engine.memories.save(file('large'), '')
})

saving('what a state has of other drafters counts as well, and is refused when it leaves too little', () => {
  const large = open({ drafterMemory: '40MB' })
  large.engine.warm(longText(4096, 20_000), '')
  large.engine.memories.save(file('of-others'), '')
  const only = { drafters: ['ngram'], drafterState: file('of-others') } satisfies EngineOptions
  const { message } = assertFails(() => open({ ...only, drafterMemory: '2MB' }), 'INVALID_OPTION')
  assert.match(message, file('of-others'))
  assert.match(message, 'trie, trigram, recycle')
  const least = Number(/at least (\d+) bytes/.exec(message)?.[1])
  assertFails(() => open({ ...only, drafterMemory: least - 1 }), 'INVALID_OPTION')
  const model = open({ ...only, drafterMemory: least })
  model.generate(PROMPT, TEXT)
  const held = model.engine.memories.uses().reduce((sum, { bytes }) => sum + bytes, 0)
  assert.ok(held <= least / 2 && held > 0.9 * (least / 2), `${held} bytes`)
  model.engine.memories.save(file('of-others-again'), '')
  assert.equal(readFileSync(file('of-others-again')), readFileSync(file('of-others')))

  // What is loaded remembers less for it.
  const trie = { drafters: ['trie'], drafterState: file('of-others') } satisfies EngineOptions
  const refused = assertFails(() => open({ ...trie, drafterMemory: '400kB' }), 'INVALID_OPTION')
  const drafterMemory = Math.round(1.3 * Number(/at least (\d+) bytes/.exec(refused.message)?.[1]))
  const beside = open({ ...trie, drafterMemory })
  beside.engine.warm(longText(4000, 40_000), '')
  const uses = beside.engine.memories.uses()
  assert.equal(new Set(uses.map(({ source }) => source)), new Set(['trie', 'trigram', 'recycle']))
  const taken = uses.reduce((sum, { bytes }) => sum + bytes, 0)
  assert.ok(taken <= drafterMemory / 2, `${taken} bytes of ${drafterMemory / 2}`)
})

saving('before there is a text the state is empty and can be loaded', () => {
  open().engine.memories.save(file('empty'), '')
  const { stats } = open({ drafterState: file('empty') }).generate(PROMPT, TEXT)
  assert.equal(costOf(stats), costOf(open().generate(PROMPT, TEXT).stats))
})

saving('a state is refused that is damaged, cut off, foreign, not there, or no file', () => {
  open({ drafters: ['trie'] }).engine.memories.save(file('sound'), '')
  const bytes = readFileSync(file('sound'))
  writeFileSync(file('cut'), bytes.subarray(0, bytes.length - 5))
  const flipped = Uint8Array.from(bytes)
  flipped[30] ^= 4
  writeFileSync(file('flipped'), flipped)
  writeFileSync(file('none'), 'a text')
  const state = decodeState(bytes, 'sound')
  writeFileSync(file('swapped'), encodeState({ ...state, meaning: { ...state.meaning, tokens: '0'.repeat(16) } }))
  mkdirSync(file('directory'))
  for (const [name, code] of [
    ['cut', 'CORRUPT_FILE'],
    ['flipped', 'CORRUPT_FILE'],
    ['none', 'CORRUPT_FILE'],
    ['swapped', 'INCOMPATIBLE_STATE'],
    ['directory', 'FILE_SYSTEM'],
    ['missing', 'FILE_SYSTEM'],
  ] as const) {
    const { message } = assertFails(() => open({ drafterState: file(name) }), code)
    assert.match(message, file(name))
  }
  const foreign = () => openInline(join(fixtures, 'llama'), { drafters: ['trie'], drafterState: file('sound') })
  assert.match(assertFails(foreign, 'INCOMPATIBLE_STATE').message, 'a vocabulary of')
})

saving('a model without a tokenizer takes its own states', () => {
  const unnamed = (options: EngineOptions) => openInline(join(fixtures, 'llama'), { drafters: ['trie'], ...options })
  unnamed({}).engine.memories.save(file('unnamed'), '')
  assert.is(readState(file('unnamed')).meaning.tokens, 'unknown')
  unnamed({ drafterState: file('unnamed') })
})

saving('without drafters that learn from texts there is no state', () => {
  for (const options of [
    { drafters: [] },
    { drafters: ['tree'], draft: DRAFT },
    { nodes: 0 },
    { drafters: undefined, draft: 'none' },
  ] as unknown as EngineOptions[]) {
    const without: EngineOptions = { ...options, nodes: options.draft === DRAFT ? 8 : 0 }
    assertFails(() => open({ ...without, drafterState: file('learnt') }), 'INVALID_OPTION')
    const { engine } = open(without)
    assertFails(() => engine.memories.save(file('nothing'), ''), 'INVALID_OPTION')
    assertFails(() => engine.warm([1, 2], ''), 'INVALID_OPTION')
    assert.equal(engine.memories.uses(), [])
  }
  assertFails(() => open({ drafterState: 7 as unknown as string }), 'INVALID_OPTION')
})

saving('a state that cannot be written leaves what was there', () => {
  const { engine } = open({ drafters: ['trie'] })
  assertFails(() => engine.memories.save(join(scratch, 'no', 'directory', 'x'), ''), 'FILE_SYSTEM')
  mkdirSync(file('taken'))
  assertFails(() => engine.memories.save(file('taken'), ''), 'FILE_SYSTEM')
  assertFails(() => engine.memories.save('', ''), 'INVALID_OPTION')
  assert.equal(
    readdirSync(scratch).filter((name) => name.endsWith('.tmp')),
    [],
  )
})

saving.run()

const warming = suite('drafters that read a text')

warming('guess it when it is to be written', () => {
  const cold = open().generate(PROMPT, TEXT)
  const byTokens = open()
  byTokens.engine.warm([...byTokens.engine.config.eosTokens, ...cold.tokens], '')
  const byText = open()
  byText.engine.warm(PROMPT + cold.text, '')
  for (const model of [byTokens, byText]) {
    const { text, stats } = model.generate(PROMPT, TEXT)
    assert.is(text, cold.text)
    assert.ok(stats.passes < cold.stats.passes, `${stats.passes} of ${cold.stats.passes} passes`)
  }
})

warming('only tokens of the model are read, and only by whom they are meant for', () => {
  const model = open()
  const { vocabulary } = model.engine.config
  for (const wrong of [-1, 0.5, vocabulary, '3']) {
    const { message } = assertFails(() => model.engine.warm([1, wrong as number], ''), 'INVALID_INPUT')
    assert.match(message, 'token 1 of the text')
  }
  assertFails(() => model.engine.warm({} as unknown as string, ''), 'INVALID_INPUT')
  assertFails(() => model.engine.warm([1], 3 as unknown as string), 'INVALID_OPTION')
  assertFails(() => openInline(join(fixtures, 'llama'), { drafters: ['trie'] }).engine.warm('text', ''), 'NO_TOKENIZER')
  model.engine.warm([5, 6, 7], 'a')
  assert.equal(
    model.engine.memories.uses().map(({ owner, source }) => [owner, source]),
    ALL.map((source) => ['a', source]),
  )
})

warming.run()

const owners = suite('owners')

for (const [what, options, text] of [
  ['without a draft model', {}, TEXT],
  ['at a temperature', {}, { ...TEXT, temperature: 0.8, seed: 3 }],
  ['beside a draft model', { draft: DRAFT, drafters: ['hybrid'] }, TEXT],
] as [string, EngineOptions, typeof TEXT][]) {
  owners(`what one had written changes nothing for another: ${what}`, () => {
    const alone = open(options)
    const first = costOf(alone.generate(OTHER, { ...text, owner: 'b' }).stats)
    const second = costOf(alone.generate(PROMPT, { ...text, owner: 'b' }).stats)
    const shared = open(options)
    const before = costOf(shared.generate(PROMPT, { ...text, owner: 'a' }).stats)
    assert.equal(costOf(shared.generate(OTHER, { ...text, owner: 'b' }).stats), first)
    shared.generate(OTHER, { ...text, owner: 'a' })
    shared.engine.warm(PROMPT, 'a')
    assert.equal(costOf(shared.generate(PROMPT, { ...text, owner: 'b' }).stats), second)
    // The same would have been cheaper for whoever had written it before.
    const again = costOf(shared.generate(PROMPT, { ...text, owner: 'a' }).stats)
    assert.ok(again.passes < before.passes, `${again.passes} of ${before.passes} passes`)
    shared.engine.memories.forget('a')
    assert.equal(costOf(shared.generate(PROMPT, { ...text, owner: 'a' }).stats), before)
  })
}

owners('a saved state has what its owner wrote, byte for byte as if there were no other', () => {
  const alone = open()
  alone.generate(OTHER, { ...TEXT, owner: 'b' })
  alone.engine.memories.save(file('alone'), 'b')
  const shared = open()
  shared.generate(PROMPT, { ...TEXT, owner: 'a' })
  shared.generate(OTHER, { ...TEXT, owner: 'b' })
  shared.generate(PROMPT, TEXT)
  shared.engine.memories.save(file('shared'), 'b')
  assert.equal(readFileSync(file('shared')), readFileSync(file('alone')))
})

owners('a state is the default owner’s and nobody else’s', () => {
  const first = open()
  const cold = costOf(first.generate(PROMPT, TEXT).stats)
  first.engine.memories.save(file('default'), '')
  const model = open({ drafterState: file('default') })
  assert.equal(costOf(model.generate(PROMPT, { ...TEXT, owner: 'a' }).stats), cold)
  assert.ok(model.generate(PROMPT, TEXT).stats.passes < cold.passes)
})

owners('16 are remembered beside the default one; of one that is not there is no state', () => {
  const model = open({ drafters: ['ngram', 'trie'] })
  const remembered = (): string[] => [...new Set(model.engine.memories.uses().map(({ owner }) => owner))]
  const names = Array.from({ length: 18 }, (_, i) => `owner ${i}`)
  for (const owner of ['', ...names]) model.engine.warm([1, 2, 3], owner)
  assert.equal(remembered(), ['', ...names.slice(2)])
  model.engine.warm([4], names[2])
  model.engine.warm([4], 'one more')
  assert.not.ok(remembered().includes(names[3]))
  assert.ok(remembered().includes(names[2]))
  const { message } = assertFails(() => model.engine.memories.save(file('gone'), names[0]), 'INVALID_OPTION')
  assert.match(message, '"owner 0"')
  assert.not.ok(readdirSync(scratch).includes('gone'))
  for (const owner of ['', ...names]) model.engine.memories.forget(owner)
  assert.equal(remembered(), ['one more'])
  for (const { bytes } of model.engine.memories.uses()) assert.ok(bytes > 0 && bytes < 50e6)
  assertFails(() => model.generate(PROMPT, { ...TEXT, owner: 7 as unknown as string }), 'INVALID_OPTION')
})

owners.run()
