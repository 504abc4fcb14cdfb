/** Passes that a draft model has no part in: what look-ups say alone, and what the model says again after them. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { sourceOf } from '../../../src/speculate/drafter.ts'
import { Lookups } from '../../../src/speculate/lookups.ts'
import { FixedPacing, type Growth, type Outcome, type Pacing } from '../../../src/speculate/pacing.ts'
import type { Guesses, Source } from '../../../src/speculate/sources/source.ts'
import type { TokenTree } from '../../../src/speculate/token-tree.ts'
import { contextOf, open, openDraft, PROMPTS, pathsOf, propose, ruleOf } from './drafting.ts'

const NODES = 16
const TOP_TOKENS = 8
/** What the source says after any path. */
const SAID = [500, 501]

class Switch implements Pacing {
  leastChance = 0
  drafts = true
  needsPlain = false
  readonly own: Outcome[] = []
  readonly others: Outcome[] = []
  readonly #fixed = new FixedPacing(NODES)

  shouldDraft(): boolean {
    return this.drafts
  }

  expand(growth: Growth): number {
    return this.#fixed.expand(growth)
  }

  cut(growth: Growth): number {
    return this.#fixed.cut(growth)
  }

  observe(outcome: Outcome): void {
    this.own.push(outcome)
  }

  observeWithout(outcome: Outcome): void {
    this.others.push(outcome)
  }
}

const test = suite('passes without the draft model')

/** A drafter of a model and a source, in a text that has begun; whether the model drafts is up to the switch. */
function openMixed() {
  let looks = 0
  const source: Source = {
    name: 'trie',
    topTokens: TOP_TOKENS,
    heldBytes: 0,
    begin: () => {},
    end: () => {},
    successors: (_, guesses: Guesses) => {
      looks++
      for (const [i, token] of SAID.entries()) guesses.add(token, 0.5 ** (i + 1), 0)
    },
  }
  const lookups = new Lookups(['trie'], 1)
  lookups.sources = [source]
  const draft = openDraft(NODES)
  const drafter = open(draft, NODES, 1, { lookups })
  const pacing = new Switch()
  const without = new Switch()
  drafter.begin({ ...ruleOf(1, NODES), pacing, without })
  const context = contextOf(PROMPTS[0])
  drafter.startText(context)
  const write = (tree: TokenTree, ...tokens: number[]): void => {
    const path = tokens.slice(0, -1).map((_, i) => i)
    drafter.observe({ tree, path, tokens }, 1)
    for (const token of tokens) context.push(token)
  }
  return { draft, drafter, pacing, without, context, write, looks: () => looks }
}

test('look-ups alone make the tree, and the model is left alone', () => {
  const { draft, drafter, pacing, without, context, write } = openMixed()
  pacing.drafts = false
  const tree = propose(drafter, context, NODES)
  assert.is(tree.size, NODES)
  for (let node = 1; node < tree.count; node++) {
    assert.is(tree.source[node], sourceOf('trie'))
    assert.ok(SAID.includes(tree.token[node]))
  }
  assert.is(drafter.grow(tree, 0), false)
  write(tree, 500, 3)
  assert.is(draft.cache.length, 0)
  assert.equal(
    [pacing.own.length, pacing.others.map(({ nodes, tokens }) => [nodes, tokens]), without.own.length],
    [0, [[NODES, 2]], 1],
  )
})

test('a pass that is to tell what plain ones cost is plain', () => {
  const { drafter, pacing, without, context, write } = openMixed()
  pacing.drafts = false
  pacing.needsPlain = true
  const tree = propose(drafter, context, NODES)
  assert.is(tree.size, 0)
  write(tree, 3)
  assert.equal([pacing.own.length, pacing.others.length, without.own.length], [1, 0, 0])
})

test('where others rest, too, passes are plain, and both hear of them', () => {
  const { drafter, pacing, without, context, write } = openMixed()
  pacing.drafts = false
  without.drafts = false
  write(propose(drafter, context, NODES), 3)
  assert.equal(
    pacing.others.map(({ nodes, tokens, draftSeconds }) => [nodes, tokens, draftSeconds]),
    [[0, 1, 0]],
  )
  assert.is(without.own.length, 1)
})

test('beside the model, too, no more is looked up than the pacing says can pay', () => {
  const [all, few] = [0, 0.9].map((leastChance) => {
    const { drafter, pacing, context, looks } = openMixed()
    pacing.leastChance = leastChance
    propose(drafter, context, NODES)
    return looks()
  })
  assert.is(few, 1)
  assert.ok(all > NODES / 2, `${all} looks`)
})

test('after them the model’s tree is the one that it would have been without them', () => {
  const { drafter, pacing, context, write } = openMixed()
  const fresh = openMixed()
  for (let round = 0; round < 9; round++) {
    pacing.drafts = round % 4 === 0
    const tree = propose(drafter, context, NODES)
    if (pacing.drafts) {
      const same = propose(fresh.drafter, fresh.context, NODES)
      assert.equal([...pathsOf(tree)], [...pathsOf(same)], `round ${round}`)
    }
    // Far from the model, and long enough apart that it must catch up.
    const tokens = [600 + round, 601 + round, 602 + round, 603 + round]
    write(tree, ...tokens.slice(0, 1))
    for (const token of tokens.slice(1)) context.push(token)
    fresh.drafter.begin({ ...ruleOf(1, NODES), pacing: fresh.pacing })
    for (const token of tokens) fresh.context.push(token)
  }
})

test('what the target holds likeliest is wanted of every pass with guesses, of others now and then', () => {
  const { drafter, pacing, without, context } = openMixed()
  const top = { k: TOP_TOKENS, ids: new Int32Array(0), logProbs: new Float32Array(0), seconds: 1 }
  const wanted = (models: boolean, others: boolean): number => {
    pacing.drafts = models
    without.drafts = others
    const tree = propose(drafter, context, NODES)
    const count = drafter.topTokens
    drafter.observe({ tree, path: [], tokens: [3] }, 1, count > 0 ? top : undefined)
    context.push(3)
    return count
  }
  assert.equal(
    [
      [true, false],
      [false, true],
      [false, false],
      [false, false],
      [true, false],
      [false, true],
    ].map(([models, others]) => wanted(models, others)),
    [TOP_TOKENS, TOP_TOKENS, 0, 0, TOP_TOKENS, TOP_TOKENS],
  )
})

test.run()
