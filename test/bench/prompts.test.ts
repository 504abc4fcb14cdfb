import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { type BenchPrompt, loadPrompts, type PromptOptions, type PromptTokenizer } from '../../bench/prompts.ts'
import { readTokenizer } from '../../src/engine/tokenizer-files.ts'
import { scratch } from '../engine/harness.ts'
import { root } from '../paths.ts'

const test = suite('prompts')

/** One token per word, after one for the turn of a chat. */
const words: PromptTokenizer = {
  encode: (text) => text.split(/\s+/).map((word) => word.length),
  encodeChat: ([{ content }]) => [-1, ...words.encode(content)],
}

const lines = (objects: readonly object[]): string => `${objects.map((object) => JSON.stringify(object)).join('\n')}\n`
const wordsOf = (count: number, word = 'a'): string => new Array(count).fill(word).join(' ')

function directoryOf(name: string, specBench: readonly object[]): string {
  const directory = join(scratch, name)
  mkdirSync(directory, { recursive: true })
  writeFileSync(join(directory, 'spec_bench_question.jsonl'), lines(specBench))
  writeFileSync(join(directory, 'HumanEval.jsonl.gz'), gzipSync(lines([{ prompt: 'def f(x):' }])))
  writeFileSync(join(directory, 'gsm8k_test.jsonl'), lines([{ question: 'How many are two?', answer: '#### 2' }]))
  return directory
}

function promptsOf(options: Partial<PromptOptions>): { prompts: BenchPrompt[]; notes: string } {
  const notes: string[] = []
  const note = (line: string) => notes.push(line)
  const prompts = loadPrompts({ tokenizer: words, directory: undefined, perCategory: 4, note, ...options })
  return { prompts, notes: notes.join('\n') }
}

const categoriesOf = (prompts: readonly BenchPrompt[]): string[] => [...new Set(prompts.map((p) => p.category))]

test('without the files of others only the own prompts are used, which is said with where to get them', () => {
  const { prompts, notes } = promptsOf({ perCategory: 100 })
  assert.equal(categoriesOf(prompts), ['own'])
  assert.is(prompts.length, 24)
  for (const part of ['ONLY', '--prompts', 'COPPICE_PROMPTS', 'hemingkx/Spec-Bench', 'HumanEval', 'gsm8k']) {
    assert.match(notes, part)
  }
})

test('questions are chats by their first turn, code is text, and MT-Bench is one category', () => {
  const directory = directoryOf('kinds', [
    { category: 'writing', turns: ['b b', 'second turn'] },
    { category: 'coding', turns: ['c'] },
    { category: 'qa', turns: ['d d d'] },
  ])
  const { prompts, notes } = promptsOf({ directory, perCategory: 9 })
  assert.is(notes, '')
  const of = (category: string) => prompts.filter((p) => p.category === category).map((p) => p.tokens)
  assert.equal(categoriesOf(prompts), ['own', 'mt_bench', 'qa', 'humaneval', 'gsm8k'])
  assert.equal(of('mt_bench'), [
    [-1, 1, 1],
    [-1, 1],
  ])
  assert.equal(of('humaneval'), [[3, 5]])
  assert.equal(of('gsm8k'), [[-1, 3, 4, 3, 4]])
})

test('a category gives as many as asked for, evenly spread and always the same', () => {
  const questions = Array.from({ length: 10 }, (_, i) => ({ category: 'qa', turns: ['x'.repeat(i + 1)] }))
  const directory = directoryOf('spread', questions)
  const choose = () => promptsOf({ directory, perCategory: 4 }).prompts
  const chosen = choose().filter((p) => p.category === 'qa')
  assert.equal(
    chosen.map((p) => p.tokens[1]),
    [1, 3, 6, 8],
  )
  assert.equal(choose(), choose())
})

test('long prompts come after all that fit, cut between words', () => {
  const directory = directoryOf('long', [
    { category: 'rag', turns: [wordsOf(500)] },
    { category: 'rag', turns: [wordsOf(191)] },
    { category: 'rag', turns: [wordsOf(192)] },
  ])
  const rag = promptsOf({ directory }).prompts.filter((p) => p.category === 'rag')
  assert.equal(
    rag.map(({ tokens, isCut }) => [tokens.length, isCut]),
    [
      [192, false],
      [192, true],
      [192, true],
    ],
  )
})

test('a file that is not what it should be is named with the line', () => {
  const directory = directoryOf('broken', [{ category: 'qa', turns: ['a'] }, { category: 'qa' }])
  assert.throws(() => promptsOf({ directory }), /line 2 of .*spec_bench_question\.jsonl/)
})

test('the own prompts are short and the pair can read them', () => {
  const tokenizer = readTokenizer(join(root, 'models', 'target'))
  for (const { tokens, isCut } of promptsOf({ tokenizer, perCategory: 100 }).prompts) {
    assert.ok(tokens.length >= 8 && tokens.length <= 40, `${tokens.length} tokens`)
    assert.is(isCut, false)
  }
})

test.run()
