import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { Transformer } from '../../src/model/transformer.ts'
import type { Context } from '../../src/speculate/context.ts'
import { DraftText } from '../../src/speculate/draft-text.ts'
import { DRAFT } from '../e2e/models.ts'
import { openInline } from '../engine/harness.ts'
import { contextOf, openDraft } from './drafters/drafting.ts'

const test = suite('the text in a draft')

const TOKENS = Array.from({ length: 60 }, (_, i) => (i * 977 + 13) % 4096)

const bitsOf = (logits: Float32Array): Uint32Array => new Uint32Array(logits.slice().buffer)

/** Logits of the last token, all tokens in one pass of a model of its own, keys and values as a draft keeps them. */
const expected = (() => {
  const { data, rows, vocab } = openInline(DRAFT, { weights: 'f32', kvCache: 'q8' }).engine.logits({ tokens: TOKENS })
  return bitsOf(data.subarray((rows - 1) * vocab))
})()

interface Reading {
  readonly draft: Transformer
  readonly text: DraftText
  readonly context: Context
  /** Rows of each pass so far. */
  readonly passes: number[]
}

/** @param capacity rows of a pass at the most */
function begin(capacity: number, vocabulary?: number): Reading {
  const draft = openDraft(1)
  assert.ok(capacity <= draft.batch.capacity)
  Object.assign(draft.batch, { capacity })
  const passes: number[] = []
  const { forward } = draft
  draft.forward = () => {
    passes.push(draft.batch.count)
    forward.call(draft)
  }
  const text = new DraftText(draft, vocabulary ?? draft.config.vocabulary)
  return { draft, text, context: contextOf(TOKENS), passes }
}

test('a token beyond the vocabulary is unknown while it is unread', () => {
  const { text } = begin(64, 1000)
  const context = contextOf([5, 999, 1000, 7])
  assert.is(text.knows(context), false)
  text.read(context, 2)
  assert.is(text.knows(context), false)
  text.read(context, 3)
  assert.is(text.knows(context), true)
  context.push(999)
  assert.is(text.knows(context), true)
  context.push(1000)
  assert.is(text.knows(context), false)
})

test('what lies behind the end of the text is no part of it', () => {
  const { text } = begin(64, 1000)
  const context = contextOf([5, 999])
  context.tokens[2] = 1000
  assert.is(text.knows(context), true)
})

for (const [capacity, rows] of [
  [60, [60]],
  [59, [59, 1]],
  [25, [25, 25, 10]],
  [20, [20, 20, 20]],
] as const) {
  test(`a batch of ${capacity} rows reads 60 tokens as ${rows.join(' and ')}, and says the same after them`, () => {
    const { draft, text, context, passes } = begin(capacity)
    text.finish(context)
    assert.equal(passes, rows)
    assert.is(draft.cache.length, TOKENS.length)
    assert.equal(bitsOf(draft.logitsView(0)), expected)
  })
}

test('reading ends where it is told to, and goes on from there', () => {
  const { draft, text, context, passes } = begin(16)
  text.read(context, 20)
  assert.is(draft.cache.length, 20)
  text.read(context, 20)
  text.read(context, 10)
  assert.equal(passes, [16, 4])
  text.read(context, 59)
  assert.equal(passes, [16, 4, 16, 16, 7])
  // One row, which sees all that is in the cache.
  text.finish(context)
  assert.equal(bitsOf(draft.logitsView(0)), expected)
})

test('after a part of the text is forgotten, the rest is read anew', () => {
  const { draft, text, context, passes } = begin(64)
  text.read(context, 40)
  draft.cache.truncate(30)
  text.finish(context)
  assert.equal(passes, [40, 30])
  assert.equal(bitsOf(draft.logitsView(0)), expected)
})

test.run()
