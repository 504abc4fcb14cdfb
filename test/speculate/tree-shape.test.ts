import * as fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { treeShape } from '../../src/speculate/tree-shape.ts'

const test = suite('tree shape')

test('one chance makes a chain, chances of 1 and 0 a bush', () => {
  assert.equal(treeShape([0.5], { size: 3, depth: 9, parents: 9 }).parent, [-1, 0, 1, 2])
  assert.equal(treeShape([0.5], { size: 3, depth: 2, parents: 9 }).parent, [-1, 0, 1])
  assert.equal(treeShape([0.9, 0.8, 0.7], { size: 3, depth: 1, parents: 9 }).parent, [-1, 0, 0, 0])
})

test('places are the most promising ones, parents and elder siblings first, within the limits', () => {
  const limits = fc.record({
    size: fc.integer({ min: 1, max: 30 }),
    depth: fc.integer({ min: 1, max: 6 }),
    parents: fc.integer({ min: 1, max: 30 }),
  })
  const chances = fc
    .array(fc.double({ min: 0.01, max: 0.99, noNaN: true }), { minLength: 1, maxLength: 4 })
    .map((list) => list.sort((a, b) => b - a))
  fc.assert(
    fc.property(chances, limits, (given, limit) => {
      const { size, parent, depth, children } = treeShape(given, limit)
      assert.ok(size <= limit.size)
      assert.ok(children.filter((list) => list.length > 0).length <= limit.parents)
      const promise = [1]
      for (let place = 1; place <= size; place++) {
        const rank = children[parent[place]].indexOf(place)
        assert.ok(parent[place] < place && rank >= 0)
        assert.is(depth[place], depth[parent[place]] + 1)
        assert.ok(depth[place] <= limit.depth)
        promise.push(promise[parent[place]] * given[rank])
        if (limit.parents > size) assert.ok(place === 1 || promise[place] <= promise[place - 1])
      }
    }),
  )
})

test.run()
