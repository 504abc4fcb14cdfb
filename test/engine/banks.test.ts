/** Several WASM memories: they change where layers are computed, and not one bit of what comes out. */
import * as fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { loadModel } from '../../src/engine/front.ts'
import { prepare } from '../../src/engine/prepare.ts'
import type { EngineOptions } from '../../src/engine/protocol.ts'
import type { Completion, Logits, LogitsInput, ModelPlan } from '../../src/engine/types.ts'
import type { KvKind } from '../../src/model/kv-cache.ts'
import { PAGE_BYTES, roundUp } from '../../src/tensor/arena.ts'
import type { Kind } from '../../src/tensor/layout.ts'
import { DRAFT, TARGET } from '../e2e/models.ts'
import { type InlineModel, openInline } from './harness.ts'

const CONTEXT = 160
const PROMPT = 'The old house stood at the end of the lane, and'
const chain = [477, 673, 896, 1233, 365, 262, 995, 282, 262, 288, 1531, 44, 283, 34, 73, 400, 360, 1602, 316, 455]
const inputs: LogitsInput[] = [
  { tokens: chain },
  { prefix: chain.slice(0, 9), tokens: [7, 300, 44, 283, 500, 600, 44], parents: [-1, -1, 0, 2, 1, 4, 4] },
  { prefix: Array.from({ length: 100 }, (_, i) => 300 + i), tokens: [5], parents: [-1] },
]
const CALLS = [
  { temperature: 0, maxTokens: 14, seed: 1 },
  { temperature: 0.8, maxTokens: 14, seed: 5 },
]

const bits = ({ data }: Logits): Uint32Array => new Uint32Array(data.buffer, data.byteOffset, data.length)
const outcome = ({ text, tokens, finishReason }: Completion) => ({ text, tokens, finishReason })

function assertSame(actual: Uint32Array, expected: Uint32Array, what: string): void {
  assert.is(actual.length, expected.length, what)
  const at = expected.findIndex((word, i) => word !== actual[i])
  assert.is(at, -1, `${what}: the logits differ first at ${at}`)
}

interface Reference {
  readonly plan: ModelPlan
  readonly logits: readonly Uint32Array[]
  readonly texts: readonly ReturnType<typeof outcome>[]
}

function referenceOf(model: InlineModel): Reference {
  assert.is(model.plan.banks.length, 1)
  return {
    plan: model.plan,
    logits: inputs.map((input) => bits(model.engine.logits(input)).slice()),
    texts: CALLS.map((call) => outcome(model.generate(PROMPT, call))),
  }
}

const HOOKS = { onProgress: () => {}, isAborted: () => false }

const planOf = (options: EngineOptions, memoryLimit: number): ModelPlan =>
  prepare(TARGET, { memory: 1e9, threads: 1, ...options }, HOOKS, undefined, memoryLimit).plan

/** The largest budget with which something streams through one of several memories. */
function streamingBudget(options: EngineOptions, memoryLimit: number): number {
  const { residentBudgetBytes, smallestBudgetBytes } = planOf(options, memoryLimit)
  for (let memory = residentBudgetBytes; memory >= smallestBudgetBytes; memory -= PAGE_BYTES) {
    const { banks, streamedBytesPerPass } = planOf({ ...options, memory }, memoryLimit)
    if (banks.length > 1 && streamedBytesPerPass > 0) return memory
  }
  throw new Error('there is none: the case is not tested')
}

const describe = ({ banks, streamedBytesPerPass }: ModelPlan): string =>
  `memories of ${banks.map(({ bytes, layers }) => `${bytes} bytes with layers ${layers.join()}`).join(' | ')}, ${streamedBytesPerPass} streamed`

const test = suite('several memories')

const CASES: [Kind, KvKind, number][] = [
  ['f32', 'f32', 4],
  ['f32', 'q8', 3],
  ['q8', 'f32', 4],
  ['q8', 'q8', 4],
  ['q4', 'f32', 4],
  ['q4', 'q8', 3],
]

for (const [weights, kvCache, runs] of CASES) {
  test(`${weights}, ${kvCache} cache: whatever they hold and whatever streams, the bits are those of one memory`, () => {
    const tree = { weights, kvCache, context: CONTEXT, draft: DRAFT, nodes: 12 } as const
    const plain = { weights, kvCache, context: CONTEXT } as const
    const expected = referenceOf(openInline(TARGET, plain))
    const whole = { plain: expected.plan, tree: openInline(TARGET, tree).plan }
    const numbers = new Set<number>()
    let streamed = 0
    const compareIn = (name: 'plain' | 'tree', memoryLimit: number, memory: number): void => {
      const model = openInline(TARGET, { ...{ plain, tree }[name], memory }, { memoryLimit })
      const { plan } = model
      numbers.add(plan.banks.length)
      if (plan.banks.length > 1 && plan.streamedBytesPerPass > 0) streamed++
      const what = `${name}, ${describe(plan)}`
      inputs.forEach((input, i) => {
        assertSame(bits(model.engine.logits(input)), expected.logits[i], `${what}, input ${i}`)
      })
      CALLS.forEach((call, i) => {
        const completion = model.generate(PROMPT, call)
        assert.equal(outcome(completion), expected.texts[i], `${what}, text ${i}`)
        assert.is(completion.stats.peakMemory, plan.totalBytes)
      })
      model.engine.close()
    }
    const share = fc.double({ min: 0.45, max: 0.95, noNaN: true })
    const richness = fc.double({ min: 0, max: 1, noNaN: true })
    fc.assert(
      fc.property(fc.boolean(), share, richness, (drafts, share, richness) => {
        const name = drafts ? 'tree' : 'plain'
        // The draft lies in the first memory, and so is no part of what can be spread.
        const base = drafts ? whole.tree.totalBytes - whole.plain.totalBytes : 0
        const memoryLimit = roundUp(base + share * (whole[name].totalBytes - base), PAGE_BYTES)
        const { smallestBudgetBytes, residentBudgetBytes } = planOf(drafts ? tree : plain, memoryLimit)
        compareIn(
          name,
          memoryLimit,
          smallestBudgetBytes + Math.floor(richness * (residentBudgetBytes - smallestBudgetBytes)),
        )
      }),
      {
        numRuns: runs,
        // Resident in three or four memories.
        examples: [
          [false, 0.45, 1],
          [false, 0.6, 1],
        ],
      },
    )
    for (const name of ['plain', 'tree'] as const) {
      const memoryLimit = roundUp(0.9 * whole[name].totalBytes, PAGE_BYTES)
      compareIn(name, memoryLimit, streamingBudget({ plain, tree }[name], memoryLimit))
    }
    assert.ok(numbers.has(2) && [...numbers].some((count) => count > 2), `memories: ${[...numbers].join()}`)
    assert.ok(streamed > 0, 'nothing streamed through one of several memories')
  })
}

test.run()

const threads = suite('several memories and threads')

for (const [weights, kvCache, share] of [
  ['f32', 'f32', 0.75],
  ['q8', 'q8', 0.75],
  ['q4', 'f32', 0.9],
] as const) {
  threads(`${weights}, ${kvCache} cache: threads and loaders find every layer in its memory`, async () => {
    const options = { weights, kvCache, context: CONTEXT, draft: DRAFT, nodes: 12 } as const
    const plain = openInline(TARGET, options)
    const expected = referenceOf(plain)
    const memoryLimit = roundUp(share * expected.plan.totalBytes, PAGE_BYTES)
    for (const count of [1, 2]) {
      const resident = await loadModel(TARGET, { ...options, threads: count }, memoryLimit)
      await compare(resident, expected)
      assert.is(resident.plan.streamedBytesPerPass, 0)
      const some = { ...options, threads: count }
      const memory = streamingBudget(some, memoryLimit)
      const streaming = await loadModel(TARGET, { ...some, memory }, memoryLimit)
      assert.ok(streaming.plan.streamedBytesPerPass > 0 && streaming.plan.loaders > 0)
      await compare(streaming, expected)
    }
  })
}

async function compare(model: Awaited<ReturnType<typeof loadModel>>, expected: Reference): Promise<void> {
  const { plan } = model
  try {
    assert.ok(plan.banks.length > 1, describe(plan))
    for (const [i, input] of inputs.entries()) {
      assertSame(bits(await model.logits(input)), expected.logits[i], `${plan.threads} threads, ${describe(plan)}`)
    }
    for (const [i, call] of CALLS.entries()) {
      const completion = await model.complete(PROMPT, call)
      assert.equal(outcome(completion), expected.texts[i], `${plan.threads} threads, ${describe(plan)}`)
      assert.is(completion.stats.peakMemory, plan.totalBytes)
    }
  } finally {
    await model.close()
  }
}

threads.run()
