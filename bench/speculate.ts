/**
 * What does guessing bring, and what would have been best? Policies side by side in one run, on one set of prompts:
 * plain decoding, chains of many lengths, trees of fixed sizes, LLMCad's fallback without and with its pipeline, and
 * the planner.
 *
 * Four parts:
 * - `overhead`: microseconds of planning per pass of the target, without the models.
 * - `acceptance`: tokens per pass of the embedded pair, by temperature, coupled and not. Time plays no part.
 * - `resident`: the embedded pair in memory; seconds of decoding, policies interleaved, median of the rounds.
 * - `streaming`: the pair inflated to the shapes of large models (see inflation.ts): costs of the large pair, texts of
 *   the small one. Part of the target streams; `--disk-mbps` holds the disk to the speed of a common one.
 *
 *     npm run bench:speculate [-- --parts overhead,acceptance,resident,streaming --prompts DIR --per-category 1 --categories own,gsm8k --tokens 64
 *                               --temperatures 0,0.8 --shape 1.1B --kind q4 --residency 25 --disk-mbps 500
 *                               --policies short --rounds 5 --json FILE]
 */
import { join } from 'node:path'
import { readTokenizer } from '../src/engine/tokenizer-files.ts'
import { type Completion, type LoadOptions, load, type Model } from '../src/index.ts'
import { formatBytes } from '../src/runtime/sizes.ts'
import { KINDS, type Kind } from '../src/tensor/layout.ts'
import { root } from '../test/paths.ts'
import { limitDisk } from './disk-limit.ts'
import { INFLATED, inflatedPair } from './inflated-pair.ts'
import { isLoop } from './loops.ts'
import { planningMicroseconds } from './planner-overhead.ts'
import { type BenchPrompt, loadPrompts, promptsDirectory } from './prompts.ts'
import { median, number, Report, text, words } from './report.ts'
import { SHAPE_NAMES } from './shapes.ts'
import { planOf } from './stream-model.ts'

const PARTS = ['overhead', 'acceptance', 'resident', 'streaming'] as const
const parts = words('--parts', PARTS, PARTS)
const tokens = number('--tokens', 64)
const perCategory = number('--per-category', 1)
const temperatures = text('--temperatures', '0,0.8').split(',').map(Number)
const rounds = number('--rounds', 5)
const isShort = text('--policies', 'all') === 'short'
const report = new Report('speculate')
const target = join(root, 'models', 'target')
const draft = join(root, 'models', 'draft')

interface Policy {
  readonly name: string
  readonly kind: 'plain' | 'plain with the whole budget' | 'chain' | 'tree' | 'fallback' | 'planner'
  readonly options: LoadOptions
}

const chain = (length: number): Policy => ({
  name: `chain ${length}`,
  kind: 'chain',
  options: { drafters: ['chain'], nodes: length, draftPMin: 0 },
})
const tree = (nodes: number, more: LoadOptions = {}, suffix = ''): Policy => ({
  name: `tree ${nodes}${suffix}`,
  kind: 'tree',
  options: { nodes, ...more },
})
const PLAIN: Policy = { name: 'plain', kind: 'plain', options: { draft: 'none' } }
const STOPPING_CHAIN: Policy = { name: 'chain p 0.75', kind: 'chain', options: { drafters: ['chain'] } }
const PLANNER: Policy = { name: 'planner', kind: 'planner', options: {} }
const policies: Policy[] = [
  PLAIN,
  ...(isShort ? [2, 4, 8] : [1, 2, 3, 4, 6, 8, 12, 16]).map(chain),
  STOPPING_CHAIN,
  ...(isShort ? [4, 7, 15, 31, 63] : [2, 3, 4, 5, 7, 8, 15, 16, 31, 32, 63, 64, 127]).map((nodes) => tree(nodes)),
  tree(16, { pipeline: false }, ' no pipeline'),
  { name: 'fallback no pipeline', kind: 'fallback', options: { pacing: 'fallback', pipeline: false } },
  { name: 'fallback', kind: 'fallback', options: { pacing: 'fallback' } },
  { ...PLANNER, name: 'planner no pipeline', options: { pipeline: false } },
  PLANNER,
]

/** What one policy made of one prompt. */
interface Result {
  readonly policy: Policy
  readonly prompt: BenchPrompt
  readonly completion: Completion
}

const decodeSeconds = ({ stats }: Completion): number => stats.seconds.total - stats.seconds.prefill
const rate = ({ completion }: Result): number => completion.stats.tokens / decodeSeconds(completion)
const exposed = ({ completion: { stats } }: Result): number => stats.seconds.draft - stats.seconds.draftHidden

async function write(model: Model, prompt: BenchPrompt, temperature: number): Promise<Completion> {
  const call = { temperature, seed: 7, maxTokens: tokens, ignoreEos: true }
  return await model.complete({ tokens: prompt.tokens }, call)
}

/**
 * Outputs that go in circles are guessed without error by anything, and say nothing: the first prompts of every
 * category after which the embedded target, in memory, writes something else.
 */
async function withoutLoops(prompts: readonly BenchPrompt[], temperature: number): Promise<BenchPrompt[]> {
  const model = await load(target, { context: 512 })
  const kept: BenchPrompt[] = []
  let tried = 0
  try {
    for (const prompt of prompts) {
      if (kept.filter(({ category }) => category === prompt.category).length === perCategory) continue
      tried++
      if (!isLoop((await write(model, prompt, temperature)).tokens)) kept.push(prompt)
    }
  } finally {
    await model.close()
  }
  const kinds = new Set(kept.map(({ category }) => category)).size
  report.note(
    `${tried - kept.length} of ${tried} outputs go in circles and are left out; ${kept.length} of ${kinds} kinds stay`,
  )
  return kept
}

/** Every policy on every prompt, policies interleaved. */
async function race(
  directory: string,
  common: LoadOptions,
  all: readonly Policy[],
  candidates: readonly BenchPrompt[],
  temperature: number,
  times: number,
): Promise<Result[]> {
  const prompts = await withoutLoops(candidates, temperature)
  const models: Model[] = []
  try {
    for (const { options } of all) models.push(await load(directory, { ...common, ...options }))
    const plain: Completion[] = []
    for (const prompt of prompts) plain.push(await write(models[0], prompt, temperature))
    const expected = new Map(prompts.map((prompt, i) => [prompt, plain[i].tokens.join()]))
    const results: Result[] = []
    for (const prompt of prompts) {
      const runs: Completion[][] = all.map(() => [])
      for (let round = 0; round < times; round++) {
        for (const [i, model] of models.entries()) {
          const completion = await write(model, prompt, temperature)
          if (completion.tokens.join() !== expected.get(prompt)) {
            throw new Error(`${all[i].name} wrote another text than plain decoding: please report this`)
          }
          runs[i].push(completion)
        }
      }
      all.forEach((policy, i) => {
        const sorted = runs[i].sort((a, b) => decodeSeconds(a) - decodeSeconds(b))
        results.push({ policy, prompt, completion: sorted[sorted.length >> 1] })
      })
    }
    return results
  } finally {
    for (const model of models) await model.close()
  }
}

const of = (results: readonly Result[], policy: Policy): Result[] => results.filter((r) => r.policy === policy)

/** Tokens per pass over all prompts. */
function perPass(results: readonly Result[]): number {
  const sum = (of: (r: Result) => number): number => results.reduce((total, r) => total + of(r), 0)
  return sum((r) => r.completion.stats.tokens) / sum((r) => r.completion.stats.passes)
}

const HEADER = ['policy'.padEnd(22), 'tok/pass', 'tok/s', 'x plain', 'draft s', 'hidden', 'wait s', 'nodes'].join('  ')

function table(part: string, temperature: number, results: readonly Result[]): void {
  report.note(HEADER)
  for (const policy of new Set(results.map((r) => r.policy))) {
    const own = of(results, policy)
    const plain = of(results, results[0].policy)
    const ratio = median(own.map((r, i) => rate(r) / rate(plain[i])))
    const seconds = (pick: (s: Completion['stats']['seconds']) => number): number =>
      own.reduce((sum, r) => sum + pick(r.completion.stats.seconds), 0)
    const proposed = own.reduce((sum, { completion: { stats } }) => {
      return sum + Object.values(stats.perDrafter).reduce((s, d) => s + d.proposed, 0)
    }, 0)
    const passes = own.reduce((sum, r) => sum + r.completion.stats.passes, 0)
    const row = {
      part,
      temperature,
      policy: policy.name,
      tokensPerPass: perPass(own),
      tokensPerSecond: median(own.map(rate)),
      timesPlain: ratio,
      draftSeconds: seconds((s) => s.draft),
      hiddenSeconds: seconds((s) => s.draftHidden),
      waitSeconds: seconds((s) => s.wait),
      nodesPerPass: proposed / passes,
    }
    report.line(row)
    report.note(
      [
        policy.name.padEnd(22),
        row.tokensPerPass.toFixed(2).padStart(8),
        row.tokensPerSecond.toFixed(1).padStart(5),
        `${ratio.toFixed(2)}x`.padStart(7),
        row.draftSeconds.toFixed(2).padStart(7),
        row.hiddenSeconds.toFixed(2).padStart(6),
        row.waitSeconds.toFixed(2).padStart(6),
        row.nodesPerPass.toFixed(1).padStart(5),
      ].join('  '),
    )
  }
}

/** The policy of some kinds with the best median over prompts. */
function best(results: readonly Result[], ...kinds: Policy['kind'][]): { policy: Policy; rates: number[] } {
  const candidates = [...new Set(results.map((r) => r.policy))].filter(({ kind }) => kinds.includes(kind))
  const rated = candidates.map((policy) => ({ policy, rates: of(results, policy).map(rate) }))
  return rated.reduce((a, b) => (median(a.rates) >= median(b.rates) ? a : b))
}

function verdicts(part: string, temperature: number, results: readonly Result[]): void {
  const planner = of(results, PLANNER).map(rate)
  const against = (name: string, kinds: Policy['kind'][]): void => {
    const { policy, rates } = best(results, ...kinds)
    const ratio = median(planner.map((value, i) => value / rates[i]))
    report.line({ part, temperature, planner: ratio, against: policy.name })
    report.note(`planner against ${name} (${policy.name}): ${ratio.toFixed(2)}x`)
  }
  against('plain', ['plain'])
  if (part === 'streaming') against('plain with the draft’s memory for itself', ['plain with the whole budget'])
  against('the best chain', ['chain'])
  against('the better of plain and the best chain', ['plain', 'chain'])
  against('the best fixed policy', ['plain', 'chain', 'tree'])
  for (const [off, on] of [
    ['tree 16 no pipeline', 'tree 16'],
    ['fallback no pipeline', 'fallback'],
    ['planner no pipeline', 'planner'],
  ]) {
    const seconds = (name: string): number =>
      results.filter((r) => r.policy.name === name).reduce((sum, r) => sum + exposed(r), 0)
    const without = seconds(off)
    if (!(without > 0) || !results.some((r) => r.policy.name === on)) continue
    const hides = 1 - seconds(on) / without
    report.line({ part, temperature, pipeline: on, hides })
    report.note(`the pipeline hides ${(hides * 100).toFixed(0)} % of the drafting of "${on}"`)
  }
}

async function acceptance(prompts: readonly BenchPrompt[]): Promise<void> {
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
    const results = await race(target, { draft, context: 512 }, all, prompts, temperature, 1)
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

async function resident(prompts: readonly BenchPrompt[]): Promise<void> {
  for (const temperature of temperatures) {
    report.note(`\nresident: the embedded pair, temperature ${temperature}, median of ${rounds}`)
    const all = policies.filter(({ name }) => !name.includes('pipeline'))
    const results = await race(target, { draft, context: 512 }, all, prompts, temperature, rounds)
    table('resident', temperature, results)
    verdicts('resident', temperature, results)
  }
}

async function streaming(prompts: readonly BenchPrompt[]): Promise<void> {
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
    report.note(
      `\nstreaming: the pair inflated to ${shape} ${kind} with a 135M draft, ${(plan.residency * 100).toFixed(0)} % of ${formatBytes(plan.targetBytes)} resident, budget ${formatBytes(plan.budgetBytes)}${limit > 0 ? `, disk held to ${limit} MB/s` : ''}, temperature ${temperature}`,
    )
    const shared = { ...common, memory: plan.budgetBytes }
    // Plain decoding needs no draft: with the same share of the target in memory, and with all of the budget for it.
    const alone = planOf({ directory: pair.target, options: { ...common, draft: 'none' } }, share)
    if (typeof alone === 'string') throw new Error(alone)
    const whole: Policy = { ...PLAIN, name: 'plain, whole budget', kind: 'plain with the whole budget' }
    const others = policies.filter(({ name }) => name !== 'plain' && name !== 'tree 127')
    const all = [{ ...PLAIN, options: { ...PLAIN.options, memory: alone.budgetBytes } }, whole, ...others]
    const results = await race(pair.target, shared, all, prompts, temperature, 1)
    table('streaming', temperature, results)
    verdicts('streaming', temperature, results)
  }
}

const directory = promptsDirectory()
/** Most greedy texts of the small target go in circles. */
const TRIED = 12
const categories = text('--categories', '')
const prompts = loadPrompts({ tokenizer: readTokenizer(target), directory, perCategory: TRIED * perCategory }).filter(
  ({ category }) => categories === '' || categories.split(',').includes(category),
)
report.note(`${prompts.length} prompts of ${new Set(prompts.map(({ category }) => category)).size} kinds`)
if (parts.includes('overhead')) {
  for (const draftPasses of [2, 4, 8, 12]) {
    const microseconds = planningMicroseconds(draftPasses)
    report.line({ part: 'overhead', draftPasses, microseconds })
    report.note(`planning with ${draftPasses} draft passes takes ${microseconds.toFixed(0)} us per pass of the target`)
  }
}
if (parts.includes('acceptance')) await acceptance(prompts)
if (parts.includes('resident')) await resident(prompts)
if (parts.includes('streaming')) await streaming(prompts)
report.end()
