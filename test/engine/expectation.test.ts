import { join } from 'node:path'
import * as fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { type ExpectationRequest, expectationOf } from '../../src/engine/expectation.ts'
import { MEASURED_ROWS, measureKernelSpeed, productSeconds } from '../../src/engine/kernel-speed.ts'
import { prepare } from '../../src/engine/prepare.ts'
import { readFigures } from '../../src/engine/read-figures.ts'
import { measureSpeeds, planWithExpectation } from '../../src/engine/speed.ts'
import { compileKernels } from '../../src/tensor/kernel-modules.ts'
import type { Kind } from '../../src/tensor/layout.ts'
import { DRAFT, TARGET } from '../e2e/models.ts'
import { fixtures } from '../paths.ts'
import './harness.ts'

const test = suite('what a plan expects')

const kernels = new Map<Kind, number[]>([
  ['q4', [1e-10, 2e-10, 4e-10, 15e-10]],
  ['q8', [1e-10, 3e-10, 6e-10, 20e-10]],
])

/** 4 GB of layers, half of which stream at 1 GB/s. */
const REQUEST: ExpectationRequest = {
  streamedBytesPerPass: 2e9,
  cached: false,
  loaders: 2,
  read: { direct: [0.5e9, 1e9, 1e9, 1e9], buffered: [3e9, 4e9, 4e9, 4e9] },
  kernels,
  target: [
    { kind: 'q4', bytes: 4e9 },
    { kind: 'q8', bytes: 1e9 },
  ],
  draft: [{ kind: 'q8', bytes: 1e8 }],
  nodes: 16,
  isPlanned: false,
}

const near = (found: number, wanted: number): void =>
  assert.ok(Math.abs(found - wanted) <= 1e-9 * wanted, `${found}, not ${wanted}`)

test('a pass takes as long as the disk or the processor, whichever is slower', () => {
  const { plain, speculative, readBytesPerSecond } = expectationOf(REQUEST)!
  assert.is(readBytesPerSecond, 1e9)
  near(plain.secondsReading, 2)
  near(plain.secondsComputing, 0.5)
  near(plain.secondsPerPass, 2)
  near(plain.tokensPerSecond, 0.5)
  near(speculative!.secondsComputing, 17 * 0.1 + 0.5)
  near(speculative!.secondsPerPass, 2.2 + speculative!.secondsDrafting)
})

test('speculation is a range, and says of what', () => {
  const { speculative } = expectationOf(REQUEST)!
  const [low, high] = speculative!.tokensPerPass
  assert.ok(low > 2 && low < 3 && high > 3.5 && high < 5, `${low} to ${high}`)
  near(speculative!.tokensPerSecond[0], low / speculative!.secondsPerPass)
  near(speculative!.tokensPerSecond[1], high / speculative!.secondsPerPass)
  assert.equal(speculative!.acceptance, [0.6, 0.8])
  // One guess saves one token at the most.
  const one = expectationOf({ ...REQUEST, nodes: 1 })!.speculative!
  near(one.tokensPerPass[0], 1.6)
  near(one.tokensPerPass[1], 1.8)
  assert.is(expectationOf({ ...REQUEST, nodes: 0 })!.speculative, undefined)
})

test('a planned number of guesses is the one that pays best, or there is none', () => {
  const planned = expectationOf({ ...REQUEST, nodes: 63, isPlanned: true })!.speculative!
  const value = ({ tokensPerSecond: [low, high] }: typeof planned): number => low + high
  for (const nodes of [1, 4, 8, 16, 32, 63]) {
    assert.ok(value(planned) >= value(expectationOf({ ...REQUEST, nodes })!.speculative!), `${nodes} nodes`)
  }
  // In memory, with rows that cost as much as passes, guesses are a loss.
  const dear = new Map<Kind, number[]>([
    ['q4', [1e-10, 10e-10, 20e-10, 80e-10]],
    ['q8', [1e-10, 10e-10, 20e-10, 80e-10]],
  ])
  const resident = { ...REQUEST, streamedBytesPerPass: 0, kernels: dear, nodes: 63 }
  assert.is(expectationOf({ ...resident, isPlanned: true })!.speculative, undefined)
  assert.ok(expectationOf(resident)!.speculative !== undefined)
})

test('what was not measured is not expected', () => {
  assert.is(expectationOf({ ...REQUEST, read: undefined }), undefined)
  // How fast the page cache is says nothing of the disk.
  assert.is(expectationOf({ ...REQUEST, read: { buffered: [1, 1, 1, 1] } }), undefined)
  assert.is(expectationOf({ ...REQUEST, cached: true })!.readBytesPerSecond, 4e9)
  assert.is(expectationOf({ ...REQUEST, kernels: new Map() }), undefined)
  // Nothing streams: the disk does not matter.
  const resident = expectationOf({ ...REQUEST, read: undefined, streamedBytesPerPass: 0 })!
  near(resident.plain.secondsPerPass, 0.5)
  assert.not('readBytesPerSecond' in resident)
})

test('between measured rows time grows evenly, and beyond them in proportion', () => {
  const speed = kernels.get('q4')!
  MEASURED_ROWS.forEach((rows, i) => {
    near(productSeconds(speed, 1e9, rows), speed[i] * 1e9)
  })
  near(productSeconds(speed, 1e9, 128), 2 * 1.5)
  const seconds = fc.double({ min: 1e-12, max: 1e-7, noNaN: true })
  fc.assert(
    fc.property(fc.array(seconds, { minLength: 4, maxLength: 4 }), fc.integer({ min: 1, max: 500 }), (steps, rows) => {
      let sum = 0
      const rising = steps.map((step) => {
        sum += step
        return sum
      })
      assert.ok(productSeconds(rising, 1e9, rows + 1) >= productSeconds(rising, 1e9, rows))
    }),
  )
})

test('kernels are timed on as many threads as a model has', async () => {
  const [q8] = await measureKernelSpeed(compileKernels('simd128'), 2, ['q8'])
  assert.is(q8.length, MEASURED_ROWS.length)
  for (const speed of q8) assert.ok(speed > 1e-13 && speed < 1e-6, `${speed} s per byte`)
  // 64 rows multiply 64 times as much as one.
  assert.ok(q8[3] > 2 * q8[0], q8.join())
})

test.run()

const real = suite('plans of models')
const quiet = { onProgress: () => {}, isAborted: () => false }
const options = { weights: 'f32', context: 128, threads: 1 } as const

real('before anything is measured a plan expects nothing, and then the same each time', async () => {
  const preparation = prepare(TARGET, { ...options, memory: '18MB' }, quiet)
  assert.not('expected' in planWithExpectation(preparation, 'simd128'))
  const choice = { variant: 'simd128', description: '', module: compileKernels('simd128') } as const
  assert.is(await measureSpeeds(preparation, choice, false), true)
  assert.is(await measureSpeeds(preparation, choice, false), false)
  assert.is(await measureSpeeds(preparation, choice, true), true)
  const { expected } = planWithExpectation(prepare(TARGET, { ...options, memory: '18MB' }, quiet), 'simd128')
  assert.ok(expected!.plain.secondsReading > 0 && expected!.plain.secondsComputing > 0)
})

real('reading the figures takes less than 5 ms', () => {
  const preparation = prepare(TARGET, { ...options, memory: '18MB' }, quiet)
  const times = Array.from({ length: 20 }, () => {
    const began = performance.now()
    readFigures(preparation.board.units[0].path).read()
    planWithExpectation(preparation, 'simd128')
    return performance.now() - began
  })
  assert.ok(Math.min(...times) < 5, times.join())
})

for (const [name, path, more] of [
  ['the pair', TARGET, { draft: DRAFT, nodes: 16 }],
  ['a model with a head of its own', join(fixtures, 'llama-3-rope'), {}],
] as const) {
  real(`${name}: more budget is never slower`, () => {
    const { smallestBudgetBytes, residentBudgetBytes } = prepare(path, { ...options, ...more }, quiet).plan
    const speeds = new Map<Kind, number[]>([['f32', [1e-10, 2e-10, 4e-10, 15e-10]]])
    const read = { direct: [1e8, 1e8, 2e8, 2e8], buffered: [3e8, 4e8, 4e8, 4e8] }
    const budgets = Array.from({ length: 25 }, (_, i) =>
      Math.floor(smallestBudgetBytes + (i / 23) * (residentBudgetBytes - smallestBudgetBytes)),
    )
    for (const loaders of [1, 2, 4]) {
      let before = { plain: Number.POSITIVE_INFINITY, drafted: Number.POSITIVE_INFINITY }
      for (const memory of budgets) {
        const { plan } = prepare(path, { ...options, ...more, memory }, quiet)
        const { plain, speculative } = expectationOf({
          streamedBytesPerPass: plan.streamedBytesPerPass,
          cached: loaders === 2,
          loaders,
          read,
          kernels: speeds,
          target: [{ kind: 'f32', bytes: plan.targetBytes }],
          draft: plan.nodes > 0 ? [{ kind: 'f32', bytes: 4e6 }] : [],
          nodes: plan.nodes,
          isPlanned: false,
        })!
        const now = { plain: plain.secondsPerPass, drafted: speculative?.secondsPerPass ?? 0 }
        assert.ok(now.plain <= before.plain && now.drafted <= before.drafted, `${memory} bytes`)
        before = now
      }
    }
  })
}

real.run()
