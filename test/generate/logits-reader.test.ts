/** Whatever order logits are asked for in, they are those of the node; and so are the likeliest tokens. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { LogitsReader } from '../../src/generate/logits-reader.ts'
import { ROOT, TokenTree } from '../../src/speculate/token-tree.ts'
import { openSmallTarget } from './small-target.ts'

const PROMPT = [3, 1, 4, 1, 5]
const K = 5
const { target } = openSmallTarget(80)
const { vocabulary } = target.config

/** More nodes than the head takes rows at once: chains beside each other. */
const tree = new TokenTree(47)
tree.reset(PROMPT[PROMPT.length - 1])
for (let node = 1; node <= 47; node++) tree.add(node % 5 === 1 ? ROOT : node - 1, (7 * node) % vocabulary, -node, 1)
assert.ok(tree.count > target.headRows)

const { batch, cache } = target
for (const [i, token] of PROMPT.slice(0, -1).entries()) batch.addPrefixRow(token, i)
target.forward()
cache.extend(PROMPT.length - 1)
batch.clear()
batch.addPrefixRow(tree.token[ROOT], PROMPT.length - 1)
for (let node = 1; node < tree.count; node++) {
  const parent = tree.parent[node] === ROOT ? -1 : tree.parent[node]
  batch.addTreeRow(tree.token[node], cache.scratchStart + node - 1, PROMPT.length, parent)
}
target.forward()

/** Of every node, a row at a time. */
const expected = Array.from({ length: tree.count }, (_, node) => {
  target.head([node])
  return Float32Array.from(target.logitsView(0))
})
const probabilityOf = (logits: Float32Array, id: number): number =>
  1 / logits.reduce((sum, logit) => sum + Math.exp(logit - logits[id]), 0)
const likeliest = (logits: Float32Array): number[] =>
  [...logits.keys()].sort((a, b) => logits[b] - logits[a] || a - b).slice(0, K)

const test = suite('logits of a pass')

test('logits are those of the node, in any order', () => {
  const reader = new LogitsReader(target, tree)
  reader.reset()
  for (const node of [0, 1, 2, 40, 3, 0, 47, 6]) assert.equal([...reader.after(node)], [...expected[node]], `${node}`)
  assert.is(reader.top(), undefined, 'nobody asked for likeliest tokens')
})

for (const walk of [[], [0], [0, 6, 7, 8], [0, 46, 47]]) {
  test(`the likeliest tokens are there for every node, after a walk over ${walk.length} of them`, () => {
    const reader = new LogitsReader(target, tree)
    // What another pass left behind must not show.
    reader.reset(K)
    reader.top()!.ids.fill(99_999)
    reader.reset(K)
    for (const node of walk) reader.after(node)
    const { k, ids, logProbs, seconds } = reader.top()!
    assert.is(k, K)
    assert.ok(seconds > 0 && seconds < 60, `${seconds} s`)
    for (let node = 0; node < tree.count; node++) {
      assert.equal([...ids.subarray(node * K, (node + 1) * K)], likeliest(expected[node]), `node ${node}`)
      for (let i = node * K; i < (node + 1) * K; i++) {
        assert.ok(Math.abs(logProbs[i] - Math.log(probabilityOf(expected[node], ids[i]))) < 0.04, `node ${node}`)
        // Only what all of them are divided by is coarse.
        const apart = expected[node][ids[i]] - expected[node][ids[node * K]]
        assert.ok(Math.abs(logProbs[i] - logProbs[node * K] - apart) < 1e-5, `node ${node}`)
      }
    }
    for (const node of walk) assert.equal([...reader.after(node)], [...expected[node]], 'the logits are still theirs')
  })
}

test.run()
