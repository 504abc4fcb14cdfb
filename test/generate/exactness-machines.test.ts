/** Every drafter writes plain decoding's tokens, whatever the threads, the memory and the temperature. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { type GenerateOptions, type LoadOptions, load } from '../../src/index.ts'
import { DRAFT, TARGET } from '../e2e/models.ts'
// Packed copies go to a directory of the test's own.
import '../engine/harness.ts'

const TEXT = 'The old house stood at the end of the lane, and'
const TOKENS = 16
const CALLS: GenerateOptions[] = [0, 0.7, 1].map((temperature) => ({
  temperature,
  seed: 9,
  maxTokens: TOKENS,
  ignoreEos: true,
}))
/** With the numbers of threads. */
const WAYS: [string, LoadOptions, number[]][] = [
  ['planned trees of all sources', { nodes: 'auto' }, [1, 3]],
  ['trees of 16 nodes', { drafters: ['tree'], nodes: 16 }, [2]],
  ['trees without a draft model', { draft: undefined, nodes: 24 }, [2]],
  ['a chain', { drafters: ['chain'], nodes: 8 }, [3]],
]

const ways = suite('drafters x threads x memory x temperature')

/** The text of every call, by a model in its own workers. */
async function texts(options: LoadOptions) {
  const model = await load(TARGET, { weights: 'q8', context: 128, ...options })
  try {
    const all: (readonly number[])[] = []
    for (const call of CALLS) all.push((await model.complete(TEXT, call)).tokens)
    return { all, plan: model.plan }
  } finally {
    await model.close()
  }
}

const plain = texts({ draft: 'none', threads: 1 })

for (const [name, way, numbers] of WAYS) {
  for (const threads of numbers) {
    ways(`${name} with ${threads} threads write plain decoding’s tokens in any memory`, async () => {
      const options: LoadOptions = { draft: DRAFT, ...way, threads }
      const expected = (await plain).all
      assert.ok(expected.every((tokens) => tokens.length === TOKENS))
      const resident = await texts(options)
      const { smallestBudgetBytes: smallest, residentBudgetBytes: most } = resident.plan
      const middle = await texts({ ...options, memory: Math.floor((smallest + most) / 2) })
      const least = await texts({ ...options, memory: smallest })
      assert.is(resident.plan.streamedBytesPerPass, 0)
      assert.ok(middle.plan.streamedBytesPerPass > 0)
      assert.ok(least.plan.streamedBytesPerPass > middle.plan.streamedBytesPerPass)
      for (const [where, { all }] of Object.entries({ resident, middle, least })) {
        for (const [i, tokens] of all.entries()) {
          assert.equal(tokens, expected[i], `${where}, temperature ${CALLS[i].temperature}`)
        }
      }
    })
  }
}

ways.run()
