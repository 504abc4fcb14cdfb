/** What was read and written before is found again below the longest suffix, and counted as often as it came. */
import * as fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { TrieSource } from '../../../src/speculate/sources/trie.ts'
import { accept, contextOf, type Guess, Proposal, successors } from './guessing.ts'

const LENGTH = 5
const WEIGHT = 3
const OPTIONS = { branchLength: LENGTH, promptWeight: WEIGHT }
const CLASSES = [0, 0, 1, 2, 3, 4, 4, 5, 5, 6, 6, 7]

const token = fc.oneof(fc.integer({ min: 0, max: 2 }), fc.constantFrom(0x7fffffff, 0x7ffffffe))
const some = fc.array(token, { minLength: 1, maxLength: 30 })

/** Runs of tokens that were counted, each with where it is from. */
interface Counted {
  readonly text: readonly number[]
  /** What a run from this place on was counted as. */
  kind(start: number): 'prompt' | 'output'
}

/** A text read as output, whole. */
const asOutput = (text: readonly number[]): Counted => ({ text, kind: () => 'output' })

/** A text that is being written: a run is what its first token is. */
const underWay = (text: readonly number[], promptLength: number): Counted => ({
  text,
  kind: (start) => (start < promptLength ? 'prompt' : 'output'),
})

/** How often a run was counted, in the prompt and in outputs. */
function count(all: readonly Counted[], run: readonly number[]): { prompt: number; output: number } {
  const times = { prompt: 0, output: 0 }
  if (run.length > LENGTH) return times
  for (const { text, kind } of all) {
    for (let start = 0; start + run.length <= text.length; start++) {
      if (run.every((token, i) => text[start + i] === token)) times[kind(start)]++
    }
  }
  return times
}

const times = (all: readonly Counted[], run: readonly number[]): number => {
  const { prompt, output } = count(all, run)
  return prompt + output
}

function followers(all: readonly Counted[], run: readonly number[]): { id: number; times: number; weight: number }[] {
  const ids = new Set(all.flatMap(({ text }) => [...text]))
  const found = [...ids].map((id) => {
    const { prompt, output } = count(all, [...run, id])
    return { id, times: prompt + output, weight: prompt * WEIGHT + output }
  })
  return found.filter(({ times }) => times > 0)
}

function expected(all: readonly Counted[], path: readonly number[]): Guess[] {
  const guesses = new Map<number, Guess>()
  let left = 1
  let seen = 0
  for (let matched = Math.min(LENGTH - 1, path.length); matched > 0; matched--) {
    const suffix = path.slice(-matched)
    if (times(all, suffix) <= seen) continue
    seen = times(all, suffix)
    const next = followers(all, suffix)
    const weight = next.reduce((sum, child) => sum + child.weight, 0)
    const total = next.reduce((sum, child) => sum + child.times, 0)
    for (const child of next) {
      const promised = left * (child.weight / weight) * (total / (total + 1))
      if (!guesses.has(child.id)) guesses.set(child.id, { id: child.id, promised, kind: CLASSES[matched] })
    }
    left /= total + 1
  }
  return [...guesses.values()]
}

function assertGuesses(actual: readonly Guess[], wanted: readonly Guess[]): void {
  const byId = (guesses: readonly Guess[]) =>
    guesses.map(({ id, promised, kind }) => `${id}: ${promised.toFixed(9)}, class ${kind}`).sort()
  assert.equal(byId(actual), byId(wanted))
  for (let i = 1; i < actual.length; i++) assert.ok(actual[i].promised <= actual[i - 1].promised)
}

function warmed(...texts: readonly (readonly number[])[]): TrieSource {
  const source = new TrieSource(OPTIONS)
  for (const text of texts) source.warm(text)
  return source
}

const test = suite('trie')

test('guesses are what followed the longest suffix, then what followed shorter ones', () => {
  fc.assert(
    fc.property(some, some, fc.array(token, { maxLength: 8 }), (one, other, path) => {
      assertGuesses(successors(warmed(one, other), path), expected([asOutput(one), asOutput(other)], path))
    }),
  )
})

test('while a text is written, its prompt counts more than its output, and each branch once', () => {
  fc.assert(
    fc.property(some, some, fc.array(some, { maxLength: 4 }), (earlier, prompt, passes) => {
      const source = warmed(earlier)
      const context = contextOf(prompt)
      const text = [...prompt]
      source.begin(context)
      for (const tokens of [[], ...passes]) {
        accept(source, context, tokens)
        text.push(...tokens)
        const all = [asOutput(earlier), underWay(text, prompt.length)]
        assertGuesses(successors(source, text), expected(all, text))
      }
    }),
  )
})

test('after a text its output is left, as if it had been read alone', () => {
  const ask = fc.array(fc.array(token, { maxLength: 5 }), { minLength: 1, maxLength: 5 })
  fc.assert(
    fc.property(
      some,
      some,
      fc.array(some, { maxLength: 4 }),
      ask,
      fc.boolean(),
      (earlier, prompt, passes, paths, isNext) => {
        const source = warmed(earlier)
        const context = contextOf(prompt)
        source.begin(context)
        for (const tokens of passes) accept(source, context, tokens)
        if (isNext) source.begin(contextOf([]))
        else source.end()
        const alone = warmed(earlier, passes.flat())
        assert.is(source.entries, alone.entries)
        for (const path of paths) assertGuesses(successors(source, path), successors(alone, path))
      },
    ),
  )
})

test('a branch that began in the prompt is not kept', () => {
  const source = new TrieSource(OPTIONS)
  const context = contextOf([1, 2, 3])
  source.begin(context)
  accept(source, context, [10, 11, 12, 13, 14, 15])
  assert.equal(
    successors(source, [3]).map(({ id }) => id),
    [10],
  )
  const mean = source.save()
  source.end()
  assert.equal(successors(source, [3]), [])
  for (const bytes of [mean, source.save()]) {
    for (const secret of [1, 2, 3]) assert.not(savedTokens(bytes).includes(secret))
  }
})

/** Tokens of all nodes, where every number behind the head takes one byte. */
const savedTokens = (bytes: Uint8Array): number[] => [...bytes.slice(17)].filter((_, i) => i % 3 === 1)

test('a proposal has the most frequent nodes below the longest suffix', () => {
  fc.assert(
    fc.property(
      some,
      token,
      fc.integer({ min: 1, max: 20 }),
      fc.integer({ min: 1, max: 4 }),
      (text, last, nodes, depth) => {
        const source = new TrieSource({ ...OPTIONS, enough: 1 })
        source.warm(text)
        const all = [asOutput(text)]
        const { paths } = new Proposal(source, contextOf([last]), { nodes, depth })
        const below = new Map<string, number>()
        for (let start = 0; start < text.length; start++) {
          if (text[start] !== last) continue
          for (let end = start + 2; end <= Math.min(start + 1 + Math.min(depth, LENGTH - 1), text.length); end++) {
            const run = text.slice(start, end)
            below.set(run.slice(1).join(), times(all, run))
          }
        }
        const best = [...below.values()].sort((a, b) => b - a).slice(0, nodes)
        const found = paths.map((path) => below.get(path.join()) ?? 0)
        assert.equal(
          found.sort((a, b) => b - a),
          best,
        )
        assert.is(new Set(paths.map((path) => path.join())).size, paths.length)
      },
    ),
  )
})

test('shorter suffixes fill a proposal until there are enough nodes', () => {
  // After 1 2 came 3; after 2 alone also 4 5 6.
  const texts = [
    [1, 2, 3],
    [9, 2, 4, 5, 6],
  ]
  const propose = (enough: number, nodes: number) => {
    const source = new TrieSource({ ...OPTIONS, enough })
    for (const text of texts) source.warm(text)
    return new Proposal(source, contextOf([1, 2]), { nodes, depth: 8 })
  }
  assert.equal(propose(1, 8).branches, [[3]])
  const { branches, promised, kinds } = propose(2, 8)
  assert.equal(branches, [[3], [4, 5, 6]])
  assert.equal(kinds, [0, 1, 0, 1, 2])
  assert.equal(
    promised.map((value) => value.toFixed(6)),
    [1, 1 / 2, 1 / 3, 1 / 2, 1 / 2].map((value) => value.toFixed(6)),
  )
  assert.equal(propose(2, 3).branches, [[3], [4, 5]])
})

test('half of a proposal goes by outputs alone', () => {
  const prompt = Array.from({ length: 8 }, (_, i) => [1, 100 + i]).flat()
  const source = new TrieSource(OPTIONS)
  for (let i = 0; i < 8; i++) source.warm([1, 200 + i])
  source.begin(contextOf([...prompt, 1]))
  const { paths } = new Proposal(source, contextOf([1]), { nodes: 6, depth: 1 })
  assert.is(paths.filter(([id]) => id >= 200).length, 3)
})

test('a single branch follows the most frequent child; a suffix that gives too short a one is left', () => {
  const texts = [
    [2, 3, 4, 5],
    [2, 3, 4, 5],
    [2, 3, 7, 8],
    [2, 6, 6, 6],
    [1, 2, 9],
  ]
  const source = new TrieSource({ ...OPTIONS, mode: 'single' })
  for (const text of texts) source.warm(text)
  assert.equal(new Proposal(source, contextOf([1, 2]), { nodes: 8, depth: 8 }).branches, [[3, 4, 5]])
  assert.equal(new Proposal(source, contextOf([1, 2]), { nodes: 2, depth: 8 }).branches, [[3, 4]])
  const even = new TrieSource({ ...OPTIONS, mode: 'single' })
  for (const text of [
    [1, 2, 9],
    [2, 3],
    [2, 3],
  ])
    even.warm(text)
  assert.equal(new Proposal(even, contextOf([1, 2]), { nodes: 8, depth: 8 }).branches, [[9]])
  const easy = new TrieSource({ ...OPTIONS, mode: 'single', enough: 1 })
  for (const text of texts) easy.warm(text)
  assert.equal(new Proposal(easy, contextOf([1, 2]), { nodes: 8, depth: 8 }).branches, [[9]])
})

test('parallel branches are those of the tree, each paid for in full', () => {
  const run = fc.array(some, { minLength: 1, maxLength: 4 })
  fc.assert(
    fc.property(run, token, fc.integer({ min: 1, max: 20 }), (texts, last, nodes) => {
      const [tree, parallel] = (['tree', 'parallel'] as const).map((mode) => {
        const source = new TrieSource({ ...OPTIONS, mode })
        for (const text of texts) source.warm(text)
        return new Proposal(source, contextOf([last]), { nodes, depth: 8 })
      })
      const paid = tree.branches.reduce((sum, { length }) => sum + length, 0)
      assert.is(parallel.asked, Math.min(nodes, paid))
      for (const path of parallel.paths) assert.ok(tree.paths.some((other) => other.join() === path.join()))
    }),
  )
})

test('a proposal keeps within its budget, whatever it is made of', () => {
  const mode = fc.constantFrom('tree', 'parallel', 'single')
  const budget = fc.record({ nodes: fc.integer({ min: 0, max: 12 }), depth: fc.integer({ min: 0, max: 6 }) })
  fc.assert(
    fc.property(some, some, mode, budget, (earlier, prompt, mode, { nodes, depth }) => {
      const source = new TrieSource({ ...OPTIONS, mode })
      source.warm(earlier)
      const context = contextOf(prompt)
      source.begin(context)
      const { tree, promised, asked } = new Proposal(source, context, { nodes, depth })
      assert.ok(asked <= nodes)
      for (let node = 1; node < tree.count; node++) {
        assert.ok(tree.depth[node] <= depth)
        assert.ok(promised[node] > 0 && promised[node] < 1)
      }
    }),
  )
})

test('there are never more nodes than allowed; what is recent or frequent stays', () => {
  const capacity = 400
  const source = new TrieSource({ ...OPTIONS, capacity })
  const often = [1, 2, 3, 4, 5]
  const runs: number[][] = []
  let next = 1000
  for (let round = 0; round < 60; round++) {
    source.warm(often)
    const fresh = Array.from({ length: 9 }, () => next++)
    source.warm(fresh)
    assert.ok(source.entries <= capacity)
    runs.push(fresh)
    for (const run of runs.slice(-5)) assert.is(successors(source, run.slice(0, 2))[0].id, run[2])
    assert.is(successors(source, often.slice(0, 3))[0].id, 4)
  }
  assert.equal(successors(source, [1000, 1001]), [])
  assert.ok(source.heldBytes < 250_000)
})

test('the prompt of the request outlives older outputs, but for a prompt that is too long', () => {
  const capacity = 400
  const source = new TrieSource({ ...OPTIONS, capacity })
  const prompt = Array.from({ length: 30 }, (_, i) => 100 + i)
  const context = contextOf(prompt)
  for (let i = 0; i < 20; i++) source.warm([50, 51, 52])
  source.begin(context)
  for (let i = 0; i < 100; i++) accept(source, context, [1000 + 2 * i, 1001 + 2 * i])
  assert.ok(source.entries <= capacity)
  assert.is(successors(source, [100, 101])[0].id, 102)
  const long = Array.from({ length: 3000 }, (_, i) => 5000 + i)
  source.begin(contextOf(long))
  assert.ok(source.entries <= capacity)
  assert.is(successors(source, long.slice(-4, -1))[0].id, 7999)
  source.end()
  assert.equal(successors(source, long.slice(-4, -1)), [])
})

test('options that make no sense are refused', () => {
  assert.throws(() => new TrieSource({ branchLength: 1 }), /at least 2 tokens/)
  assert.throws(() => new TrieSource({ capacity: 50 }), /at least 96 nodes/)
  assert.throws(() => new TrieSource({ decay: 1 }), /at most 0.9/)
  assert.throws(() => new TrieSource({ promptWeight: 0 }), /above 0/)
})

test.run()
