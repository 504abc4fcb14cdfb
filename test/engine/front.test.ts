/** The asynchronous side: what a call gives, and the order of calls. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { AbortError, CoppiceError, type GenerateOptions, type LoadOptions, load, type Model } from '../../src/index.ts'
import type { Tokenizer } from '../../src/text/tokenizer.ts'
import { codeOf, rejection } from './failures.ts'
import { GREEDY, LONG, outcome, PROMPT, withModel } from './open-model.ts'

const calls = suite('calls')

calls('the pieces join to the text of the completion that the generator returns', () =>
  withModel(async (model) => {
    const pieces = model.generate(PROMPT, GREEDY)
    let text = ''
    const tokens: number[] = []
    let next = await pieces.next()
    for (; !next.done; next = await pieces.next()) {
      text += next.value.text
      tokens.push(next.value.token)
    }
    assert.is(next.value.text, text)
    assert.equal(next.value.tokens, tokens)
    assert.equal(outcome(next.value), outcome(await model.complete(PROMPT, GREEDY)))
    assert.is(next.value.finishReason, 'length')
    assert.is(next.value.usage.completionTokens, 8)
    assert.equal(model.tokenizer!.encode(PROMPT).length, next.value.usage.promptTokens)
    assert.is(model.tokenizer!.decode(tokens), text)
  }),
)

calls('a drawn seed is reported and repeats the text', () =>
  withModel(async (model) => {
    const drawn = await model.complete(PROMPT, { temperature: 1, maxTokens: 12 })
    const again = await model.complete(PROMPT, { temperature: 1, maxTokens: 12, seed: drawn.seed })
    assert.equal(outcome(again), outcome(drawn))
  }),
)

calls('text, tokens and messages are prompts, and messages go through the chat template', () =>
  withModel(async (model) => {
    const tokens = model.tokenizer!.encode(PROMPT)
    const text = await model.complete(PROMPT, GREEDY)
    assert.equal(outcome(await model.complete({ tokens }, GREEDY)), outcome(text))
    const chat = await model.complete([{ role: 'user', content: 'Who is Tom?' }], GREEDY)
    const written = '<|im_start|>user\nWho is Tom?<|im_end|>\n<|im_start|>assistant\n'
    assert.equal(outcome(await model.complete(written, GREEDY)), outcome(chat))
  }),
)

calls('the tokenizer of a model is the one of its engine: tables that are shared, not read again', () =>
  withModel(async (model) => {
    const tokenizer = model.tokenizer as Tokenizer
    assert.is(model.tokenizer, tokenizer)
    const { tokens, merges } = tokenizer.data
    for (const { buffer } of [tokens.bytes, tokens.starts, tokens.limits, tokens.index, merges!.words, merges!.index]) {
      assert.instance(buffer, SharedArrayBuffer)
    }
    // What the front writes into a table, the engine reads: a letter of a token becomes another one.
    const [house] = tokenizer.encode(' house')
    const at = tokens.limits[house] - 2
    const prompt = { tokens: tokenizer.encode(PROMPT) }
    tokens.bytes[at]++
    try {
      const { text } = await model.complete(prompt, { ...GREEDY, maxTokens: 1, logitBias: { [house]: 1000 } })
      assert.is(text, ' housf')
    } finally {
      tokens.bytes[at]--
    }
  }),
)

calls('a prompt without tokens, or with tokens that do not exist, is refused and harms nothing', () =>
  withModel(async (model) => {
    assert.is(await codeOf(model.complete('', GREEDY)), 'INVALID_INPUT')
    assert.is(await codeOf(model.complete({ tokens: [] }, GREEDY)), 'INVALID_INPUT')
    for (const token of [-1, 4096, 1.5, Number.NaN]) {
      assert.is(await codeOf(model.complete({ tokens: [1, token] }, GREEDY)), 'INVALID_INPUT', `${token}`)
    }
    for (const prompt of [null, undefined, 7, { tokens: 'abc' }, {}, [{ role: 'user' }]]) {
      const error = await rejection(model.complete(prompt as never, GREEDY))
      assert.ok(error instanceof CoppiceError && error.code === 'INVALID_INPUT', `${JSON.stringify(prompt)}: ${error}`)
    }
    assert.is((await model.complete(PROMPT, GREEDY)).tokens.length, 8)
  }),
)

calls('a prompt or a length beyond the context is refused with the numbers', () =>
  withModel(
    async (model) => {
      const error = await rejection(model.complete(PROMPT, { maxTokens: 60 }))
      assert.is((error as CoppiceError).code, 'CONTEXT_OVERFLOW')
      assert.match(error.message, /60 tokens/)
      assert.match(error.message, /context of \d+, but this model was loaded with 64/)
      assert.is(await codeOf(model.complete({ tokens: Array(64).fill(300) })), 'CONTEXT_OVERFLOW')
    },
    { context: 64 },
  ),
)

calls('values that make no sense are refused by name', () =>
  withModel(async (model) => {
    const bad: GenerateOptions[] = [
      { temperature: -1 },
      { temperature: Number.NaN },
      { topK: -1 },
      { topK: 1.5 },
      { topP: -0.1 },
      { topP: 1.1 },
      { minP: -0.1 },
      { minP: 2 },
      { repeatPenalty: 0 },
      { repeatWindow: -2 },
      { presencePenalty: Number.NaN },
      { frequencyPenalty: Number.POSITIVE_INFINITY },
      { seed: 0.5 },
      { maxTokens: 0 },
      { maxTokens: 1.5 },
      { maxTokens: -3 },
      { stop: '' },
      { stop: ['a', ''] },
      { stop: 5 as never },
      { logitBias: { 4096: 1 } },
      { logitBias: { 5: Number.NaN } },
      { temperature: 'warm' as never },
      { maxTokens: '5' as never },
    ]
    for (const options of bad) {
      const error = await rejection(model.complete(PROMPT, { maxTokens: 2, ...options }))
      assert.ok(error instanceof CoppiceError, `${Object.entries(options)}: ${error}`)
      assert.is(error.code, 'INVALID_OPTION', `${Object.entries(options)}: ${error.message}`)
      const [name] = Object.keys(options)
      assert.match(error.message, name, `${error.message} names ${name}`)
    }
    assert.is((await model.complete(PROMPT, GREEDY)).tokens.length, 8)
  }),
)

calls('what cannot be sent to another thread is refused and the next call works', () =>
  withModel(async (model) => {
    const callback = { onToken: () => {} } as GenerateOptions
    assert.is(await codeOf(model.complete(PROMPT, { ...GREEDY, ...callback })), 'INVALID_OPTION')
    assert.is((await model.complete(PROMPT, GREEDY)).tokens.length, 8)
  }),
)

calls('load options that cannot be sent to another thread are refused', async () => {
  const options = { onLayer: () => {} } as LoadOptions
  assert.is(await codeOf(load('nowhere', options)), 'INVALID_OPTION')
})

calls('logits of a chain, of a tree, and of nonsense', () =>
  withModel(async (model) => {
    const chain = await model.logits({ tokens: [477, 673, 896] })
    assert.is(chain.rows, 3)
    assert.is(chain.vocab, model.config.vocabulary)
    assert.is(chain.data.length, 3 * chain.vocab)
    const tree = await model.logits({ prefix: [477], tokens: [673, 896, 5], parents: [-1, 0, 0] })
    assert.equal(tree.data.slice(0, 2 * tree.vocab), chain.data.slice(chain.vocab))
    const cases: [Parameters<Model['logits']>[0], string][] = [
      [{ tokens: [] }, 'INVALID_INPUT'],
      [{ tokens: [4096] }, 'INVALID_INPUT'],
      [{ tokens: [1], prefix: [-1] }, 'INVALID_INPUT'],
      [{ tokens: [1, 2], parents: [-1] }, 'INVALID_INPUT'],
      [{ tokens: [1, 2], parents: [0, -1] }, 'INVALID_INPUT'],
      [{ tokens: [1, 2], parents: [-1, 1] }, 'INVALID_INPUT'],
      [{ tokens: [1, 2], parents: [-2, 0] }, 'INVALID_INPUT'],
      [{ tokens: Array(513).fill(1) }, 'CONTEXT_OVERFLOW'],
      [{ prefix: Array(513).fill(1), tokens: [1], parents: [-1] }, 'CONTEXT_OVERFLOW'],
      [{ tokens: Array(65).fill(1), parents: Array(65).fill(-1) }, 'INVALID_INPUT'],
      [{} as never, 'INVALID_INPUT'],
      [{ tokens: 'abc' as never }, 'INVALID_INPUT'],
      [{ tokens: [1], parents: 'abc' as never }, 'INVALID_INPUT'],
    ]
    for (const [input, code] of cases) {
      assert.is(await codeOf(model.logits(input)), code, JSON.stringify(input).slice(0, 80))
    }
    assert.equal((await model.logits({ tokens: [477, 673, 896] })).data, chain.data)
  }),
)

calls('many calls on one model with one signal leave no listeners behind', async () => {
  const warnings: string[] = []
  const listen = (warning: Error): void => void warnings.push(`${warning.name}: ${warning.message}`)
  process.on('warning', listen)
  await withModel(async (model) => {
    const { signal } = new AbortController()
    let added = 0
    const { addEventListener, removeEventListener } = signal
    signal.addEventListener = ((...given: Parameters<typeof addEventListener>) => {
      added++
      addEventListener.apply(signal, given)
    }) as typeof addEventListener
    signal.removeEventListener = ((...given: Parameters<typeof removeEventListener>) => {
      added--
      removeEventListener.apply(signal, given)
    }) as typeof removeEventListener
    for (let i = 0; i < 15; i++) await model.complete(PROMPT, { ...GREEDY, maxTokens: 1, signal })
    assert.is(added, 0)
  })
  await new Promise((resolve) => setTimeout(resolve, 0))
  process.off('warning', listen)
  assert.equal(warnings, [])
})

calls.run()

const order = suite('order of calls')

order('calls made at once run first in, first out', () =>
  withModel(async (model) => {
    const finished: number[] = []
    const texts = await Promise.all(
      [3, 1, 2, 1].map(async (maxTokens, i) => {
        const { text } = await model.complete(PROMPT, { temperature: 0, maxTokens })
        finished.push(i)
        return text
      }),
    )
    assert.equal(finished, [0, 1, 2, 3])
    assert.is(texts[1], texts[3])
    assert.ok(texts[0].startsWith(texts[2]) && texts[2].startsWith(texts[1]))
  }),
)

order('a call that is aborted while it waits leaves the line, and the others keep their turns', () =>
  withModel(async (model) => {
    const controller = new AbortController()
    const finished: string[] = []
    const call = (name: string, signal?: AbortSignal): Promise<void> =>
      model.complete(PROMPT, { ...GREEDY, ...(signal && { signal }) }).then(
        () => void finished.push(name),
        (error) => void finished.push(`${name} ${error.code}`),
      )
    const all = [call('first'), call('second', controller.signal), call('third'), call('fourth')]
    controller.abort()
    await Promise.all(all)
    assert.equal(
      finished.filter((name) => !name.startsWith('second')),
      ['first', 'third', 'fourth'],
    )
    assert.ok(finished.includes('second ABORTED'))
  }),
)

order('a call that is aborted while it runs gives the next its turn, whose text is untouched', () =>
  withModel(async (model) => {
    const expected = await model.complete(PROMPT, GREEDY)
    const controller = new AbortController()
    const first = rejection(model.complete(PROMPT, { ...LONG, signal: controller.signal }))
    const second = model.complete(PROMPT, GREEDY)
    const logits = model.logits({ tokens: [1, 2] })
    setTimeout(() => controller.abort(), 30)
    assert.instance(await first, AbortError)
    assert.equal(outcome(await second), outcome(expected))
    assert.is((await logits).rows, 2)
  }),
)

order.run()
