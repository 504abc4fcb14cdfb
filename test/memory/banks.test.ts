import * as fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { assemble } from '../../src/engine/assemble.ts'
import { prepare } from '../../src/engine/prepare.ts'
import { CoppiceError } from '../../src/errors.ts'
import { type PlanRequest, planBanks } from '../../src/memory/banks.ts'
import { LoadBoard, type Unit, unitFootprint } from '../../src/memory/load-board.ts'
import type { Plan, PlannedRegion } from '../../src/memory/plan.ts'
import { Timeline } from '../../src/memory/timeline.ts'
import { FIRST_ADDRESS, PAGE_BYTES, roundUp } from '../../src/tensor/arena.ts'
import { Control } from '../../src/tensor/control.ts'
import { compileKernels } from '../../src/tensor/kernel-modules.ts'
import { DRAFT, TARGET } from '../e2e/models.ts'
import { createMemories } from '../engine/harness.ts'

const BLOCK = 4096

const unit = (name: string, bytes: number): Unit => ({
  name,
  path: name,
  fileBytes: bytes,
  start: 0,
  bytes,
  chunkBytes: bytes,
  checksums: [0],
})

interface Sizes {
  readonly layers: number
  /** Of each layer. */
  readonly groups: readonly number[]
  readonly head: number
  readonly embedding: number | undefined
  /** What every memory needs that holds layers, and each layer beside its weights. */
  readonly activations: number
  readonly cache: number
  readonly memoryLimit: number
  /** What drafters take: a share of the budget, between these bytes. */
  readonly drafters: readonly [least: number, most: number]
}

const blocks = (least: number, most: number) => fc.integer({ min: least, max: most }).map((n) => n * BLOCK)

const sizes: fc.Arbitrary<Sizes> = fc.record({
  layers: fc.integer({ min: 1, max: 24 }),
  groups: fc.array(blocks(1, 25), { minLength: 1, maxLength: 3 }),
  head: blocks(1, 40),
  embedding: fc.option(blocks(1, 40), { nil: undefined }),
  activations: blocks(1, 20),
  cache: blocks(1, 10),
  memoryLimit: fc.integer({ min: 4, max: 40 }).map((n) => n * PAGE_BYTES),
  drafters: fc.oneof(
    fc.constant([0, 0] as const),
    fc.nat(300_000).map((bytes) => [bytes, bytes] as const),
    fc.tuple(fc.nat(50_000), fc.nat(400_000)),
  ),
})

const requestOf = ({
  layers,
  groups,
  head,
  embedding,
  activations,
  cache,
  memoryLimit,
  drafters: [least, most],
}: Sizes) => ({
  available: 0,
  draftersOf: (budget: number) => Math.max(least, Math.min(most, Math.floor(budget / 16))),
  memoryLimit,
  fixed: (count: number) => [
    { name: 'KV cache', bytes: count * cache },
    { name: 'activations', bytes: activations },
    { name: 'logits', bytes: BLOCK },
  ],
  further: (count: number) => [
    { name: 'KV cache', bytes: count * cache },
    { name: 'activations', bytes: activations },
  ],
  layers: Array.from({ length: layers }, (_, i) => groups.map((bytes, group) => unit(`layer ${i}, ${group}`, bytes))),
  head: unit('head', head),
  splitHead: () => [unit('head', head)],
  embedding: embedding === undefined ? undefined : unit('embedding', embedding),
  streamedHeadBytes: 2 * BLOCK,
})

type Request = Omit<PlanRequest, 'budget'>

const planOf = (request: Request, budget: number | undefined): Plan => planBanks({ ...request, budget }).plan

/** The plan for an unlimited budget, or `undefined` where one memory cannot hold what it must. */
function richest(request: Request): Plan | undefined {
  try {
    return planOf(request, Number.MAX_SAFE_INTEGER)
  } catch (error) {
    assert.is((error as CoppiceError).code, 'OUT_OF_BUDGET')
    assert.match((error as CoppiceError).message, 'no memory budget can hold this model')
    return undefined
  }
}

const budgetAt = ({ smallestBudgetBytes }: Plan, share: number, request: Request): number => {
  const all = request.layers.flat().reduce((sum, group) => sum + 2 * unitFootprint(group), 40 * PAGE_BYTES)
  return Math.floor(smallestBudgetBytes + share * all)
}

const share = fc.double({ min: 0, max: 1.2, noNaN: true })

const bytesOf = (regions: readonly PlannedRegion[]): number =>
  roundUp(FIRST_ADDRESS + regions.reduce((sum, { bytes }) => sum + roundUp(bytes, BLOCK), 0), PAGE_BYTES)

const test = suite('memories of a plan')

test('every layer has one memory, and every memory holds what it needs and no more than it can', () => {
  fc.assert(
    fc.property(sizes, share, (size, at) => {
      const request = requestOf(size)
      const rich = richest(request)
      if (rich === undefined) return
      const budget = budgetAt(rich, at, request)
      const plan = planOf(request, budget)
      assert.is(plan.drafterBytes, request.draftersOf(budget))
      assert.ok(plan.totalBytes + plan.drafterBytes <= budget)
      assert.is(
        plan.totalBytes,
        plan.banks.reduce((sum, { bytes }) => sum + bytes, 0),
      )
      const all = plan.banks.flatMap(({ layers }) => layers).sort((a, b) => a - b)
      assert.equal(
        all,
        request.layers.map((_, i) => i),
      )
      plan.banks.forEach(({ bytes, layers }, bank) => {
        assert.ok(bytes <= size.memoryLimit)
        const regions = plan.regions.filter((region) => region.bank === bank)
        assert.is(bytes, bytesOf(regions), `bank ${bank}`)
        assert.is(regions.find(({ name }) => name === 'KV cache')?.bytes, layers.length * size.cache)
        const weights = regions.filter(({ name }) => name.startsWith('layer ')).map(({ name }) => name)
        const pinned = layers.flatMap((layer) =>
          plan.layerGroups[layer].flatMap((group, i) => (group.pinned ? [`layer ${layer}, ${i}`] : [])),
        )
        assert.equal(weights, pinned)
        if (bank > 0) {
          assert.ok(
            layers.every((layer) => plan.pinnedLayers.includes(layer)),
            'what is not in the first memory stays',
          )
          assert.ok(layers.length > 0)
        }
      })
    }),
    { numRuns: 150 },
  )
})

test('more budget never reads more, also where it begins another memory', () => {
  let several = 0
  fc.assert(
    fc.property(sizes, fc.array(share, { minLength: 1, maxLength: 20 }), (size, shares) => {
      const request = requestOf(size)
      const rich = richest(request)
      if (rich === undefined) return
      let before: Plan | undefined
      for (const at of [0, ...shares].sort((a, b) => a - b)) {
        const plan = planOf(request, budgetAt(rich, at, request))
        assert.is(plan.smallestBudgetBytes, rich.smallestBudgetBytes)
        assert.is(plan.residentBudgetBytes, rich.residentBudgetBytes)
        assert.ok(plan.streamedBytesPerPass <= (before?.streamedBytesPerPass ?? Number.POSITIVE_INFINITY))
        assert.ok(plan.pinnedBytes >= (before?.pinnedBytes ?? 0))
        if (plan.banks.length > 1) several++
        before = plan
      }
    }),
    { numRuns: 120 },
  )
  assert.ok(several > 50, `${several} plans with several memories`)
})

test('the smallest budget works and uses all of it, one byte less does not', () => {
  fc.assert(
    fc.property(sizes, (size) => {
      const request = requestOf(size)
      const rich = richest(request)
      if (rich === undefined) return
      const { totalBytes, drafterBytes } = planOf(request, rich.smallestBudgetBytes)
      assert.is(totalBytes + drafterBytes, rich.smallestBudgetBytes)
      assert.throws(
        () => planOf(request, rich.smallestBudgetBytes - 1),
        (error: unknown) =>
          error instanceof CoppiceError &&
          error.code === 'OUT_OF_BUDGET' &&
          error.message.includes(`at least ${rich.smallestBudgetBytes} bytes`),
      )
    }),
    { numRuns: 80 },
  )
})

test('nothing streams from the budget on that says so, and without one where the machine can spare it', () => {
  let several = 0
  fc.assert(
    fc.property(sizes, (size) => {
      const request = requestOf(size)
      const budget = richest(request)?.residentBudgetBytes
      if (budget === undefined || budget === Number.POSITIVE_INFINITY) return
      const plan = planOf(request, budget)
      assert.is(plan.streamedBytesPerPass, 0)
      assert.ok(plan.totalBytes + plan.drafterBytes <= budget)
      if (budget > plan.smallestBudgetBytes) assert.ok(planOf(request, budget - 1).streamedBytesPerPass > 0)
      if (plan.banks.length > 1) several++
      const spare = planOf({ ...request, available: 1e12 }, undefined)
      assert.is(spare.streamedBytesPerPass, 0)
      assert.is(spare.budgetBytes, spare.totalBytes + spare.drafterBytes)
    }),
    { numRuns: 120 },
  )
  assert.ok(several > 10, `${several} plans with several memories`)
})

test('what one memory can hold is planned as if there were no other', () => {
  fc.assert(
    fc.property(sizes, share, (size, at) => {
      const request = requestOf({ ...size, memoryLimit: 400 * PAGE_BYTES })
      const rich = planOf({ ...request, memoryLimit: 1e12 }, Number.MAX_SAFE_INTEGER)
      const budget = Math.min(budgetAt(rich, at, request), 400 * PAGE_BYTES)
      const plan = planOf(request, budget)
      assert.equal(plan, planOf({ ...request, memoryLimit: 1e12 }, budget))
      assert.is(plan.banks.length, 1)
    }),
    { numRuns: 80 },
  )
})

test('a model of 20 GB keeps more than 10 of them in 12 GB', () => {
  const GB = 1e9
  const request = requestOf({
    layers: 40,
    groups: [0.12 * GB, 0.24 * GB, 0.12 * GB].map((bytes) => roundUp(bytes, BLOCK)),
    head: roundUp(0.5 * GB, BLOCK),
    embedding: roundUp(0.5 * GB, BLOCK),
    activations: roundUp(0.02 * GB, BLOCK),
    cache: roundUp(0.008 * GB, BLOCK),
    memoryLimit: 65535 * PAGE_BYTES,
    drafters: [0, 0],
  })
  const plan = planOf(request, 12 * GB)
  assert.is(plan.banks.length, 3)
  assert.ok(plan.pinnedBytes > 10 * GB, `${plan.pinnedBytes}`)
  const gaps = plan.pinnedLayers.map((layer, i) => layer - (i === 0 ? -1 : plan.pinnedLayers[i - 1]))
  assert.ok(Math.max(...gaps) <= 3, plan.pinnedLayers.join())
})

test.run()

const real = suite('memories of a real model')

for (const [name, memory] of [
  ['resident', 60e6],
  ['streamed', 31e6],
] as const) {
  real(`the pair, ${name}: every memory holds what was planned for it`, () => {
    const options = { weights: 'f32', draft: DRAFT, nodes: 16, context: 128, threads: 1, memory } as const
    const hooks = { onProgress: () => {}, isAborted: () => false }
    const preparation = { ...prepare(TARGET, options, hooks, undefined, 16e6), loaders: 0 }
    const { plan } = preparation
    assert.ok(plan.banks.length > 1)
    assert.is(plan.streamedBytesPerPass > 0, name === 'streamed')
    const control = new Control()
    const assembly = assemble({
      preparation,
      memories: createMemories(plan),
      control,
      board: new LoadBoard(preparation.board, control),
      timeline: new Timeline(0),
      kernels: compileKernels('simd128'),
      onProgress: () => {},
    })
    plan.banks.forEach(({ bytes, layers }, bank) => {
      const regions = assembly.regions.filter((region) => region.bank === bank)
      const last = Math.max(...regions.map((region) => region.pointer + region.bytes))
      assert.ok(last <= bytes)
      assert.ok(bytes - last < 2 * PAGE_BYTES, `${bytes - last} of memory ${bank} to spare`)
      for (const region of ['job records', 'target KV cache', 'target rows', 'target activations']) {
        const [planned, allocated] = [plan.regions, assembly.regions].map((list) =>
          list.find((r) => r.bank === bank && r.name === region),
        )
        assert.is(allocated?.bytes, planned?.bytes, `${region} of memory ${bank} with layers ${layers.join()}`)
      }
    })
    assembly.close()
  })
}

real.run()
