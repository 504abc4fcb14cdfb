/**
 * What does guessing bring, and what would have been best? Policies side by side in one run, on one set of prompts:
 * plain decoding, chains of many lengths, trees of fixed sizes, LLMCad's fallback without and with its pipeline, and
 * the planner.
 *
 * Four parts:
 * - `overhead`: microseconds of planning per pass of the target, without the models.
 * - `acceptance`: tokens per pass of the embedded pair, by temperature, coupled and not. Time plays no part.
 * - `resident`: the embedded pair in memory; seconds of decoding, policies interleaved, median of the rounds. With
 *   `--resident-shape` the pair inflated to that shape, once per policy.
 * - `streaming`: the pair inflated to the shapes of large models (see inflation.ts): costs of the large pair, texts of
 *   the small one. Part of the target streams; `--disk-mbps` holds the disk to the speed of a common one.
 *
 *     npm run bench:speculate [-- --parts overhead,acceptance,resident,streaming --prompts DIR --per-category 1 --categories own,gsm8k
 *                               --most-prompts 4 --tokens 64 --temperatures 0,0.8 --policies short --rounds 5 --resident-shape embedded
 *                               --shape 1.1B --kind q4 --residency 25 --disk-mbps 500 --json FILE]
 */
import { join } from 'node:path'
import { readTokenizer } from '../src/engine/tokenizer-files.ts'
import type { Completion, LoadOptions } from '../src/index.ts'
import { formatBytes } from '../src/runtime/sizes.ts'
import { KINDS, type Kind } from '../src/tensor/layout.ts'
import { root } from '../test/paths.ts'
import { limitDisk } from './disk-limit.ts'
import { INFLATED, inflatedPair } from './inflated-pair.ts'
import { planningMicroseconds } from './planner-overhead.ts'
import { chain, choosePolicies, PIPELINES, PLAIN, type Policy, tree } from './policies.ts'
import { type BenchPrompt, loadPrompts, promptsDirectory } from './prompts.ts'
import { interleaved, of, oneByOne, perPass, type Race, type Result, rate, withoutLoops } from './races.ts'
import { median, number, Report, text, words } from './report.ts'
import { residentPair } from './resident-pair.ts'
import { SHAPE_NAMES } from './shapes.ts'
import { planOf } from './stream-model.ts'

const PARTS = ['overhead', 'acceptance', 'resident', 'streaming'] as const
const parts = words('--parts', PARTS, PARTS)
const tokens = number('--tokens', 64)
const perCategory = number('--per-category', 1)
const mostPrompts = number('--most-prompts', 1000)
const temperatures = text('--temperatures', '0,0.8').split(',').map(Number)
const rounds = number('--rounds', 5)
const policies = choosePolicies(text('--policies', 'short'))
const report = new Report('speculate')
const target = join(root, 'models', 'target')
const draft = join(root, 'models', 'draft')

const exposed = ({ completion: { stats } }: Result): number => stats.seconds.draft - stats.seconds.draftHidden

async function prepared(
  directory: string,
  common: LoadOptions,
  some: readonly Policy[],
  temperature: number,
): Promise<Race> {
  const { kept, tried } = await withoutLoops(directory, prompts, perCategory, { temperature, tokens }, mostPrompts)
  report.note(
    `${tried - kept.length} of ${tried} outputs go in circles and are left out; written: ${kept.map(({ category }) => category).join(', ')}`,
  )
  return { directory, common, policies: some, prompts: kept, temperature, tokens }
}

const COLUMNS = ['policy'.padEnd(22), 'tok/pass', 'tok/s', 'x plain', 'draft s', 'hidden', 'wait s', 'nodes']

/** @param results those of the policy and of the first one, on all prompts */
function row(
  part: string,
  temperature: number,
  results: readonly Result[],
  policy: Policy,
  models: { readonly model?: string } = {},
): void {
  const own = of(results, policy)
  const plain = of(results, results[0].policy)
  const seconds = (pick: (s: Completion['stats']['seconds']) => number): number =>
    own.reduce((sum, r) => sum + pick(r.completion.stats.seconds), 0)
  const proposed = own.reduce((sum, { completion: { stats } }) => sum + stats.nodesPerPass * stats.passes, 0)
  const passes = own.reduce((sum, r) => sum + r.completion.stats.passes, 0)
  const figures = {
    part,
    ...models,
    temperature,
    policy: policy.name,
    tokensPerPass: perPass(own),
    tokensPerSecond: median(own.map(rate)),
    timesPlain: median(own.map((r, i) => rate(r) / rate(plain[i]))),
    draftSeconds: seconds((s) => s.draft),
    hiddenSeconds: seconds((s) => s.draftHidden),
    waitSeconds: seconds((s) => s.wait),
    nodesPerPass: proposed / passes,
    rates: own.map(rate),
  }
  report.row(
    [
      policy.name.padEnd(22),
      figures.tokensPerPass.toFixed(2),
      figures.tokensPerSecond.toFixed(1),
      `${figures.timesPlain.toFixed(2)}x`,
      figures.draftSeconds.toFixed(2),
      figures.hiddenSeconds.toFixed(2),
      figures.waitSeconds.toFixed(2),
      figures.nodesPerPass.toFixed(1),
    ],
    figures,
  )
}

/** The policy of some kinds with the best median over prompts, if there is any. */
function best(results: readonly Result[], kinds: Policy['kind'][]): { policy: Policy; rates: number[] } | undefined {
  const candidates = [...new Set(results.map((r) => r.policy))].filter(({ kind }) => kinds.includes(kind))
  if (candidates.length === 0) return undefined
  const rated = candidates.map((policy) => ({ policy, rates: of(results, policy).map(rate) }))
  return rated.reduce((a, b) => (median(a.rates) >= median(b.rates) ? a : b))
}

function verdicts(part: string, temperature: number, results: readonly Result[]): void {
  for (const planner of policies.filter(({ kind }) => kind === 'planner')) compare(planner, part, temperature, results)
  for (const { on, off } of PIPELINES) {
    const seconds = (name: string): number =>
      results.filter((r) => r.policy.name === name).reduce((sum, r) => sum + exposed(r), 0)
    const without = seconds(off)
    if (!(without > 0) || !results.some((r) => r.policy.name === on)) continue
    const hides = 1 - seconds(on) / without
    report.line({ part, temperature, pipeline: on, hides })
    report.note(`the pipeline hides ${(hides * 100).toFixed(0)} % of the drafting before passes of "${on}"`)
  }
  if (part === 'streaming')
    for (const { on, off } of PIPELINES) for (const name of [on, off]) beyondDisk(name, temperature, results)
}

/**
 * While something is drafted before a pass the disk reads on, as far as there are free slots; what drafting costs is the
 * time beyond what the disk takes for the bytes, at the speed that it had for plain decoding. What passes compute for
 * longer than the disk takes counts as drafting here.
 */
function beyondDisk(name: string, temperature: number, results: readonly Result[]): void {
  const own = results.filter((r) => r.policy.name === name)
  if (own.length === 0) return
  const total = (some: readonly Result[], pick: (stats: Completion['stats']) => number): number =>
    some.reduce((sum, r) => sum + pick(r.completion.stats), 0)
  const plain = of(results, results[0].policy)
  const bytesPerSecond = total(plain, (s) => s.bytesRead) / total(plain, (s) => s.seconds.total)
  const drafting = total(own, (s) => s.seconds.draft)
  const beyond = Math.max(0, total(own, (s) => s.seconds.total) - total(own, (s) => s.bytesRead) / bytesPerSecond)
  const hidden = 1 - Math.min(1, beyond / drafting)
  report.line({
    part: 'streaming',
    temperature,
    policy: name,
    draftSeconds: drafting,
    secondsBeyondDisk: beyond,
    hidden,
  })
  report.note(
    `"${name}" drafts for ${drafting.toFixed(1)} s and takes ${beyond.toFixed(1)} s more than the disk for its bytes: ${(hidden * 100).toFixed(0)} % hidden`,
  )
}

function compare(planner: Policy, part: string, temperature: number, results: readonly Result[]): void {
  const own = of(results, planner).map(rate)
  const against = (name: string, kinds: Policy['kind'][]): void => {
    const found = best(results, kinds)
    if (found === undefined) return
    const { policy, rates } = found
    const ratio = median(own.map((value, i) => value / rates[i]))
    report.line({ part, temperature, policy: planner.name, ratio, against: policy.name })
    report.note(`"${planner.name}" against ${name} (${policy.name}): ${ratio.toFixed(2)}x`)
  }
  against('plain', ['plain'])
  if (part === 'streaming') against('plain with the draft’s memory for itself', ['plain with the whole budget'])
  against('the best chain', ['chain'])
  against('the better of plain and the best chain', ['plain', 'chain'])
  against('the best fixed policy', ['plain', 'chain', 'tree'])
}

async function acceptance(): Promise<void> {
  const lengths = [1, 2, 4, 8, 16, 32].map(chain)
  for (const temperature of [0, 0.8, 1]) {
    report.note(`\nacceptance: tokens per pass of the embedded pair, temperature ${temperature}`)
    const uncoupled = { coupled: false }
    const alone = lengths.map((p) => ({ ...p, name: `${p.name} uncoupled`, options: { ...p.options, ...uncoupled } }))
    const trees: Policy[] = [
      tree(63),
      tree(63, uncoupled, ' uncoupled'),
      tree(63, { ...uncoupled, sharpening: 3 }, ' s 3'),
    ]
    const all = [PLAIN, ...(temperature === 0 ? [] : alone), ...lengths, ...trees]
    const results = await oneByOne(await prepared(target, { draft, context: 512 }, all, temperature), () => {})
    for (const policy of all) {
      const value = perPass(of(results, policy))
      report.line({ part: 'acceptance', temperature, policy: policy.name, tokensPerPass: value })
      report.note(`${policy.name.padEnd(22)} ${value.toFixed(3)}`)
    }
    const longest = (some: readonly Policy[]): number => Math.max(...some.map((p) => perPass(of(results, p))))
    const grown = perPass(of(results, trees[0]))
    const say = (what: string, ratio: number): void => {
      report.line({ part: 'acceptance', temperature, tree63: ratio, against: what })
      report.note(`tree of 63 against ${what}: ${ratio.toFixed(2)}x`)
    }
    say('the best chain', grown / longest(lengths))
    if (temperature === 0) continue
    say('the best uncoupled chain', grown / longest(alone))
    say('the same tree uncoupled', grown / perPass(of(results, trees[1])))
  }
}

async function resident(): Promise<void> {
  const pair = await residentPair({ target, draft })
  const common = { draft: pair.draft, context: 512 }
  for (const temperature of temperatures) {
    const all = policies.filter(({ options }) => options.pipeline !== false)
    const results = await interleaved(await prepared(pair.target, common, all, temperature), rounds)
    report.table(`resident: ${pair.title}, temperature ${temperature}, median of ${rounds}`, COLUMNS)
    for (const policy of all) row('resident', temperature, results, policy, { model: pair.title })
    verdicts('resident', temperature, results)
  }
}

async function streaming(): Promise<void> {
  const [shape] = words('--shape', SHAPE_NAMES, ['1.1B'])
  const [kind] = words<Kind>('--kind', KINDS, ['q4'])
  const share = number('--residency', 25) / 100
  const limit = number('--disk-mbps', 0)
  const pair = await inflatedPair(shape, kind)
  const common: LoadOptions = { draft: pair.draft, context: 512, io: 'direct' }
  if (limit > 0) {
    const refusal = limitDisk(INFLATED, limit * 1e6)
    if (refusal !== undefined) throw new Error(refusal)
  }
  // One budget for all: what a smaller tree saves, another policy may not use.
  const plan = planOf({ directory: pair.target, options: { ...common, nodes: 63 } }, share)
  if (typeof plan === 'string') throw new Error(plan)
  for (const temperature of temperatures) {
    const shared = { ...common, memory: plan.budgetBytes }
    // Plain decoding needs no draft: with the same share of the target in memory, and with all of the budget for it.
    const alone = planOf({ directory: pair.target, options: { ...common, draft: 'none' } }, share)
    if (typeof alone === 'string') throw new Error(alone)
    const whole: Policy = { ...PLAIN, name: 'plain, whole budget', kind: 'plain with the whole budget' }
    const plain: Policy = { ...PLAIN, options: { ...PLAIN.options, memory: alone.budgetBytes } }
    // 127 guesses need more memory than the budget of all has for activations.
    const others = policies.filter(({ name }) => name !== PLAIN.name && name !== 'tree 127')
    const race = await prepared(pair.target, shared, [plain, whole, ...others], temperature)
    const disk = limit > 0 ? `, disk held to ${limit} MB/s` : ''
    report.table(
      `streaming: the pair inflated to ${shape} ${kind} with a 135M draft, ${(plan.residency * 100).toFixed(0)} % of ${formatBytes(plan.targetBytes)} resident, budget ${formatBytes(plan.budgetBytes)}${disk}, temperature ${temperature}`,
      COLUMNS,
    )
    const results = await oneByOne(race, (sofar) =>
      row('streaming', temperature, sofar, sofar[sofar.length - 1].policy),
    )
    verdicts('streaming', temperature, results)
  }
}

const directory = promptsDirectory()
/** Most greedy texts of the small target go in circles. */
const TRIED = 12
const categories = text('--categories', '')
const prompts: BenchPrompt[] = loadPrompts({
  tokenizer: readTokenizer(target),
  directory,
  perCategory: TRIED * perCategory,
}).filter(({ category }) => categories === '' || categories.split(',').includes(category))
report.note(`${prompts.length} prompts of ${new Set(prompts.map(({ category }) => category)).size} kinds`)
if (parts.includes('overhead')) {
  for (const draftPasses of [2, 4, 8, 12]) {
    const microseconds = planningMicroseconds(draftPasses)
    report.line({ part: 'overhead', draftPasses, microseconds })
    report.note(`planning with ${draftPasses} draft passes takes ${microseconds.toFixed(0)} us per pass of the target`)
  }
}
if (parts.includes('acceptance')) await acceptance()
if (parts.includes('resident')) await resident()
if (parts.includes('streaming')) await streaming()
report.end()
