/** `coppice bench`: what guessing brings to the user's own prompts. */
import { CoppiceError } from '../errors.ts'
import { decodingSeconds, sumOfStats, tokensPerSecond } from '../generate/statistics.ts'
import { verdictOn } from '../generate/verdict.ts'
import {
  AbortError,
  type Completion,
  type GenerateOptions,
  type LoadOptions,
  load,
  type Model,
  type ModelPlan,
  type Progress,
  type Stats,
} from '../index.ts'
import { readText, statPath } from '../runtime/files.ts'
import { INTERRUPTED_EXIT_CODE, onInterrupt, ProgressLine, readStdin, stdout } from '../runtime/terminal.ts'
import { command, ProgressView, positionals } from './command.ts'
import {
  generateOptions,
  HELP_FLAG,
  JSON_FLAG,
  LOAD_FLAGS,
  loadOptions,
  modelPath,
  plainLoadOptions,
  SAMPLING_FLAGS,
} from './flags.ts'
import { type ListedPrompt, parsePrompts } from './prompts.ts'
import { type BenchRow, benchFacts, benchMedians, benchTable, speedUpOf } from './report.ts'
import { type Written, write } from './write.ts'

const USAGE = 'coppice bench [flags] MODEL --prompts FILE'

/** Written before anything counts: code is compiled, and what stays in memory is read. */
const WARM_UP_TOKENS = 8

export const bench = command({
  name: 'bench',
  purpose: 'what guessing brings to your prompts',
  usage: USAGE,
  summary:
    'Writes on from every prompt of a file, with guesses and without, checks that both write the same tokens, and says what guesses bring and why. First all prompts with guesses, then all without: side by side two models would need twice the memory, and the budget is a promise. A few tokens written before each half do not count.',
  flags: {
    prompts: {
      type: 'string',
      value: 'FILE',
      env: false,
      help: 'a prompt per line, or JSONL with {"prompt": "..."} or {"messages": [...]}; - is stdin',
    },
    ...LOAD_FLAGS,
    ...SAMPLING_FLAGS,
    predict: { ...SAMPLING_FLAGS.predict, default: 128 },
    ...JSON_FLAG,
    ...HELP_FLAG,
  },
  examples: [
    'coppice bench embedded --prompts prompts.txt',
    'coppice bench ./llama-8b --draft ./llama-1b --memory 4GB --prompts chats.jsonl --json',
  ],
  async run({ values, positionals: given }) {
    const [model] = positionals(given, 1, 1, USAGE)
    const options = loadOptions(model, values)
    if (options.nodes === 0 || (options.draft === 'none' && options.drafters === undefined)) {
      throw new CoppiceError(
        'INVALID_OPTION',
        'bench compares guessing with plain decoding, and nothing guesses here; leave out --nodes 0 and --draft none',
      )
    }
    const prompts = await readPrompts(values.prompts)
    const controller = new AbortController()
    const release = onInterrupt(() => controller.abort())
    try {
      const path = modelPath(model)
      const generation = { ...generateOptions(values), signal: controller.signal }
      const drafted = await writeAll('with guesses', path, options, prompts, () => generation)
      const done = drafted.completions
      // With the seed that was drawn, or the texts would differ.
      const plain = drafted.interrupted
        ? undefined
        : await writeAll('plain', path, plainLoadOptions(model, values), prompts, (i) => ({
            ...generation,
            seed: done[i].seed,
          }))
      const interrupted = plain === undefined || plain.interrupted
      const outcomes = done.map((completion, i): Outcome => {
        const other = plain?.completions[i]
        const pair = { line: prompts[i].line, stats: completion.stats }
        // What an interruption has cut is no less true, and no measure of the other.
        if (other === undefined || other.finishReason === 'aborted') return pair
        return { ...pair, plain: other.stats, same: other.tokens.join() === completion.tokens.join() }
      })
      if (outcomes.length > 0) show(model, outcomes, drafted.plan!, interrupted, values.json === true)
      if (outcomes.some(({ same }) => same === false)) return 1
      return interrupted ? INTERRUPTED_EXIT_CODE : 0
    } finally {
      release()
    }
  },
})

interface Outcome extends BenchRow {
  /** Of the prompt, in its file. */
  readonly line: number
  /** Whether both wrote the same tokens; absent where one did not write. */
  readonly same?: boolean
}

/** @throws CoppiceError INVALID_OPTION | INVALID_INPUT | FILE_SYSTEM */
async function readPrompts(file: string | undefined): Promise<readonly ListedPrompt[]> {
  if (file === undefined) {
    throw new CoppiceError('INVALID_OPTION', `--prompts FILE is missing; usage: ${USAGE}`)
  }
  if (file === '-') return parsePrompts(await readStdin(), 'stdin')
  const found = statPath(file)
  if (found === undefined || found.kind === 'directory') {
    const what = found === undefined ? 'is not there' : 'is a directory'
    throw new CoppiceError('INVALID_OPTION', `--prompts ${file} ${what}; name a file with a prompt per line`)
  }
  return parsePrompts(readText(file), file)
}

interface WrittenTexts {
  /** In the order of the prompts; the last one may be cut short. */
  readonly completions: readonly Completion[]
  readonly interrupted: boolean
  /** Absent when the model was not opened before the interruption. */
  readonly plan?: ModelPlan
}

/** @param generation by the prompt's place in the list */
async function writeAll(
  how: string,
  path: string,
  options: LoadOptions,
  prompts: readonly ListedPrompt[],
  generation: (prompt: number) => GenerateOptions,
): Promise<WrittenTexts> {
  const loading = new ProgressView()
  const line = new ProgressLine()
  let place = ''
  const onProgress = (progress: Progress): void => {
    if (progress.phase === 'prefill') line.update(`${place}, ${progress.done} of ${progress.total} tokens read`)
    else loading.show(progress)
  }
  const completions: Completion[] = []
  let model: Model | undefined
  try {
    const { signal, maxTokens = WARM_UP_TOKENS } = generation(0)
    model = await load(path, { ...options, onProgress, ...(signal && { signal }) })
    const { plan } = model
    loading.clear()
    const next = async (i: number, options: GenerateOptions): Promise<Written> => {
      let tokens = 0
      return writeListed(model!, prompts[i], options, () => line.update(`${place}, token ${++tokens}`))
    }
    place = `${how}: warming up`
    const warmUp = await next(0, { ...generation(0), maxTokens: Math.min(WARM_UP_TOKENS, maxTokens) })
    if (warmUp.interrupted) return { completions, interrupted: true, plan }
    for (const i of prompts.keys()) {
      place = `${how}: prompt ${i + 1} of ${prompts.length}`
      const { completion, interrupted } = await next(i, generation(i))
      // Without a token there is nothing to tell.
      if (completion.stats.tokens > 0) completions.push(completion)
      if (interrupted) return { completions, interrupted, plan }
    }
    return { completions, interrupted: false, plan }
  } catch (error) {
    // While the model was opened, or between two texts.
    if (error instanceof AbortError) return { completions, interrupted: true, ...(model && { plan: model.plan }) }
    throw error
  } finally {
    loading.clear()
    line.clear()
    await model?.close()
  }
}

/** Says which prompt an error is about. */
async function writeListed(
  model: Model,
  { prompt, line }: ListedPrompt,
  options: GenerateOptions,
  onPiece: () => void,
): Promise<Written> {
  try {
    return await write(model, prompt, options, onPiece)
  } catch (error) {
    if (!(error instanceof CoppiceError) || error instanceof AbortError) throw error
    throw new CoppiceError(error.code, `the prompt of line ${line}: ${error.message}`, { cause: error })
  }
}

function show(
  model: string,
  outcomes: readonly Outcome[],
  plan: ModelPlan,
  interrupted: boolean,
  asJson: boolean,
): void {
  const medians = benchMedians(outcomes)
  const plain = sumOfStats(outcomes.flatMap((outcome) => outcome.plain ?? []))
  const all = judged(sumOfStats(outcomes.map(({ stats }) => stats)), plain, medians.speedUp)
  if (asJson) {
    const prompts = outcomes.map((outcome) => ({
      line: outcome.line,
      tokens: outcome.stats.tokens,
      tokensPerPass: outcome.stats.tokensPerPass,
      tokensPerSecond: tokensPerSecond(outcome.stats),
      ...(outcome.plain && { plainTokensPerSecond: tokensPerSecond(outcome.plain), speedUp: speedUpOf(outcome) }),
      same: outcome.same,
      stats: outcome.stats,
      plain: outcome.plain,
    }))
    const { verdict } = all
    const sums = { stats: all, ...(plain.passes > 0 && { plain }) }
    stdout.write(`${JSON.stringify({ model, interrupted, verdict, medians, ...sums, prompts, plan })}\n`)
    return
  }
  const lines = [...benchTable(outcomes), sameness(outcomes), ...benchFacts(all, plan, stdout.columns)]
  if (interrupted) lines.push('interrupted: this is not all')
  stdout.write(`${lines.join('\n')}\n`)
}

/** With the verdict, by what plain decoding took where it was measured. */
function judged(all: Stats, plain: Stats, speedUp: number | undefined): Stats {
  const { speculation } = all
  if (speculation === undefined) return all
  const measured = plain.passes > 0 && { plainSecondsPerPass: decodingSeconds(plain) / plain.passes }
  const stats = { ...all, speculation: { ...speculation, ...measured, ...(speedUp !== undefined && { speedUp }) } }
  const verdict = verdictOn(stats, speedUp)
  return verdict === undefined ? stats : { ...stats, verdict }
}

function sameness(outcomes: readonly Outcome[]): string {
  const compared = outcomes.filter(({ same }) => same !== undefined)
  const different = compared.filter(({ same }) => same === false)
  if (different.length > 0) {
    const lines = different.map(({ line }) => line).join(', ')
    return `THE TEXTS DIFFER after the prompts of lines ${lines}: please report this`
  }
  return compared.length === 0 ? 'nothing was compared' : 'both wrote the same tokens'
}
