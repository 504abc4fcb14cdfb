import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { openInline } from '../engine/harness.ts'
import { fixtures } from '../paths.ts'

interface Expected {
  tokens: number[]
  logits_last: number[]
  logits_top5_all: [number, number][][]
  tree: { prefix: number[]; tokens: number[]; parents: number[]; argmax: number[]; top5: [number, number][][] }
  greedy: { prompt: number[]; continuation: number[] }
}

const families = ['llama', 'llama-3-rope', 'mistral-swa', 'qwen2', 'qwen3']
const TOLERANCE = 1e-4

const argmax = (row: ArrayLike<number>): number => {
  let best = 0
  for (let i = 1; i < row.length; i++) if (row[i] > row[best]) best = i
  return best
}

for (const family of families) {
  const test = suite(`fixture ${family}`)
  const expected = JSON.parse(readFileSync(join(fixtures, family, 'expected.json'), 'utf8')) as Expected
  const model = openInline(join(fixtures, family), { weights: 'f32' })
  const rowOf = (data: Float32Array, vocab: number, i: number): Float32Array =>
    data.subarray(i * vocab, (i + 1) * vocab)

  test('logits of the last position equal the reference', () => {
    const { data, rows, vocab } = model.engine.logits({ tokens: expected.tokens })
    const last = rowOf(data, vocab, rows - 1)
    let worst = 0
    for (let i = 0; i < vocab; i++) worst = Math.max(worst, Math.abs(last[i] - expected.logits_last[i]))
    assert.ok(worst < TOLERANCE, `largest difference ${worst}`)
  })

  test('the best tokens of every position equal the reference', () => {
    const { data, vocab } = model.engine.logits({ tokens: expected.tokens })
    expected.logits_top5_all.forEach((top, i) => {
      const row = rowOf(data, vocab, i)
      assert.is(argmax(row), top[0][0], `position ${i}`)
      for (const [token, logit] of top)
        assert.ok(Math.abs(row[token] - logit) < TOLERANCE, `position ${i} token ${token}`)
    })
  })

  test('every node of a tree has the logits of its path', () => {
    const { prefix, tokens, parents, argmax: best, top5 } = expected.tree
    const { data, vocab } = model.engine.logits({ prefix, tokens, parents })
    tokens.forEach((_, i) => {
      const row = rowOf(data, vocab, i)
      assert.is(argmax(row), best[i], `node ${i}`)
      for (const [token, logit] of top5[i])
        assert.ok(Math.abs(row[token] - logit) < TOLERANCE, `node ${i} token ${token}`)
    })
  })

  test('a tree node repeats the bits of its path run alone', () => {
    const { prefix, tokens, parents } = expected.tree
    const tree = model.engine.logits({ prefix, tokens, parents })
    tokens.forEach((_, i) => {
      const path: number[] = []
      for (let at = i; at >= 0; at = parents[at]) path.unshift(tokens[at])
      const alone = model.engine.logits({ prefix, tokens: path })
      const a = rowOf(tree.data, tree.vocab, i)
      const b = rowOf(alone.data, tree.vocab, path.length - 1)
      assert.equal(new Uint32Array(a.slice().buffer), new Uint32Array(b.slice().buffer), `node ${i}`)
    })
  })

  test('greedy text equals the reference', () => {
    const { prompt, continuation } = expected.greedy
    const { tokens } = model.generate(
      { tokens: prompt },
      { temperature: 0, maxTokens: continuation.length, ignoreEos: true },
    )
    assert.equal(tokens, continuation)
  })

  test('a budget that streams every layer gives the same bits', () => {
    const resident = model.engine.logits({ tokens: expected.tokens })
    const streamed = openInline(join(fixtures, family), { weights: 'f32' }, { streamAll: true })
    assert.is(streamed.plan.pinnedLayers.length, 0)
    const again = streamed.engine.logits({ tokens: expected.tokens })
    assert.equal(new Uint32Array(again.data.buffer), new Uint32Array(resident.data.buffer))
  })

  test.run()
}
