/**
 * Prompts for benchmarks of speculation, by category: Spec-Bench's questions (the first turn of each), HumanEval,
 * GSM8K's test set, and openings of the embedded pair's own kind of text (bench/own-prompts.txt, written for this
 * purpose). The three sets of others are not part of the repository; --prompts DIR or COPPICE_PROMPTS says where they
 * are, and without them the pair's own kind of text is all there is.
 */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import { environment } from '../src/runtime/platform.ts'
import type { Message } from '../src/text/chat.ts'
import { root } from '../test/paths.ts'
import { text } from './report.ts'

/** What turns prompts into tokens: `Tokenizer` of src/text. */
export interface PromptTokenizer {
  encode(text: string): number[]
  encodeChat(messages: readonly Message[]): number[]
}

export interface BenchPrompt {
  readonly category: string
  readonly tokens: readonly number[]
  /** Its text was too long and has lost its end. */
  readonly isCut: boolean
  /** What another wrote after it, to be replayed. */
  readonly replay?: readonly number[]
  /** Prompts of one session follow each other. */
  readonly session?: string
}

export interface PromptOptions {
  readonly tokenizer: PromptTokenizer
  /** Where the files of others are; see `promptsDirectory`. */
  readonly directory: string | undefined
  /** Prompts of one category at the most. */
  readonly perCategory: number
  /** Tokens of a prompt at the most. Default 192: the embedded pair was trained on sequences of 512. */
  readonly longest?: number
  /** Hears what is missing. Default: standard output. */
  readonly note?: (line: string) => void
}

/** A prompt as it was written: a question to an assistant, or text to be continued. */
interface Question {
  readonly category: string
  readonly text: string
  readonly isChat: boolean
}

export const SPEC_BENCH = 'spec_bench_question.jsonl'

/** Spec-Bench has these eight from MT-Bench, ten questions each, and counts them as one. */
export const MT_BENCH = ['writing', 'roleplay', 'reasoning', 'math', 'coding', 'extraction', 'stem', 'humanities']

interface QuestionFile {
  readonly name: string
  /** Where it comes from. */
  readonly origin: string
  readonly read: (line: unknown) => Question
}

const FILES: readonly QuestionFile[] = [
  {
    name: SPEC_BENCH,
    origin: 'data/spec_bench/question.jsonl of https://github.com/hemingkx/Spec-Bench',
    read: (line) => {
      const { category, turns } = line as { category: string; turns: string[] }
      return { category: MT_BENCH.includes(category) ? 'mt_bench' : category, text: turns[0], isChat: true }
    },
  },
  {
    name: 'HumanEval.jsonl.gz',
    origin: 'data/HumanEval.jsonl.gz of https://github.com/openai/human-eval',
    read: (line) => ({ category: 'humaneval', text: (line as { prompt: string }).prompt, isChat: false }),
  },
  {
    name: 'gsm8k_test.jsonl',
    origin: 'grade_school_math/data/test.jsonl of https://github.com/openai/grade-school-math',
    read: (line) => ({ category: 'gsm8k', text: (line as { question: string }).question, isChat: true }),
  },
]

/** The directory after --prompts, or else in COPPICE_PROMPTS. */
export function promptsDirectory(): string | undefined {
  const given = text('--prompts', environment('COPPICE_PROMPTS') ?? '')
  return given === '' ? undefined : given
}

/**
 * The same prompts for the same files and options: of each category, those that are short enough, evenly spread over
 * it; when they are too few, others that are cut.
 * @throws Error when a file is not what it should be
 */
export function loadPrompts(options: PromptOptions): BenchPrompt[] {
  const questions = [...ownQuestions(), ...questionsOfOthers(options.directory, options.note ?? console.log)]
  const categories = [...new Set(questions.map(({ category }) => category))]
  return categories.flatMap((category) =>
    choose(
      questions.filter((question) => question.category === category),
      options,
    ),
  )
}

function ownQuestions(): Question[] {
  const lines = readFileSync(join(root, 'bench', 'own-prompts.txt'), 'utf8')
    .trim()
    .split('\n')
  return lines.map((line) => ({ category: 'own', text: line, isChat: false }))
}

function questionsOfOthers(directory: string | undefined, note: (line: string) => void): Question[] {
  const missing = FILES.filter(({ name }) => directory === undefined || !existsSync(join(directory, name)))
  if (missing.length > 0) {
    note(
      missing.length === FILES.length
        ? "ONLY PROMPTS OF THE PAIR'S OWN KIND OF TEXT: acceptance on them says little about other text."
        : 'SOME PROMPTS ARE MISSING.',
    )
    note(
      `Put these files into a directory and name it by --prompts DIR or COPPICE_PROMPTS (now ${directory ?? 'unset'}):`,
    )
    for (const { name, origin } of missing) note(`  ${name}: ${origin}`)
  }
  return FILES.filter((file) => !missing.includes(file)).flatMap((file) => readQuestions(directory!, file))
}

function readQuestions(directory: string, { name, read }: QuestionFile): Question[] {
  const path = join(directory, name)
  const bytes = readFileSync(path)
  const lines = (name.endsWith('.gz') ? gunzipSync(bytes) : bytes).toString('utf8').split('\n')
  return lines.flatMap((line, i) => {
    if (line.trim() === '') return []
    try {
      const question = read(JSON.parse(line))
      if (typeof question.text !== 'string' || typeof question.category !== 'string') throw new Error('no question')
      return [question]
    } catch (cause) {
      throw new Error(`line ${i + 1} of ${path} is not what it should be: ${(cause as Error).message}`, { cause })
    }
  })
}

function choose(questions: readonly Question[], options: PromptOptions): BenchPrompt[] {
  const { tokenizer, perCategory, longest = 192 } = options
  const encoded = questions.map((question) => ({ question, tokens: encode(tokenizer, question) }))
  const fitting = encoded.filter(({ tokens }) => tokens.length <= longest)
  const whole = spread(fitting, perCategory).map(({ question, tokens }) => {
    return { category: question.category, tokens, isCut: false }
  })
  const others = encoded.filter(({ tokens }) => tokens.length > longest)
  const cut = spread(others, perCategory - whole.length).map(({ question }) => {
    return { category: question.category, tokens: cutToFit(tokenizer, question, longest), isCut: true }
  })
  return [...whole, ...cut]
}

const encode = (tokenizer: PromptTokenizer, { text, isChat }: Question): number[] =>
  isChat ? tokenizer.encodeChat([{ role: 'user', content: text }]) : tokenizer.encode(text)

/** At most `count` of the items, from the first on, with equal distances. */
function spread<Item>(items: readonly Item[], count: number): Item[] {
  if (items.length <= count) return [...items]
  return Array.from({ length: count }, (_, i) => items[Math.floor((i * items.length) / count)])
}

/** Tokens of the question with as many of its first words as fit. */
function cutToFit(tokenizer: PromptTokenizer, question: Question, longest: number): number[] {
  const words = question.text.split(/(?=\s)/)
  const tokensOf = (count: number): number[] => encode(tokenizer, { ...question, text: words.slice(0, count).join('') })
  let low = 0
  let high = words.length
  while (low + 1 < high) {
    const middle = Math.floor((low + high) / 2)
    if (tokensOf(middle).length <= longest) low = middle
    else high = middle
  }
  return tokensOf(low)
}
