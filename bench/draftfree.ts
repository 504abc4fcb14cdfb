/**
 * What does guessing without a draft model bring, and which of its ways brings most? Every drafter alone, all that pay
 * as one tree (`hybrid`), the same with the draft model, and the model's tree and chain, on the same prompts.
 *
 * Six parts:
 * - `proposals`: microseconds per proposal and per learned pass, and memory held, without the models.
 * - `acceptance`: tokens per pass of the embedded pair with the same number of nodes, by category of prompts, cold
 *   (nothing is known but the prompt) and warm (what was written after earlier prompts). Time plays no part.
 * - `resident`: the embedded pair in memory; seconds of decoding, planned, interleaved, median of the rounds, warm.
 *   Plain decoding takes part twice, so that the noise is seen. With `--resident-shape` the pair inflated to that shape,
 *   once per policy: of 1.1B 9 GB.
 * - `streaming`: the target inflated to the shape of a large model, of which a part streams; planned, warm.
 * - `replay`: texts that others wrote, which repeat a document or an earlier turn (see recordings.ts): resident and
 *   streaming, planned. `recycle`, also inside `hybrid`, is at a disadvantage there: it learns what the target holds
 *   likeliest, which is not what the recorded text says.
 * - `curve`: tokens per pass of the warm hybrid by block of prompts, beside the cold one's on the same prompts.
 *
 *     npm run bench:draftfree [-- --parts proposals,acceptance,resident,streaming,replay,curve --prompts DIR
 *                               --per-category 1 --categories own,gsm8k --most-prompts 4 --tokens 128 --nodes 63
 *                               --temperatures 0,0.8 --rounds 3 --resident-shape embedded
 *                               --shape 1.1B --kind q4 --residency 25 --disk-mbps 500
 *                               --replay-in resident,streaming --replay-memory warm --per-kind 4 --context 1024
 *                               --curve-tokens 24 --curve-per-category 80 --block 40 --json FILE]
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { readTokenizer } from '../src/engine/tokenizer-files.ts'
import type { LoadOptions } from '../src/index.ts'
import { formatBytes } from '../src/runtime/sizes.ts'
import { SOURCES } from '../src/speculate/drafter.ts'
import { KINDS, type Kind } from '../src/tensor/layout.ts'
import { readHfConfig } from '../src/weights/hf-config.ts'
import { root } from '../test/paths.ts'
import { limitDisk } from './disk-limit.ts'
import { byBlock, meanOf, NOTE, perCategory, timesPlain } from './draftfree-figures.ts'
import { INFLATED, inflatedPair } from './inflated-pair.ts'
import { drafterPolicies, PLAIN, type Policy } from './policies.ts'
import { type BenchPrompt, loadPrompts, promptsDirectory } from './prompts.ts'
import { measureProposals } from './proposals.ts'
import { interleaved, of, oneByOne, perPass, type Race, type Result, rate, withoutLoops } from './races.ts'
import { loadRecordings } from './recordings.ts'
import { median, number, Report, text, words } from './report.ts'
import { residentPair } from './resident-pair.ts'
import { SHAPE_NAMES } from './shapes.ts'
import { planOf } from './stream-model.ts'

const PARTS = ['proposals', 'acceptance', 'resident', 'streaming', 'replay', 'curve'] as const
const PLACES = ['resident', 'streaming'] as const
/** Whether a text's drafters know earlier ones, or only those of the same session. */
const MEMORIES = ['cold', 'warm'] as const
const parts = words('--parts', PARTS, PARTS)
const tokens = number('--tokens', 128)
const nodes = number('--nodes', 63)
const perKind = number('--per-kind', 4)
const most = number('--most-prompts', 1000)
const temperatures = text('--temperatures', '0,0.8').split(',').map(Number)
const rounds = number('--rounds', 3)
const categories = text('--categories', '')
const report = new Report('draftfree')
const target = join(root, 'models', 'target')
const draft = join(root, 'models', 'draft')
const directory = promptsDirectory()
const tokenizer = readTokenizer(target)
/** Of the small models, as bench/speculate.ts has it. */
const CONTEXT = 512
/** Most greedy texts of the small target go in circles. */
const TRIED = 12

const promptsOf = (perCategory: number): BenchPrompt[] =>
  loadPrompts({ tokenizer, directory, perCategory }).filter(
    ({ category }) => categories === '' || categories.split(',').includes(category),
  )

/** Prompts after which the target does not go in circles. */
async function chosen(directory: string, temperature: number): Promise<BenchPrompt[]> {
  const per = number('--per-category', 1)
  const { kept, tried } = await withoutLoops(directory, promptsOf(TRIED * per), per, { temperature, tokens }, most)
  report.note(
    `${tried - kept.length} of ${tried} outputs go in circles and are left out; written: ${kept.map(({ category }) => category).join(', ')}`,
  )
  return kept
}

function proposals(): void {
  const written = tokenizer.encode(readFileSync(join(root, 'bench', 'held-out.txt'), 'utf8'))
  const { vocabulary } = readHfConfig(target)
  report.table(`proposals: ${nodes + 1} nodes asked for, a text of ${written.length} tokens`, [
    'drafter'.padEnd(12),
    'propose us',
    '  p90',
    'learn us',
    '  p90',
    'nodes',
    'tok/pass',
    '    held',
  ])
  const hybrid = ['trie', 'trigram', 'recycle', 'ngram'] as const
  for (const names of [...SOURCES.map((name) => [name]), hybrid]) {
    const options = { nodes: nodes + 1, vocabulary, promptLength: 256 }
    const measured = measureProposals(names, written, options)
    const p90 = (values: readonly number[]): number =>
      [...values].sort((a, b) => a - b)[Math.floor(values.length * 0.9)]
    const figures = {
      part: 'proposals',
      drafter: names.length > 1 ? 'hybrid' : names[0],
      proposeMicroseconds: median(measured.propose),
      proposeP90: p90(measured.propose),
      learnMicroseconds: median(measured.learn),
      learnP90: p90(measured.learn),
      nodes: median(measured.nodes),
      tokensPerPass: measured.tokensPerPass,
      heldBytes: measured.heldBytes,
    }
    const { drafter, proposeMicroseconds, proposeP90, learnMicroseconds, learnP90 } = figures
    report.row(
      [
        drafter.padEnd(12),
        ...[proposeMicroseconds, proposeP90, learnMicroseconds, learnP90].map((value) => value.toFixed(0)),
        String(figures.nodes),
        figures.tokensPerPass.toFixed(2),
        formatBytes(figures.heldBytes),
      ],
      figures,
    )
  }
}

async function acceptance(): Promise<void> {
  const { free, trieModes, hybrid, hybridWithDraft, tree, chain } = drafterPolicies(nodes)
  const all = [PLAIN, ...free, ...trieModes, hybrid, hybridWithDraft, tree, chain]
  for (const temperature of temperatures) {
    const prompts = await chosen(target, temperature)
    for (const memory of MEMORIES) {
      const isWarm = memory === 'warm'
      const kinds = [...new Set(prompts.map(({ category }) => category))]
      report.table(
        `acceptance: tokens per pass, ${nodes} nodes, temperature ${temperature}, ${memory}; ${tokens} tokens per prompt`,
        ['drafter'.padEnd(18), ...kinds.map((kind) => kind.padStart(6)), '  mean'],
      )
      const race = { directory: target, common: { draft, context: CONTEXT }, prompts, temperature, tokens, isWarm }
      const results = await oneByOne({ ...race, policies: all }, (sofar) => {
        const { policy } = sofar[sofar.length - 1]
        const per = perCategory(of(sofar, policy))
        const mean = meanOf(per)
        const figures = { part: 'acceptance', temperature, memory, policy: policy.name, mean }
        report.row([policy.name.padEnd(18), ...[...per.values(), mean].map((value) => value.toFixed(2))], {
          ...figures,
          tokensPerPass: Object.fromEntries(per),
        })
      })
      const say = (one: Policy, others: readonly Policy[], what: string): void => {
        const own = perCategory(of(results, one))
        const rivals = others.map((policy) => ({ name: policy.name, per: perCategory(of(results, policy)) }))
        const best = rivals.reduce((a, b) => (meanOf(b.per) > meanOf(a.per) ? b : a))
        const ratios = kinds.map((kind) => own.get(kind)! / Math.max(...rivals.map(({ per }) => per.get(kind)!)))
        const mean = meanOf(own) / meanOf(best.per)
        const verdict = { verdict: one.name, against: best.name, mean, ratios }
        report.line({ part: 'acceptance', temperature, memory, ...verdict, kinds })
        const list = kinds.map((kind, i) => `${kind} ${ratios[i].toFixed(2)}x`).join(', ')
        report.note(`${one.name} against ${what}: mean ${mean.toFixed(2)}x (${best.name}); ${list}`)
      }
      say(hybrid, free, 'the best single drafter without a draft model')
      say(hybridWithDraft, [tree], 'the model’s tree alone')
      const ngram = free.find(({ name }) => name === 'ngram')!
      say(hybrid, [ngram], 'prompt lookup')
      say(hybridWithDraft, [chain], 'the chain')
    }
  }
  report.note(NOTE)
}

const RATE_COLUMNS = ['policy'.padEnd(18), 'tok/pass', '  tok/s', 'x plain', '  least', 'nodes']

/** @param results of some prompts, by the policy and by plain decoding */
function rateRow(results: readonly Result[], policy: Policy, figures: object): void {
  const own = of(results, policy)
  const ratios = timesPlain(own, results)
  const sum = (pick: (r: Result) => number): number => own.reduce((total, r) => total + pick(r), 0)
  const row = {
    ...figures,
    policy: policy.name,
    tokensPerPass: perPass(own),
    tokensPerSecond: median(own.map(rate)),
    timesPlain: median(ratios),
    leastTimesPlain: Math.min(...ratios),
    nodesPerPass:
      sum(({ completion: { stats } }) => stats.nodesPerPass * stats.passes) /
      sum(({ completion }) => completion.stats.passes),
    rates: own.map(rate),
  }
  const { tokensPerPass, tokensPerSecond, leastTimesPlain } = row
  report.row(
    [
      policy.name.padEnd(18),
      tokensPerPass.toFixed(2),
      tokensPerSecond.toFixed(1),
      `${row.timesPlain.toFixed(2)}x`,
      `${leastTimesPlain.toFixed(2)}x`,
      row.nodesPerPass.toFixed(1),
    ],
    row,
  )
}

async function resident(): Promise<void> {
  const { free, hybrid, hybridWithDraft, tree, chain } = drafterPolicies('auto')
  // Plain decoding once more: how far the two are apart is how far the machine alone takes the others.
  const control: Policy = { ...PLAIN, name: 'plain, again' }
  const all = [PLAIN, ...free, hybrid, hybridWithDraft, tree, chain, control]
  const pair = await residentPair({ target, draft })
  const common = { draft: pair.draft, context: CONTEXT }
  for (const temperature of temperatures) {
    const prompts = await chosen(pair.target, temperature)
    const race = { directory: pair.target, common, policies: all, prompts, temperature, tokens }
    report.table(
      `resident: ${pair.title}, temperature ${temperature}, ${tokens} tokens, median of ${rounds}, warm`,
      RATE_COLUMNS,
    )
    const results = await interleaved(race, rounds)
    for (const policy of all) rateRow(results, policy, { part: 'resident', model: pair.title, temperature })
  }
  report.note(NOTE)
}

/** The inflated target, and what it has in memory whoever guesses. */
interface Streamed {
  readonly directory: string
  readonly title: string
  readonly common: LoadOptions
  readonly budgeted: (policy: Policy) => Policy
}

async function streamed(context: number): Promise<Streamed> {
  const [shape] = words('--shape', SHAPE_NAMES, ['1.1B'])
  const [kind] = words<Kind>('--kind', KINDS, ['q4'])
  const share = number('--residency', 25) / 100
  const limit = number('--disk-mbps', 0)
  const pair = await inflatedPair(shape, kind)
  const common: LoadOptions = { context, io: 'direct' }
  if (limit > 0 && !isLimited) {
    const refusal = limitDisk(INFLATED, limit * 1e6)
    if (refusal !== undefined) throw new Error(refusal)
    isLimited = true
  }
  return {
    directory: pair.target,
    common,
    title: `inflated to ${shape} ${kind}, ${share * 100} % resident${limit > 0 ? `, disk held to ${limit} MB/s` : ''}`,
    budgeted: (policy) => {
      const plan = planOf({ directory: pair.target, options: { ...common, ...policy.options } }, share)
      if (typeof plan === 'string') throw new Error(plan)
      return { ...policy, options: { ...policy.options, memory: plan.budgetBytes } }
    },
  }
}
let isLimited = false

async function streaming(): Promise<void> {
  const { directory, common, title, budgeted } = await streamed(CONTEXT)
  const { free, hybrid } = drafterPolicies('auto')
  const some = [PLAIN, hybrid, ...free.filter(({ name }) => name === 'ngram')].map(budgeted)
  for (const temperature of temperatures) {
    const prompts = await chosen(directory, temperature)
    report.table(`streaming: ${title}, temperature ${temperature}, ${tokens} tokens, warm`, RATE_COLUMNS)
    const race: Race = { directory, common, policies: some, prompts, temperature, tokens }
    const results = await oneByOne(race, (sofar) => {
      rateRow(sofar, sofar[sofar.length - 1].policy, { part: 'streaming', temperature })
    })
    for (const own of of(results, some[1])) {
      const [ratio] = timesPlain([own], results)
      const { category, tokens: prompt } = own.prompt
      report.line({ part: 'streaming', temperature, policy: 'hybrid', category, timesPlain: ratio })
      report.note(`hybrid against plain, ${category} (prompt of ${prompt.length}): ${ratio.toFixed(2)}x`)
    }
  }
  report.note(NOTE)
}

async function replay(): Promise<void> {
  const context = number('--context', 1024)
  const recordings = loadRecordings({ tokenizer, directory, context, perKind }).slice(0, most)
  report.note(
    'replay: the passes are the target’s, the text is another’s. What recycle learns, alone and inside hybrid, does not fit it.',
  )
  const { free, hybrid } = drafterPolicies('auto')
  const [memory] = words('--replay-memory', MEMORIES, ['warm'])
  const chosenFree = free.filter(({ name }) => name === 'trie' || name === 'ngram')
  for (const place of words('--replay-in', PLACES, PLACES)) {
    const streams = place === 'streaming' ? await streamed(context) : undefined
    const some = [PLAIN, ...chosenFree, hybrid].map((policy) => streams?.budgeted(policy) ?? policy)
    const race: Race = {
      directory: streams?.directory ?? target,
      common: streams?.common ?? { context },
      policies: some,
      prompts: recordings,
      temperature: 0,
      tokens,
      isWarm: memory === 'warm',
    }
    const tell = (sofar: readonly Result[]): void => {
      const { policy } = sofar[sofar.length - 1]
      report.note(`${place}, ${policy.name}: ${perPass(of(sofar, policy)).toFixed(2)} tokens per pass over all texts`)
    }
    const results = streams === undefined ? await interleaved(race, rounds) : await oneByOne(race, tell)
    for (const category of new Set(recordings.map((recording) => recording.category))) {
      const own = results.filter(({ prompt }) => prompt.category === category)
      const [{ length }, cut] = [of(own, some[0]), of(own, some[0]).filter(({ prompt }) => prompt.isCut).length]
      const title = `${place}${streams === undefined ? '' : ` (${streams.title})`}: ${category}, ${length} texts`
      report.table(
        `replay, ${title}, ${cut} of documents that are cut, up to ${tokens} tokens, ${memory}`,
        RATE_COLUMNS,
      )
      for (const policy of some) rateRow(own, policy, { part: 'replay', place, memory, category })
    }
  }
  report.note(NOTE)
}

async function curve(): Promise<void> {
  const length = number('--curve-tokens', 24)
  const per = number('--curve-per-category', 80)
  const [temperature] = temperatures
  const whole = promptsOf(per).filter(({ isCut }) => !isCut)
  const { kept } = await withoutLoops(target, whole, per, { temperature, tokens: length })
  // Categories take turns: blocks then differ in what is known, not in what is asked.
  const turn = (prompt: BenchPrompt): number =>
    kept.filter(({ category }) => category === prompt.category).indexOf(prompt)
  const prompts = kept
    .map((prompt) => ({ prompt, turn: turn(prompt) }))
    .sort((a, b) => a.turn - b.turn)
    .map(({ prompt }) => prompt)
    .slice(0, most)
  const { hybrid } = drafterPolicies(nodes)
  const race = { directory: target, common: { context: CONTEXT }, prompts, temperature, tokens: length }
  const warm = of(await oneByOne({ ...race, policies: [PLAIN, hybrid] }, () => {}), hybrid)
  const cold = await oneByOne({ ...race, policies: [hybrid], isWarm: false }, () => {})
  const block = number('--block', 40)
  report.table(`curve: hybrid, ${nodes} nodes, ${prompts.length} prompts, ${length} tokens each, tokens per pass`, [
    'prompts'.padEnd(10),
    'warm',
    'cold',
    'warm/cold',
  ])
  for (const { first, last, figures } of byBlock([warm, cold], block)) {
    const [known, fresh] = figures
    report.row(
      [`${first + 1}-${last + 1}`.padEnd(10), known.toFixed(2), fresh.toFixed(2), `${(known / fresh).toFixed(2)}x`],
      { part: 'curve', temperature, first: first + 1, last: last + 1, warm: known, cold: fresh },
    )
  }
}

if (parts.includes('proposals')) proposals()
if (parts.includes('acceptance')) await acceptance()
if (parts.includes('resident')) await resident()
if (parts.includes('streaming')) await streaming()
if (parts.includes('replay')) await replay()
if (parts.includes('curve')) await curve()
report.end()
