/** What is said of the memory of sources is not less than what they come to hold. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { Context } from '../../../src/speculate/context.ts'
import { SOURCES } from '../../../src/speculate/drafter.ts'
import { makeSource, SAVING, sourceBytes } from '../../../src/speculate/sources/catalogue.ts'
import { contextOf, propose } from './guessing.ts'

const VOCABULARY = 5000
const test = suite('catalogue of sources')

for (const name of SOURCES) {
  test(`${name} holds no more than is said of it, however much it read`, () => {
    const source = makeSource(name, VOCABULARY)
    assert.is(source.name, name)
    let state = 1
    const next = (): number => {
      state = (Math.imul(state, 1103515245) + 12345) >>> 0
      return (state >>> 8) % VOCABULARY
    }
    source.warm?.(Int32Array.from({ length: 150_000 }, next))
    source.begin(new Context(Int32Array.from({ length: 3000 }, next), 4096), 0)
    const { held } = sourceBytes(name, { vocabulary: VOCABULARY, context: 4096, proposed: 0 })
    assert.ok(source.heldBytes <= held, `${source.heldBytes} of ${held}`)
    source.end()
  })
}

test('a trie that proposes large trees holds no more than is said of it', () => {
  for (const proposed of [1, 64, 300, 1024]) {
    const source = makeSource('trie', VOCABULARY, { trie: { branchLength: 4, enough: 1024 } })
    let state = 1
    // Every token follows every pair, so each node of a proposal has as many children as are looked at.
    const text = Array.from({ length: 200_000 }, () => {
      state = (Math.imul(state, 1103515245) + 12345) >>> 0
      return (state >>> 8) % 33
    })
    source.warm?.(text)
    const before = source.heldBytes
    propose(source, contextOf(text), proposed)
    const [said, less] = [proposed, 0].map(
      (proposed) => sourceBytes('trie', { vocabulary: VOCABULARY, context: 4096, proposed }).held,
    )
    const selecting = source.heldBytes - before
    assert.ok(selecting <= said - less, `${proposed} nodes: ${selecting} of ${said - less}`)
    if (proposed > 100) assert.ok(selecting >= (said - less) / 8, `${proposed} nodes: ${selecting} of ${said - less}`)
  }
})

test('those that save are those that load', () => {
  for (const name of SOURCES) {
    const { save, load } = makeSource(name, VOCABULARY)
    assert.equal(
      [save, load].map((one) => one !== undefined),
      [SAVING.includes(name), SAVING.includes(name)],
    )
  }
})

test.run()
