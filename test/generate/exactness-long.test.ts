/** Long texts with a draft are plain decoding's: contexts fill, caches are compacted a thousand times, drafting rests. */
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { CallOptions, EngineOptions } from '../../src/engine/protocol.ts'
import { type InlineModel, openInline, scratch } from '../engine/harness.ts'
import { fixtures } from '../paths.ts'
import { copyCheckpoint } from '../weights/checkpoints.ts'

const LENGTH = 2000
const CONTEXT = 2200
/** No text of these models is followed here: any tokens do. */
const PROMPT = Array.from({ length: 40 }, (_, i) => 3 + ((i * 37) % 250))

const long = suite('exactness of long texts')

/** A random model, so that nothing in it was trained to be easy to guess, with room for long texts. */
const stretched = (family: string): string =>
  copyCheckpoint(join(fixtures, family), join(scratch, `long-${family}`), (_, config) => {
    config.max_position_embeddings = CONTEXT
  })

/** The first token that differs, and how far a text gets. */
function assertSameTokens(actual: readonly number[], expected: readonly number[], what: string): void {
  const at = expected.findIndex((token, i) => token !== actual[i])
  assert.is(at, -1, `${what}: token ${at} is ${actual[at]}, plain decoding says ${expected[at]}`)
  assert.is(actual.length, expected.length, what)
}

const write = (model: InlineModel, call: Partial<CallOptions>) =>
  model.generate({ tokens: PROMPT }, { maxTokens: LENGTH, ignoreEos: true, ...call })

for (const family of ['mistral-swa']) {
  long(`${family}: ${LENGTH} tokens are plain decoding’s, greedy and sampled`, () => {
    const path = stretched(family)
    const common: EngineOptions = { weights: 'f32', context: CONTEXT }
    const plain = openInline(path, { ...common, draft: 'none' })
    const trees = (['auto', 16] as const).map((nodes) => openInline(path, { ...common, draft: 'self:q4', nodes }))
    for (const call of [{ temperature: 0 }, { temperature: 0.8, seed: 3 }]) {
      const { tokens } = write(plain, call)
      assert.is(tokens.length, LENGTH)
      for (const [i, model] of trees.entries()) {
        const written = write(model, call)
        assertSameTokens(written.tokens, tokens, `${i === 0 ? 'planned' : '16'} nodes, temperature ${call.temperature}`)
        if (i === 1) assert.ok(written.stats.tokensPerPass > 1.2, `${written.stats.tokensPerPass}: no guess was right`)
      }
    }
  })
}

long.run()
