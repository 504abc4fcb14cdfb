/** The drafter's tree is the best-first tree of the draft's distribution, however it came to be grown. */
import * as fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { Transformer } from '../../../src/model/transformer.ts'
import type { Context } from '../../../src/speculate/context.ts'
import { expansionRows } from '../../../src/speculate/drafters/tree.ts'
import { PassCosts } from '../../../src/speculate/pass-costs.ts'
import { ROOT, TokenTree } from '../../../src/speculate/token-tree.ts'
import { assertBestFirst, contextOf, open, openDraft, oracle, PROMPTS, pathsOf, propose, ruleOf } from './drafting.ts'

const test = suite('best-first trees')

for (const nodes of [1, 4, 16, 63]) {
  test(`${nodes} nodes are those of a naive best-first search, for several sharpenings`, () => {
    const drafter = open(openDraft(nodes), nodes, 1)
    for (const prompt of PROMPTS) {
      for (const sharpening of [0.7, 1, 1.5, 3]) {
        drafter.begin(ruleOf(sharpening, nodes))
        assertBestFirst(propose(drafter, contextOf(prompt), nodes), prompt, nodes, sharpening)
      }
    }
  })
}

test('a smaller budget than the drafter was made for gives the smaller tree', () => {
  const drafter = open(openDraft(16), 16, 2)
  for (const nodes of [1, 7, 16]) {
    drafter.begin(ruleOf(2, 16))
    assertBestFirst(propose(drafter, contextOf(PROMPTS[0]), nodes), PROMPTS[0], nodes, 2)
  }
  const none = propose(drafter, contextOf(PROMPTS[0]), 0)
  assert.is(none.size, 0)
})

test('no path is longer than the budget’s depth', () => {
  const drafter = open(openDraft(16), 16, 3)
  const context = contextOf(PROMPTS[0])
  const tree = new TokenTree(16)
  tree.reset(context.root)
  drafter.propose(context, tree, { nodes: 16, depth: 2 })
  assert.is(tree.size, 16)
  assert.is(Math.max(...tree.depth.subarray(0, tree.count)), 2)
})

test('nodes come best first and parents before their children', () => {
  const drafter = open(openDraft(32), 32, 1.5)
  const tree = propose(drafter, contextOf(PROMPTS[1]), 32)
  for (let node = 2; node < tree.count; node++) assert.ok(tree.logProb[node] <= tree.logProb[node - 1])
  for (let node = 1; node < tree.count; node++) assert.ok(tree.parent[node] < node)
})

test('what reading takes is told from the second time on: the first time the weights are read, too', () => {
  const costs = new PassCosts(17, expansionRows(16))
  const drafter = open(openDraft(16), 16, 3, { costs })
  const text = [...PROMPTS[0], ...PROMPTS[1], ...PROMPTS[0]]
  propose(drafter, contextOf(text), 16)
  assert.is(costs.read(1), 0)
  propose(drafter, contextOf([...text, ...text]), 16)
  assert.ok(costs.read(1) > 0)
})

/**
 * One round of a decoder's life: how far the target follows the tree, what it says then, and how
 * often the drafter may grow meanwhile.
 */
interface Round {
  /** Which child is accepted at each level; beyond the children's number: none. */
  readonly follow: readonly number[]
  /** The target's own last token: a child below the proposal that growing may know, or any token. */
  readonly last: { readonly rank: number } | { readonly token: number }
  readonly grow: number
}

const rounds: fc.Arbitrary<Round[]> = fc.array(
  fc.record({
    follow: fc.array(fc.constantFrom(0, 0, 0, 1, 2, 3), { maxLength: 6 }),
    last: fc.oneof(
      { weight: 3, arbitrary: fc.record({ rank: fc.integer({ min: 0, max: 2 }) }) },
      { weight: 1, arbitrary: fc.record({ token: fc.integer({ min: 0, max: 4095 }) }) },
    ),
    grow: fc.integer({ min: 0, max: 12 }),
  }),
  { minLength: 1, maxLength: 8 },
)

/** The path through the tree that a round accepts, and the tokens that the target says. */
function accept(tree: TokenTree, context: Context, { follow, last }: Round): { path: number[]; tokens: number[] } {
  const path: number[] = []
  let node: number = ROOT
  for (const rank of follow) {
    const children = Array.from({ length: tree.count }, (_, i) => i).filter((i) => i > 0 && tree.parent[i] === node)
    if (rank >= children.length) break
    node = children[rank]
    path.push(node)
  }
  const tokens = path.map((at) => tree.token[at])
  const text = [...context.tokens.subarray(0, context.length), ...tokens]
  let next = 'token' in last ? last.token : oracle(text, 1)[last.rank][0]
  // The walk ends where no child holds the token.
  while (tree.child(node, next) >= 0) next = (next + 1) % 4096
  return { path, tokens: [...tokens, next] }
}

/** What became of the draft passes that were half done when the target had spoken. */
interface HalfDone {
  ended: number
  dropped: number
}

/**
 * Fails when a pass writes a scratch slot that was written since the last acceptance, or lies elsewhere; and
 * counts the passes that are cut in two by an acceptance.
 */
function watch(draft: Transformer): { forget(): void; accepting(accept: () => void): void; halfDone: HalfDone } {
  const written = new Set<number>()
  const halfDone: HalfDone = { ended: 0, dropped: 0 }
  let layers = 0
  const { steps } = draft
  const check = (): void => {
    const { count, slots, prefixes, positions } = draft.batch
    for (let row = 0; row < count; row++) {
      if (slots[row] < draft.cache.context) {
        assert.is(slots[row], positions[row], 'a prefix row is stored at its position')
        continue
      }
      assert.ok(slots[row] < draft.cache.context + draft.cache.scratch, 'the slot lies in the scratch region')
      assert.is(prefixes[row], draft.cache.length, 'a node sees the whole prefix')
      assert.not(written.has(slots[row]), `slot ${slots[row]} is written twice`)
      written.add(slots[row])
    }
  }
  draft.steps = function* (idle) {
    check()
    layers = 0
    for (const _ of steps.call(draft, idle)) {
      layers++
      yield
    }
    layers = 0
  }
  return {
    forget: () => written.clear(),
    accepting: (accept) => {
      const isHalfDone = layers > 0
      accept()
      if (isHalfDone) halfDone[layers === 0 ? 'ended' : 'dropped']++
      layers = 0
    },
    halfDone,
  }
}

for (const nodes of [3, 12]) {
  const draft = openDraft(nodes)
  const watched = watch(draft)
  const drafter = open(draft, nodes, 1.5)

  test(`${nodes} nodes stay the best ones through any acceptances and any growing`, () => {
    fc.assert(
      fc.property(fc.constantFrom(...PROMPTS), rounds, (prompt, all) => {
        drafter.begin(ruleOf(1.5, nodes))
        watched.forget()
        const context = contextOf(prompt)
        for (const round of all) {
          const tree = propose(drafter, context, nodes)
          assertBestFirst(tree, [...context.tokens.subarray(0, context.length)], nodes, 1.5)
          // A deadline in the past is one layer of one draft pass.
          for (let step = 0; step < round.grow; step++) if (!drafter.grow(tree, 0)) break
          const { path, tokens } = accept(tree, context, round)
          watched.accepting(() => drafter.observe({ tree, path, tokens }, 0))
          watched.forget()
          for (const token of tokens) context.push(token)
        }
      }),
      { numRuns: 20, seed: 1 },
    )
    const { ended, dropped } = watched.halfDone
    assert.ok(ended >= 5 && dropped >= 5, `${ended} half-done passes were of use, ${dropped} were not`)
  })
}

test('a call with a past deadline is one layer of the draft, and the tree is changed by the last one only', () => {
  const draft = openDraft(8)
  let layers = 0
  const { steps } = draft
  draft.steps = function* (idle) {
    for (const _ of steps.call(draft, idle)) {
      layers++
      yield
    }
  }
  const drafter = open(draft, 8, 1)
  const context = contextOf(PROMPTS[0])
  const tree = propose(drafter, context, 8)
  layers = 0
  for (let call = 1; call <= draft.config.layers; call++) {
    assert.ok(drafter.grow(tree, 0))
    assert.is(layers, call)
  }
  // The output head comes with a call of its own.
  assert.ok(drafter.grow(tree, 0))
  assert.is(layers, draft.config.layers)
  assert.ok(drafter.grow(tree, 0))
  assert.is(layers, draft.config.layers + 1)
})

// A proposal of one node needs no pass of its own that would take the place of the old one.
for (const nodes of [1, 8]) {
  test(`a text that begins while a pass is half done has nothing of the old one in its ${nodes} nodes`, () => {
    const drafter = open(openDraft(nodes), nodes, 1)
    for (const steps of [1, 2, 3, 4]) {
      drafter.begin(ruleOf(1, nodes))
      const old = propose(drafter, contextOf(PROMPTS[0]), nodes)
      for (let step = 0; step < steps; step++) drafter.grow(old, 0)
      drafter.begin(ruleOf(1, nodes))
      const context = contextOf(PROMPTS[1])
      const tree = propose(drafter, context, nodes)
      assertBestFirst(tree, PROMPTS[1], nodes, 1)
      for (let step = 0; step < 7; step++) drafter.grow(tree, 0)
      const { path, tokens } = accept(tree, context, { follow: [0], last: { rank: 0 }, grow: 0 })
      drafter.observe({ tree, path, tokens }, 0)
      for (const token of tokens) context.push(token)
      assertBestFirst(propose(drafter, context, nodes), [...PROMPTS[1], ...tokens], nodes, 1)
    }
  })
}

test('growing to the end never changes the next proposal', () => {
  const nodes = 24
  const growing = open(openDraft(nodes), nodes, 3)
  const resting = open(openDraft(nodes), nodes, 3)
  const context = contextOf(PROMPTS[0])
  let grown = 0
  let accepted = 0
  for (let round = 0; round < 20; round++) {
    const tree = propose(growing, context, nodes)
    const same = propose(resting, context, nodes)
    assert.equal([...pathsOf(tree).keys()], [...pathsOf(same).keys()], `round ${round}`)
    while (growing.grow(tree, 0)) grown++
    const { path, tokens } = accept(tree, context, {
      follow: [0, 0, round % 3 === 0 ? 1 : 0, 0].slice(0, round % 5),
      last: { rank: round % 2 },
      grow: 0,
    })
    accepted += path.length
    growing.observe({ tree, path, tokens }, 0)
    resting.observe({ tree: same, path, tokens }, 0)
    for (const token of tokens) context.push(token)
  }
  assert.ok(grown > 0 && accepted > 0)
})

test('a text that jumps elsewhere is met by a tree of its own', () => {
  const drafter = open(openDraft(8), 8, 1)
  propose(drafter, contextOf(PROMPTS[0]), 8)
  drafter.begin(ruleOf(1, 8))
  assertBestFirst(propose(drafter, contextOf(PROMPTS[2]), 8), PROMPTS[2], 8, 1)
  assert.is(open(openDraft(8), 8, 1).grow(new TokenTree(8), 0), false)
})

test.run()
