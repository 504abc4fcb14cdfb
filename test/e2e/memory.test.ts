/** What a process with a model takes from the machine, and that closing gives it back. */
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { prepare } from '../../src/engine/prepare.ts'
import { openInline, scratch } from '../engine/harness.ts'
import { selfCommand } from '../runtime/self-command.ts'
import { DRAFT, TARGET } from './models.ts'

const MEGABYTE = 1e6
const ROUNDS = 50
/** Rounds until the runtime has compiled what is used and its heaps have found their size. */
const WARM_UP = 10
/** Resident memory goes up and down by some MB; one model that stays would be 13 MB and its threads' share, 40 times. */
const GROWTH_ALLOWED = 30 * MEGABYTE
/** What a process may take besides the budget and the tokenizer. */
const BESIDES_ALLOWED = 120 * MEGABYTE

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

test('a streaming process stays within its budget, 120 MB and the tokenizer', () => {
  const options = { weights: 'f32', draft: DRAFT, nodes: 32, context: 512, threads: 2 } as const
  const budget = prepare(TARGET, options, { onProgress: () => {}, isAborted: () => false }).plan.smallestBudgetBytes
  const { most, plan } = run<{
    most: number
    plan: { process: { tokenizer: number }; streamedBytesPerPass: number; totalBytes: number }
  }>('streamed', String(budget))
  assert.ok(plan.streamedBytesPerPass > 0, 'the target streams')
  assert.is(plan.totalBytes, budget)
  const allowed = budget + BESIDES_ALLOWED + plan.process.tokenizer
  console.log(
    `resident ${(most / MEGABYTE).toFixed(0)} MB: budget ${(budget / MEGABYTE).toFixed(0)}, tokenizer ${(plan.process.tokenizer / MEGABYTE).toFixed(0)}, besides ${((most - budget - plan.process.tokenizer) / MEGABYTE).toFixed(0)}`,
  )
  assert.ok(most <= allowed, `${most} bytes resident, ${allowed} allowed`)
})

test.run()
