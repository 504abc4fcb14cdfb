/** A walk over a recorded text without the models, whatever guesses. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { measureProposals } from '../../bench/proposals.ts'
import { SOURCES } from '../../src/speculate/drafter.ts'

const test = suite('proposals')

const phrase = Array.from({ length: 20 }, (_, i) => 100 + i)
const TEXT = Array.from({ length: 24 }, (_, i) => [...phrase, i]).flat()

for (const names of [...SOURCES.map((name) => [name]), ['trie', 'recycle', 'ngram'] as const]) {
  test(`${names.join(', ')}: every pass is timed, and what repeats is guessed`, () => {
    const figures = measureProposals(names, TEXT, { nodes: 16, vocabulary: 200, promptLength: 60 })
    const passes = figures.propose.length
    assert.is(figures.learn.length, passes)
    assert.ok(figures.tokensPerPass > 1.2, `${figures.tokensPerPass} tokens per pass`)
    assert.ok(figures.nodes.every((nodes) => nodes <= 16))
    assert.ok(figures.heldBytes > 0)
  })
}

test.run()
