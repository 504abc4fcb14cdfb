/** Text under the residual rule: the target's distribution, a function of the seed, and the same limits as ever. */
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { CallOptions, EngineOptions } from '../../src/engine/protocol.ts'
import type { Completion } from '../../src/engine/types.ts'
import { CoppiceError } from '../../src/errors.ts'
import { Sampler } from '../../src/generate/sampler.ts'
import { DRAFT, TARGET } from '../e2e/models.ts'
import { type InlineModel, openInline } from '../engine/harness.ts'
import { fixtures } from '../paths.ts'
import { chiSquare, tally } from '../speculate/chi-square.ts'

type Call = Partial<CallOptions>

const CONTEXT = 96
const PROMPT = 'The old house stood at the end of the lane, and'
const RESIDUAL = { verify: 'residual', ignoreEos: true } as const
const outcome = ({ text, tokens, finishReason }: Completion) => ({ text, tokens, finishReason })

/** Probabilities of the two tokens after a prompt, by the target's own logits. */
function pairsAfter(model: InlineModel, prompt: readonly number[], call: Call): Map<string, number> {
  const { vocabulary } = model.engine.config
  const sampler = new Sampler(call, vocabulary)
  const after = (tokens: readonly number[]): Float64Array => {
    const { data, rows } = model.engine.logits({ tokens })
    const logits = data.subarray((rows - 1) * vocabulary)
    return sampler.distribution(logits, Int32Array.from(tokens), tokens.length, prompt.length)
  }
  const pairs = new Map<string, number>()
  const first = [...after(prompt)]
  for (const [a, chance] of first.entries()) {
    // Rarer tokens are counted as the rest.
    if (chance < 0.01) continue
    for (const [b, next] of after([...prompt, a]).entries()) pairs.set(`${a},${b}`, chance * next)
  }
  return pairs
}

const sumByFirst = (pairs: ReadonlyMap<string, number>): Map<string, number> => {
  const sums = new Map<string, number>()
  for (const [pair, value] of pairs) {
    const first = pair.split(',')[0]
    sums.set(first, (sums.get(first) ?? 0) + value)
  }
  return sums
}

function holdsInDistribution(model: InlineModel, prompt: readonly number[], call: Call, seeds: number): void {
  const pairs = new Map<string, number>()
  let drafted = 0
  let rejected = 0
  for (let seed = 0; seed < seeds; seed++) {
    const { tokens, stats } = model.generate({ tokens: prompt }, { maxTokens: 4, ...call, ...RESIDUAL, seed })
    tally(pairs, tokens.slice(0, 2).join())
    drafted += stats.tokens - stats.passes
    rejected += stats.acceptedHistogram[0] ?? 0
  }
  assert.ok(drafted > seeds / 20, `only ${drafted} guesses were accepted`)
  assert.ok(rejected > seeds / 20, `only ${rejected} passes accepted nothing`)
  const expected = pairsAfter(model, prompt, call)
  const checks = { pairs: chiSquare(pairs, expected), firsts: chiSquare(sumByFirst(pairs), sumByFirst(expected)) }
  for (const [what, { statistic, critical }] of Object.entries(checks)) {
    assert.ok(statistic < critical, `${what}: chi-square ${statistic}, critical ${critical}`)
  }
}

const test = suite('text under the residual rule')

/** Eight tokens that even unrelated models agree to choose from. */
const EIGHT = { logitBias: Object.fromEntries([10, 20, 30, 40, 50, 60, 70, 80].map((token) => [token, 80])) }

const TINY: [string, EngineOptions, Call][] = [
  ['another model', { draft: join(fixtures, 'qwen3') }, { temperature: 2, ...EIGHT }],
  ['another model, in chains', { draft: join(fixtures, 'qwen2'), drafters: ['chain'] }, { temperature: 2, ...EIGHT }],
  ['its own copy', { draft: 'self:q4' }, { temperature: 1.5, topP: 0.8 }],
  [
    'another model, with penalties',
    { draft: join(fixtures, 'qwen2') },
    { temperature: 1.5, presencePenalty: 6, ...EIGHT },
  ],
]
for (const [name, options, call] of TINY) {
  test(`drafted by ${name}: the first two tokens have the target’s distribution`, () => {
    const model = openInline(join(fixtures, 'llama'), { weights: 'f32', nodes: 9, context: 32, ...options })
    holdsInDistribution(model, [3, 1, 4, 1, 5], call, 400)
  })
}

test('penalties see the path to a node: none of eight tokens comes twice while another is left', () => {
  const model = openInline(join(fixtures, 'llama'), {
    weights: 'f32',
    draft: join(fixtures, 'qwen2'),
    nodes: 12,
    context: 32,
  })
  const call = { temperature: 2, presencePenalty: 60, ...EIGHT, maxTokens: 8, ...RESIDUAL }
  let drafted = 0
  for (let seed = 0; seed < 100; seed++) {
    const { tokens, stats } = model.generate({ tokens: [3, 1, 4, 1, 5] }, { ...call, seed })
    assert.is(new Set(tokens).size, 8, tokens.join())
    drafted += stats.tokens - stats.passes
  }
  assert.ok(drafted > 100, `only ${drafted} guesses were accepted`)
})

test('the embedded pair: the first two tokens have the target’s distribution', () => {
  const model = openInline(TARGET, { weights: 'q8', draft: DRAFT, context: CONTEXT })
  holdsInDistribution(model, [477, 673, 896], { temperature: 0.8 }, 400)
})

const pair = (options: EngineOptions = {}): InlineModel =>
  openInline(TARGET, { weights: 'q8', draft: DRAFT, nodes: 16, context: CONTEXT, ...options })
const open = (() => {
  let model: InlineModel | undefined
  return (): InlineModel => {
    model ??= pair()
    return model
  }
})()

test('the same seed writes the same text, another seed another, and exact calls between change nothing', () => {
  const call = { temperature: 0.8, maxTokens: 30, ...RESIDUAL }
  const first = open().generate(PROMPT, { ...call, seed: 1 })
  const exact = { ...call, seed: 1, verify: 'exact' } as const
  const plain = outcome(openInline(TARGET, { weights: 'q8', draft: 'none', context: CONTEXT }).generate(PROMPT, exact))
  assert.equal(outcome(open().generate(PROMPT, exact)), plain)
  assert.equal(outcome(open().generate(PROMPT, { ...exact, verify: undefined })), plain)
  assert.equal(outcome(open().generate(PROMPT, { ...call, seed: 1 })), outcome(first))
  assert.not.equal(outcome(open().generate(PROMPT, { ...call, seed: 2 })), outcome(first))
  assert.not.equal(outcome(first), plain)
  assert.ok(first.stats.tokensPerPass > 1.5)
})

test('streaming, pacing and what else is said about guesses change nothing', () => {
  const call = { temperature: 0.8, maxTokens: 30, ...RESIDUAL }
  const expected = outcome(open().generate(PROMPT, call))
  const memory = open().plan.smallestBudgetBytes
  const others: EngineOptions[] = [
    { memory },
    { memory, pipeline: false },
    { nodes: 'auto' },
    { pacing: 'fallback' },
    { coupled: false, sharpening: 3, draftPMin: 0.5 },
  ]
  for (const options of others) {
    const model = pair(options)
    assert.equal(outcome(model.generate(PROMPT, call)), expected, JSON.stringify(options))
  }
})

test('at temperature 0 and without a draft the text is plain decoding’s', () => {
  const plain = openInline(TARGET, { weights: 'q8', draft: 'none', context: CONTEXT })
  for (const call of [{ temperature: 0 }, { temperature: 0.8, seed: 3 }]) {
    const expected = outcome(plain.generate(PROMPT, { ...call, ignoreEos: true, maxTokens: 20 }))
    const model = call.temperature === 0 ? open() : plain
    assert.equal(outcome(model.generate(PROMPT, { ...call, ...RESIDUAL, maxTokens: 20 })), expected)
  }
})

test('every number of tokens can be asked for, and the last is the target’s own', () => {
  for (let maxTokens = 1; maxTokens <= 12; maxTokens++) {
    const { tokens, finishReason, pieces } = open().generate(PROMPT, { temperature: 0.8, maxTokens, ...RESIDUAL })
    assert.is(tokens.length, maxTokens)
    assert.is(finishReason, 'length')
    assert.not(pieces.at(-1)!.drafted)
  }
})

test('the text ends where the context is full', () => {
  const { usage, finishReason } = pair({ context: 40, nodes: 63 }).generate(PROMPT, { temperature: 0.8, ...RESIDUAL })
  assert.is(finishReason, 'context')
  assert.is(usage.promptTokens + usage.completionTokens, 40)
})

test('stop strings and end-of-sequence tokens end the text that would have gone on', () => {
  const call = { temperature: 0.8, seed: 5, maxTokens: 30, ...RESIDUAL }
  const whole = open().generate(PROMPT, call)
  let inPath = 0
  for (const [i, piece] of whole.pieces.entries()) {
    const stop = piece.text
    if (stop.length < 2) continue
    const cut = open().generate(PROMPT, { ...call, stop })
    assert.is(cut.finishReason, 'stop')
    assert.is(cut.text, whole.text.slice(0, whole.text.indexOf(stop)))
    assert.equal(cut.tokens, whole.tokens.slice(0, cut.tokens.length))
    if (piece.drafted && whole.pieces[i + 1]?.drafted) inPath++
  }
  assert.ok(inPath > 0, 'no stop string was completed inside an accepted path')
  const end = open().engine.config.eosTokens[0]
  let ended = 0
  for (let seed = 0; seed < 6; seed++) {
    const biased = { ...call, seed, logitBias: { [end]: 7 } }
    const on = open().generate(PROMPT, biased)
    const { tokens, finishReason } = open().generate(PROMPT, { ...biased, ignoreEos: false })
    const at = on.tokens.indexOf(end)
    assert.equal(tokens, at < 0 ? on.tokens : on.tokens.slice(0, at))
    assert.is(finishReason, at < 0 ? 'length' : 'stop')
    if (at >= 0) ended++
  }
  assert.ok(ended > 0, 'no text ended by itself')
})

test('a rule that does not exist is refused', () => {
  for (const verify of ['typical', '', null, 1]) {
    assert.throws(
      () => open().generate(PROMPT, { verify: verify as CallOptions['verify'] }),
      (error: unknown) =>
        error instanceof CoppiceError &&
        error.code === 'INVALID_OPTION' &&
        error.message === `verify must be 'exact' or 'residual', not ${JSON.stringify(verify)}`,
    )
  }
})

test.run()
