/** A command that is killed leaves nothing behind that harms the next one. */
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { TARGET } from '../e2e/models.ts'
import { openInline, scratch } from '../engine/harness.ts'
import { freshCheckpoint } from '../engine/open-model.ts'
import { randomNumbers } from '../tensor/harness.ts'
import { coppice } from './cli-process.ts'

const PROMPT = 'The old house stood at the end of the lane, and'
const ROUNDS = 6
const KILLED = 137

const test = suite('killed commands')

test('a run that is killed while it packs, loads or writes does not change what the next one writes', async () => {
  const expected = openInline(TARGET, { weights: 'q8', draft: 'none', context: 128 }).generate(PROMPT, {
    temperature: 0,
    maxTokens: 8,
  })
  const source = freshCheckpoint('killed-source')
  const cache = join(scratch, 'killed-cache')
  const memory = String(openInline(TARGET, { weights: 'q8', context: 128 }).plan.smallestBudgetBytes)
  const args = ['run', '--weights', 'q8', '--ctx-size', '128', '--threads', '2', '--memory', memory, '--temp', '0']
  const run = (tokens: number, environment: Record<string, string>, killAfterMs?: number) =>
    coppice([...args, '-n', String(tokens), source, PROMPT], { environment, ...(killAfterMs && { killAfterMs }) })

  // How long a run takes says when its parts are.
  const began = performance.now()
  const first = await run(8, { COPPICE_CACHE: join(scratch, 'unhurt-cache') })
  const lastMs = performance.now() - began
  assert.is(first.stdout, `${expected.text}\n`, first.stderr)
  const random = randomNumbers(Date.now() % 1000)
  let killed = 0
  for (let round = 0; round < ROUNDS; round++) {
    const { code, stderr } = await run(100, { COPPICE_CACHE: cache }, Math.ceil(((round + random()) / ROUNDS) * lastMs))
    assert.ok(code === KILLED || code === 0, `${code}: ${stderr}`)
    if (code === KILLED) killed++
  }
  assert.ok(killed > 0, 'one was killed in time')
  const after = await run(8, { COPPICE_CACHE: cache })
  assert.is(after.code, 0, after.stderr)
  assert.is(after.stdout, first.stdout)
  for (const packed of readdirSync(join(cache, 'packed'))) {
    const { code, stderr } = await coppice(['verify', join(cache, 'packed', packed)])
    assert.is(code, 0, stderr)
  }
})

test.run()
