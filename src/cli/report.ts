/** Plans and statistics in words. */
import type { Completion, ModelPlan, Stats } from '../index.ts'
import { formatBytes } from '../runtime/sizes.ts'

const percent = (share: number): string => `${Math.round(share * 100)} %`
const seconds = (value: number): string => (value < 10 ? `${value.toFixed(2)} s` : `${value.toFixed(1)} s`)

/** Seconds of a call that went into tokens and not into reading the prompt. */
export const decodingSeconds = ({ seconds: s }: Stats): number => s.total - s.prefill

export const tokensPerSecond = (stats: Stats): number =>
  stats.tokens === 0 ? 0 : stats.tokens / Math.max(1e-9, decodingSeconds(stats))

/** Where the target is: one sentence. */
export function placeOf(plan: ModelPlan): string {
  const target = formatBytes(plan.targetBytes)
  const budget = formatBytes(plan.budgetBytes)
  if (plan.streamedBytesPerPass === 0) return `target of ${target} resident, ${formatBytes(plan.totalBytes)} in all`
  const streaming = plan.layers - plan.pinnedLayers.length
  const head = plan.headPinned ? '' : ' and the output head'
  return `target of ${target} in a budget of ${budget}: ${streaming} of ${plan.layers} layers${head} stream, ${percent(plan.residency)} resident`
}

/** The lines that `run` writes after the text. */
export function statisticsLines(completion: Completion, plan: ModelPlan): string[] {
  const { stats } = completion
  const s = stats.seconds
  const lines = [
    placeOf(plan),
    `${stats.tokens} tokens in ${stats.passes} passes: ${stats.tokensPerPass.toFixed(2)} tokens per pass, ${tokensPerSecond(stats).toFixed(1)} tokens/s`,
  ]
  for (const [name, { proposed, accepted }] of Object.entries(stats.perDrafter)) {
    const share = proposed === 0 ? 0 : accepted / proposed
    lines.push(`drafter ${name}: ${accepted} of ${proposed} guesses accepted (${percent(share)})`)
  }
  if (stats.acceptedHistogram.length > 1) {
    const counts = stats.acceptedHistogram.map((count, k) => `${k}:${count}`).join(' ')
    lines.push(`accepted guesses per pass: ${counts}`)
  }
  const perToken = stats.tokens === 0 ? 0 : stats.bytesRead / stats.tokens
  lines.push(
    `disk: ${formatBytes(stats.bytesRead)} read, ${formatBytes(perToken)} per token, ${seconds(s.wait)} waited`,
    `time: ${seconds(s.total)} = prompt ${seconds(s.prefill)}, drafting ${seconds(s.draft)}, target ${seconds(s.verify)}, waiting ${seconds(s.wait)}`,
  )
  return lines
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

/** The lines of `plan`. */
export function planLines(plan: ModelPlan, readBytesPerSecond: number | undefined): string[] {
  const rows: [string, string][] = [
    ['budget', `${formatBytes(plan.budgetBytes)} (${plan.budgetBytes} bytes)`],
    ['allocated', `${formatBytes(plan.totalBytes)} of WASM memory`],
    ['smallest budget', `${formatBytes(plan.smallestBudgetBytes)} (${plan.smallestBudgetBytes} bytes)`],
    [
      'nothing streams',
      Number.isFinite(plan.residentBudgetBytes)
        ? `from ${formatBytes(plan.residentBudgetBytes)} (${plan.residentBudgetBytes} bytes) on`
        : 'with no budget',
    ],
    ['weights', `layers ${plan.weights.layers}, embedding and head ${plan.weights.edges}`],
    ['target', `${formatBytes(plan.targetBytes)}, ${percent(plan.residency)} resident`],
    ['layers', `${plan.pinnedLayers.length} of ${plan.layers} pinned${listOf(plan.pinnedLayers)}`],
    ['output head', plan.headPinned ? 'pinned' : 'streams'],
    ['slots', plan.slots === 0 ? 'none' : `${plan.slots} of ${formatBytes(plan.slotBytes)}`],
    ['read per pass', formatBytes(plan.streamedBytesPerPass)],
    ['context', `${plan.context} positions; KV cache ${plan.kvCache.kind}, ${formatBytes(plan.kvCache.bytes)}`],
    ['tree', plan.nodes === 0 ? 'none: plain decoding' : `${plan.nodes} nodes per pass`],
    ['threads', `${plan.threads} compute, ${plan.loaders} load (${plan.io} I/O)`],
    [
      'process besides',
      `about ${formatBytes(plan.process.runtime + plan.process.threads)}, tokenizer ${formatBytes(plan.process.tokenizer)}`,
    ],
  ]
  if (readBytesPerSecond !== undefined) {
    const time = plan.streamedBytesPerPass / readBytesPerSecond
    rows.splice(10, 0, [
      'reading takes',
      `${seconds(time)} per pass at the measured ${formatBytes(readBytesPerSecond)}/s`,
    ])
  }
  if (plan.banks.length > 1) {
    const banks = plan.banks.map(({ bytes, layers }) => `${formatBytes(bytes)} with ${layers.length} of the layers`)
    rows.splice(2, 0, ['memories', `${plan.banks.length}: ${banks.join(', ')}`])
  }
  const width = Math.max(...rows.map(([name]) => name.length))
  const regions = [...plan.regions]
    .sort((a, b) => b.bytes - a.bytes)
    .map(
      ({ name, bytes, bank }) =>
        `  ${formatBytes(bytes).padStart(9)}  ${name}${bank > 0 ? ` (memory ${bank + 1})` : ''}`,
    )
  return [...rows.map(([name, text]) => `${name.padEnd(width)}  ${text}`), 'regions', ...regions]
}

const listOf = (layers: readonly number[]): string =>
  layers.length === 0 || layers.length > 12 ? '' : ` (${layers.join(', ')})`
