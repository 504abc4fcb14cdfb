/** What a process with a model takes from the machine, and that closing gives it back. */
import { spawnSync } from 'node:child_process'
import { cpSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { prepare } from '../../src/engine/prepare.ts'
import type { LoadOptions } from '../../src/index.ts'
import { openInline, scratch } from '../engine/harness.ts'
import { selfCommand } from '../runtime/self-command.ts'
import { syntheticTokenizer } from '../text/synthetic.ts'
import type { Peak, PeakTask } from './memory-child.ts'
import { DRAFT, TARGET } from './models.ts'

const MEGABYTE = 1e6
const ROUNDS = 50
/** Rounds until the runtime has compiled what is used and its heaps have found their size. */
const WARM_UP = 10
/** Resident memory goes up and down by some MB; one model that stays would be 13 MB and its threads' share, 40 times. */
const GROWTH_ALLOWED = 30 * MEGABYTE
/** What a process may take besides the budget and the tokenizer. */
const BESIDES_ALLOWED = 120 * MEGABYTE

/** How far two equal processes differ in resident memory: Bun's by more than the others'. */
const NOISE = process.versions.bun === undefined ? 3 * MEGABYTE : 8 * MEGABYTE

const PROMPT = 'The old house stood'

const child = fileURLToPath(new URL('./memory-child.js', import.meta.url))

function run<T>(...args: string[]): T {
  const [command, ...rest] = selfCommand(child, ...args)
  const { status, stdout, stderr } = spawnSync(command, rest, {
    encoding: 'utf8',
    env: { ...process.env, COPPICE_CACHE: join(scratch, 'cache') },
    timeout: 100_000,
  })
  assert.is(status, 0, `${stdout}\n${stderr}`)
  return JSON.parse(stdout.trim().split('\n').at(-1)!) as T
}

const median = (values: readonly number[]): number => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)]

const test = suite('memory of a process')

test.before(() => {
  // Packed before, so that no child measures packing.
  openInline(TARGET, { weights: 'f32', draft: DRAFT })
  openInline(TARGET, { weights: 'q8', draft: DRAFT })
})

test(`opening and closing a model ${ROUNDS} times leaves memory flat`, () => {
  const { resident } = run<{ resident: number[] }>('rounds', String(ROUNDS))
  assert.is(resident.length, ROUNDS)
  // Medians of five: a single round may be caught between two collections.
  const after = median(resident.slice(WARM_UP - 2, WARM_UP + 3))
  const end = median(resident.slice(-5))
  const figures = resident.map((bytes) => Math.round(bytes / MEGABYTE)).join(' ')
  console.log(`resident MB after each round: ${figures}`)
  assert.ok(end - after < GROWTH_ALLOWED, `grew by ${(end - after) / MEGABYTE} MB: ${figures}`)
})

/** Of a process that does nothing else. */
const peakOf = (task: PeakTask): Peak => run<Peak>('peak', JSON.stringify(task))

const inMegabytes = (bytes: number): string => (bytes / MEGABYTE).toFixed(0)

const SPECULATION: Record<string, LoadOptions> = {
  default: {},
  plain: { draft: 'none' },
  tree: { draft: DRAFT, nodes: 32 },
}

/** Threads cost memory of their own. */
const THREADS = 2

for (const [speculation, draft] of Object.entries(SPECULATION)) {
  for (const place of ['streaming', 'resident']) {
    test(`a process stays within its budget, 120 MB and the tokenizer: ${place}, ${speculation}, ${THREADS} threads`, () => {
      const options: LoadOptions = { weights: 'f32', context: 512, threads: THREADS, ...draft }
      const hooks = { onProgress: () => {}, isAborted: () => false }
      const { smallestBudgetBytes, residentBudgetBytes } = prepare(TARGET, options, hooks).plan
      const memory = place === 'streaming' ? smallestBudgetBytes : residentBudgetBytes
      const { most, plan } = peakOf({ model: TARGET, options: { ...options, memory }, prompt: PROMPT })
      assert.is(plan.streamedBytesPerPass > 0, place === 'streaming')
      assert.is(plan.totalBytes + plan.drafterBytes, memory)
      const besides = most - memory - plan.process.tokenizer
      console.log(
        `${place}, ${speculation}, ${THREADS} threads: resident ${inMegabytes(most)} MB, budget ${inMegabytes(memory)}, besides ${inMegabytes(besides)}`,
      )
      assert.ok(besides <= BESIDES_ALLOWED, `${besides} bytes besides budget and tokenizer`)
    })
  }
}

test('owners that come and go, and write more than drafters can remember, stay within budget and allowance', () => {
  const options: LoadOptions = { weights: 'f32', context: 512, threads: THREADS, memory: 64e6, drafterMemory: '24MB' }
  const { most, plan } = run<Peak>('owners', JSON.stringify({ model: TARGET, options, prompt: PROMPT }))
  const besides = most - plan.totalBytes - plan.drafterBytes - plan.process.tokenizer
  console.log(`owners: resident ${inMegabytes(most)} MB, besides ${inMegabytes(besides)}`)
  assert.ok(besides <= BESIDES_ALLOWED, `${besides} bytes besides budget and tokenizer`)
})

test('a vocabulary of 128 thousand tokens takes what the plan says, and little less', () => {
  const large = join(scratch, 'large-vocabulary')
  cpSync(TARGET, large, { recursive: true })
  writeFileSync(join(large, 'tokenizer.json'), syntheticTokenizer(128_000))
  const none = join(scratch, 'small-vocabulary')
  cpSync(TARGET, none, { recursive: true })
  // Characters that no merge touches, so that the model knows their tokens.
  const task = { options: { weights: 'q8', context: 256, threads: 1 }, prompt: '~~~ ~~~ ~~' } as const
  for (const model of [large, none]) openInline(model, { weights: 'q8' })
  const peaks = Array.from({ length: 3 }, () => [large, none].map((model) => peakOf({ ...task, model })))
  // The least of three: a collector that comes late adds to a peak, and nothing takes from it.
  const [withLarge, without] = [0, 1].map((i) => Math.min(...peaks.map((pair) => pair[i].most)))
  const [estimate, smallEstimate] = peaks[0].map(({ plan }) => plan.process.tokenizer)
  const taken = withLarge - without
  const planned = estimate - smallEstimate
  console.log(`128 thousand tokens: ${(taken / MEGABYTE).toFixed(1)} MB, planned ${(planned / MEGABYTE).toFixed(1)}`)
  assert.ok(taken <= planned + NOISE, `${taken} bytes, ${planned} planned`)
  assert.ok(taken >= (2 / 3) * planned - NOISE, `${taken} bytes, ${planned} planned`)
})

test.run()
