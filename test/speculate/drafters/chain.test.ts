/** With one guess per node the drafter's tree is the draft's greedy chain; and drafters abstain from texts they cannot read. */
import * as fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { Context } from '../../../src/speculate/context.ts'
import type { TreeDrafter } from '../../../src/speculate/drafters/tree.ts'
import { ROOT, type TokenTree } from '../../../src/speculate/token-tree.ts'
import { contextOf, open, openDraft, oracle, PROMPTS, propose, ROUNDING, ruleOf } from './drafting.ts'

const VOCABULARY = 4096

/** The draft's greedy continuation, up to the first token that it gives less than `least`. */
function greedyChain(text: readonly number[], nodes: number, least: number): number[] {
  const chain: number[] = []
  while (chain.length < nodes) {
    const [id, logProb] = oracle([...text, ...chain], 1)[0]
    if (Math.exp(logProb) < least) break
    chain.push(id)
  }
  return chain
}

const textOf = ({ tokens, length }: Context): number[] => [...tokens.subarray(0, length)]

function assertChain(tree: TokenTree, text: readonly number[], nodes: number, least: number): void {
  for (let node = 1; node < tree.count; node++) assert.is(tree.parent[node], node - 1, 'one guess per node')
  assert.equal([...tree.token.subarray(1, tree.count)], greedyChain(text, nodes, least))
}

/** The target takes the first `follow` guesses, and then a token of its own. */
function accept(drafter: TreeDrafter, context: Context, tree: TokenTree, follow: number, own: number): void {
  const path = Array.from({ length: Math.min(follow, tree.size) }, (_, i) => i + 1)
  const tokens = path.map((node) => tree.token[node])
  let last = own
  while (tree.child(path.at(-1) ?? ROOT, last) >= 0) last = (last + 1) % VOCABULARY
  tokens.push(last)
  drafter.observe({ tree, path, tokens }, 0)
  for (const token of tokens) context.push(token)
}

const chains = suite('chains')

for (const least of [0, 0.3, 0.75]) {
  chains(`a chain is the draft’s greedy text until it gives a token less than ${least}`, () => {
    const drafter = open(openDraft(12), 12, 1, { name: 'chain', branching: 1, leastProbability: least })
    const lengths = new Set<number>()
    for (const prompt of PROMPTS) {
      for (let length = 2; length <= prompt.length; length++) {
        drafter.begin(ruleOf(1, 12))
        const text = prompt.slice(0, length)
        const tree = propose(drafter, contextOf(text), 12)
        assertChain(tree, text, 12, least)
        lengths.add(tree.size)
      }
    }
    if (least === 0) assert.equal([...lengths], [12])
    else assert.ok(lengths.size >= 3, `chains of ${[...lengths]} nodes: the rule is hardly tested`)
  })
}

chains('a chain has the probabilities of its tokens', () => {
  const drafter = open(openDraft(8), 8, 1, { name: 'chain', branching: 1 })
  const tree = propose(drafter, contextOf(PROMPTS[0]), 8)
  let sum = 0
  for (let node = 1; node < tree.count; node++) {
    sum += oracle([...PROMPTS[0], ...tree.pathTokens(node - 1)], 1)[0][1]
    assert.ok(Math.abs(tree.logProb[node] - sum) < ROUNDING)
  }
})

chains('chains stay greedy through any acceptances and any growing', () => {
  const rounds = fc.array(
    fc.record({ follow: fc.nat(7), own: fc.nat(VOCABULARY - 1), likely: fc.boolean(), grow: fc.nat(9) }),
    { minLength: 1, maxLength: 6 },
  )
  const drafter = open(openDraft(6), 6, 1, { name: 'chain', branching: 1, leastProbability: 0.2 })
  fc.assert(
    fc.property(fc.constantFrom(...PROMPTS), rounds, (prompt, all) => {
      drafter.begin(ruleOf(1, 6))
      const context = contextOf(prompt)
      for (const { follow, own, likely, grow } of all) {
        const text = textOf(context)
        const tree = propose(drafter, context, 6)
        assertChain(tree, text, 6, 0.2)
        for (let step = 0; step < grow; step++) if (!drafter.grow(tree, 0)) break
        const path = [...tree.token.subarray(1, 1 + Math.min(follow, tree.size))]
        // The draft's own next token, which growing may know already, or any.
        accept(drafter, context, tree, follow, likely ? oracle([...text, ...path], 1)[0][0] : own)
      }
    }),
    { numRuns: 20, seed: 2 },
  )
})

chains.run()

const smaller = suite('a draft with a smaller vocabulary')

const KNOWN = 1700
const READABLE = PROMPTS[0]
const UNREADABLE = PROMPTS[2]

smaller.before(() => {
  assert.ok(READABLE.every((token) => token < KNOWN) && UNREADABLE.some((token) => token >= KNOWN))
})

smaller('guesses none but common tokens', () => {
  const drafter = open(openDraft(24), 24, 1, { vocabulary: 300 })
  const tree = propose(drafter, contextOf(READABLE.map((token) => token % 300)), 24)
  assert.is(tree.size, 24)
  for (let node = 1; node < tree.count; node++) assert.ok(tree.token[node] < 300)
})

smaller('abstains from a text with a token that it lacks, wherever that is', () => {
  const drafter = open(openDraft(8), 8, 1, { vocabulary: KNOWN })
  // In the part that is read ahead of the proposal, and in the part that is read with it.
  for (const text of [UNREADABLE, [...READABLE, KNOWN], [KNOWN, ...READABLE, ...READABLE]]) {
    drafter.begin(ruleOf(1, 8))
    const tree = propose(drafter, contextOf(text), 8)
    assert.is(tree.size, 0)
    assert.is(drafter.grow(tree, 0), false)
    drafter.observe({ tree, path: [], tokens: [5] }, 0)
  }
  drafter.begin(ruleOf(1, 8))
  assert.is(propose(drafter, contextOf(READABLE), 8).size, 8, 'the next text is guessed')
})

smaller('abstains from the moment on at which the target says such a token', () => {
  for (const grow of [0, 1, 2, 3, 7]) {
    const drafter = open(openDraft(8), 8, 1, { vocabulary: KNOWN })
    const context = contextOf(READABLE)
    let tree = propose(drafter, context, 8)
    assert.is(tree.size, 8)
    for (let step = 0; step < grow; step++) drafter.grow(tree, 0)
    accept(drafter, context, tree, 0, KNOWN + 100)
    for (let round = 0; round < 12; round++) {
      tree = propose(drafter, context, 8)
      assert.is(tree.size, 0, `round ${round}`)
      assert.is(drafter.grow(tree, 0), false)
      accept(drafter, context, tree, 0, 5 + round)
    }
  }
})

smaller('which knows nothing of a text costs nothing: it does not even read it', () => {
  const draft = openDraft(8)
  let passes = 0
  const { steps } = draft
  draft.steps = (idle) => {
    passes++
    return steps.call(draft, idle)
  }
  const drafter = open(draft, 8, 1, { vocabulary: KNOWN })
  propose(drafter, contextOf(UNREADABLE), 8)
  assert.is(passes, 0)
})

smaller.run()
