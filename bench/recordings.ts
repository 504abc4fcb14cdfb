/**
 * Texts that others wrote, for replays: what repeats its prompt or an earlier turn, as answers to documents and
 * sessions do, and the small target does not. From Spec-Bench's file, whose references are short for questions on
 * documents and missing for most sessions: what is put together here in their place says "constructed".
 */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Message } from '../src/text/chat.ts'
import { type BenchPrompt, MT_BENCH, type PromptTokenizer, SPEC_BENCH } from './prompts.ts'

export const KINDS_OF_RECORDING = [
  'summary',
  'document answer',
  'document extract (constructed)',
  'session, turn 1',
  'session, turn 2',
  'session, turn 2 (constructed)',
] as const

export interface Recording extends BenchPrompt {
  readonly category: (typeof KINDS_OF_RECORDING)[number]
  readonly replay: readonly number[]
  readonly session: string
}

export interface RecordingOptions {
  readonly tokenizer: PromptTokenizer
  /** Where Spec-Bench's file is. */
  readonly directory: string | undefined
  /** Tokens of a prompt and its answer at the most. */
  readonly context: number
  /** Documents and sessions of one kind at the most. */
  readonly perKind: number
}

interface Item {
  readonly question_id: number
  readonly category: string
  readonly turns: readonly string[]
  /** A text per turn; lists of short answers for questions on documents. */
  readonly reference?: readonly (string | readonly string[])[]
}

/** A shorter text says nothing. */
const LEAST_TOKENS = 12
/** Sentences of an extract. */
const EXTRACT = 4

/**
 * The same recordings for the same file and options, by kind; the turns of a session follow each other.
 * @throws Error when the file is missing
 */
export function loadRecordings(options: RecordingOptions): Recording[] {
  const path = join(options.directory ?? '', SPEC_BENCH)
  if (options.directory === undefined || !existsSync(path)) {
    throw new Error(`recorded texts come from ${SPEC_BENCH}; name its directory by --prompts DIR or COPPICE_PROMPTS`)
  }
  const lines = readFileSync(path, 'utf8').split('\n')
  const items = lines.filter((line) => line.trim() !== '').map((line) => JSON.parse(line) as Item)
  const some = (recordings: readonly Recording[][]): Recording[] =>
    recordings
      .filter(({ length }) => length > 0)
      .slice(0, options.perKind)
      .flat()
  const of = (category: string): Item[] => items.filter((item) => item.category === category)
  return [
    ...some(of('summarization').map((item) => onDocument('summary', item, texts(item)[0] ?? '', options))),
    ...some(of('rag').map((item) => onDocument('document answer', item, texts(item)[0] ?? '', options))),
    ...some(of('rag').map((item) => onDocument('document extract (constructed)', item, undefined, options))),
    ...some(items.filter(({ category }) => MT_BENCH.includes(category)).map((item) => session(item, options))),
  ]
}

const texts = ({ reference = [] }: Item): string[] =>
  reference.map((text) => (typeof text === 'string' ? text : text.join(', ')))

export const sentencesOf = (text: string): string[] => text.split(/(?<=[.!?])\s+/).filter((s) => s.trim() !== '')

/**
 * A document, the last line of which may be a question, and what was answered.
 * @param answer undefined: the sentences of the document that have most words with the question in common
 * @returns one recording, or none when the answer is too short
 */
function onDocument(kind: Recording['category'], item: Item, answer: string | undefined, options: RecordingOptions) {
  const { tokenizer, context } = options
  const [text] = item.turns
  const end = item.category === 'rag' ? text.lastIndexOf('\n') : text.length
  const sentences = sentencesOf(text.slice(0, end))
  const question = text.slice(end)
  const written = (kept: number): string => answer ?? extract(sentences.slice(0, kept), question)
  const promptOf = (kept: number): number[] => chat(tokenizer, sentences.slice(0, kept).join(' ') + question)
  let kept = sentences.length
  const fits = (): boolean => promptOf(kept).length + tokenizer.encode(written(kept)).length <= context
  while (kept > 1 && !fits()) kept--
  const replay = tokenizer.encode(written(kept))
  if (replay.length < LEAST_TOKENS || !fits()) return []
  return [recording(kind, item, promptOf(kept), replay, kept < sentences.length)]
}

/** Sentences in the order of the document. */
export function extract(sentences: readonly string[], question: string): string {
  const words = (text: string): Set<string> => new Set(text.toLowerCase().match(/\p{L}{4,}/gu) ?? [])
  const asked = words(question)
  const shared = sentences.map((sentence) => [...words(sentence)].filter((word) => asked.has(word)).length)
  const order = sentences.map((_, i) => i).sort((a, b) => shared[b] - shared[a] || a - b)
  const taken = order.slice(0, EXTRACT).sort((a, b) => a - b)
  return taken.map((i) => sentences[i]).join(' ')
}

const AGAIN = 'Please give your answer again, with its second half first.'

/**
 * A question with its reference as the answer; then the second question with its own or, where there is none, the
 * same answer is asked for again. The second turn's prompt has the first one in it.
 */
function session(item: Item, { tokenizer, context }: RecordingOptions): Recording[] {
  const answers = texts(item).map((answer) => tokenizer.encode(answer))
  if (answers.length === 0 || answers[0].length < 2 * LEAST_TOKENS) return []
  const [answer] = texts(item)
  const isConstructed = answers.length < 2 || answers[1].length < 2 * LEAST_TOKENS
  const first: Message = { role: 'user', content: item.turns[0] }
  const second: Message = { role: 'user', content: isConstructed ? AGAIN : item.turns[1] }
  const replay = isConstructed ? tokenizer.encode(swapped(answer)) : answers[1]
  const prompt = tokenizer.encodeChat([first, { role: 'assistant', content: answer }, second])
  if (prompt.length + replay.length > context) return []
  const kind = isConstructed ? 'session, turn 2 (constructed)' : 'session, turn 2'
  return [
    recording('session, turn 1', item, tokenizer.encodeChat([first]), answers[0], false),
    recording(kind, item, prompt, replay, false),
  ]
}

/** The second half of a text's lines or, where it has one only, sentences; then the first. */
export function swapped(text: string): string {
  const lines = text.split('\n')
  const [parts, between] = lines.length > 1 ? [lines, '\n'] : [sentencesOf(text), ' ']
  const half = parts.length >> 1
  return [...parts.slice(half), ...parts.slice(0, half)].join(between)
}

const chat = (tokenizer: PromptTokenizer, content: string): number[] =>
  tokenizer.encodeChat([{ role: 'user', content }])

const recording = (
  category: Recording['category'],
  { question_id }: Item,
  tokens: readonly number[],
  replay: readonly number[],
  isCut: boolean,
): Recording => ({ category, tokens, replay, isCut, session: `${category.split(',')[0]} ${question_id}` })
