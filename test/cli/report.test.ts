import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { planLines } from '../../src/cli/report.ts'
import { prepare } from '../../src/engine/prepare.ts'
import { TARGET } from '../e2e/models.ts'
import '../engine/harness.ts'

const HOOKS = { onProgress: () => {}, isAborted: () => false }

const test = suite('plans in words')

test('several memories are listed with their layers, and one goes without saying', () => {
  const options = { weights: 'f32', context: 128, threads: 1, memory: 60e6 } as const
  const lines = (memoryLimit?: number) => planLines(prepare(TARGET, options, HOOKS, undefined, memoryLimit).plan, 120)
  assert.not(lines().some((line) => line.startsWith('memories')))
  const several = lines(16e6)
  const line = several.find((text) => text.startsWith('memories'))
  assert.match(line ?? '', /^memories +\d: [\d.]+ MB with \d of the layers, [\d.]+ MB with \d of the layers/)
  assert.ok(several.some((text) => text.endsWith('target KV cache in memory 2')))
})

test.run()
