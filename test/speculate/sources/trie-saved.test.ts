/** A saved trie says the same when it is loaded, whatever its tables went through; anything else is refused. */
import * as fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { TrieSource } from '../../../src/speculate/sources/trie.ts'
import { accept, contextOf, type Guess, successors } from './guessing.ts'

const LENGTH = 5
const OPTIONS = { branchLength: LENGTH, promptWeight: 3 }

const token = fc.oneof(fc.integer({ min: 0, max: 2 }), fc.constantFrom(0x7fffffff, 0x7ffffffe))
const some = fc.array(token, { minLength: 1, maxLength: 30 })

function warmed(...texts: readonly (readonly number[])[]): TrieSource {
  const source = new TrieSource(OPTIONS)
  for (const text of texts) source.warm(text)
  return source
}

/** Which of equally likely ones comes first is not saved. */
const byId = (guesses: readonly Guess[]): Guess[] => [...guesses].sort((a, b) => a.id - b.id)

const test = suite('saved tries')

test('whatever happens, the tables stay sound: what is saved loads again, and says the same', () => {
  const text = fc.record({ prompt: some, passes: fc.array(some, { maxLength: 3 }) })
  fc.assert(
    fc.property(fc.array(text, { minLength: 1, maxLength: 8 }), fc.boolean(), some, (texts, isOver, path) => {
      const options = { ...OPTIONS, capacity: 8 * LENGTH }
      const source = new TrieSource(options)
      for (const { prompt, passes } of texts) {
        const context = contextOf(prompt)
        source.begin(context)
        for (const tokens of passes) accept(source, context, tokens)
        assert.ok(source.entries <= options.capacity)
      }
      if (isOver) source.end()
      const bytes = source.save()
      const loaded = new TrieSource(options)
      loaded.load(bytes)
      assert.equal(loaded.save(), bytes)
      if (isOver) assert.is(loaded.entries, source.entries)
      for (const { id } of successors(loaded, path)) {
        assert.ok(successors(source, path).some((guess) => guess.id === id) || !isOver)
      }
    }),
  )
})

test('what is loaded takes the place of what was known', () => {
  const source = warmed([1, 2, 3])
  source.load(warmed([4, 5, 6], [4, 5, 7], [4, 5, 7]).save())
  assert.equal(successors(source, [1]), [])
  assert.equal(
    successors(source, [4, 5]).map(({ id }) => id),
    [7, 6],
  )
})

test('a trie that outgrows its first tables is saved and loaded whole', () => {
  const source = warmed(Array.from({ length: 3000 }, (_, i) => i))
  const loaded = new TrieSource(OPTIONS)
  loaded.load(source.save())
  assert.is(loaded.entries, source.entries)
  assert.is(successors(loaded, [2996, 2997])[0].id, 2998)
})

test('tokens that the target does not know are not loaded', () => {
  const bytes = new TrieSource({ ...OPTIONS, vocabulary: 10 }).save()
  assert.throws(() => new TrieSource({ ...OPTIONS, vocabulary: 9 }).load(bytes), /for 10 tokens, and the model has 9/)
  const other = warmed([1, 2, 10]).save()
  new DataView(other.buffer).setUint32(8, 10, true)
  assert.throws(() => new TrieSource({ ...OPTIONS, vocabulary: 10 }).load(other), /a token that is none: 10/)
})

test('bytes that are no saved trie are refused in words, and change nothing', () => {
  const bytes = warmed([1, 2, 3, 0x7fffffff], [1, 2, 4]).save()
  const source = warmed([7, 8])
  for (let length = 0; length < bytes.length; length++) {
    assert.throws(() => source.load(bytes.slice(0, length)), /saved trie/)
  }
  assert.throws(() => source.load(Uint8Array.of(...bytes, 0)), /followed by something else/)
  fc.assert(
    fc.property(fc.nat(bytes.length - 1), fc.nat(255), (at, byte) => {
      const damaged = bytes.slice()
      damaged[at] = byte
      const other = new TrieSource(OPTIONS)
      try {
        other.load(damaged)
      } catch (error) {
        assert.match((error as Error).message, /saved trie/)
        assert.is(other.entries, 0)
        return
      }
      assert.ok(other.entries < 50)
    }),
  )
  assert.is(successors(source, [7])[0].id, 8)
})

test('branches of another length are cut, or are shorter than they might be', () => {
  const text = fc.array(fc.nat(3), { minLength: 1, maxLength: 40 })
  fc.assert(
    fc.property(text, fc.integer({ min: 2, max: LENGTH }), (tokens, shorter) => {
      const saved = new TrieSource(OPTIONS)
      saved.warm(tokens)
      const cut = new TrieSource({ branchLength: shorter })
      cut.load(saved.save())
      const known = new TrieSource({ branchLength: shorter })
      known.warm(tokens)
      assert.is(cut.entries, known.entries)
      // At the end of a text there are branches that are no longer than this.
      for (let end = 0; end <= tokens.length; end++) {
        const [actual, expected] = [cut, known].map((source) => successors(source, tokens.slice(0, end)))
        assert.equal(byId(actual), byId(expected))
      }
      const long = new TrieSource({ branchLength: LENGTH + 3 })
      long.load(saved.save())
      assert.is(long.entries, saved.entries)
    }),
  )
})

test('where there is no room for all, what counts most is loaded', () => {
  const large = new TrieSource({ ...OPTIONS, capacity: 100_000 })
  for (let round = 0; round < 3; round++) large.warm([500, 501, 502])
  large.warm(Array.from({ length: 400 }, (_, i) => i))
  for (let round = 0; round < 3; round++) large.warm([600, 601, 602])
  const small = new TrieSource({ ...OPTIONS, capacity: 200 })
  small.load(large.save())
  assert.is(small.entries, 200)
  assert.is(successors(small, [500, 501])[0].id, 502)
  assert.is(successors(small, [600, 601])[0].id, 602)
  const again = new TrieSource({ ...OPTIONS, capacity: 200 })
  again.load(small.save())
  assert.equal(again.save(), small.save())
})

test.run()
