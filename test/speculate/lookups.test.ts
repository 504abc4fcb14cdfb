/** What several sources say, grown into one tree. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { CandidateTree } from '../../src/speculate/candidate-tree.ts'
import type { SharedNoise } from '../../src/speculate/child-ranking.ts'
import type { TextSoFar } from '../../src/speculate/context.ts'
import { type SourceName, sourceOf } from '../../src/speculate/drafter.ts'
import { TAKEN_AS_THEY_ARE } from '../../src/speculate/judge.ts'
import { Lookups } from '../../src/speculate/lookups.ts'
import { type Guesses, type Path, SHOWN, type Source } from '../../src/speculate/sources/source.ts'
import { ROOT, TokenTree } from '../../src/speculate/token-tree.ts'
import { contextOf } from './sources/guessing.ts'

const DEPTH = 4
const TEXT = Array.from({ length: 20 }, (_, i) => 100 + i)

type Say = readonly (readonly [token: number, promised: number])[]

/** Says what a function makes of the last tokens. */
class Speaker implements Source {
  readonly topTokens: number
  readonly heldBytes = 0
  readonly name: SourceName
  readonly shown: number[][] = []
  readonly #say: (last: number) => Say

  constructor(name: SourceName, say: (last: number) => Say, topTokens = 0) {
    this.name = name
    this.topTokens = topTokens
    this.#say = say
  }

  begin(): void {}
  learn(): void {}
  end(): void {}

  successors({ tokens, length }: Path, guesses: Guesses): void {
    this.shown.push([...tokens.subarray(SHOWN - length)])
    for (const [token, promised] of this.#say(tokens[SHOWN - 1])) guesses.add(token, promised, 0)
  }
}

function open(...sources: Source[]) {
  const names = sources.map(({ name }) => name)
  const lookups = new Lookups(names, 0)
  lookups.sources = sources
  return { lookups, grown: new CandidateTree(1000, names.map(sourceOf)) }
}

function grow({ lookups, grown }: ReturnType<typeof open>, nodes: number, context = contextOf(TEXT)): void {
  grown.reset(context.root)
  lookups.grow(grown, context, TAKEN_AS_THEY_ARE, { nodes, depth: DEPTH })
}

/** Paths of the best nodes, the slow way: by every path that there is. */
function best(sources: readonly ((last: number) => Say)[], nodes: number): string[] {
  const all: { path: number[]; chance: number }[] = []
  const open = (path: number[], chance: number): void => {
    if (path.length === DEPTH) return
    const children = new Map<number, number>()
    for (const say of sources) {
      for (const [token, promised] of say(path.at(-1) ?? TEXT[TEXT.length - 1])) {
        children.set(token, Math.max(promised, children.get(token) ?? 0))
      }
    }
    for (const [token, promised] of children) {
      all.push({ path: [...path, token], chance: chance * promised })
      open([...path, token], chance * promised)
    }
  }
  open([], 1)
  return all
    .sort((a, b) => b.chance - a.chance)
    .slice(0, nodes)
    .map(({ path }) => path.join())
    .sort()
}

const bestOf = ({ tree, order }: CandidateTree, nodes: number): string[] =>
  [...order.subarray(0, Math.min(nodes, tree.size))].map((node) => tree.pathTokens(node).join()).sort()

const FIRST = (last: number): Say => [
  [(3 * last + 1) % 50, 0.47],
  [(5 * last + 2) % 50, 0.21],
]
const SECOND = (last: number): Say => [
  [(3 * last + 1) % 50, 0.31],
  [(7 * last + 3) % 50, 0.29],
  [(11 * last + 4) % 50, 0.11],
]

const test = suite('look-ups')

for (const nodes of [1, 5, 12, 40]) {
  test(`the best ${nodes} nodes are those of all sources and all paths, also behind each other’s guesses`, () => {
    const opened = open(new Speaker('trie', FIRST), new Speaker('ngram', SECOND))
    grow(opened, nodes)
    assert.equal(bestOf(opened.grown, nodes), best([FIRST, SECOND], nodes))
  })
}

test('a node that two sources name is one node of both', () => {
  const { grown, ...rest } = open(new Speaker('trie', FIRST), new Speaker('ngram', SECOND))
  grow({ grown, ...rest }, 3)
  const shared = grown.tree.child(ROOT, (3 * TEXT[TEXT.length - 1] + 1) % 50)
  assert.is(grown.tree.source[shared], sourceOf('trie') | sourceOf('ngram'))
  assert.equal([...grown.promised.subarray(shared * 2, shared * 2 + 2)], [0.47, 0.31])
})

test('sources are shown the end of the text and the path, the newest token last', () => {
  const speaker = new Speaker('trie', (last) => (last > 50 ? [[7, 0.9]] : []))
  grow(open(speaker), 2)
  assert.equal(speaker.shown, [TEXT.slice(-SHOWN), [...TEXT.slice(1 - SHOWN), 7]])
  const short = new Speaker('trie', () => [])
  grow(open(short), 1, contextOf([5, 6]))
  assert.equal(short.shown, [[5, 6]])
})

test('with the noise that decides, what it lifts comes first', () => {
  const opened = open(
    new Speaker('trie', () => [
      [1, 0.6],
      [2, 0.3],
    ]),
  ) // 2 wins the draw
  const noise: SharedNoise = {
    gumbel: (position, token) => (position === TEXT.length && token === 2 ? 9 : 0),
    outliers: () => {
      throw new Error('look-ups ask for what they name')
    },
  }
  const context = contextOf(TEXT)
  opened.lookups.begin(context, 1, noise)
  grow(opened, 1, context)
  const { tree, order } = opened.grown
  assert.equal(tree.pathTokens(order[0]), [2])
  assert.ok(opened.grown.chanceAt(0) > 0.9)
  opened.lookups.begin(context, 0, undefined)
  grow(opened, 1, context)
  assert.equal(tree.pathTokens(order[0]), [1])
})

test('a tree that is nearly full takes no more', () => {
  const speaker = new Speaker('trie', (last) => Array.from({ length: 12 }, (_, i) => [(last + i) % 97, 0.08]))
  const lookups = new Lookups(['trie'], 0)
  lookups.sources = [speaker]
  const grown = new CandidateTree(30, [sourceOf('trie')])
  grown.reset(TEXT[0])
  lookups.grow(grown, contextOf(TEXT), TAKEN_AS_THEY_ARE, { nodes: 30, depth: DEPTH })
  assert.ok(grown.size > 12 && grown.size <= 30, `${grown.size}`)
})

test('what has too little of a chance is not looked behind, nor taken where even four times of it were too little', () => {
  const speaker = new Speaker('trie', (last) =>
    last > 50
      ? [
          [1, 0.5],
          [2, 0.3],
          [3, 0.06],
          [4, 0.04],
        ]
      : [[5, 0.9]],
  )
  const { lookups, grown } = open(speaker)
  const grownWith = (leastChance: number): number[][] => {
    speaker.shown.length = 0
    grown.reset(TEXT[0])
    lookups.grow(grown, contextOf(TEXT), TAKEN_AS_THEY_ARE, { nodes: 40, depth: 2 }, leastChance)
    return speaker.shown.map((shown) => shown.slice(-1))
  }
  assert.equal(grownWith(0), [[119], [1], [2], [3], [4]])
  assert.is(grown.size, 8)
  // Behind 2 there may be something with 0.3 * 0.9.
  assert.equal(grownWith(0.2), [[119], [1], [2]])
  assert.is(grown.size, 5)
  assert.equal(grownWith(0.4), [[119], [1]])
  assert.is(grown.size, 3)
})

test('as many of the likeliest tokens are asked for as the source that wants most does', () => {
  assert.is(open().lookups.topTokens, 0)
  assert.is(open(new Speaker('trie', FIRST, 3), new Speaker('ngram', SECOND, 8)).lookups.topTokens, 8)
})

test('sources read what was written when they are to catch up, all of it, and at the end', () => {
  const read: [text: number[], tokens: number[]][] = []
  const reader = new Speaker('trie', () => [[1, 0.5]])
  const opened = open(
    Object.assign(reader, {
      read: ({ tokens, length }: TextSoFar, written: readonly number[]) =>
        read.push([[...tokens.subarray(0, length)], [...written]]),
    }),
  )
  const context = contextOf([1, 2, 3])
  opened.lookups.begin(context, 0, undefined)
  const pass = (...tokens: number[]): void => {
    opened.lookups.learn(context, { tree: new TokenTree(0), path: [], tokens }, undefined)
    for (const token of tokens) context.push(token)
  }
  pass(4)
  pass(5, 6)
  assert.equal(read, [])
  opened.lookups.catchUp()
  assert.equal(read.splice(0), [
    [
      [1, 2, 3],
      [4, 5, 6],
    ],
  ])
  opened.lookups.catchUp()
  assert.equal(read, [])
  pass(7)
  opened.lookups.end()
  assert.equal(read.splice(0), [[[1, 2, 3, 4, 5, 6], [7]]])
  // What another text left behind is not this one's.
  opened.lookups.begin(contextOf([9]), 0, undefined)
  opened.lookups.end()
  assert.equal(read, [])
})

test.run()
