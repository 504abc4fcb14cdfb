/** Trees without a draft model: how much is looked up for them. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { type Budget, type SourceName, sourceOf } from '../../../src/speculate/drafter.ts'
import { LookupDrafter } from '../../../src/speculate/drafters/lookup.ts'
import { TAKEN_AS_THEY_ARE } from '../../../src/speculate/judge.ts'
import { Lookups } from '../../../src/speculate/lookups.ts'
import { FixedPacing, type Growth, type Pacing } from '../../../src/speculate/pacing.ts'
import { type Guesses, type GuessTree, MOST_GUESSES, type Source } from '../../../src/speculate/sources/source.ts'
import { TokenTree } from '../../../src/speculate/token-tree.ts'
import { contextOf } from '../sources/guessing.ts'

const NODES = 63
const TOP_TOKENS = 8

/** Says so many tokens after any path, the first ones likeliest. */
class Talker implements Source {
  readonly topTokens = TOP_TOKENS
  readonly heldBytes = 0
  readonly name: SourceName
  says = 0

  constructor(name: SourceName) {
    this.name = name
  }

  readonly reads: number[] = []

  begin(): void {}
  learn(): void {}
  end(): void {}

  read(_: unknown, tokens: readonly number[]): void {
    this.reads.push(tokens.length)
  }

  successors(_: unknown, guesses: Guesses): void {
    for (let i = 0; i < this.says; i++) guesses.add(i, 0.5 ** (i + 1), 0)
  }
}

const test = suite('trees without a draft model')

/** A drafter in a text that has begun, with one source. */
function startDrafting(pacing: Pacing, judge = TAKEN_AS_THEY_ARE) {
  const source = new Talker('trie')
  const lookups = new Lookups(['trie'], 0)
  lookups.sources = [source]
  const drafter = new LookupDrafter({ lookups, nodes: NODES })
  const context = contextOf([1, 2, 3])
  drafter.begin({ judge, pacing, temperature: 0 })
  drafter.startText(context)
  return { source, drafter, context }
}

/** @returns how large the next tree is when a source says so many tokens after every path */
function drafting(pacing: Pacing): (says: number) => number {
  const { source, drafter, context } = startDrafting(pacing)
  return (says) => {
    source.says = says
    const tree = new TokenTree(NODES)
    tree.reset(context.root)
    drafter.propose(context, tree, { nodes: NODES, depth: 12 })
    return tree.size
  }
}

test('a pass in which little was found makes the next tree no smaller', () => {
  const sizeOf = drafting(new FixedPacing(NODES))
  assert.is(sizeOf(MOST_GUESSES), NODES)
  assert.is(sizeOf(0), 0)
  assert.is(sizeOf(MOST_GUESSES), NODES)
})

test('what the pacing leaves out is not looked up for long; what it takes whole grows again', () => {
  const found: number[] = []
  let most = 2
  const pacing: Pacing = {
    shouldDraft: () => true,
    expand: () => 0,
    cut: ({ size }: Growth) => {
      found.push(size)
      return Math.min(most, size)
    },
    observe() {},
  }
  const sizeOf = drafting(pacing)
  for (let pass = 0; pass < 3; pass++) assert.is(sizeOf(MOST_GUESSES), 2)
  most = NODES
  for (let pass = 0; pass < 5; pass++) sizeOf(MOST_GUESSES)
  assert.equal(found, [63, 4, 4, 4, 8, 16, 32, 63])
})

test('no more is looked up than the pacing says can pay, also while it only watches', () => {
  const pacing: Pacing = {
    leastChance: 0.3,
    shouldDraft: () => true,
    expand: () => 0,
    cut: ({ size }: Growth) => size,
    observe() {},
    watch() {},
  }
  // 0.5, 0.25 and 0.125 at the root, and behind the first of them; the next ones promise less than a fourth of 0.3.
  assert.is(drafting(pacing)(MOST_GUESSES), 5)
  let taken = 0
  const judge = { ...TAKEN_AS_THEY_ARE, observe: () => void taken++ }
  const { source, drafter, context } = startDrafting({ ...pacing, shouldDraft: () => false }, judge)
  source.says = MOST_GUESSES
  const tree = new TokenTree(NODES)
  tree.reset(context.root)
  drafter.propose(context, tree, { nodes: NODES, depth: 12 })
  drafter.observe({ tree, path: [], tokens: [50] }, 1)
  assert.equal([tree.size, taken], [0, 3])
})

/** Has a window of so many nodes, and guesses nothing. */
class Windowed extends Talker {
  readonly windowNodes = 5
  readonly given: number[] = []

  window(tree: GuessTree, { nodes, depth }: Budget): void {
    this.given.push(nodes)
    for (let i = 0, node = 0; i < Math.min(nodes, this.windowNodes, depth); i++)
      node = tree.add(node, 1000 + i, 0.02, 0)
  }
}

test('of a tree of several sources, some nodes are for those that learn from windows', () => {
  const talker = new Talker('trie')
  const windowed = new Windowed('jacobi')
  talker.says = MOST_GUESSES
  const lookups = new Lookups(['trie', 'jacobi'], 0)
  lookups.sources = [talker, windowed]
  const drafter = new LookupDrafter({ lookups, nodes: NODES })
  const context = contextOf([1, 2, 3])
  drafter.begin({ judge: TAKEN_AS_THEY_ARE, pacing: new FixedPacing(NODES), temperature: 0 })
  drafter.startText(context)
  for (const [nodes, windows] of [
    [40, 5],
    [6, 3],
    [1, 0],
  ]) {
    const tree = new TokenTree(nodes)
    tree.reset(context.root)
    drafter.propose(context, tree, { nodes, depth: 12 })
    assert.is(tree.size, nodes)
    const own = Array.from({ length: nodes }, (_, i) => i + 1).filter((node) => tree.token[node] >= 1000)
    assert.is(own.length, windows)
    assert.ok(own.every((node) => tree.source[node] === sourceOf('jacobi')))
    assert.equal(windowed.given.splice(0), [windows])
  }
})

test('a source that makes its trees itself is not asked for a window', () => {
  const windowed = new Windowed('jacobi')
  const lookups = new Lookups(['jacobi'], 0)
  lookups.sources = [windowed]
  assert.is(lookups.guessesOf(40), 40)
  lookups.addWindows(new TokenTree(40), { nodes: 40, depth: 12 })
  assert.equal(windowed.given, [])
})

test('while nothing is drafted, the pacing hears of what would have been, as far as there is time for it', () => {
  const heard: [number, boolean][] = []
  const pacing: Pacing = {
    shouldDraft: () => false,
    expand: () => 0,
    cut: () => 0,
    observe: () => {},
    watch: (chance, right) => heard.push([chance, right]),
  }
  const { source, drafter, context } = startDrafting(pacing)
  const tree = new TokenTree(NODES)
  for (const [says, token] of [
    [2, 0],
    [2, 7],
    [0, 0],
  ]) {
    source.says = says
    // Between long passes there is time, between passes of no length there is none.
    for (const seconds of [1e-9, 1e-9, 1e-9, 100]) {
      tree.reset(context.root)
      drafter.propose(context, tree, { nodes: NODES, depth: 12 })
      assert.is(tree.size, 0)
      drafter.observe({ tree, path: [], tokens: [token] }, seconds)
    }
  }
  assert.equal(heard, [
    [0.5, true],
    [0.5, false],
    [0, false],
  ])
})

test('while nothing is drafted, what was written is read seldom, and at once when guesses are asked for', () => {
  let drafts = false
  const pacing: Pacing = {
    shouldDraft: () => drafts,
    expand: () => 0,
    cut: () => 0,
    observe: () => {},
    watch: () => {},
  }
  const { source, drafter, context } = startDrafting(pacing)
  const tree = new TokenTree(NODES)
  const write = (tokens: number): void => {
    for (let token = 0; token < tokens; token++) {
      tree.reset(context.root)
      drafter.propose(context, tree, { nodes: NODES, depth: 12 })
      drafter.observe({ tree, path: [], tokens: [1] }, 100)
    }
  }
  write(32)
  assert.equal(source.reads, [])
  write(8)
  assert.equal(source.reads, [32])
  drafts = true
  write(1)
  assert.equal(source.reads, [32, 8])
})

test('while nothing is drafted, what the target holds likeliest is noted as far as there is time for it', () => {
  let drafts = false
  const pacing: Pacing = { shouldDraft: () => drafts, expand: () => 0, cut: () => 0, observe: () => {} }
  const { drafter, context } = startDrafting(pacing)
  const tree = new TokenTree(NODES)
  const top = { k: TOP_TOKENS, ids: new Int32Array(TOP_TOKENS), logProbs: new Float32Array(TOP_TOKENS), seconds: 0.01 }
  const notes = (passes: number, passSeconds: number): number[] =>
    Array.from({ length: passes }, (_, pass) => {
      tree.reset(context.root)
      drafter.propose(context, tree, { nodes: NODES, depth: 12 })
      const wanted = drafter.topTokens
      drafter.observe({ tree, path: [], tokens: [1] }, passSeconds, wanted > 0 ? top : undefined)
      return wanted > 0 ? [pass] : []
    }).flat()
  // A hundredth of a second in every four.
  assert.equal(notes(10, 1.01), [0, 4, 8])
  assert.equal(notes(3, 10), [1, 2])
  drafts = true
  assert.equal(notes(3, 1e-3), [0, 1, 2])
  drafts = false
  assert.equal(notes(3, 1e-3), [])
  drafter.startText(context)
  assert.equal(notes(3, 1e-3), [0], 'a text that begins')
})

test.run()
