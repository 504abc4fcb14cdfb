/** The window is held against the algorithm as the paper has it, with lists that are cut at the front. */
import fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { Context } from '../../../src/speculate/context.ts'
import { JacobiSource } from '../../../src/speculate/sources/jacobi.ts'
import { NgramPool } from '../../../src/speculate/sources/ngram-pool.ts'
import { contextOf, Guessed, pass, pathOf, propose, successors, type Target, topTokens } from './guessing.ts'

const test = suite('jacobi n-grams')

/** What comes next depends on three tokens: n-grams are right often, and not always. */
const fickle: Target = (text) => {
  const [a, b, c] = [text.at(-1) ?? 0, text.at(-2) ?? 0, text.at(-3) ?? 0]
  return [(a * 5 + 3 + (((b * 7 + c) % 5) >> 2)) % 13]
}

/** The paper's algorithm: levels[0] lacks the root, which is its first token. */
class Paper {
  levels: number[][]
  readonly ngrams: number[][] = []
  readonly #n: number

  constructor(first: number[], ngram: number) {
    this.levels = [first]
    this.#n = ngram
  }

  /** Tokens of the path to every node of the window. */
  get paths(): string[] {
    const all = new Set<string>()
    for (let column = 0; column <= this.levels[0].length; column++) {
      const chain = this.levels[0].slice(0, column)
      const below = this.levels.slice(1).map((level) => level[column])
      for (let length = 0; length <= below.length; length++) all.add([...chain, ...below.slice(0, length)].join(' '))
    }
    return [...all].filter((path) => path !== '').sort()
  }

  learn(text: readonly number[], target: Target): void {
    const columns = this.levels[0].length + 1
    const outputs = Array.from({ length: columns }, (_, column) => {
      const below = this.levels.slice(1).map((level) => level[column])
      return target([...text, ...this.levels[0].slice(0, column), ...below])[0]
    })
    if (this.levels.length < this.#n - 1) {
      this.levels = [...this.levels.map((level) => level.slice(1)), outputs.slice(1)]
      return
    }
    const roots = [text.at(-1)!, ...this.levels[0]]
    for (const [column, output] of outputs.entries()) {
      this.ngrams.push([roots[column], ...this.levels.slice(1).map((level) => level[column]), output])
    }
    const up = [...this.levels.slice(1), outputs]
    this.levels = [up[0].slice(1), ...up.slice(1)]
  }

  /** What the pool should say after a text: n-grams by recency, of each key the last `most`. */
  after(text: readonly number[], most: number): { id: number; kind: number }[] {
    const guesses: { id: number; kind: number }[] = []
    for (let matched = Math.min(text.length, this.#n - 1); matched > 0; matched--) {
      const end = text.slice(-matched)
      const kept: string[] = []
      for (const ngram of [...this.ngrams].reverse().filter(([first]) => first === end[0])) {
        if (!kept.includes(ngram.join()) && kept.length < most) kept.push(ngram.join())
      }
      for (const ngram of kept.map((key) => key.split(',').map(Number))) {
        if (end.some((token, i) => ngram[i] !== token)) continue
        const id = ngram[matched]
        if (!guesses.some((guess) => guess.id === id)) guesses.push({ id, kind: matched - 1 })
      }
    }
    return guesses
  }
}

function write(source: JacobiSource, context: Context, guessed: Guessed, target: Target, k = 1): number {
  const result = pass(context, guessed.tree, target)
  const most: Target = (text) => Array.from({ length: k }, (_, i) => target(text)[0] + 100 * i)
  source.learn(context, result, topTokens(context, guessed.tree, k, most))
  for (const token of result.tokens) context.push(token)
  return result.tokens.length
}

const textOf = ({ tokens, length }: Context): number[] => [...tokens.subarray(0, length)]
const windowOf = (source: JacobiSource, context: Context, nodes = 300): Guessed => {
  const guessed = new Guessed(context.root, nodes)
  source.window(guessed, { nodes, depth: 100 })
  return guessed
}

const sizes = fc.record({
  window: fc.integer({ min: 1, max: 6 }),
  ngram: fc.integer({ min: 2, max: 6 }),
  guesses: fc.integer({ min: 1, max: 4 }),
})
const prompts = fc.array(fc.nat(12), { minLength: 1, maxLength: 20 })

test('the target’s tokens are asked for where the window is in the tree, as nothing is learnt elsewhere', () => {
  const source = new JacobiSource()
  const context = contextOf([1, 2, 3])
  source.begin(context)
  assert.is(source.topTokens, 0)
  const guessed = windowOf(source, context)
  assert.is(source.topTokens, 1)
  write(source, context, guessed, () => [7])
  assert.is(source.topTokens, 0)
  windowOf(source, context, 0)
  assert.is(source.topTokens, 0)
  windowOf(source, context)
  source.end()
  assert.is(source.topTokens, 0)
})

test('the window goes the paper’s way, whoever else is in the tree, and the pool has what it made', () => {
  fc.assert(
    fc.property(sizes, prompts, fc.integer({ min: 1, max: 8 }), (options, prompt, k) => {
      const source = new JacobiSource(options)
      const context = contextOf(prompt)
      source.begin(context)
      const first = windowOf(source, context)
      // A chain: the last node's path is level 0.
      const paper = new Paper(first.tree.pathTokens(first.tree.size), options.ngram)
      assert.is(paper.levels[0].length, options.window + options.ngram - 3)
      for (const token of paper.levels[0]) assert.ok(prompt.includes(token))
      for (let i = 0; i < 12; i++) {
        const window = windowOf(source, context)
        assert.equal(window.paths, paper.paths)
        // Level 0 with the root alone steps nowhere: such a window takes no nodes.
        const tree = propose(source, context, 300)
        if (window.tree.size > 0) paper.learn(textOf(context), fickle)
        write(source, context, tree, fickle, k)
        const text = textOf(context)
        for (let end = 1; end <= text.length; end++) {
          const guesses = successors(source, text.slice(0, end))
          assert.equal(
            guesses.map(({ id, kind }) => ({ id, kind })),
            paper.after(text.slice(0, end), options.guesses),
          )
          for (let j = 1; j < guesses.length; j++) assert.ok(guesses[j].promised <= guesses[j - 1].promised)
        }
      }
    }),
    { numRuns: 40 },
  )
})

test('a text that goes in circles is soon guessed several tokens at a time', () => {
  const circle: Target = (text) => [(text.at(-1)! + 5) % 16]
  const source = new JacobiSource()
  const context = contextOf([0, 3, 9, 14])
  source.begin(context)
  let tokens = 0
  for (let i = 0; i < 30; i++) {
    const gained = write(source, context, propose(source, context, 64), circle)
    if (i >= 20) tokens += gained
  }
  assert.ok(tokens >= 40, `${tokens} tokens in 10 passes`)
  const text = textOf(context)
  for (let i = 4; i < text.length; i++) assert.is(text[i], (text[i - 1] + 5) % 16)
})

test('the same text makes the same window', () => {
  const windows = [0, 1].map(() => {
    const source = new JacobiSource()
    const context = contextOf([5, 6, 7, 8])
    source.begin(context)
    for (let i = 0; i < 6; i++) write(source, context, propose(source, context, 64), fickle)
    return windowOf(source, context).all
  })
  assert.equal(windows[0], windows[1])
})

test('a budget is kept, and columns are there whole or not at all', () => {
  fc.assert(
    fc.property(sizes, prompts, fc.nat(60), fc.integer({ min: 1, max: 9 }), (options, prompt, nodes, depth) => {
      const source = new JacobiSource(options)
      const context = contextOf(prompt)
      source.begin(context)
      for (let i = 0; i < 8; i++) {
        const guessed = propose(source, context, nodes, depth, 500)
        assert.ok(guessed.tree.size <= nodes)
        for (let node = 1; node < guessed.tree.count; node++) assert.ok(guessed.tree.depth[node] <= depth)
        assert.ok(windowOf(source, context, nodes).tree.size <= nodes)
        write(source, context, guessed, fickle)
      }
    }),
    { numRuns: 60 },
  )
})

test('a column that had no room makes no step', () => {
  const source = new JacobiSource({ window: 4, ngram: 3, guesses: 2 })
  const context = contextOf([1, 2, 3, 4, 5, 6, 7, 8])
  source.begin(context)
  const columns = (): string[] => {
    const { tree } = windowOf(source, context)
    return Array.from({ length: tree.size }, (_, i) => tree.pathTokens(i + 1).join(' '))
  }
  write(source, context, windowOf(source, context), fickle)
  const chain = windowOf(source, context).all
  assert.is(chain.length, 7)
  // The root's column and the next one: three nodes.
  const cut = new Guessed(context.root, 3)
  source.window(cut, { nodes: 3, depth: 100 })
  assert.is(cut.all.length, 3)
  write(source, context, cut, fickle)
  const after = windowOf(source, context).all
  const tokens = (list: typeof after): number[] => list.map(({ id }) => id)
  assert.equal(tokens(after).slice(3), tokens(chain).slice(3))
  assert.not.equal(tokens(after).slice(0, 3), tokens(chain).slice(0, 3))
  // And without any, there is none at all.
  const before = columns()
  write(source, context, new Guessed(context.root, 0), fickle)
  assert.equal(columns(), before)
})

test('nothing of a text is left when it is over', () => {
  const source = new JacobiSource()
  const context = contextOf([5, 6, 7, 8])
  source.begin(context)
  for (let i = 0; i < 12; i++) write(source, context, propose(source, context, 64), fickle)
  const held = source.heldBytes
  assert.ok(successors(source, textOf(context)).length > 0)
  source.end()
  for (let token = 0; token < 13; token++) assert.equal(successors(source, [token]), [])
  assert.is(propose(source, context, 64).tree.size, 0)
  assert.is(source.heldBytes, held)
})

test.run()

const pools = suite('n-gram pool')

pools('has of the last first tokens the last n-grams, the newest first', () => {
  const ngrams = fc.array(fc.tuple(fc.nat(5), fc.nat(2), fc.nat(2)), { maxLength: 60 })
  fc.assert(
    fc.property(ngrams, fc.integer({ min: 1, max: 4 }), fc.integer({ min: 1, max: 4 }), (list, most, keys) => {
      const pool = new NgramPool(3, most, keys)
      for (const ngram of list) pool.add(Int32Array.from(ngram))
      const newest = [...list].reverse()
      const firsts = [...new Set(newest.map(([first]) => first))]
      for (let first = 0; first < 6; first++) {
        const slot = pool.find(first)
        const order = firsts.indexOf(first)
        assert.is(slot >= 0, order >= 0 && order < keys)
        if (slot < 0) continue
        const got = Array.from({ length: pool.counts[slot] }, (_, i) => `${pool.at(slot, i, 0)} ${pool.at(slot, i, 1)}`)
        // An n-gram that left its pool is new when it comes back; a first token that left takes all of its own along.
        const held: string[] = []
        const recent: number[] = []
        for (const [a, b, c] of list) {
          if (!recent.includes(a)) {
            if (recent.length === keys && recent.shift() === first) held.length = 0
          } else recent.splice(recent.indexOf(a), 1)
          recent.push(a)
          if (a !== first) continue
          const rest = `${b} ${c}`
          if (held.includes(rest)) held.splice(held.indexOf(rest), 1)
          held.unshift(rest)
          held.length = Math.min(held.length, most)
        }
        assert.equal(got, held)
      }
    }),
  )
})

pools('matches beginnings', () => {
  const pool = new NgramPool(4, 2, 2)
  pool.add(Int32Array.of(1, 2, 3, 4))
  const { tokens } = pathOf([9, 1, 2, 3])
  const slot = pool.find(1)
  assert.ok(pool.startsWith(slot, 0, tokens, tokens.length - 2, 2))
  assert.not(pool.startsWith(slot, 0, tokens, tokens.length - 1, 1))
})

pools.run()
