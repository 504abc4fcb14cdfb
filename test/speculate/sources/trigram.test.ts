import fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { TrigramSource } from '../../../src/speculate/sources/trigram.ts'
import { ROOT } from '../../../src/speculate/token-tree.ts'
import { contextOf, type Guess, propose, successors } from './guessing.ts'

const VOCABULARY = 30
const text = (least: number, most: number, tokens = VOCABULARY) =>
  fc.array(fc.nat(tokens - 1), { minLength: least, maxLength: most })

function make(corpus: readonly number[] = []): TrigramSource {
  const source = new TrigramSource(VOCABULARY, { pairs: 512, promptPairs: 512 })
  source.warm(corpus)
  return source
}

/** The target takes these tokens, and they join the context. */
function write(source: TrigramSource, context: ReturnType<typeof contextOf>, tokens: readonly number[]): void {
  source.read(context, tokens)
  for (const token of tokens) context.push(token)
}

const test = suite('trigrams')

test('what follows a pair comes from the prompt and from before, by how often each said so', () => {
  fc.assert(
    fc.property(text(0, 24, 3), text(2, 24, 3), (corpus, prompt) => {
      const source = make(corpus)
      source.begin(contextOf(prompt))
      for (const [a, b] of [0, 1, 2].flatMap((x) => [0, 1, 2].map((y) => [x, y]))) {
        const after = [corpus, prompt].flatMap((all) =>
          all.filter((_, i) => i >= 2 && all[i - 2] === a && all[i - 1] === b),
        )
        const guesses = successors(source, [9, 9, a, b])
        assert.equal(new Set(guesses.map(({ id }) => id)), new Set(after))
        for (const [rank, { id, promised, kind }] of guesses.entries()) {
          const share = after.filter((one) => one === id).length / after.length
          assert.ok(Math.abs(promised - share) < 1e-5, `${promised} for ${share}`)
          assert.is(kind, Math.min(rank, 3) + (after.length >= 4 ? 4 : 0))
          if (rank > 0) assert.ok(promised <= guesses[rank - 1].promised)
        }
      }
    }),
  )
})

test('a short text has no pairs', () => {
  const source = make([1, 2, 3, 1, 2, 3])
  source.begin(contextOf([2]))
  assert.equal(successors(source, [2]), [])
  assert.is(propose(source, contextOf([2]), 8).tree.size, 0)
  write(source, contextOf([2]), [3])
})

test('nothing that begins in the prompt outlives its text, and what was written does', () => {
  const corpus = [1, 2, 3, 4, 1, 2, 5]
  const source = make(corpus)
  const before = source.save()
  const prompt = [10, 11, 12, 10, 11, 13, 14]
  const context = contextOf(prompt)
  source.begin(context)
  assert.equal(
    successors(source, [10, 11]).map(({ id }) => id),
    [12, 13],
  )
  // The first two tokens complete pairs that begin in the prompt.
  write(source, context, [20])
  write(source, context, [21])
  assert.equal(
    successors(source, [14, 20]).map(({ id }) => id),
    [21],
  )
  assert.equal(source.save(), before)
  source.end()
  for (let i = 2; i < prompt.length; i++) assert.equal(successors(source, prompt.slice(0, i)), [])
  assert.is(propose(source, contextOf(prompt.slice(0, 2)), 64).tree.size, 0)
  for (const pair of [
    [13, 14],
    [14, 20],
    [20, 21],
  ])
    assert.equal(successors(source, pair), [])
  assert.equal(source.save(), before)

  source.begin(context)
  write(source, context, [22, 23])
  source.end()
  assert.equal(
    successors(source, [20, 21]).map(({ id }) => id),
    [22],
  )
  assert.equal(
    successors(source, [21, 22]).map(({ id }) => id),
    [23],
  )
})

test('a text that ends without a word does not speak in the next one', () => {
  const source = make()
  source.begin(contextOf([1, 2, 3]))
  source.begin(contextOf([4, 5, 6]))
  assert.equal(successors(source, [1, 2]), [])
})

test('the same after saving and loading, and nothing else is taken', () => {
  const corpus = Array.from({ length: 300 }, (_, i) => (i * i * 7 + (i >> 2)) % VOCABULARY)
  const bytes = make(corpus).save()
  const source = make([1, 2, 3])
  source.load(bytes)
  assert.equal(source.save(), bytes)
  for (let i = 2; i < 60; i++) {
    assert.equal(successors(source, corpus.slice(0, i)), successors(make(corpus), corpus.slice(0, i)))
  }
  assert.throws(() => new TrigramSource(VOCABULARY + 2).load(bytes), /is for 30 tokens, and the model has 32/)
  const small = make([1, 2, 3, 4, 5])
  const known = small.save()
  for (let length = 0; length < bytes.length; length += 1 + (length >> 4)) {
    assert.throws(() => small.load(bytes.slice(0, length)), /the saved table of trigrams cannot be used/)
    assert.equal(small.save(), known)
  }
  fc.assert(
    fc.property(fc.nat(bytes.length - 1), fc.integer({ min: 1, max: 255 }), (at, flip) => {
      const damaged = bytes.slice()
      damaged[at] ^= flip
      const other = make()
      try {
        other.load(damaged)
      } catch (error) {
        assert.match((error as Error).message, /cannot be used/)
      }
      for (let i = 2; i < corpus.length; i++) {
        for (const { id, promised } of successors(other, corpus.slice(0, i))) {
          assert.ok(id >= 0 && id < VOCABULARY && promised >= 0 && promised <= 1)
        }
      }
    }),
    { numRuns: 50 },
  )
})

test('of more pairs than there is room for, those seen most often are loaded, and of equal ones the last', () => {
  const known = (corpus: readonly number[], pairs: number): number[] => {
    const source = new TrigramSource(VOCABULARY, { pairs })
    source.load(make(corpus).save())
    assert.is(source.entries, Math.min(pairs, 7))
    return [1, 2, 3, 4, 5, 6, 7].filter((token) => successors(source, [token, token + 1]).length > 0)
  }
  const once = [1, 2, 3, 4, 5, 6, 7, 8, 9]
  assert.equal(known(once, 3), [5, 6, 7])
  assert.equal(known(once, 7), [1, 2, 3, 4, 5, 6, 7])
  const source = make(once)
  for (const again of [
    [2, 3, 4],
    [2, 3, 4],
    [4, 5, 6],
  ])
    source.warm(again)
  const bytes = source.save()
  for (const [pairs, expected] of [
    [1, [2]],
    [2, [2, 4]],
    [4, [2, 4, 6, 7]],
  ] as const) {
    const small = new TrigramSource(VOCABULARY, { pairs })
    small.load(bytes)
    const kept = [1, 2, 3, 4, 5, 6, 7].filter((token) => successors(small, [token, token + 1]).length > 0)
    assert.equal(kept, expected)
    // What is saved again is what was kept.
    const again = new TrigramSource(VOCABULARY, { pairs: 7 })
    again.load(small.save())
    assert.is(again.entries, pairs)
  }
})

test.run()

const search = suite('the search for a tree of trigrams')

interface Tried {
  readonly path: readonly number[]
  readonly prior: number
  readonly chance: number
  children: Tried[] | undefined
  rewards: number[]
}

/** The paper's search as it is written down, with lists: the nodes that were visited, and how often. */
function visited(
  start: readonly number[],
  depth: number,
  after: (pair: readonly number[]) => Guess[],
): Map<string, number> {
  const root: Tried = { path: [], prior: 1, chance: 1, children: undefined, rewards: [] }
  const all: Tried[] = [root]
  for (let i = 0; i < 150; i++) {
    const way = [root]
    for (;;) {
      const node = way.at(-1)!
      if (node.children === undefined && node.path.length < depth) {
        node.children = after([...start, ...node.path].slice(-2)).map(({ id, promised }) => ({
          path: [...node.path, id],
          prior: promised,
          chance: node.chance * promised,
          children: undefined,
          rewards: [],
        }))
        all.push(...node.children)
        break
      }
      if (node.children === undefined || node.children.length === 0) break
      const sum = node.rewards.length
      const bounds = node.children.map(({ prior, rewards }) => {
        const q = rewards.length === 0 ? 0 : rewards.reduce((a, b) => a + b) / rewards.length
        return q + (prior * (Math.sqrt(sum) * (32 + Math.log((sum + 8 + 1) / 8)))) / (1 + rewards.length)
      })
      way.push(node.children[bounds.indexOf(Math.max(...bounds))])
    }
    for (const node of way) node.rewards.push(way.at(-1)!.chance)
  }
  const tried = all.filter(({ path, rewards }) => path.length > 0 && rewards.length > 0)
  return new Map(tried.map(({ path, rewards }) => [path.join(' '), rewards.length]))
}

const corpora = fc.tuple(text(40, 120, 5), text(2, 30, 5))

search('visits what the paper’s formula says', () => {
  fc.assert(
    fc.property(corpora, fc.integer({ min: 1, max: 5 }), ([corpus, prompt], depth) => {
      const source = make(corpus)
      const context = contextOf(prompt)
      source.begin(context)
      const expected = visited(prompt.slice(-2), Math.min(4, depth), (pair) => successors(source, pair))
      const { paths, tree } = propose(source, context, 2000, depth)
      const leaves = (list: string[]): number =>
        list.filter((path) => !list.some((other) => other.startsWith(`${path} `))).length
      if (leaves([...expected.keys()]) <= 24) assert.equal(paths, [...expected.keys()].sort())
      else assert.is(leaves(paths), 24)
      // The most visited ones of all that were visited.
      for (let node = 1; node < tree.count; node++) assert.ok(expected.has(tree.pathTokens(node).join(' ')))
    }),
    { numRuns: 60 },
  )
})

search('proposes what was visited most, and keeps within the budget', () => {
  fc.assert(
    fc.property(corpora, fc.nat(70), ([corpus, prompt], nodes) => {
      const source = make(corpus)
      const context = contextOf(prompt)
      const visits = visited(prompt.slice(-2), 4, (pair) => successors(source, pair))
      const { paths, tree, all } = propose(source, context, nodes, 32, 200)
      assert.ok(tree.size <= nodes)
      assert.is(all.length, tree.size)
      const least = Math.min(...paths.map((path) => visits.get(path)!))
      // What is left out although it has more visits would have opened a 25th path.
      const inner = new Set(all.map(({ parent }) => parent))
      const leaves = Array.from({ length: tree.size }, (_, i) => i + 1).filter((node) => !inner.has(node)).length
      assert.ok(leaves <= 24)
      if (leaves < 24) for (const [path, count] of visits) if (count > least) assert.ok(paths.includes(path), path)
      for (const { parent, id, promised } of all) {
        const pair = [...prompt, ...(parent === ROOT ? [] : tree.pathTokens(parent))].slice(-2)
        assert.ok(successors(source, pair).some((one) => one.id === id && one.promised === promised))
      }
    }),
    { numRuns: 60 },
  )
})

search('finds one sure continuation to the end', () => {
  const source = make([1, 2, 3, 4, 5, 6, 7, 8])
  assert.equal(propose(source, contextOf([1, 2]), 64).paths, ['3', '3 4', '3 4 5', '3 4 5 6'])
  assert.equal(propose(source, contextOf([1, 2]), 64, 2).paths, ['3', '3 4'])
  assert.equal(propose(source, contextOf([1, 2]), 3).paths, ['3', '3 4', '3 4 5'])
})

search('makes the same tree of the same table', () => {
  const corpus = Array.from({ length: 400 }, (_, i) => (i * i * 3 + (i >> 1)) % 11)
  const source = make(corpus)
  const first = propose(source, contextOf([1, 4, 2]), 64)
  propose(source, contextOf([3, 5]), 64)
  assert.equal(propose(source, contextOf([1, 4, 2]), 64).all, first.all)
})

search.run()
