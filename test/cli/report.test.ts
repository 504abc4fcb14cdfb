import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { benchTable, planLines, statisticsLines } from '../../src/cli/report.ts'
import { prepare } from '../../src/engine/prepare.ts'
import type { EngineOptions } from '../../src/engine/protocol.ts'
import { emptyStats } from '../../src/generate/statistics.ts'
import type { Completion, Stats } from '../../src/index.ts'
import { TARGET } from '../e2e/models.ts'
import '../engine/harness.ts'

const HOOKS = { onProgress: () => {}, isAborted: () => false }

const test = suite('plans and statistics in words')

test('several memories are listed with their layers, and one goes without saying', () => {
  const options = { weights: 'f32', context: 128, threads: 1, memory: 60e6 } as const
  const lines = (memoryLimit?: number) => planLines(prepare(TARGET, options, HOOKS, undefined, memoryLimit).plan, 120)
  assert.not(lines().some((line) => line.startsWith('memories')))
  const several = lines(16e6)
  const line = several.find((text) => text.startsWith('memories'))
  assert.match(line ?? '', /^memories +\d: [\d.]+ MB with \d of the layers, [\d.]+ MB with \d of the layers/)
  assert.ok(several.some((text) => text.endsWith('target KV cache in memory 2')))
})

test('what drafters may remember is a line of its own', () => {
  const line = (options: EngineOptions) =>
    planLines(prepare(TARGET, { memory: 40e6, threads: 1, ...options }, HOOKS).plan, 120).find((text) =>
      text.startsWith('drafters'),
    )
  assert.match(line({})!, /^drafters +remember up to 1\.25 MB$/)
  assert.match(line({ drafterMemory: '3MB' })!, /^drafters +remember up to 3\.00 MB$/)
  assert.match(line({ draft: 'none' })!, /^drafters +remember nothing$/)
})

const plan = prepare(TARGET, { weights: 'f32', context: 128, threads: 1 }, HOOKS).plan
const ranks = Array.from({ length: 8 }, (_, rank) => ({ seen: 1000 - rank, accepted: 600 >> rank }))
const stats: Stats = {
  ...emptyStats(0),
  passes: 1000,
  tokens: 2200,
  tokensPerPass: 2.2,
  nodesPerPass: 47.9,
  acceptedHistogram: [200, 0, 800],
  depths: [3, 0, 0, 997],
  perDrafter: { tree: { proposed: 47900, accepted: 1199, ranks } },
  verdict: 'streaming: 48 nodes hide under the disk, 2.2 tokens per pass, about 2.1x plain',
}

test('statistics fit in 40 columns, and each begins a line', () => {
  const seconds = { ...stats.seconds, total: 1234.5, prefill: 12.3, draft: 100, draftHidden: 90, verify: 1000 }
  const lines = statisticsLines({ stats: { ...stats, seconds } } as Completion, plan, 40)
  assert.ok(
    lines.every((line) => line.length <= 40),
    lines.join('\n'),
  )
  const text = statisticsLines({ stats: { ...stats, seconds } } as Completion, plan, 1000)
  assert.ok(text.includes('accepted guesses per pass: 0:200 2:800'))
  assert.ok(text.includes('trees: 47.9 guesses per pass; passes by depth 0:3 3:997'))
  assert.ok(text.includes('accepted by rank, in %: 1:60 2:30 3:15 4:8 5:4 6:2 7:1 8:0'))
  assert.ok(text.some((line) => line.includes('drafting 100.0 s (90.0 s of it hidden), target')))
  assert.is(text.at(-1), `verdict: ${stats.verdict}`)
})

test('plain decoding says nothing of guesses', () => {
  const plain = { ...emptyStats(0), passes: 3, tokens: 3, tokensPerPass: 1, acceptedHistogram: [3], depths: [3] }
  const text = statisticsLines({ stats: plain } as unknown as Completion, plan, 80).join('\n')
  assert.not.match(text, /guess|rank|verdict/)
})

const timed = (tokens: number, passes: number, total: number): Stats => ({
  ...stats,
  passes,
  tokens,
  tokensPerPass: tokens / passes,
  seconds: { ...stats.seconds, total, prefill: 0 },
})

test('a prompt of bench is a line of 40 columns, and the medians are of what was compared', () => {
  const rows = [
    { stats: timed(128, 32, 1), plain: timed(128, 128, 3) },
    { stats: timed(128, 64, 0.1), plain: timed(128, 128, 0.1) },
    { stats: timed(60, 30, 10) },
  ]
  assert.equal(benchTable(rows), [
    '                      tok/s  tok/s',
    '    tokens tok/pass drafted  plain ratio',
    '  1    128     4.00     128   42.7 3.00x',
    '  2    128     2.00    1280   1280 1.00x',
    '  3     60     2.00    6.00      -     -',
    'med            2.00     128    661 2.00x',
  ])
})

test.run()
