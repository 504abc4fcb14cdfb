/** What is replayed: answers that go with documents and sessions, each named for what it is. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { PromptTokenizer } from '../../bench/prompts.ts'
import { extract, KINDS_OF_RECORDING, loadRecordings, type Recording, swapped } from '../../bench/recordings.ts'
import { scratch } from '../engine/harness.ts'

const test = suite('recordings')

/** A token per word: its number in the order of appearance. */
class Words implements PromptTokenizer {
  readonly known: string[] = []

  encode(text: string): number[] {
    return text.split(/\s+/).map((word) => {
      if (!this.known.includes(word)) this.known.push(word)
      return this.known.indexOf(word)
    })
  }

  encodeChat(messages: readonly { readonly content: string }[]): number[] {
    return messages.flatMap(({ content }) => this.encode(content))
  }

  decode(tokens: readonly number[]): string {
    return tokens.map((token) => this.known[token]).join(' ')
  }
}

const sentence = (word: string, count = 8): string => `${Array(count).fill(word).join(' ')}.`
const DOCUMENT = ['apple', 'pear', 'plum', 'cherry', 'quince', 'medlar'].map((word) => sentence(word))
const LONG = `${sentence('one', 14)} ${sentence('two', 14)}`
const ITEMS = [
  { category: 'summarization', turns: [DOCUMENT.join(' ')], reference: [sentence('fruit', 14)] },
  { category: 'rag', turns: [`${DOCUMENT.join(' ')}\nWhich plum, which quince?`], reference: [['plum', 'no other']] },
  { category: 'coding', turns: ['Write one.', 'Write three.'], reference: [LONG, sentence('three', 30)] },
  { category: 'math', turns: ['Write four.', 'Write five.'], reference: [LONG, '5'] },
  { category: 'writing', turns: ['Write six.', 'Write seven.'] },
].map((item, question_id) => ({ question_id, ...item }))

const directory = join(scratch, 'recordings')
mkdirSync(directory, { recursive: true })
writeFileSync(join(directory, 'spec_bench_question.jsonl'), ITEMS.map((item) => JSON.stringify(item)).join('\n'))

const tokenizer = new Words()
const load = (context = 500, perKind = 9): Recording[] => loadRecordings({ tokenizer, directory, context, perKind })
const of = (recordings: readonly Recording[], kind: string): Recording[] =>
  recordings.filter((r) => r.category === kind)

test('references are replayed after their documents and turns', () => {
  const all = load()
  const [summary] = of(all, 'summary')
  assert.is(tokenizer.decode(summary.replay), ITEMS[0].reference![0])
  assert.is(tokenizer.decode(summary.tokens), ITEMS[0].turns[0])
  const [turn] = of(all, 'session, turn 2')
  assert.is(tokenizer.decode(turn.tokens), `Write one. ${LONG} Write three.`)
  assert.is(tokenizer.decode(turn.replay), sentence('three', 30))
})

test('answers that are too short are left out; what stands for them says that it was constructed', () => {
  const all = load()
  assert.is(of(all, 'document answer').length, 0)
  const [found] = of(all, 'document extract (constructed)')
  assert.is(tokenizer.decode(found.replay), [0, 1, 2, 4].map((i) => DOCUMENT[i]).join(' '))
  const [again] = of(all, 'session, turn 2 (constructed)')
  assert.is(tokenizer.decode(again.replay), `${sentence('two', 14)} ${sentence('one', 14)}`)
  for (const { category } of all) assert.ok(KINDS_OF_RECORDING.includes(category))
})

test('the turns of a session follow each other, and share it with nobody', () => {
  const turns = load().filter(({ category }) => category.startsWith('session'))
  assert.equal(
    turns.map(({ category }) => category.slice(0, 15)),
    ['session, turn 1', 'session, turn 2', 'session, turn 1', 'session, turn 2'],
  )
  assert.is(turns[0].session, turns[1].session)
  assert.is.not(turns[1].session, turns[2].session)
  assert.is(load(500, 1).filter(({ category }) => category.startsWith('session')).length, 2)
})

test('documents end at a sentence where there is no room, and keep their question', () => {
  const [short] = of(load(48), 'summary')
  assert.is(tokenizer.decode(short.tokens), DOCUMENT.slice(0, 4).join(' '))
  assert.ok(short.isCut)
  const [extracted] = of(load(50), 'document extract (constructed)')
  assert.match(tokenizer.decode(extracted.tokens), /\. Which plum, which quince\?$/)
  for (const context of [20, 48, 70, 100]) {
    for (const { tokens, replay } of load(context)) assert.ok(tokens.length + replay.length <= context)
  }
})

test('an extract has the sentences that share words with the question, in their order', () => {
  const sentences = ['None here.', 'Foxes live in woods.', 'B.', 'C.', 'D.', 'Woods have foxes and owls.']
  assert.is(
    extract(sentences, 'Where are the foxes and owls?'),
    'None here. Foxes live in woods. B. Woods have foxes and owls.',
  )
})

test('a text is swapped by lines where it has some, else by sentences', () => {
  assert.is(swapped('a\nb\nc\nd'), 'c\nd\na\nb')
  assert.is(swapped('One. Two. Three.'), 'Two. Three. One.')
})

test('without the file it is said where it is looked for', () => {
  for (const missing of [undefined, scratch]) {
    assert.throws(() => loadRecordings({ tokenizer, directory: missing, context: 99, perKind: 1 }), /--prompts DIR/)
  }
})

test.run()
