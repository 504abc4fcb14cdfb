import * as fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { RowBatch, rowBatchBytes } from '../../src/model/row-batch.ts'
import { Arena, createMemory } from '../../src/tensor/arena.ts'

const CAPACITY = 24
const newBatch = (): RowBatch => new RowBatch(new Arena(createMemory(1 << 20)), 'rows', CAPACITY)
const ancestorsOf = (batch: RowBatch, row: number): number[] => [
  ...batch.ancestorSlots.subarray(batch.ancestorOffsets[row], batch.ancestorOffsets[row + 1]),
]

const test = suite('row batch')

test('prefix rows are stored at their position and see all positions up to their own', () => {
  const batch = newBatch()
  batch.clear()
  assert.is(batch.addPrefixRow(7, 4), 0)
  assert.is(batch.addPrefixRow(9, 5), 1)
  assert.equal([...batch.tokens.subarray(0, 2)], [7, 9])
  assert.equal([...batch.positions.subarray(0, 2)], [4, 5])
  assert.equal([...batch.slots.subarray(0, 2)], [4, 5])
  assert.equal([...batch.prefixes.subarray(0, 2)], [5, 6])
  assert.equal(ancestorsOf(batch, 0), [])
  assert.equal(ancestorsOf(batch, 1), [])
})

test('a node sees the prefix, its ancestors and itself, at the position that its depth gives it', () => {
  const trees = fc.array(fc.nat(1000), { minLength: 1, maxLength: CAPACITY })
  fc.assert(
    fc.property(trees, fc.integer({ min: 1, max: 50 }), (choices, prefix) => {
      const batch = newBatch()
      batch.clear()
      // Parent -1 or any earlier row.
      const parents = choices.map((choice, row) => (choice % (row + 1)) - 1)
      parents.forEach((parent, row) => {
        assert.is(batch.addTreeRow(row, 100 + row, prefix, parent), row)
      })
      assert.is(batch.count, parents.length)
      parents.forEach((_, row) => {
        const path: number[] = []
        for (let at = row; at >= 0; at = parents[at]) path.unshift(100 + at)
        assert.equal(ancestorsOf(batch, row), path)
        assert.is(batch.positions[row], prefix + path.length - 1)
        assert.is(batch.prefixes[row], prefix)
        assert.is(batch.slots[row], 100 + row)
      })
    }),
  )
})

test('ancestors may lie outside the batch', () => {
  const batch = newBatch()
  batch.clear()
  batch.addTreeRowWithAncestors(5, 60, 10, [51, 57])
  batch.addTreeRowWithAncestors(6, 61, 10, [])
  assert.equal(ancestorsOf(batch, 0), [51, 57, 60])
  assert.is(batch.positions[0], 12)
  assert.equal(ancestorsOf(batch, 1), [61])
  assert.is(batch.positions[1], 10)
})

test('a root and its tree share a batch, and clearing begins anew', () => {
  const batch = newBatch()
  for (let round = 0; round < 2; round++) {
    batch.clear()
    batch.addPrefixRow(1, 8)
    batch.addTreeRow(2, 40, 9, -1)
    batch.addTreeRow(3, 41, 9, 1)
    assert.equal(ancestorsOf(batch, 2), [40, 41])
    assert.equal([...batch.positions.subarray(0, 3)], [8, 9, 10])
  }
})

test('a copy in another memory holds what the kernels read', () => {
  const batch = newBatch()
  const copy = newBatch()
  for (let rows = CAPACITY; rows > 0; rows -= 3) {
    batch.clear()
    batch.addPrefixRow(1, 8)
    for (let row = 1; row < rows; row++) batch.addTreeRow(row, 40 + row, 9, row === 1 ? -1 : row >> 1)
    copy.copyFrom(batch)
    assert.is(copy.count, rows)
    for (const name of ['slots', 'prefixes'] as const) {
      assert.equal([...copy[name].subarray(0, rows)], [...batch[name].subarray(0, rows)], name)
    }
    for (let row = 0; row < rows; row++) assert.equal(ancestorsOf(copy, row), ancestorsOf(batch, row), `row ${row}`)
  }
})

test('the deepest chain of a full batch fits in the planned bytes', () => {
  const memory = createMemory(rowBatchBytes(CAPACITY) + 4096)
  const batch = new RowBatch(new Arena(memory), 'rows', CAPACITY)
  batch.clear()
  for (let row = 0; row < CAPACITY; row++) batch.addTreeRow(row, row, 3, row - 1)
  assert.is(ancestorsOf(batch, CAPACITY - 1).length, CAPACITY)
  assert.equal(
    ancestorsOf(batch, CAPACITY - 1),
    Array.from({ length: CAPACITY }, (_, i) => i),
  )
})

test.run()
