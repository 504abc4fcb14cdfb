import fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { ROOT, TokenTree } from '../../src/speculate/token-tree.ts'

const test = suite('token tree')

interface Step {
  parent: number
  token: number
  loss: number
}
const steps = fc.array(
  fc.record({ parent: fc.nat(40), token: fc.nat(5), loss: fc.double({ min: 0.01, max: 4, noNaN: true }) }),
  { maxLength: 60 },
)

function grow(list: readonly Step[]): TokenTree {
  const tree = new TokenTree(64)
  tree.reset(7)
  for (const { parent, token, loss } of list) {
    const under = parent % tree.count
    tree.add(under, token, tree.logProb[under] - loss, 1)
  }
  return tree
}

test('parents come before children, and depths count from the root', () => {
  fc.assert(
    fc.property(steps, (list) => {
      const tree = grow(list)
      for (let node = 1; node < tree.count; node++) {
        assert.ok(tree.parent[node] < node)
        assert.is(tree.depth[node], tree.depth[tree.parent[node]] + 1)
        assert.is(tree.ancestors(node).length, tree.depth[node])
      }
    }),
  )
})

test('siblings hold distinct tokens: an equal proposal joins the first and keeps the better score', () => {
  const tree = new TokenTree(4)
  tree.reset(1)
  const first = tree.add(ROOT, 5, -2, 1)
  assert.is(tree.add(ROOT, 5, -1, 2), first)
  assert.is(tree.size, 1)
  assert.is(tree.logProb[first], -1)
  assert.is(tree.source[first], 3)
  assert.is(tree.add(ROOT, 5, -3, 4), first)
  assert.is(tree.logProb[first], -1)
})

test('a full tree takes no more nodes but still merges', () => {
  const tree = new TokenTree(1)
  tree.reset(1)
  assert.is(tree.add(ROOT, 2, -1, 1), 1)
  assert.is(tree.add(ROOT, 3, -1, 1), -1)
  assert.is(tree.add(ROOT, 2, -0.5, 1), 1)
})

test('children are those that were added, the last first', () => {
  const tree = new TokenTree(3)
  tree.reset(1)
  const first = tree.add(ROOT, 5, -2, 1)
  const grandchild = tree.add(first, 6, -3, 1)
  const second = tree.add(ROOT, 7, -1, 1)
  assert.equal(tree.children(ROOT), [second, first])
  assert.equal(tree.children(first), [grandchild])
  assert.equal(tree.children(second), [])
})

test('re-rooting keeps exactly the subtree, with its slots, tokens and relative scores', () => {
  fc.assert(
    fc.property(steps, fc.nat(40), (list, pick) => {
      const tree = grow(list)
      const node = pick % tree.count
      for (let at = 0; at < tree.count; at++) tree.draftSlot[at] = 100 + at
      const inside: { path: number[]; slot: number; logProb: number }[] = []
      for (let at = 1; at < tree.count; at++) {
        const ancestors = [ROOT, ...tree.ancestors(at)]
        const from = ancestors.indexOf(node)
        if (from < 0 || at === node) continue
        const path = ancestors.slice(from + 1).map((a) => tree.token[a])
        inside.push({ path, slot: tree.draftSlot[at], logProb: tree.logProb[at] - tree.logProb[node] })
      }
      const token = tree.token[node]
      tree.reroot(node)
      assert.is(tree.token[ROOT], token)
      assert.is(tree.size, inside.length)
      for (const { path, slot, logProb } of inside) {
        let at = ROOT
        for (const step of path) at = tree.child(at, step)
        assert.ok(at > 0)
        assert.is(tree.draftSlot[at], slot)
        assert.ok(Math.abs(tree.logProb[at] - logProb) < 1e-9)
        assert.is(tree.depth[at], path.length)
      }
    }),
  )
})

test('a path reads from the root down', () => {
  const tree = new TokenTree(4)
  tree.reset(9)
  const a = tree.add(ROOT, 1, -1, 1)
  const b = tree.add(a, 2, -2, 1)
  assert.equal(tree.ancestors(b), [a, b])
  assert.equal(tree.pathTokens(b), [1, 2])
  assert.is(tree.child(a, 2), b)
  assert.is(tree.child(a, 3), -1)
})

test.run()
