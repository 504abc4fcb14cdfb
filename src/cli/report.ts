/** Plans and statistics in words. */

import { tokensPerSecond } from '../generate/statistics.ts'
import type { Completion, DrafterStatistics, ModelPlan, PassExpectation, Stats } from '../index.ts'
import { wrap } from '../runtime/arguments.ts'
import { formatBytes } from '../runtime/sizes.ts'
import { layerBars } from './layer-bars.ts'

const percent = (share: number): string => `${Math.round(share * 100)} %`
const seconds = (value: number): string => (value < 10 ? `${value.toFixed(2)} s` : `${value.toFixed(1)} s`)

/** Where the target is: one sentence. */
export function placeOf(plan: ModelPlan): string {
  const target = formatBytes(plan.targetBytes)
  const budget = formatBytes(plan.budgetBytes)
  if (plan.streamedBytesPerPass === 0) return `target of ${target} resident, ${formatBytes(plan.totalBytes)} in all`
  const streaming = plan.layers - plan.pinnedLayers.length
  const head = plan.headPinned ? '' : ' and the output head'
  return `target of ${target} in a budget of ${budget}: ${streaming} of ${plan.layers} layers${head} stream, ${percent(plan.residency)} resident`
}

/** The lines that `run` writes after the text, of at most `columns` columns where words allow. */
export function statisticsLines({ stats }: Completion, plan: ModelPlan, columns: number): string[] {
  const s = stats.seconds
  const perToken = stats.tokens === 0 ? 0 : stats.bytesRead / stats.tokens
  const hidden = s.draftHidden > 0 ? ` (${seconds(s.draftHidden)} of it hidden)` : ''
  const lines = [
    placeOf(plan),
    `${stats.tokens} tokens in ${stats.passes} passes: ${stats.tokensPerPass.toFixed(2)} tokens per pass, ${tokensPerSecond(stats).toFixed(1)} tokens/s`,
    ...guessingFacts(stats),
    `disk: ${formatBytes(stats.bytesRead)} read, ${formatBytes(perToken)} per token, ${seconds(s.wait)} waited`,
    `time: ${seconds(s.total)} = prompt ${seconds(s.prefill)}, drafting ${seconds(s.draft)}${hidden}, target ${seconds(s.verify)}, waiting ${seconds(s.wait)}`,
  ]
  if (stats.verdict !== undefined) lines.push(`verdict: ${stats.verdict}`)
  return wrapped(lines, columns)
}

/** What went over the first line is indented. */
const wrapped = (lines: readonly string[], columns: number): string[] =>
  lines.flatMap((line) => wrap(line, columns, 0, 2))

/** What became of the guesses; nothing where there were none. */
function guessingFacts(stats: Stats): string[] {
  const drafters = Object.entries(stats.perDrafter)
  if (drafters.length === 0) return []
  const lines: string[] = []
  for (const [name, { proposed, accepted }] of drafters) {
    lines.push(
      `drafter ${name}: ${accepted} of ${proposed} guesses accepted (${percent(accepted / Math.max(1, proposed))})`,
    )
  }
  lines.push(
    `accepted guesses per pass: ${countsOf(stats.acceptedHistogram)}`,
    `trees: ${stats.nodesPerPass.toFixed(1)} guesses per pass; passes by depth ${countsOf(stats.depths)}`,
  )
  for (const [name, { ranks }] of drafters) {
    const which = drafters.length === 1 ? '' : ` of ${name}`
    lines.push(`accepted by rank${which}, in %: ${ranksOf(ranks)}`)
  }
  return lines
}

/** Places that are empty say nothing. */
const countsOf = (histogram: readonly number[]): string =>
  histogram.flatMap((count, k) => (count === 0 ? [] : [`${k}:${count}`])).join(' ')

const ranksOf = (ranks: DrafterStatistics['ranks']): string =>
  ranks.map(({ seen, accepted }, rank) => `${rank + 1}:${Math.round((100 * accepted) / Math.max(1, seen))}`).join(' ')

/** One prompt of `bench`; `plain` is absent where an interruption came first. */
export interface BenchRow {
  readonly stats: Stats
  readonly plain?: Stats
}

/** Plain decoding's seconds as a multiple of those with guesses. */
export const speedUpOf = ({ stats, plain }: BenchRow): number | undefined =>
  plain === undefined || plain.tokens === 0 ? undefined : tokensPerSecond(stats) / tokensPerSecond(plain)

export interface BenchMedians {
  readonly tokensPerPass: number
  readonly tokensPerSecond: number
  readonly plainTokensPerSecond?: number
  readonly speedUp?: number
}

/** @param rows at least one */
export function benchMedians(rows: readonly BenchRow[]): BenchMedians {
  const paired = rows.filter((row) => speedUpOf(row) !== undefined)
  return {
    tokensPerPass: median(rows.map(({ stats }) => stats.tokensPerPass)),
    tokensPerSecond: median(rows.map(({ stats }) => tokensPerSecond(stats))),
    ...(paired.length > 0 && {
      plainTokensPerSecond: median(paired.map(({ plain }) => tokensPerSecond(plain!))),
      speedUp: median(paired.map((row) => speedUpOf(row)!)),
    }),
  }
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
}

/** A line per prompt in 40 columns, and one of the medians. */
export function benchTable(rows: readonly BenchRow[]): string[] {
  const line = (name: string, ...cells: (string | undefined)[]): string => {
    const widths = [7, 9, 8, 7, 6]
    return name.padStart(3) + cells.map((cell = '-', i) => cell.padStart(widths[i])).join('')
  }
  const figure = (value: number | undefined): string | undefined =>
    value === undefined ? undefined : threeDigits(value)
  const ratio = (value: number | undefined): string | undefined =>
    value === undefined ? undefined : `${value.toFixed(2)}x`
  const medians = benchMedians(rows)
  return [
    line('', '', '', 'tok/s', 'tok/s'),
    line('', 'tokens', 'tok/pass', 'drafted', 'plain', 'ratio'),
    ...rows.map((row, i) => {
      const { stats, plain } = row
      const plainSpeed = plain && tokensPerSecond(plain)
      const cells = [figure(tokensPerSecond(stats)), figure(plainSpeed), ratio(speedUpOf(row))]
      return line(String(i + 1), String(stats.tokens), stats.tokensPerPass.toFixed(2), ...cells)
    }),
    line(
      'med',
      '',
      medians.tokensPerPass.toFixed(2),
      figure(medians.tokensPerSecond),
      figure(medians.plainTokensPerSecond),
      ratio(medians.speedUp),
    ),
  ]
}

/** What all prompts of `bench` say together. @param all the sum over the calls with guesses */
export function benchFacts(all: Stats, plan: ModelPlan, columns: number): string[] {
  const { draft, draftHidden } = all.seconds
  const lines = [
    placeOf(plan),
    ...guessingFacts(all),
    `drafting: ${seconds(draftHidden)} hidden behind the disk, ${seconds(draft - draftHidden)} not`,
  ]
  if (all.verdict !== undefined) lines.push(`verdict: ${all.verdict}`)
  return wrapped(lines, columns)
}

/** Two ways of writing the same text, side by side. */
export function comparisonLines(tree: Stats, plain: Stats): string[] {
  const row = (name: string, stats: Stats): string =>
    [
      name.padEnd(8),
      stats.tokensPerPass.toFixed(2).padStart(8),
      formatBytes(stats.bytesRead / Math.max(1, stats.tokens)).padStart(10),
      seconds(stats.seconds.wait).padStart(8),
      tokensPerSecond(stats).toFixed(1).padStart(8),
    ].join(' ')
  const heading = ['', 'tok/pass', 'read/tok', 'waited', 'tok/s']
  const head = `${heading[0].padEnd(8)} ${heading[1].padStart(8)} ${heading[2].padStart(10)} ${heading[3].padStart(8)} ${heading[4].padStart(8)}`
  return [head, row('drafted', tree), row('plain', plain)]
}

const kvCacheOf = ({ kvCache: { kind, draft } }: ModelPlan): string =>
  draft === undefined || draft === kind ? kind : `${kind} (draft ${draft})`

function guessesOf({ nodes, pacing }: ModelPlan): string {
  if (nodes === 0) return 'none: plain decoding'
  return pacing === 'fixed' ? `${nodes} nodes per pass` : `up to ${nodes} nodes per pass, as many as pay`
}

/** The lines of `plan`, of at most `columns` columns where words allow. */
export function planLines(plan: ModelPlan, columns: number): string[] {
  const rows: [string, string][] = [
    ['budget', `${formatBytes(plan.budgetBytes)} (${plan.budgetBytes} bytes)`],
    ['allocated', `${formatBytes(plan.totalBytes)} of WASM memory`],
    ['drafters', plan.drafterBytes === 0 ? 'remember nothing' : `remember up to ${formatBytes(plan.drafterBytes)}`],
    ['smallest budget', `${formatBytes(plan.smallestBudgetBytes)} (${plan.smallestBudgetBytes} bytes)`],
    [
      'nothing streams',
      Number.isFinite(plan.residentBudgetBytes)
        ? `from ${formatBytes(plan.residentBudgetBytes)} (${plan.residentBudgetBytes} bytes) on`
        : 'with no budget',
    ],
    ['weights', `layers ${plan.weights.layers}, embedding and head ${plan.weights.edges}`],
    ['target', `${formatBytes(plan.targetBytes)}, ${percent(plan.residency)} resident`],
    ['layers', `${plan.pinnedLayers.length} of ${plan.layers} pinned as a whole${listOf(plan.pinnedLayers)}`],
    ['output head', plan.headPinned ? 'pinned' : 'streams'],
    ['slots', plan.slots === 0 ? 'none' : `${plan.slots} of ${formatBytes(plan.slotBytes)}`],
    ['read per pass', formatBytes(plan.streamedBytesPerPass)],
    ...expectationRows(plan),
    ['context', `${plan.context} positions; KV cache ${kvCacheOf(plan)}, ${formatBytes(plan.kvCache.bytes)}`],
    ['guesses', guessesOf(plan)],
    ['threads', `${plan.threads} compute, ${plan.loaders} load (${plan.io} I/O)`],
    [
      'process besides',
      `about ${formatBytes(plan.process.runtime + plan.process.threads)}, tokenizer ${formatBytes(plan.process.tokenizer)}`,
    ],
  ]
  if (plan.banks.length > 1) {
    const banks = plan.banks.map(({ bytes, layers }) => `${formatBytes(bytes)} with ${layers.length} of the layers`)
    rows.splice(2, 0, ['memories', `${plan.banks.length}: ${banks.join(', ')}`])
  }
  const width = Math.max(...rows.map(([name]) => name.length)) + 2
  const facts = rows.flatMap(([name, text]) => wrap(`${name.padEnd(width)}${text}`, columns, 0, width))
  return [...facts, '', ...layerBars(plan, columns), '', 'regions', ...regionLines(plan, columns)]
}

function expectationRows({ expected, streamedBytesPerPass, nodes }: ModelPlan): [string, string][] {
  if (expected === undefined) return [['speed', 'not measured; `coppice plan` does so for a model that is packed']]
  const { plain, speculative, readBytesPerSecond } = expected
  const limit = (pass: PassExpectation): string =>
    streamedBytesPerPass > 0 && pass.secondsReading >= pass.secondsPerPass ? 'disk' : 'compute'
  const pass = (p: PassExpectation): string => `${duration(p.secondsPerPass)} per pass (${limit(p)})`
  const rows: [string, string][] = []
  if (readBytesPerSecond !== undefined) {
    rows.push(['reading takes', `${duration(plain.secondsReading)} at ${formatBytes(readBytesPerSecond)}/s`])
  }
  rows.push(['plain', `${pass(plain)}, ${threeDigits(plain.tokensPerSecond)} tokens/s`])
  if (speculative !== undefined) {
    const range = ([low, high]: readonly [number, number]): string => `${threeDigits(low)} to ${threeDigits(high)}`
    const [low, high] = speculative.acceptance.map((chance) => Math.round(chance * 100))
    const assumed = `if ${low}-${high}% of guesses on the path are right`
    rows.push([
      'with guesses',
      `${pass(speculative)} with ${speculative.nodes} guesses, ${range(speculative.tokensPerSecond)} tokens/s ${assumed}: ${range(speculative.tokensPerPass)} tokens per pass`,
    ])
  } else if (nodes > 0) rows.push(['with guesses', 'should be no faster here; the planner will see'])
  return rows
}

/** Alike ones as one line: what differs in their names is a number. */
function regionLines({ regions }: ModelPlan, columns: number): string[] {
  const alike = new Map<string, { bytes: number; count: number; name: string }>()
  for (const { name, bytes, bank } of regions) {
    const place = bank === 0 ? '' : ` in memory ${bank + 1}`
    const pattern = name.replace(/\d+/g, '*') + place
    const found = alike.get(pattern)
    if (found === undefined) alike.set(pattern, { bytes, count: 1, name: name + place })
    else alike.set(pattern, { bytes: found.bytes + bytes, count: found.count + 1, name: pattern })
  }
  return [...alike.values()]
    .sort((a, b) => b.bytes - a.bytes)
    .flatMap(({ name, bytes, count }) => {
      const what = count === 1 ? name : `${name} (${count})`
      return wrap(`  ${formatBytes(bytes).padStart(9)}  ${what}`, columns, 0, 13)
    })
}

const duration = (value: number): string =>
  value < 0.9995 ? `${threeDigits(value * 1000)} ms` : `${threeDigits(value)} s`

const threeDigits = (value: number): string => {
  const digits = value < 9.995 ? 2 : value < 99.95 ? 1 : 0
  return value.toFixed(digits)
}

const listOf = (layers: readonly number[]): string =>
  layers.length === 0 || layers.length > 12 ? '' : ` (${layers.join(', ')})`
