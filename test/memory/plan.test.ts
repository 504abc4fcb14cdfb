import { join } from 'node:path'
import * as fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { assemble } from '../../src/engine/assemble.ts'
import { prepare } from '../../src/engine/prepare.ts'
import type { EngineOptions } from '../../src/engine/protocol.ts'
import { CoppiceError } from '../../src/errors.ts'
import { type PlanRequest as BanksRequest, planBanks } from '../../src/memory/banks.ts'
import { LoadBoard, type Unit, unitFootprint } from '../../src/memory/load-board.ts'
import { type Layout, SLOTS } from '../../src/memory/plan.ts'
import { Timeline } from '../../src/memory/timeline.ts'
import { MEMORY_LIMIT_BYTES, PAGE_BYTES, type Region } from '../../src/tensor/arena.ts'
import { Control } from '../../src/tensor/control.ts'
import { compileKernels } from '../../src/tensor/kernel-modules.ts'
import { DRAFT, TARGET } from '../e2e/models.ts'
import { createMemories } from '../engine/harness.ts'
import { fixtures } from '../paths.ts'

const CHUNK = 8192

function unit(name: string, start: number, bytes: number): Unit {
  return {
    name,
    path: name,
    fileBytes: start + bytes,
    start,
    bytes,
    chunkBytes: CHUNK,
    checksums: Array.from({ length: Math.ceil(bytes / CHUNK) }, () => 0),
  }
}

/** Runs of whole chunks, as the output head is cut. */
function split(head: Unit, limit: number): Unit[] {
  const pieces: Unit[] = []
  for (let at = 0; at < head.bytes; ) {
    let bytes = Math.min(CHUNK, head.bytes - at)
    while (at + bytes < head.bytes) {
      const more = Math.min(bytes + CHUNK, head.bytes - at)
      if (unitFootprint(unit('', head.start + at, more)) > limit) break
      bytes = more
    }
    pieces.push(unit(`head at ${at}`, head.start + at, bytes))
    at += bytes
  }
  return pieces
}

const sizes = fc.integer({ min: 1, max: 60 }).map((n) => n * 4000)

interface PlanRequest extends Omit<BanksRequest, 'memoryLimit' | 'fixed' | 'further'> {
  readonly fixed: readonly Region[]
}

/** Of a model that one memory holds. */
const planMemory = (request: PlanRequest): Layout =>
  planBanks({ ...request, memoryLimit: MEMORY_LIMIT_BYTES, fixed: () => request.fixed, further: () => request.fixed })

const requests: fc.Arbitrary<Omit<PlanRequest, 'budget'>> = fc
  .record({
    groups: fc.tuple(sizes, sizes, sizes),
    layers: fc.integer({ min: 1, max: 12 }),
    head: sizes,
    headStart: fc.integer({ min: 0, max: 100 }).map((n) => n * 64),
    embedding: fc.option(sizes, { nil: undefined }),
    fixed: fc.array(fc.integer({ min: 1, max: 300_000 }), { minLength: 1, maxLength: 5 }),
    streamedHeadBytes: fc.integer({ min: 0, max: 200_000 }),
    available: fc.integer({ min: 0, max: 4_000_000 }),
    drafters: fc.oneof(fc.constant([0, 0] as const), fc.tuple(fc.nat(100_000), fc.nat(300_000))),
  })
  .map(({ groups, layers, head, headStart, embedding, fixed, streamedHeadBytes, available, drafters }) => {
    const headUnit = unit('head', headStart, head)
    return {
      available,
      draftersOf: (budget: number) => Math.max(drafters[0], Math.min(drafters[1], Math.floor(budget / 16))),
      fixed: fixed.map((bytes, i) => ({ name: `fixed ${i}`, bytes })),
      layers: Array.from({ length: layers }, (_, i) =>
        groups.map((bytes, g) => unit(`group ${g} of layer ${i}`, 4096, bytes)),
      ),
      head: headUnit,
      splitHead: (limit: number) => split(headUnit, limit),
      embedding: embedding === undefined ? undefined : unit('embedding', 0, embedding),
      streamedHeadBytes,
    }
  })

/** The least budget that works, as the plan itself tells it. */
const smallestOf = (request: Omit<PlanRequest, 'budget'>): number =>
  planMemory({ ...request, budget: Number.MAX_SAFE_INTEGER }).plan.smallestBudgetBytes

const pinnedOf = ({ plan }: Layout): number => plan.pinnedBytes

const test = suite('memory plan')

test('with any budget from the smallest on, the plan fits and every unit has its place', () => {
  fc.assert(
    fc.property(requests, fc.double({ min: 0, max: 1.2, noNaN: true }), (request, share) => {
      const smallest = smallestOf(request)
      const all = planMemory({ ...request, budget: Number.MAX_SAFE_INTEGER }).plan.residentBudgetBytes
      const budget = Math.floor(smallest + share * Math.max(PAGE_BYTES, all - smallest))
      const { plan, units, headUnits } = planMemory({ ...request, budget })
      const taken = plan.totalBytes + plan.drafterBytes
      assert.ok(taken <= budget, `${taken} in ${budget}`)
      assert.is(plan.totalBytes % PAGE_BYTES, 0)
      assert.is(plan.smallestBudgetBytes, smallest, 'the smallest budget does not depend on the budget')
      const streamed = [
        ...request.layers.flat().filter((_, i) => !plan.layerGroups.flat()[i].pinned),
        ...(plan.headPinned ? [] : headUnits.map((i) => units[i])),
      ]
      const bytes = streamed.reduce((sum, u) => sum + unitFootprint(u), 0)
      assert.is(plan.streamedBytesPerPass, bytes)
      assert.is(plan.slots === 0, bytes === 0, 'slots are there exactly when something streams')
      if (bytes > 0) assert.ok(plan.slots >= SLOTS)
      for (const u of streamed) assert.ok(unitFootprint(u) <= plan.slotBytes, `${u.name} fits in a slot`)
      assert.ok(plan.residency >= 0 && plan.residency <= 1)
    }),
    { numRuns: 300 },
  )
})

test('a plan at the smallest budget uses all of it, and one for everything no more than it says', () => {
  fc.assert(
    fc.property(requests, (request) => {
      const smallest = smallestOf(request)
      const taken = ({ plan }: Layout): number => plan.totalBytes + plan.drafterBytes
      assert.is(taken(planMemory({ ...request, budget: smallest })), smallest)
      const { residentBudgetBytes } = planMemory({ ...request, budget: smallest }).plan
      const resident = planMemory({ ...request, budget: residentBudgetBytes })
      assert.is(resident.plan.streamedBytesPerPass, 0)
      assert.is(taken(resident), residentBudgetBytes)
    }),
    { numRuns: 200 },
  )
})

/** A model with a tied head and one fixed region. */
const tiedRequest = (layers: Unit[][], head: Unit, fixedBytes: number, streamedHeadBytes: number) => ({
  available: 0,
  draftersOf: () => 0,
  fixed: [{ name: 'fixed', bytes: fixedBytes }],
  layers,
  head,
  splitHead: (limit: number) => split(head, limit),
  embedding: undefined,
  streamedHeadBytes,
})

test('a budget that is no whole number of pages is not exceeded either', () => {
  const layers = Array.from({ length: 10 }, (_, i) => [unit(`layer ${i}`, 4096, 20_000)])
  const head = unit('head', 0, 9000)
  const request = tiedRequest(layers, head, 5000, 5000)
  const smallest = smallestOf(request)
  for (let extra = 0; extra < 250_000; extra += 500) {
    const budget = smallest + extra
    assert.ok(planMemory({ ...request, budget }).plan.totalBytes <= budget, `${budget}`)
  }
})

test('more budget never pins less, nor reads more', () => {
  fc.assert(
    fc.property(requests, fc.array(fc.integer({ min: 0, max: 3_000_000 }), { maxLength: 20 }), (request, more) => {
      const smallest = smallestOf(request)
      let before: Layout | undefined
      for (const extra of [0, ...more].sort((a, b) => a - b)) {
        const layout = planMemory({ ...request, budget: smallest + extra })
        if (before !== undefined) {
          assert.ok(pinnedOf(layout) >= pinnedOf(before), `${pinnedOf(layout)} after ${pinnedOf(before)}`)
          assert.ok(layout.plan.streamedBytesPerPass <= before.plan.streamedBytesPerPass)
        }
        before = layout
      }
    }),
    { numRuns: 200 },
  )
})

test('a budget below the smallest is refused with the number that works', () => {
  fc.assert(
    fc.property(requests, fc.integer({ min: 1, max: 1_000_000 }), (request, less) => {
      const smallest = smallestOf(request)
      try {
        planMemory({ ...request, budget: smallest - less })
        assert.unreachable('it was planned')
      } catch (error) {
        assert.instance(error, CoppiceError)
        assert.is((error as CoppiceError).code, 'OUT_OF_BUDGET')
        assert.match((error as CoppiceError).message, `at least ${smallest} bytes`)
      }
    }),
    { numRuns: 200 },
  )
})

test('without a budget the plan takes what the machine can spare, and no less than the smallest', () => {
  fc.assert(
    fc.property(requests, (request) => {
      const { plan } = planMemory({ ...request, budget: undefined })
      const smallest = smallestOf(request)
      const taken = plan.totalBytes + plan.drafterBytes
      assert.ok(taken <= Math.max(smallest, request.available))
      assert.is(plan.budgetBytes, taken)
      if (request.available >= plan.residentBudgetBytes) assert.is(plan.streamedBytesPerPass, 0)
    }),
    { numRuns: 200 },
  )
})

test('pinned layers are spread evenly over the depth', () => {
  const layers = Array.from({ length: 8 }, (_, i) => [unit(`layer ${i}`, 4096, 65_536)])
  const head = unit('head', 0, 8192)
  const request = tiedRequest(layers, head, 4096, 0)
  const smallest = smallestOf(request)
  const seen = new Set<string>()
  for (let extra = 0; extra <= 6 * 65_536; extra += 4096) {
    const { pinnedLayers } = planMemory({ ...request, budget: smallest + extra }).plan
    seen.add(pinnedLayers.join())
    const gaps = pinnedLayers.map((layer, i) => layer - (i === 0 ? -1 : pinnedLayers[i - 1]))
    if (gaps.length > 0) assert.ok(Math.max(...gaps) - Math.min(...gaps) <= 1, pinnedLayers.join())
  }
  assert.ok(seen.has('3,7'), [...seen].join(' | '))
})

test.run()

const real = suite('plans of real models')
const quiet = { onProgress: () => {}, isAborted: () => false }

/** Regions by kind: a plan names the draft's weights as one, an arena one by one. */
function sumsBy(regions: readonly { name: string; bytes: number }[], nameOf: (name: string) => string) {
  const sums = new Map<string, number>()
  for (const { name, bytes } of regions) sums.set(nameOf(name), (sums.get(nameOf(name)) ?? 0) + bytes)
  return sums
}

const CASES: [string, string, EngineOptions][] = [
  ['the pair, resident', TARGET, { weights: 'q8', draft: DRAFT, nodes: 16, context: 128 }],
  ['the target alone', TARGET, { weights: 'f32', context: 128 }],
  ['a model with a head of its own', join(fixtures, 'llama-3-rope'), { weights: 'f32' }],
]

for (const [name, path, options] of CASES) {
  for (const budget of ['most', 'middle', 'least'] as const) {
    real(`${name}, ${budget} memory: what is allocated is what was planned`, () => {
      const { smallestBudgetBytes, residentBudgetBytes } = prepare(path, { ...options, threads: 1 }, quiet).plan
      const middle = Math.floor((smallestBudgetBytes + residentBudgetBytes) / 2)
      const memory = { most: undefined, middle, least: smallestBudgetBytes }[budget]
      const prepared = prepare(path, { ...options, threads: 1, ...(memory && { memory }) }, quiet)
      const preparation = { ...prepared, loaders: 0 }
      const control = new Control()
      const assembly = assemble({
        preparation,
        memories: createMemories(preparation.plan),
        control,
        board: new LoadBoard(preparation.board, control),
        timeline: new Timeline(0),
        kernels: compileKernels('simd128'),
        onProgress: () => {},
      })
      const last = assembly.regions.reduce((end, { pointer, bytes }) => Math.max(end, pointer + bytes), 0)
      assert.ok(last <= preparation.plan.totalBytes)
      // A region that the plan forgot, or made too large, shows as a page that is missing or to spare.
      assert.ok(preparation.plan.totalBytes - last < 2 * PAGE_BYTES, `${preparation.plan.totalBytes - last} to spare`)
      const planned = sumsBy(preparation.plan.regions, (region) => region)
      for (const region of ['job records', 'target KV cache', 'target rows', 'target final norm', 'slot 0', 'slot 1']) {
        const allocated = assembly.regions.find((r) => r.name === region)
        assert.is(allocated?.bytes, planned.get(region), region)
      }
      assembly.close()
    })
  }
}

real.run()
