import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { LayerStore } from '../../src/memory/layer-store.ts'
import { DRAFT, TARGET } from '../e2e/models.ts'
import { openInline } from './harness.ts'

const test = suite('assembly')

test('when a call ends, the stores of target and draft rest, so that neither keeps a failure for the next call', () => {
  const { rest } = LayerStore.prototype
  const resting = new Set<LayerStore>()
  LayerStore.prototype.rest = function () {
    resting.add(this)
    rest.call(this)
  }
  try {
    const model = openInline(TARGET, { draft: DRAFT, nodes: 4 })
    model.generate({ tokens: [5, 6, 7] }, { maxTokens: 2 })
    assert.is(resting.size, 2)
    model.engine.close()
  } finally {
    LayerStore.prototype.rest = rest
  }
})

test.run()
