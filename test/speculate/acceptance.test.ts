/**
 * The best-first trees reach the acceptance that an independent computation finds for the same pair
 * and the same texts: not about as many passes, but as many.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { openInline } from '../engine/harness.ts'
import { root } from '../paths.ts'

interface Case {
  readonly name: string
  readonly prompt: number[]
  /** Prompt and text. */
  readonly ids: number[]
  readonly temperature: number
  readonly seed: number
  readonly nodes: number
  /** The exponent on the draft's probabilities. */
  readonly beta: number
  /** Target passes that the text takes. */
  readonly passes: number
}

const file = join(root, 'test', 'speculate', 'acceptance.json')
const { cases } = JSON.parse(readFileSync(file, 'utf8')) as { readonly cases: Case[] }

const test = suite('acceptance')

const trees = new Map<string, Case[]>()
for (const one of cases) {
  const key = `${one.nodes} nodes, draft sharpened by ${one.beta}`
  trees.set(key, [...(trees.get(key) ?? []), one])
}

for (const [key, texts] of trees) {
  test(`${key}: the recorded texts, in as many passes as computed without an engine`, () => {
    const { nodes, beta } = texts[0]
    const draft = join(root, 'models', 'draft')
    const model = openInline(join(root, 'models', 'target'), { weights: 'f32', draft, nodes, sharpening: beta })
    for (const { name, prompt, ids, temperature, seed, passes } of texts) {
      const maxTokens = ids.length - prompt.length
      const { tokens, stats } = model.generate({ tokens: prompt }, { temperature, seed, maxTokens, ignoreEos: true })
      assert.equal([...prompt, ...tokens], ids, `${name}: another text`)
      assert.is(stats.passes, passes, `${name}: another number of passes`)
    }
  })
}

test('the cases cover greedy and sampled text, small and large trees', () => {
  const values = (of: (one: Case) => number): number[] => [...new Set(cases.map(of))].sort((a, b) => a - b)
  assert.equal(
    values((one) => one.temperature),
    [0, 0.8],
  )
  assert.equal(
    values((one) => one.nodes),
    [4, 8, 16, 32, 64],
  )
  assert.equal(
    values((one) => one.beta),
    [1, 1.5, 3],
  )
})

test.run()
