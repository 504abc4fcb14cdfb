/**
 * What do streaming and speculation each cost and bring on the embedded pair? Four configurations in
 * one run: {plain, default} x {streaming, resident}. Prints a table and one JSON line per configuration.
 *
 *     npm run bench:first-light [-- --tokens 128 --rounds 3]
 */
import { readFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { join } from 'node:path'
import { type Completion, load, type Model } from '../src/index.ts'
import { directIoAvailable } from '../src/runtime/files.ts'
import { root } from '../test/paths.ts'
import { median, number } from './report.ts'

const tokens = number('--tokens', 128)
const rounds = number('--rounds', 3)
const target = join(root, 'models', 'target')
const draft = join(root, 'models', 'draft')
const prompts = JSON.parse(readFileSync(join(root, 'models', 'prompts.json'), 'utf8')) as number[][]
const context = 512
const STREAMING_BUDGET = '22MB'
/** Past the page cache where the platform can: a model that does not fit in memory is not cached either. */
const io = directIoAvailable ? 'direct' : 'buffered'

interface Row {
  name: string
  tokensPerSecond: number
  tokensPerPass: number
  bytesPerToken: number
  waitSeconds: number
  seconds: number
}

async function measure(name: string, options: Parameters<typeof load>[1]): Promise<{ row: Row; texts: number[][] }> {
  await using model: Model = await load(target, { context, weights: 'f32', ...options })
  await model.complete({ tokens: prompts[0] }, { temperature: 0, maxTokens: 16, ignoreEos: true })
  const runs: Completion[][] = []
  for (let round = 0; round < rounds; round++) {
    const run: Completion[] = []
    for (const prompt of prompts) {
      // Every round writes the same texts, so nothing may be known of the last one.
      const owner = `round ${round}`
      run.push(await model.complete({ tokens: prompt }, { temperature: 0, maxTokens: tokens, ignoreEos: true, owner }))
    }
    runs.push(run)
  }
  const sum = (run: Completion[], of: (c: Completion) => number): number => run.reduce((a, c) => a + of(c), 0)
  const decoding = (c: Completion): number => c.stats.seconds.total - c.stats.seconds.prefill
  const count = (run: Completion[]): number => sum(run, (c) => c.stats.tokens)
  return {
    texts: runs[0].map((c) => c.tokens),
    row: {
      name,
      tokensPerSecond: median(runs.map((run) => count(run) / sum(run, decoding))),
      tokensPerPass: count(runs[0]) / sum(runs[0], (c) => c.stats.passes),
      bytesPerToken: sum(runs[0], (c) => c.stats.bytesRead) / count(runs[0]),
      waitSeconds: median(runs.map((run) => sum(run, (c) => c.stats.seconds.wait))),
      seconds: median(runs.map((run) => sum(run, (c) => c.stats.seconds.total))),
    },
  }
}

const results = [
  await measure('plain, streaming', { draft: 'none', memory: STREAMING_BUDGET, io }),
  await measure('plain, resident', { draft: 'none' }),
  await measure('default, streaming', { memory: STREAMING_BUDGET, io, draft }),
  await measure('default, resident', { draft }),
]
const base = results[0].row
console.log(
  `${cpus()[0]?.model}, ${prompts.length} prompts x ${tokens} tokens, greedy, median of ${rounds} rounds, ${io} reads`,
)
console.log('configuration       tok/s   ratio  tok/pass  MB read/token  s waited  s total')
for (const { row } of results) {
  console.log(
    [
      row.name.padEnd(18),
      row.tokensPerSecond.toFixed(1).padStart(6),
      `${(row.tokensPerSecond / base.tokensPerSecond).toFixed(2)}x`.padStart(7),
      row.tokensPerPass.toFixed(2).padStart(9),
      (row.bytesPerToken / 1e6).toFixed(2).padStart(14),
      row.waitSeconds.toFixed(2).padStart(9),
      row.seconds.toFixed(2).padStart(8),
    ].join(' '),
  )
}
const same = results.every(({ texts }) => JSON.stringify(texts) === JSON.stringify(results[0].texts))
console.log(same ? 'all four wrote the same tokens' : 'THE TEXTS DIFFER')
for (const { row } of results) console.log(JSON.stringify({ bench: 'first-light', ...row }))
if (!same) process.exitCode = 1
