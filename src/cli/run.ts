/** `coppice run`: text to stdout as it is written, statistics to stderr. */
import { CoppiceError } from '../errors.ts'
import { type Completion, type LoadOptions, load, type Model, type Piece } from '../index.ts'
import { writeFileAtomically } from '../runtime/atomic-file.ts'
import { absolutePath, statPath } from '../runtime/files.ts'
import {
  coloursAllowed,
  INTERRUPTED_EXIT_CODE,
  onInterrupt,
  readStdin,
  stderr,
  stdinIsTerminal,
  stdout,
} from '../runtime/terminal.ts'
import { checkOutputFile, command, ProgressView, positionals } from './command.ts'
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
import { comparisonLines, statisticsLines } from './report.ts'
import { write } from './write.ts'

const USAGE = 'coppice run [flags] MODEL [PROMPT]'

/** Accepted guesses are green; what the target added itself keeps the terminal's own colour. */
const GUESSED = '\x1b[32m'
const PLAIN = '\x1b[39m'

export const run = command({
  name: 'run',
  purpose: 'write on from a prompt',
  usage: USAGE,
  summary:
    'Writes on from a prompt, which is an argument or comes from stdin. MODEL is a Hugging Face directory, a packed directory, or "embedded". On a terminal, accepted guesses of the draft are green.',
  flags: {
    ...LOAD_FLAGS,
    ...SAMPLING_FLAGS,
    trace: {
      type: 'string',
      value: 'FILE',
      help: 'write a timeline of disk, compute and draft to FILE, for ui.perfetto.dev or chrome://tracing',
    },
    drafterState: {
      type: 'string',
      value: 'FILE',
      help: 'what drafters without a draft learnt before: read from FILE where it exists, and written back at the end',
    },
    compare: { type: 'boolean', help: 'write the text a second time without draft and show both costs' },
    ...JSON_FLAG,
    ...HELP_FLAG,
  },
  examples: [
    'coppice run embedded "The old house stood at the end of the lane, and"',
    'coppice run ./llama-8b --draft ./llama-1b --memory 4GB -n 200 "Once upon a time"',
    'coppice run ./llama-8b --drafter hybrid --drafter-state ./mail.state < letter.txt',
    'echo "Dear Sir," | coppice run ./llama-8b --temp 0.8 --seed 7',
  ],
  async run({ values, positionals: given }) {
    const [model, argument] = positionals(given, 1, 2, USAGE)
    if (values.trace !== undefined) checkOutputFile('--trace', values.trace)
    const state = values.drafterState
    if (state !== undefined) checkOutputFile('--drafter-state', state)
    const prompt = argument ?? (await promptFromStdin())
    const controller = new AbortController()
    const release = onInterrupt(() => controller.abort())
    const progress = new ProgressView()
    const common: LoadOptions = { onProgress: progress.show, signal: controller.signal }
    const isKnown = state !== undefined && statPath(state) !== undefined
    const options = { ...loadOptions(model, values), ...(isKnown && { drafterState: state }) }
    const generation = { ...generateOptions(values), signal: controller.signal }
    const traced = { ...generation, trace: values.trace !== undefined }
    let opened: Model | undefined
    try {
      opened = await load(modelPath(model), { ...options, ...common })
      progress.clear()
      // Better refused now than when all is done.
      if (state !== undefined) await opened.saveDrafterState(state)
      const onPiece = values.json ? () => progress.clear() : pieceWriter(progress)
      const { completion: written, interrupted } = await write(opened, prompt, traced, onPiece)
      const { trace, ...completion } = written
      progress.clear()
      if (state !== undefined) await opened.saveDrafterState(state)
      const plan = opened.plan
      await opened.close()
      if (!values.json) finishText(completion)
      if (values.trace !== undefined && trace !== undefined) writeFileAtomically(absolutePath(values.trace), trace)
      const plain =
        values.compare && !interrupted
          ? await writePlain(model, values, common, prompt, { ...generation, seed: completion.seed })
          : undefined
      if (values.json)
        stdout.write(`${JSON.stringify({ ...completion, plan, ...(plain && { plain: plain.stats }) })}\n`)
      else say(statisticsLines(completion, plan, stderr.columns))
      if (plain !== undefined && !values.json) {
        say(comparisonLines(completion.stats, plain.stats))
        const same = plain.tokens.join() === completion.tokens.join()
        const mayDiffer = generation.verify === 'residual'
        const difference = mayDiffer
          ? 'the two texts differ, as they may under the residual rule'
          : 'THE TWO TEXTS DIFFER: please report this'
        say([same ? 'both wrote the same tokens' : difference])
        if (!same && !mayDiffer) return 1
      }
      return interrupted ? INTERRUPTED_EXIT_CODE : 0
    } finally {
      progress.clear()
      release()
      await opened?.close()
    }
  },
})

async function promptFromStdin(): Promise<string> {
  if (stdinIsTerminal()) {
    throw new CoppiceError('INVALID_OPTION', `there is no prompt: give it as an argument or on stdin; usage: ${USAGE}`)
  }
  // The line break that ends a line of shell input is not part of the text to go on from.
  return (await readStdin()).replace(/\r?\n$/, '')
}

async function writePlain(
  model: string,
  values: Parameters<typeof loadOptions>[1],
  common: LoadOptions,
  prompt: string,
  options: Parameters<Model['generate']>[1],
): Promise<Completion> {
  const plain = await load(modelPath(model), { ...plainLoadOptions(model, values), ...common })
  try {
    return await plain.complete(prompt, options)
  } finally {
    await plain.close()
  }
}

function pieceWriter(progress: ProgressView): (piece: Piece) => void {
  const colours = coloursAllowed(stdout)
  return ({ text, drafted }) => {
    progress.clear()
    if (text !== '') stdout.write(colours && drafted ? `${GUESSED}${text}${PLAIN}` : text)
  }
}

function finishText({ text }: Completion): void {
  if (!text.endsWith('\n')) stdout.write('\n')
}

function say(lines: readonly string[]): void {
  stderr.write(`${lines.join('\n')}\n`)
}
