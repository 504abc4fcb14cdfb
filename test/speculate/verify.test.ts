import fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { ROOT, TokenTree } from '../../src/speculate/token-tree.ts'
import { verify } from '../../src/speculate/verify.ts'

const test = suite('verification')

test('the walk follows the sampler and gains one token more than it accepts', () => {
  const tree = new TokenTree(8)
  tree.reset(1)
  const a = tree.add(ROOT, 10, -1, 1)
  tree.add(ROOT, 11, -2, 1)
  const b = tree.add(a, 12, -2, 1)
  const says = new Map([
    [ROOT, 10],
    [a, 12],
    [b, 99],
  ])
  const seen: number[][] = []
  const result = verify(
    tree,
    (node, path) => {
      seen.push([...path])
      return says.get(node)!
    },
    () => false,
  )
  assert.equal(result.path, [a, b])
  assert.equal(result.tokens, [10, 12, 99])
  assert.equal(seen, [[], [a], [a, b]])
})

test('the walk ends at a last token, even when the tree goes on below it', () => {
  const tree = new TokenTree(8)
  tree.reset(1)
  const a = tree.add(ROOT, 2, -1, 1)
  tree.add(a, 3, -1, 1)
  const result = verify(
    tree,
    () => 2,
    (token) => token === 2,
  )
  assert.equal(result.tokens, [2])
  assert.equal(result.path, [])
})

test('whatever the tree, the gained tokens are what the sampler alone would have said', () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.nat(30), fc.nat(3)), { maxLength: 40 }), fc.integer(), (list, seed) => {
      const tree = new TokenTree(40)
      tree.reset(0)
      for (const [parent, token] of list) tree.add(parent % tree.count, token, -1, 1)
      // A sampler that depends on the whole path, as penalties make it.
      const say = (path: readonly number[]): number =>
        path.reduce((h, token) => (Math.imul(h, 31) + token + 7) >>> 0, seed >>> 0) % 4
      const result = verify(
        tree,
        (_, path) => say(path.map((node) => tree.token[node])),
        () => false,
      )
      const plain: number[] = []
      while (plain.length < result.tokens.length) plain.push(say(plain))
      assert.equal(result.tokens, plain)
      assert.is(result.path.length, result.tokens.length - 1)
    }),
  )
})

test.run()
