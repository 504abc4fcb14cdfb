/** A text that another wrote, taken by a model whose passes run and count. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { CoppiceError } from '../../src/index.ts'
import { DRAFT, TARGET } from '../e2e/models.ts'
import { openInline } from './harness.ts'
import { PROMPT } from './open-model.ts'

const test = suite('replay')
const MODEL = { weights: 'q8', context: 256 } as const
const RECORDED = Array.from({ length: 4 }, () => [700, 701, 702, 703, 704, 705, 706, 707]).flat()

for (const drafters of [['trie'], ['recycle'], ['hybrid']] as const) {
  test(`${drafters[0]}: the completion is the recorded text, at any temperature`, () => {
    const model = openInline(TARGET, { ...MODEL, drafters: [...drafters], nodes: 16 })
    for (const temperature of [0, 0.8]) {
      const owner = String(temperature)
      const { tokens, finishReason, pieces } = model.generate(PROMPT, { temperature, replay: RECORDED, owner })
      assert.equal(tokens, RECORDED)
      assert.equal(
        pieces.map(({ token }) => token),
        RECORDED,
      )
      assert.is(finishReason, 'length')
    }
  })
}

test('drafters learn the text as one that was accepted', () => {
  const model = openInline(TARGET, { ...MODEL, drafters: ['trie'], nodes: 16 })
  const first = model.generate(PROMPT, { temperature: 0, replay: RECORDED })
  const second = model.generate(PROMPT, { temperature: 0, replay: RECORDED })
  assert.ok(first.stats.passes < RECORDED.length)
  assert.ok(second.stats.passes < first.stats.passes)
  const other = model.generate(PROMPT, { temperature: 0, replay: RECORDED, owner: 'another' })
  assert.is(other.stats.passes, first.stats.passes)
})

test('with a draft model, too', () => {
  const model = openInline(TARGET, { ...MODEL, draft: DRAFT, nodes: 8 })
  assert.equal(model.generate(PROMPT, { temperature: 0, replay: RECORDED }).tokens, RECORDED)
})

test('log-probabilities are the model’s own of the recorded tokens', () => {
  const model = openInline(TARGET, MODEL)
  const written = model.generate(PROMPT, { temperature: 0, maxTokens: 4, logprobs: true })
  const replayed = model.generate(PROMPT, { temperature: 0, replay: written.tokens, logprobs: true })
  assert.equal(
    replayed.pieces.map(({ logprob }) => logprob),
    written.pieces.map(({ logprob }) => logprob),
  )
})

test('what cannot be replayed is refused', () => {
  const model = openInline(TARGET, MODEL)
  const refusal = (options: object): string => {
    try {
      model.generate(PROMPT, options)
    } catch (error) {
      const cause = (error as Error).cause ?? error
      if (cause instanceof CoppiceError) return `${cause.code}: ${cause.message}`
      throw error
    }
    return 'nothing was thrown'
  }
  assert.match(refusal({ replay: 'abc' }), /INVALID_INPUT: replay must be a list of token ids, not "abc"/)
  assert.match(refusal({ replay: [1, 4096] }), /INVALID_INPUT: replay token 1 is 4096; token ids of this model/)
  assert.match(refusal({ replay: [] }), /INVALID_INPUT: the replay has no tokens/)
  assert.match(refusal({ replay: [1], verify: 'residual' }), /INVALID_OPTION: replay needs verify 'exact'/)
})

test.run()
