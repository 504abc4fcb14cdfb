/** What followed the last tokens before is guessed again. */
import * as fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { Context } from '../../../src/speculate/context.ts'
import { NgramSource } from '../../../src/speculate/sources/ngram.ts'
import { accept, type Guess, Proposal, successors } from './guessing.ts'

const CAPACITY = 6000
const token = fc.oneof(fc.integer({ min: 0, max: 3 }), fc.constantFrom(0x7fffffff, 0x7ffffffe))
const some = fc.array(token, { minLength: 1, maxLength: 40 })

function begun(prompt: readonly number[], source = new NgramSource()): { source: NgramSource; context: Context } {
  const context = new Context(prompt, CAPACITY)
  source.begin(context)
  return { source, context }
}

const endsWith = (text: readonly number[], end: number, gram: readonly number[]): boolean =>
  end >= gram.length && gram.every((token, i) => text[end - gram.length + i] === token)

/** Ends of the places of the longest n-gram that a text has before its end, the latest first. */
function places(text: readonly number[], path: readonly number[], most: number): { n: number; ends: number[] } {
  for (let n = Math.min(most, path.length); n > 0; n--) {
    const ends = text.map((_, i) => i).filter((end) => endsWith(text, end, path.slice(-n)))
    if (ends.length > 0) return { n, ends: ends.reverse() }
  }
  return { n: 0, ends: [] }
}

function expected(text: readonly number[], path: readonly number[]): Guess[] {
  const { n, ends } = places(text, path, 3)
  const guesses = new Map<number, { promised: number; rank: number }>()
  for (const [rank, end] of ends.slice(0, 4).entries()) {
    const before = guesses.get(text[end])
    const promised = [0, 0.15, 0.35, 0.6][n] * 0.4 ** rank
    guesses.set(text[end], { promised: promised + (before?.promised ?? 0), rank: before?.rank ?? rank })
  }
  const kinds = [[], [2, 1, 0, 0], [4, 3, 3, 3], [7, 6, 5, 5]]
  return [...guesses].map(([id, { promised, rank }]) => ({ id, promised, kind: kinds[n][rank] }))
}

function assertGuesses(actual: readonly Guess[], wanted: readonly Guess[]): void {
  const rounded = (guesses: readonly Guess[]) => guesses.map((g) => ({ ...g, promised: g.promised.toFixed(9) }))
  assert.equal(rounded(actual), rounded(wanted))
}

const test = suite('n-grams')

test('the followers of the latest places of the longest run that stood before are guessed', () => {
  fc.assert(
    fc.property(
      some,
      fc.array(some, { maxLength: 4 }),
      fc.array(token, { maxLength: 5 }),
      (prompt, passes, guessed) => {
        const { source, context } = begun(prompt)
        const text = [...prompt]
        for (const tokens of passes) {
          assertGuesses(successors(source, text), expected(text, text))
          accept(source, context, tokens)
          text.push(...tokens)
        }
        assertGuesses(successors(source, [...text, ...guessed]), expected(text, [...text, ...guessed]))
      },
    ),
  )
})

test('guesses are by falling promise, and promise no more than one together', () => {
  fc.assert(
    fc.property(some, (prompt) => {
      const guesses = successors(begun(prompt).source, prompt)
      for (let i = 1; i < guesses.length; i++) assert.ok(guesses[i].promised <= guesses[i - 1].promised)
      assert.ok(guesses.reduce((sum, { promised }) => sum + promised, 0) < 1)
    }),
  )
})

test('a chain copies what followed the latest place, up to the end of the text', () => {
  fc.assert(
    fc.property(some, fc.integer({ min: 1, max: 12 }), fc.integer({ min: 0, max: 12 }), (prompt, nodes, depth) => {
      const { source, context } = begun(prompt)
      const proposal = new Proposal(source, context, { nodes, depth })
      const { ends } = places(prompt, prompt, 3)
      const chain = ends.length === 0 ? [] : prompt.slice(ends[0], ends[0] + Math.min(10, nodes, depth))
      assert.equal(proposal.branches, chain.length === 0 ? [] : [chain])
      assert.is(proposal.tree.size, chain.length)
    }),
  )
})

test('a chain promises more where more tokens match before it', () => {
  const { source, context } = begun([5, 6, 7, 8, 9, 10, 11, 1, 2, 3, 4, 5])
  const { promised, kinds } = new Proposal(source, context, { nodes: 4, depth: 8 })
  assert.equal(promised, [1, 0.15, 0.35, 0.6, 0.6])
  assert.equal(kinds, [0, 2, 4, 7, 7])
})

test('long texts are indexed to their beginning', () => {
  const prompt = Array.from({ length: 5000 }, (_, i) => 3 * i)
  const { source, context } = begun(prompt)
  const small = source.heldBytes
  assert.ok(small < 400_000, `${small}`)
  for (const at of [0, 1, 2, 1023, 1024, 2500, 4998]) {
    assert.equal(
      successors(source, [1, ...prompt.slice(Math.max(0, at - 2), at + 1)]).map(({ id }) => id),
      [prompt[at + 1]],
    )
  }
  accept(source, context, prompt.slice(0, 900))
  assert.equal(
    successors(source, prompt.slice(0, 899)).map(({ id }) => id),
    [prompt[899]],
  )
})

test('a text is forgotten when it is over and when another begins', () => {
  const { source, context } = begun([1, 2, 3, 1])
  assert.equal(
    successors(source, [1]).map(({ id }) => id),
    [2],
  )
  source.end()
  assert.equal(successors(source, [1]), [])
  assert.is(new Proposal(source, context, { nodes: 8, depth: 8 }).tree.size, 0)
  begun([4, 1, 5, 4], source)
  assert.equal(
    successors(source, [1]).map(({ id }) => id),
    [5],
  )
  assert.equal(successors(source, [2]), [])
})

test('options that make no sense are refused', () => {
  assert.throws(() => new NgramSource({ most: 0 }), /1 to 16 tokens/)
  assert.throws(() => new NgramSource({ most: 17 }), /1 to 16 tokens/)
  assert.throws(() => new NgramSource({ copied: 0 }), /at least 1 token/)
  assert.throws(() => new NgramSource({ recent: 0 }), /at least 1 place/)
})

test.run()
