import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { SOURCES, type SourceName } from '../../src/speculate/drafter.ts'
import { DrafterMemory } from '../../src/speculate/memory.ts'
import { FixedPacing } from '../../src/speculate/pacing.ts'
import { makeSource } from '../../src/speculate/sources/catalogue.ts'
import type { Source } from '../../src/speculate/sources/source.ts'
import { assertFails } from '../runtime/failures.ts'
import { successors } from './sources/guessing.ts'

const VOCABULARY = 50
const TEXT = [7, 8, 9, 10, 7, 8, 9, 11, 7, 8, 9, 10]

const memoryOf = (...names: readonly SourceName[]): DrafterMemory =>
  new DrafterMemory({
    sources: names.map((name) => makeSource(name, VOCABULARY)),
    pacing: new FixedPacing(8),
    branching: 0,
    model: 0,
  })

const guessesOf = (memory: DrafterMemory): unknown[] =>
  memory.sources.filter(({ warm }) => warm !== undefined).map((source: Source) => successors(source, [7, 8, 9]))

const test = suite('what drafters remember of an owner')

test('what sources were taught is saved and loaded, each its own', () => {
  const memory = memoryOf(...SOURCES)
  memory.warm(TEXT)
  const sections = memory.save()
  assert.equal(
    sections.map(({ source }) => source),
    ['trie', 'trigram', 'recycle'],
  )
  const other = memoryOf(...SOURCES)
  other.load(sections, 'f')
  assert.equal(guessesOf(other), guessesOf(memory))
  assert.equal(other.save(), sections)
  for (const { name, entries } of other.sources) if (name === 'trie' || name === 'trigram') assert.ok(entries! > 0)
})

test('a source whose section is missing stays as it is', () => {
  const memory = memoryOf('trie', 'trigram')
  memory.warm(TEXT)
  const before = guessesOf(memory)
  memory.load([], 'f')
  assert.equal(guessesOf(memory), before)
})

test('sections of sources that are not used are saved as they came, and counted', () => {
  const whole = memoryOf('trie', 'trigram')
  whole.warm(TEXT)
  const [trie, trigram] = whole.save()
  const memory = memoryOf('ngram', 'trie')
  memory.load([trie, trigram], 'f')
  assert.equal(memory.save(), [trie, trigram])
  assert.equal(
    memory.heldBytes.map(({ source }) => source),
    ['ngram', 'trie', 'trigram'],
  )
  assert.is(memory.heldBytes[2].bytes, trigram.bytes.length)
})

test('a section that makes no sense is refused with the name of file and source', () => {
  const larger = makeSource('trie', VOCABULARY + 1)
  larger.warm!([VOCABULARY, 3])
  const bytes = larger.save!()
  const { message } = assertFails(() => memoryOf('trie').load([{ source: 'trie', bytes }], 'a file'), 'CORRUPT_FILE')
  assert.match(message, /a file cannot be used: section "trie": .*it is for 51 tokens/)
  const other = makeSource('recycle', VOCABULARY + 1).save!()
  assertFails(() => memoryOf('recycle').load([{ source: 'recycle', bytes: other }], 'f'), 'CORRUPT_FILE')
})

test('tables say what they take', () => {
  for (const { source, bytes } of memoryOf(...SOURCES).heldBytes) assert.ok(bytes > 100, source)
})

test.run()
