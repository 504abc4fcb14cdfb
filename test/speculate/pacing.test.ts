/** When drafting stops by rule, not by plan. */
import * as fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { FallbackPacing, FixedPacing, type Growth, type Pacing } from '../../src/speculate/pacing.ts'

/** A tree with these chances in order of merit, of which nodes with the chances `next` can be looked behind. */
const growing = (chances: readonly number[], next: readonly number[], depth = 1): Growth => ({
  size: chances.length,
  chanceAt: (place) => chances[place],
  next,
  depth,
  seconds: 0,
})

const outcome = (nodes: number, tokens: number) => ({ nodes, tokens, draftSeconds: 0, passSeconds: 0 })

const fixed = suite('fixed pacing')

fixed('a list that is not full is filled', () => {
  const pacing = new FixedPacing(4)
  assert.is(pacing.expand(growing([0.6, 0.2, 0.1], [0.6, 0.2])), 2)
  assert.is(pacing.expand(growing([0.6, 0.2, 0.1], [1e-9])), 1)
})

fixed('a full list is grown as long as a node behind another one could enter it', () => {
  const pacing = new FixedPacing(3)
  assert.is(pacing.expand(growing([0.6, 0.2, 0.1, 0.05], [0.6, 0.2, 0.1])), 3)
  assert.is(pacing.expand(growing([0.6, 0.2, 0.1, 0.05], [0.1])), 0, 'a child is never better than its parent')
  assert.is(pacing.expand(growing([0.6, 0.2, 0.1, 0.05], [0.05])), 0)
})

fixed('all nodes are put before the target, up to the fixed number', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 20 }), fc.nat(40), (nodes, size) => {
      const chances = Array.from({ length: size }, (_, i) => 0.9 ** (i + 1))
      assert.is(new FixedPacing(nodes).cut(growing(chances, [])), Math.min(nodes, size))
    }),
  )
})

fixed('no nodes mean no drafting', () => {
  assert.is(new FixedPacing(0).shouldDraft(), false)
  assert.is(new FixedPacing(1).shouldDraft(), true)
})

fixed('nothing that happens changes it', () => {
  const pacing: Pacing = new FixedPacing(3)
  for (let i = 0; i < 50; i++) pacing.observe(outcome(3, 1))
  assert.is(pacing.shouldDraft(), true)
  assert.is(pacing.expand(growing([0.6], [0.6])), 1)
  assert.is(pacing.cut(growing([0.6, 0.2, 0.1, 0.05], [])), 3)
})

fixed.run()

const fallback = suite('LLMCad’s fallback')

/** A pass over a tree whose best path has a chance and a length, after which the target gave so many tokens. */
function pass(pacing: FallbackPacing, confidence: number, length: number, tokens: number): void {
  pacing.cut(growing([0.5, 0.3], [confidence], length))
  pacing.observe(outcome(2, tokens))
}

fallback('drafting goes on while the best path is as likely as alpha', () => {
  const pacing = new FallbackPacing(10, 0.2)
  assert.is(pacing.expand(growing([0.5, 0.3], [0.5, 0.3])), 2)
  assert.is(pacing.expand(growing([0.5, 0.3], [0.2, 0.1])), 1)
  assert.is(pacing.expand(growing([0.5, 0.3], [0.19, 0.1])), 0)
})

fallback('a tree of all nodes that are allowed is not grown further', () => {
  const pacing = new FallbackPacing(2, 0.2)
  assert.is(pacing.expand(growing([0.9, 0.8], [0.9])), 0)
  assert.is(pacing.cut(growing([0.9, 0.8, 0.7], [0.9])), 2)
  assert.is(new FallbackPacing(0).shouldDraft(), false)
})

fallback('alpha halves when the whole best path was right', () => {
  const pacing = new FallbackPacing(10, 0.4)
  pass(pacing, 0.3, 3, 4)
  assert.is(pacing.alpha, 0.2)
  // More tokens than the path has: another branch led further, or the target’s own token was known.
  pass(pacing, 0.3, 3, 7)
  assert.is(pacing.alpha, 0.1)
})

fallback('alpha rises by the path’s chance to the power of the share that was wrong', () => {
  fc.assert(
    fc.property(
      fc.double({ min: 0.02, max: 0.98, noNaN: true }),
      fc.double({ min: 0.001, max: 0.999, noNaN: true }),
      fc.integer({ min: 1, max: 32 }),
      fc.nat(31),
      (alpha, confidence, length, correct) => {
        fc.pre(correct < length)
        const pacing = new FallbackPacing(10, alpha)
        pass(pacing, confidence, length, correct + 1)
        const expected = alpha / confidence ** ((length - correct) / length)
        assert.ok(Math.abs(pacing.alpha - Math.min(0.99, Math.max(0.01, expected))) < 1e-12)
        assert.ok(pacing.alpha >= alpha, 'a wrong path never makes it bolder')
      },
    ),
  )
})

fallback('alpha stays between its bounds, whatever happens', () => {
  const bold = new FallbackPacing(10)
  for (let i = 0; i < 60; i++) pass(bold, 0.9, 2, 3)
  assert.is(bold.alpha, 0.01)
  const timid = new FallbackPacing(10)
  for (let i = 0; i < 60; i++) pass(timid, 0.05, 2, 1)
  assert.is(timid.alpha, 0.99)
})

fallback('a best path that was cut short has the chance that it was stopped at', () => {
  const pacing = new FallbackPacing(10, 0.25)
  pacing.cut(growing([0.9, 0.8], [], 0))
  pacing.observe(outcome(2, 1))
  // All of a path of chance alpha was wrong: alpha / alpha, clamped.
  assert.is(pacing.alpha, 0.99)
  const lucky = new FallbackPacing(10, 0.25)
  lucky.cut(growing([0.9, 0.8], [], 0))
  lucky.observe(outcome(2, 2))
  assert.is(lucky.alpha, 0.125)
})

fallback('a pass without guesses teaches nothing', () => {
  const pacing = new FallbackPacing(10, 0.3)
  pacing.cut(growing([0.5], [0.2], 3))
  pacing.observe(outcome(0, 1))
  assert.is(pacing.alpha, 0.3)
})

fallback.run()
