/** Threads and memory budget change how fast the logits come, and not one bit of them. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { type Kind, type KvKind, type LoadOptions, type Logits, type LogitsInput, load } from '../../src/index.ts'
import { KINDS } from '../../src/tensor/layout.ts'
import { TARGET } from '../e2e/models.ts'
import { fixtures } from '../paths.ts'
import { asF16, copyCheckpoint } from '../weights/checkpoints.ts'
import { scratch } from './harness.ts'

const bits = ({ data }: Logits): Uint32Array => new Uint32Array(data.buffer, data.byteOffset, data.length)

/** Logits of every input from a model in its own workers. */
async function logitsOf(path: string, options: LoadOptions, inputs: readonly LogitsInput[]) {
  const model = await load(path, options)
  try {
    const all: Uint32Array[] = []
    for (const input of inputs) all.push(bits(await model.logits(input)))
    return { all, plan: model.plan }
  } finally {
    await model.close()
  }
}

function assertSame(actual: readonly Uint32Array[], expected: readonly Uint32Array[], what: string): void {
  expected.forEach((words, i) => {
    assert.is(actual[i].length, words.length, what)
    const at = words.findIndex((word, k) => word !== actual[i][k])
    assert.is(at, -1, `${what}, input ${i}: the logits differ first at ${at}`)
  })
}

const families = suite('threads on the families')

for (const family of ['llama', 'llama-3-rope', 'mistral-swa', 'qwen2', 'qwen3']) {
  families(`${family}: 1, 2 and 3 threads give the same bits`, async () => {
    const { tokens, tree } = JSON.parse(readFileSync(join(fixtures, family, 'expected.json'), 'utf8')) as {
      tokens: number[]
      tree: { prefix: number[]; tokens: number[]; parents: number[] }
    }
    const inputs = [{ tokens }, { prefix: tree.prefix, tokens: tree.tokens, parents: tree.parents }]
    const path = join(fixtures, family)
    const one = await logitsOf(path, { weights: 'f32', threads: 1 }, inputs)
    assert.is(one.plan.streamedBytesPerPass, 0)
    for (const threads of [2, 3]) {
      const more = await logitsOf(path, { weights: 'f32', threads }, inputs)
      assert.is(more.plan.threads, threads)
      assertSame(more.all, one.all, `${threads} threads`)
    }
    const memory = one.plan.smallestBudgetBytes
    const least = await logitsOf(path, { weights: 'f32', threads: 1, memory }, inputs)
    assertSame(least.all, one.all, 'smallest budget')
  })
}

families('f16 weights of an F16 checkpoint say what f32 weights say, bit for bit, resident and streamed', async () => {
  const source = copyCheckpoint(join(fixtures, 'llama'), join(scratch, 'halves'), (tensors) => {
    for (const [name, tensor] of tensors) tensors.set(name, asF16(tensor))
  })
  const input = [{ tokens: [1, 5, 9, 2, 8], parents: [-1, 0, 0, 1, 2] }]
  const plain = await logitsOf(source, { weights: 'f32', context: 64 }, input)
  const half = await logitsOf(source, { weights: 'f16', context: 64 }, input)
  assertSame(half.all, plain.all, 'resident')
  const memory = half.plan.smallestBudgetBytes
  assert.ok(memory < plain.plan.smallestBudgetBytes)
  const streamed = await logitsOf(source, { weights: 'f16', context: 64, memory }, input)
  assert.ok(streamed.plan.streamedBytesPerPass > 0)
  assertSame(streamed.all, plain.all, 'streamed')
})

families.run()

const pair = suite('threads and budgets on the embedded target')

const chain = [477, 673, 896, 1233, 365, 262, 995, 282, 262, 288, 1531, 44, 283, 34, 73, 400, 360, 1602, 316, 455]
const inputs: LogitsInput[] = [
  { tokens: chain },
  { prefix: chain.slice(0, 9), tokens: [7, 300, 44, 283, 500, 600, 44], parents: [-1, -1, 0, 2, 1, 4, 4] },
  { prefix: Array.from({ length: 100 }, (_, i) => 300 + i), tokens: [5], parents: [-1] },
]

const kinds: (readonly [Kind, KvKind])[] = [...KINDS.map((kind) => [kind, 'f32'] as const), ['q8', 'q8']]
for (const [weights, kvCache] of kinds) {
  pair(`${weights}, ${kvCache} cache: every number of threads and every budget gives the same bits`, async () => {
    const common: LoadOptions = { weights, kvCache, context: 256 }
    const resident = await logitsOf(TARGET, { ...common, threads: 1 }, inputs)
    assert.is(resident.plan.streamedBytesPerPass, 0)
    const { smallestBudgetBytes: smallest, residentBudgetBytes: most } = resident.plan
    for (const [threads, memory] of [
      [2, undefined],
      [3, undefined],
      [1, smallest],
      [3, Math.floor((smallest + most) / 2)],
    ] as const) {
      const what = `${threads} threads, ${memory ?? 'no'} budget`
      const again = await logitsOf(TARGET, { ...common, threads, ...(memory && { memory }) }, inputs)
      if (memory === smallest) assert.is(again.plan.pinnedLayers.length, 0, 'every layer streams')
      if (memory !== undefined) assert.ok(again.plan.loaders > 0 && again.plan.streamedBytesPerPass > 0, what)
      assertSame(again.all, resident.all, what)
    }
    const least = await logitsOf(TARGET, { ...common, threads: 2 }, inputs)
    const tight = { ...common, threads: 2, memory: least.plan.smallestBudgetBytes }
    assertSame((await logitsOf(TARGET, tight, inputs)).all, resident.all, '2 threads, smallest budget')
  })
}

pair.run()
