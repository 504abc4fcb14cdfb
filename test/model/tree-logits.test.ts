import { join } from 'node:path'
import * as fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { Logits } from '../../src/index.ts'
import { KV_KINDS } from '../../src/model/kv-cache.ts'
import { openInline } from '../engine/harness.ts'
import { fixtures } from '../paths.ts'

/** The bits of one row. */
const row = ({ data, vocab }: Logits, i: number): Uint32Array =>
  new Uint32Array(data.slice(i * vocab, (i + 1) * vocab).buffer)

const cases = ['llama', 'mistral-swa', 'qwen3'].flatMap((family) =>
  KV_KINDS.map((kvCache) => [family, kvCache] as const),
)
for (const [family, kvCache] of cases) {
  const test = suite(`logits of trees, ${family}, ${kvCache} cache`)
  const model = openInline(join(fixtures, family), { weights: 'q8', context: 96, kvCache })
  const token = fc.nat(model.engine.config.vocabulary - 1)

  test('every node of a random tree repeats the bits of its path run alone', () => {
    fc.assert(
      fc.property(
        fc.array(token, { minLength: 1, maxLength: 30 }),
        fc.array(fc.tuple(token, fc.nat(1000)), { minLength: 1, maxLength: 20 }),
        (prefix, nodes) => {
          const tokens = nodes.map(([t]) => t)
          const parents = nodes.map(([, choice], i) => (choice % (i + 1)) - 1)
          const tree = model.engine.logits({ prefix, tokens, parents })
          tokens.forEach((_, i) => {
            const path: number[] = []
            for (let at = i; at >= 0; at = parents[at]) path.unshift(tokens[at])
            const alone = model.engine.logits({ tokens: [...prefix, ...path] })
            assert.equal(row(tree, i), row(alone, alone.rows - 1), `node ${i}`)
          })
        },
      ),
      { numRuns: 6 },
    )
  })

  test('where a chain is cut into passes changes no bit', () => {
    fc.assert(
      fc.property(fc.array(token, { minLength: 70, maxLength: 90 }), fc.integer({ min: 1, max: 60 }), (all, cut) => {
        const whole = model.engine.logits({ tokens: all })
        const rest = model.engine.logits({ prefix: all.slice(0, cut), tokens: all.slice(cut) })
        for (let i = cut; i < all.length; i++) assert.equal(row(rest, i - cut), row(whole, i), `position ${i}`)
      }),
      { numRuns: 4 },
    )
  })

  test('a tree without a prefix has children of nothing', () => {
    const tree = model.engine.logits({ tokens: [3, 4, 3], parents: [-1, -1, 1] })
    const chain = model.engine.logits({ tokens: [4, 3] })
    assert.equal(row(tree, 1), row(chain, 0))
    assert.equal(row(tree, 2), row(chain, 1))
  })

  test.run()
}
