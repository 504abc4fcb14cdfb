/**
 * The best-first trees reach the acceptance that an independent computation finds for the same pair
 * and the same texts: not about as many passes, but as many.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { EngineOptions } from '../../src/engine/protocol.ts'
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

/** Levels of the computed trees. */
const DEPTH = 24

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
    const drafting: EngineOptions = { draft, drafters: ['tree'], nodes, sharpening: beta, coupled: false }
    // Computed with keys and values in f32.
    const options: EngineOptions = { ...drafting, weights: 'f32', kvCache: 'f32', context: 256 }
    const model = openInline(join(root, 'models', 'target'), options, { depth: DEPTH })
    for (const { name, prompt, ids, temperature, seed, passes } of texts) {
      const count = ids.length - prompt.length
      // Near the end of what is asked for trees are less deep, which the computation does not know of.
      const maxTokens = count + DEPTH + 1
      const { pieces } = model.generate({ tokens: prompt }, { temperature, seed, maxTokens, ignoreEos: true })
      const text = pieces.slice(0, count)
      assert.equal([...prompt, ...text.map(({ token }) => token)], ids, `${name}: another text`)
      // The target's own token ends a pass.
      const ended = text.slice(0, -1).filter(({ drafted }) => !drafted).length
      assert.is(ended + 1, passes, `${name}: another number of passes`)
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
