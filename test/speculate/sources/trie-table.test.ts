import fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { OpenBranches } from '../../../src/speculate/sources/trie-branches.ts'
import { BranchTrie } from '../../../src/speculate/sources/trie-table.ts'

const test = suite('trie table')

const BRANCH = 4
const tokens = fc.array(fc.nat(5), { maxLength: 60 })
/** What is read beside a text that is being written stays as outputs do. */
const texts = fc.array(fc.record({ prompt: tokens, beside: tokens, output: tokens }), { maxLength: 6 })

/** Every node is found by its parent and token, and among its parent's children, once. */
function checkLinks(trie: BranchTrie): void {
  for (let node = 1; node <= trie.count; node++) {
    assert.ok(trie.parent[node] < node)
    assert.is(trie.child(trie.parent[node], trie.token[node]), node)
  }
  let linked = 0
  for (let node = 0; node <= trie.count; node++) {
    for (let child = trie.first[node]; child !== 0; child = trie.next[child]) {
      assert.is(trie.parent[child], node)
      assert.ok(++linked <= trie.count, 'siblings go in circles')
    }
  }
  assert.is(linked, trie.count)
}

/** What is known of every run of tokens. */
function counts(trie: BranchTrie): Map<string, readonly [number, number]> {
  const paths = ['']
  const found = new Map<string, readonly [number, number]>()
  for (let node = 1; node <= trie.count; node++) {
    paths.push(`${paths[trie.parent[node]]} ${trie.token[node]}`)
    found.set(paths[node], [trie.prompt[node], trie.output[node]])
  }
  return found
}

for (const capacity of [40, 100_000]) {
  test(`with a capacity of ${capacity}, nodes stay linked and found, and no more than the prompt is forgotten`, () => {
    fc.assert(
      fc.property(texts, (list) => {
        const trie = new BranchTrie(capacity, 0.5)
        const [text, beside] = [new OpenBranches(trie, BRANCH), new OpenBranches(trie, BRANCH)]
        for (const { prompt, beside: other, output } of list) {
          for (const token of prompt) text.append(token, 'prompt')
          for (const token of other) beside.append(token, 'output')
          beside.close()
          for (const token of output) text.append(token, 'output')
          checkLinks(trie)
          const before = counts(trie)
          text.close()
          trie.forgetPrompt()
          checkLinks(trie)
          const kept = [...before].filter(([, [, written]]) => written > 0)
          assert.equal(counts(trie), new Map(kept.map(([path, [, written]]) => [path, [0, written]])))
          assert.ok(trie.count <= capacity)
        }
      }),
      { numRuns: 300 },
    )
  })
}

test.run()
