/** How far look-ups look follows what was worth a place. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { Reach } from '../../src/speculate/reach.ts'

const test = suite('reach')

test('twice of what was chosen of more is enough, and some are looked at in any case', () => {
  const reach = new Reach(64)
  assert.is(reach.nodes, 64)
  reach.observe(10, 64)
  assert.is(reach.nodes, 20)
  reach.observe(1, 20)
  assert.is(reach.nodes, 4)
})

test('when all was chosen there may be more', () => {
  const reach = new Reach(64)
  reach.observe(5, 64)
  reach.observe(10, 10)
  assert.is(reach.nodes, 20)
  reach.observe(20, 20)
  reach.observe(40, 40)
  assert.is(reach.nodes, 64)
})

test('that little was found says nothing', () => {
  const reach = new Reach(64)
  reach.observe(2, 2)
  assert.is(reach.nodes, 64)
})

test('never more than there may be nodes, and all of them in a new text', () => {
  const reach = new Reach(4)
  reach.observe(1, 4)
  assert.is(reach.nodes, 4)
  const larger = new Reach(32)
  larger.observe(1, 32)
  larger.startText()
  assert.is(larger.nodes, 32)
})

test.run()
