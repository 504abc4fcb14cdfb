/** That a streaming process lives within what its plan promises when the system enforces it: no swap, killed above. */
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { type LimitedRun, runLimited } from '../../bench/cgroup.ts'
import { prepare } from '../../src/engine/prepare.ts'
import type { Completion, ModelPlan } from '../../src/index.ts'
import { type OpenMode, refusalOfDirectReads } from '../../src/runtime/files.ts'
import { openInline, scratch } from '../engine/harness.ts'
import { selfCommand } from '../runtime/self-command.ts'
import { announceSkip, DRAFT, TARGET } from './models.ts'

const PROMPT = 'The old house stood at the end of the lane, and'
const TOKENS = 96
const OPTIONS = { weights: 'f32', draft: DRAFT, nodes: 16, context: 512, threads: 2 } as const
/** What a process may take besides the budget and the tokenizer. */
const BESIDES_ALLOWED = 120e6
/** Less than any runtime needs to start. */
const FAR_TOO_LITTLE = 12e6
const TIMEOUT_MS = 60_000

const main = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url))
const environment = { COPPICE_CACHE: join(scratch, 'cache') }

/** Streams a text with this budget, under this limit. */
async function streamed(budget: number, limit: number, io: OpenMode): Promise<LimitedRun> {
  const { weights, nodes, context, threads } = OPTIONS
  const values = { weights, nodes, threads, 'ctx-size': context, memory: budget, io, predict: TOKENS, temp: 0 }
  const flags = Object.entries(values).flatMap(([name, value]) => [`--${name}`, String(value)])
  const command = selfCommand(main, 'run', 'embedded', ...flags, '--ignore-eos', '--json', PROMPT)
  const run = await runLimited(limit, command, { timeoutMs: TIMEOUT_MS, environment })
  if (typeof run === 'string') throw new Error(run)
  return run
}

const test = suite('a process under a memory limit')
const obstacle = await runLimited(1e9, ['true'], { timeoutMs: TIMEOUT_MS })
const whereLimited = typeof obstacle === 'string' ? test.skip : test
if (typeof obstacle === 'string') announceSkip(`no process can be limited to its budget here: ${obstacle}`)

let budget = 0
let tokenizer = 0
let text = ''

test.before(() => {
  // Packed before, so that the process only streams.
  text = openInline(TARGET, OPTIONS).generate(PROMPT, { temperature: 0, maxTokens: TOKENS, ignoreEos: true }).text
  const { plan } = prepare(TARGET, OPTIONS, { onProgress: () => {}, isAborted: () => false })
  budget = plan.smallestBudgetBytes
  tokenizer = plan.process.tokenizer
})

for (const io of ['buffered', 'direct'] as const) {
  const refused = io === 'direct' && refusalOfDirectReads(join(TARGET, 'model.safetensors')) !== undefined
  if (refused) announceSkip('the file system refuses direct reads: they are not tried under a memory limit')
  const where = refused ? test.skip : whereLimited
  where(`writes the whole text within its budget, 120 MB and the tokenizer, ${io} reads`, async () => {
    const limit = budget + BESIDES_ALLOWED + tokenizer
    const { status, stdout, stderr, outOfMemory, peakBytes } = await streamed(budget, limit, io)
    assert.is(outOfMemory, false)
    assert.is(status, 0, stderr)
    const written = JSON.parse(stdout) as Completion & { plan: ModelPlan }
    assert.ok(written.plan.streamedBytesPerPass > 0, 'the target streams')
    assert.is(written.text, text)
    const [megabytes, most] = [limit, peakBytes ?? Number.NaN].map((bytes) => (bytes / 1e6).toFixed(0))
    console.log(`${io}: limit ${megabytes} MB, charged ${most} MB at the most`)
  })
}

whereLimited('is killed under a limit far below: the limit is one', async () => {
  const { status, outOfMemory } = await streamed(budget, FAR_TOO_LITTLE, 'buffered')
  assert.is(outOfMemory, true)
  assert.is.not(status, 0)
})

test.run()
