/** Text with tree speculation is plain decoding's, token for token, whatever is asked of the sampler. */
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { CallOptions, EngineOptions } from '../../src/engine/protocol.ts'
import type { Completion } from '../../src/engine/types.ts'
import { SOURCES } from '../../src/speculate/drafter.ts'
import { KINDS, type Kind } from '../../src/tensor/layout.ts'
import { packModel } from '../../src/weights/pack.ts'
import { announceSkip, DRAFT, TARGET, TINYSTORIES } from '../e2e/models.ts'
import { type InlineModel, openInline, scratch } from '../engine/harness.ts'
import { padVocabulary } from '../weights/checkpoints.ts'

type Call = Partial<CallOptions>
type Written = ReturnType<InlineModel['generate']>

const NODES = [1, 16, 63]
const CONTEXT = 96
const PROMPT = 'The old house stood at the end of the lane, and'

/** What plain decoding decides: text, tokens and why it ended; not what it cost. */
const outcome = ({ text, tokens, finishReason, usage }: Completion) => ({ text, tokens, finishReason, usage })

/** Calls that exercise every option that can change a token. */
const SAMPLED: [string, Call][] = [
  ['greedy', { temperature: 0 }],
  ['temperature 0.8, seed 1', { temperature: 0.8, seed: 1 }],
  ['temperature 0.8, seed 2', { temperature: 0.8, seed: 2 }],
  ['temperature 0.8, seed 3', { temperature: 0.8, seed: 3 }],
]

const CHOICES: [string, Call][] = [
  ['penalties, greedy', { temperature: 0, repeatPenalty: 1.3, repeatWindow: 8, presencePenalty: 0.4 }],
  ['penalties, sampled', { temperature: 0.8, seed: 4, repeatPenalty: 1.2, repeatWindow: -1, frequencyPenalty: 0.5 }],
  ['logit bias', { temperature: 0, logitBias: { 262: Number.NEGATIVE_INFINITY, 278: -3, 44: 2 } }],
  ['top-k', { temperature: 1, topK: 5, topP: 1, seed: 5 }],
  ['top-p', { temperature: 1, topP: 0.7, seed: 6 }],
  ['min-p', { temperature: 1.2, topP: 1, minP: 0.1, seed: 7 }],
  ['all at once', { temperature: 0.9, topK: 20, topP: 0.9, minP: 0.02, repeatPenalty: 1.1, seed: 8 }],
]

function compare(name: string, plain: InlineModel, tree: InlineModel, calls: [string, Call][], tokens: number): void {
  for (const [what, options] of calls) {
    const call = { maxTokens: tokens, ...options }
    const expected = plain.generate(PROMPT, call)
    const actual = tree.generate(PROMPT, call)
    assert.equal(outcome(actual), outcome(expected), `${name}, ${what}`)
    assert.equal(actual.pieces.map((p) => p.text).join(''), actual.text, `${name}, ${what}: pieces are the text`)
    assert.equal(
      actual.pieces.map((p) => p.token),
      actual.tokens,
      `${name}, ${what}: pieces are the tokens`,
    )
  }
}

const pair = suite('exactness of the embedded pair')
const plainOf = new Map<Kind, InlineModel>()
const plainPair = (weights: Kind): InlineModel => {
  if (!plainOf.has(weights)) plainOf.set(weights, openInline(TARGET, { weights, draft: 'none', context: CONTEXT }))
  return plainOf.get(weights)!
}

for (const weights of KINDS) {
  for (const nodes of NODES) {
    pair(`${weights} with ${nodes} nodes writes what plain decoding writes, greedy and sampled`, () => {
      const tree = openInline(TARGET, { weights, draft: DRAFT, nodes, context: CONTEXT })
      compare(`${weights}, ${nodes} nodes`, plainPair(weights), tree, SAMPLED.slice(0, 2), 20)
    })
  }
}

const withTree = (() => {
  let model: InlineModel | undefined
  return (): InlineModel => {
    model ??= openInline(TARGET, { weights: 'q8', draft: DRAFT, nodes: 24, context: CONTEXT })
    return model
  }
})()

pair('penalties, bias and truncated sampling see the path that led to a node', () => {
  compare('q8, 24 nodes', plainPair('q8'), withTree(), CHOICES, 24)
})

for (const nodes of [4, 24]) {
  pair(`with a q8 KV cache ${nodes} nodes write what plain decoding writes with it`, () => {
    const options = { weights: 'q8', kvCache: 'q8', context: CONTEXT } as const
    const plain = openInline(TARGET, { ...options, draft: 'none' })
    const tree = openInline(TARGET, { ...options, draft: DRAFT, nodes })
    compare(`q8 cache, ${nodes} nodes`, plain, tree, SAMPLED, 20)
  })
}

pair('log-probabilities are plain decoding’s, bit for bit', () => {
  const call = { temperature: 0.8, seed: 9, maxTokens: 16, logprobs: true }
  const values = (model: InlineModel) => model.generate(PROMPT, call).pieces.map((piece) => piece.logprob)
  const expected = values(plainPair('q8'))
  assert.ok(expected.every((value) => value !== undefined && value <= 0))
  assert.equal(values(withTree()), expected)
})

pair('every number of tokens can be asked for, and no guess goes beyond', () => {
  const all = plainPair('q8').generate(PROMPT, { temperature: 0, maxTokens: 20, ignoreEos: true })
  for (let maxTokens = 1; maxTokens <= 20; maxTokens++) {
    const actual = withTree().generate(PROMPT, { temperature: 0, maxTokens, ignoreEos: true })
    assert.equal(actual.tokens, all.tokens.slice(0, maxTokens), `${maxTokens} tokens`)
    assert.is(actual.finishReason, 'length')
    assert.is(actual.stats.tokens, maxTokens)
    assert.not(actual.pieces.at(-1)!.drafted, 'the target says the last token in any case')
  }
})

pair('the text ends where the context is full, with the same tokens', () => {
  const context = 40
  const plain = openInline(TARGET, { weights: 'q8', draft: 'none', context })
  const tree = openInline(TARGET, { weights: 'q8', draft: DRAFT, nodes: 24, context })
  for (const call of [{ temperature: 0 }, { temperature: 0.8, seed: 11 }]) {
    const expected = plain.generate(PROMPT, { ...call, ignoreEos: true })
    assert.is(expected.finishReason, 'context')
    assert.is(expected.usage.promptTokens + expected.usage.completionTokens, context)
    assert.equal(outcome(tree.generate(PROMPT, { ...call, ignoreEos: true })), outcome(expected))
  }
})

pair('a prompt that leaves one token of room gets one token', () => {
  const prompt = Array.from({ length: 39 }, (_, i) => 300 + i)
  const plain = openInline(TARGET, { weights: 'q8', draft: 'none', context: 40 })
  const tree = openInline(TARGET, { weights: 'q8', draft: DRAFT, nodes: 24, context: 40 })
  const expected = plain.generate({ tokens: prompt }, { temperature: 0, ignoreEos: true })
  assert.is(expected.tokens.length, 1)
  assert.equal(outcome(tree.generate({ tokens: prompt }, { temperature: 0, ignoreEos: true })), outcome(expected))
})

/** Places where a stop string can be cut out of a text: it begins in any token and may span three. */
function stopsIn(written: Written): { stop: string; completedBy: number }[] {
  const found: { stop: string; completedBy: number }[] = []
  let text = ''
  written.pieces.forEach((piece, i) => {
    const before = text
    text += piece.text
    const stop = text.slice(Math.max(0, before.length - 3))
    if (piece.text.length > 0 && stop.length > 2 && text.indexOf(stop) === text.length - stop.length) {
      found.push({ stop, completedBy: i })
    }
  })
  return found
}

pair('a stop string ends the text at the token that completes it, drafted or not', () => {
  const call = { temperature: 0, maxTokens: 24, ignoreEos: true }
  const whole = withTree().generate(PROMPT, call)
  const stops = stopsIn(whole)
  let inPath = 0
  for (const { stop, completedBy } of stops) {
    const expected = plainPair('q8').generate(PROMPT, { ...call, stop: ['never said', stop] })
    const actual = withTree().generate(PROMPT, { ...call, stop: ['never said', stop] })
    assert.is(expected.finishReason, 'stop', stop)
    assert.equal(outcome(actual), outcome(expected), stop)
    assert.is(actual.tokens.length, completedBy + 1, `${JSON.stringify(stop)} names the token that completed it`)
    assert.is(actual.text, whole.text.slice(0, whole.text.indexOf(stop)))
    // Completed by a drafted token whose successor was accepted in the same pass.
    if (whole.pieces[completedBy].drafted && whole.pieces[completedBy + 1]?.drafted) inPath++
  }
  assert.ok(inPath >= 3, `only ${inPath} stop strings were completed inside an accepted path`)
})

pair('an end-of-sequence token inside the tree ends the text there', () => {
  const messages = [
    { role: 'user', content: 'Tom has 3 apples and buys 4 more. How many apples does Tom have?' },
  ] as const
  let drafted = 0
  for (const call of [{ temperature: 0 }, { temperature: 0.8, seed: 1 }, { temperature: 0.8, seed: 2 }]) {
    const expected = plainPair('q8').generate(messages, call)
    const actual = withTree().generate(messages, call)
    assert.equal(outcome(actual), outcome(expected))
    if (expected.finishReason !== 'stop') continue
    // The end is counted as decided, but is no part of the tokens.
    assert.is(actual.stats.tokens, actual.tokens.length + 1)
    if (actual.stats.tokens > actual.stats.passes) drafted++
  }
  assert.ok(drafted > 0, 'no text ended by itself: the case is not tested')
})

pair('a token declared the end ends the text wherever the tree holds it', () => {
  // Every token of a greedy text, in turn, forced to be followed by the end.
  const end = plainPair('q8').engine.config.eosTokens[0]
  for (let bias = 2; bias <= 14; bias += 3) {
    const call = { temperature: 0.8, seed: bias, maxTokens: 30, logitBias: { [end]: bias } }
    assert.equal(outcome(withTree().generate(PROMPT, call)), outcome(plainPair('q8').generate(PROMPT, call)), `${bias}`)
  }
})

pair('a target that streams every layer while the draft grows writes the same text', () => {
  const options = { weights: 'q8' as const, draft: DRAFT, nodes: 16, context: CONTEXT }
  const memory = openInline(TARGET, options).plan.smallestBudgetBytes
  const streamed = openInline(TARGET, { ...options, memory })
  assert.is(streamed.plan.pinnedLayers.length, 0)
  compare('streamed', plainPair('q8'), streamed, SAMPLED.slice(0, 2), 20)
})

/** Every way of making guesses. */
const WAYS: [string, EngineOptions][] = [
  ['planned trees of all sources', { nodes: 'auto' }],
  ['large trees of all sources', { nodes: 400 }],
  ['all sources without a draft model', { draft: undefined, nodes: 40 }],
  ['planned trees of the draft alone', { drafters: ['tree'], nodes: 'auto' }],
  ['large trees of the draft alone', { drafters: ['tree'], nodes: 400 }],
  ['uncoupled trees', { nodes: 24, coupled: false }],
  ['trees as the draft sees them', { nodes: 24, sharpening: 1 }],
  ['LLMCad’s fallback', { pacing: 'fallback' }],
  ['LLMCad’s fallback without pipeline', { pacing: 'fallback', pipeline: false }],
  ['a chain', { drafters: ['chain'], nodes: 12, draftPMin: 0 }],
  ['a chain that stops when unsure', { drafters: ['chain'] }],
  ['a planned chain', { drafters: ['chain'], nodes: 'auto' }],
  ['the target’s own copy', { draft: 'self:q4', nodes: 12 }],
  ...SOURCES.map((name): [string, EngineOptions] => [name, { draft: undefined, drafters: [name], nodes: 24 }]),
  ['n-grams of a window beside other guesses', { draft: undefined, drafters: ['trie', 'jacobi'], nodes: 40 }],
  ['a window beside the draft’s guesses', { drafters: ['tree', 'jacobi'], nodes: 'auto' }],
  [
    'a trie of short branches, one at a time',
    { draft: undefined, drafters: ['trie'], drafterOptions: { trie: { branchLength: 4, mode: 'single' } }, nodes: 8 },
  ],
  ['a draft with a padded vocabulary', { draft: join(scratch, 'padded-draft'), nodes: 12 }],
]

/** The runtime has no part in how guesses are made: of the others, every fourth way is enough. */
const here = process.env.COPPICE_TEST_RUNTIME === undefined ? WAYS : WAYS.filter((_, i) => i % 4 === 0)

for (const [name, way] of here) {
  pair(`${name}: resident and streaming, whatever is asked of the sampler`, () => {
    if (name.includes('padded')) padVocabulary(DRAFT, join(scratch, 'padded-draft'), 64)
    const options = { weights: 'q8' as const, draft: DRAFT, context: CONTEXT, ...way }
    const some = [SAMPLED[0], SAMPLED[2], CHOICES[1], CHOICES[4], CHOICES[6]]
    compare(name, plainPair('q8'), openInline(TARGET, options), some, 18)
    const memory = openInline(TARGET, options).plan.smallestBudgetBytes
    const streamed = openInline(TARGET, { ...options, memory })
    assert.is(streamed.plan.pinnedLayers.length, 0)
    compare(`${name}, streaming`, plainPair('q8'), streamed, [SAMPLED[0], CHOICES[6]], 18)
  })
}

pair('a tree larger than the room left in the context is cut to it', () => {
  const context = 24
  const plain = openInline(TARGET, { weights: 'q8', draft: 'none', context })
  for (const nodes of [63, 300, 'auto'] as const) {
    const tree = openInline(TARGET, { weights: 'q8', draft: DRAFT, nodes, context })
    for (const call of [{ temperature: 0 }, { temperature: 1, seed: 3 }]) {
      const expected = plain.generate(PROMPT, { ...call, ignoreEos: true })
      assert.equal(outcome(tree.generate(PROMPT, { ...call, ignoreEos: true })), outcome(expected), `${nodes} nodes`)
    }
  }
})

pair('logits at accepted nodes are plain decoding’s, bit for bit: so are all log-probabilities', () => {
  const call = { temperature: 1, seed: 12, maxTokens: 40, logprobs: true }
  const values = (model: InlineModel) => model.generate(PROMPT, call).pieces.map((piece) => piece.logprob)
  const expected = values(plainPair('q8'))
  for (const [, way] of WAYS.slice(0, 8)) {
    assert.equal(values(openInline(TARGET, { weights: 'q8', draft: DRAFT, context: CONTEXT, ...way })), expected)
  }
})

pair('calls on one model leave nothing behind for the next', () => {
  const call = { temperature: 0.8, seed: 1, maxTokens: 12 }
  const first = withTree().generate(PROMPT, call)
  withTree().generate('Once upon a time', { temperature: 0, maxTokens: 9 })
  assert.equal(outcome(withTree().generate(PROMPT, call)), outcome(first))
})

pair.run()

const stories = suite('exactness of tinystories-656k, drafted by itself in q4')

if (TINYSTORIES === undefined) {
  announceSkip('shared/models/real/tinystories-656k is missing: its exactness is not tested')
  stories.skip('tree speculation writes what plain decoding writes', () => {})
} else {
  const model = TINYSTORIES
  const draft = join(scratch, 'tinystories-q4')
  stories.before(() => {
    packModel(model, draft, { weights: 'q4', onProgress: () => {}, isAborted: () => false })
  })
  for (const weights of KINDS) {
    stories(`${weights} writes what plain decoding writes with ${NODES.join(', ')} nodes`, () => {
      const plain = openInline(model, { weights, draft: 'none', context: CONTEXT })
      for (const nodes of NODES) {
        const tree = openInline(model, { weights, draft, nodes, context: CONTEXT })
        compare(`${weights}, ${nodes} nodes`, plain, tree, SAMPLED, 24)
      }
      const tree = openInline(model, { weights, draft, nodes: 16, context: CONTEXT })
      compare(`${weights}, 16 nodes`, plain, tree, CHOICES, 20)
    })
  }
}

stories.run()
