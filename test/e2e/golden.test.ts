/** Every runtime and every variant of the kernels writes the recorded texts, bit for bit. Recorded by record-golden.ts on Node 20. */
import { readFileSync } from 'node:fs'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { load } from '../../src/index.ts'
import { KERNEL_VARIANTS } from '../../src/tensor/kernels.ts'
import { KINDS } from '../../src/tensor/layout.ts'
import { usableVariants } from '../tensor/variants.ts'
import { GOLDEN_FILE, type GoldenText, writeGoldenTexts } from './golden-cases.ts'
import { DRAFT, TARGET } from './models.ts'

const golden = JSON.parse(readFileSync(GOLDEN_FILE, 'utf8')) as GoldenText[]
const test = suite('the same text on every runtime')

for (const variant of KERNEL_VARIANTS) {
  for (const weights of KINDS) {
    const name = `${weights} weights, ${variant} kernels`
    if (!usableVariants.includes(variant)) {
      test.skip(name, () => {})
      continue
    }
    test(name, () => {
      const expected = golden.filter((text) => text.weights === weights)
      assert.is(expected.length, 9)
      writeGoldenTexts(weights, variant).forEach((text, i) => {
        const what = `${text.call}: ${text.prompt}`
        assert.equal(text.tokens, expected[i].tokens, what)
        assert.is(text.text, expected[i].text, what)
        // The last bits of a log-probability hold every rounding on the way to it.
        assert.equal(text.logprobs, expected[i].logprobs, what)
      })
    })
  }
}

test('workers, a draft and a streamed target write the recorded text too', async () => {
  const options = { weights: 'f32', draft: DRAFT, nodes: 16, context: 128, threads: 2 } as const
  const resident = await load(TARGET, options)
  const memory = resident.plan.smallestBudgetBytes
  await resident.close()
  const model = await load(TARGET, { ...options, memory })
  try {
    for (const { prompt, tokens, text } of golden.filter((g) => g.weights === 'f32' && g.call === 'greedy')) {
      const written = await model.complete(prompt, { temperature: 0, maxTokens: 24 })
      assert.equal(written.tokens, tokens)
      assert.is(written.text, text)
    }
  } finally {
    await model.close()
  }
})

test.run()
