import * as fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { CoppiceError } from '../../src/errors.ts'
import { alignDown, alignUp, pieceCount, type Unit, unitFootprint, unitLead } from '../../src/memory/load-board.ts'
import { layerUnits, segmentUnit, splitMatrix } from '../../src/memory/units.ts'
import { groupBytes, KINDS, TILE } from '../../src/tensor/layout.ts'
import type { PackedFile, PackedTensor } from '../../src/weights/manifest.ts'

const test = suite('units of loading')

const file: PackedFile = {
  name: 'edges.safetensors',
  bytes: 40_960,
  sha256: '',
  dataOffset: 4096,
  headerChecksum: 0,
  tensors: [],
  segments: [
    { name: 'embedding', offset: 0, bytes: 20_000, chunkBytes: 8192, checksums: [1, 2, 3] },
    { name: 'vectors', offset: 20_032, bytes: 512, chunkBytes: 8192, checksums: [4] },
  ],
}

test('a segment lies where its file’s data begins, plus its offset', () => {
  const unit = segmentUnit('models/x', file, 'vectors')
  assert.is(unit.start, 4096 + 20_032)
  assert.is(unit.bytes, 512)
  assert.is(unit.fileBytes, file.bytes)
  assert.equal(unit.checksums, [4])
  assert.match(unit.path, /models.x.edges\.safetensors$/)
  assert.equal(
    layerUnits('models/x', file).map(({ name, start }) => [name, start]),
    [
      ['embedding of edges.safetensors', 4096],
      ['vectors of edges.safetensors', 4096 + 20_032],
    ],
  )
})

test('a segment that is not there is a damaged model', () => {
  assert.throws(
    () => segmentUnit('models/x', file, 'head'),
    (error: unknown) => error instanceof CoppiceError && error.code === 'CORRUPT_FILE',
  )
})

test('a footprint is the aligned blocks that cover a unit', () => {
  fc.assert(
    fc.property(fc.nat(1_000_000), fc.integer({ min: 1, max: 1_000_000 }), (start, bytes) => {
      const unit: Unit = { name: '', path: '', fileBytes: 0, start, bytes, chunkBytes: 4096, checksums: [] }
      const footprint = unitFootprint(unit)
      assert.is(footprint % 4096, 0)
      assert.ok(footprint >= unitLead(unit) + bytes && footprint < bytes + 2 * 4096)
      assert.is(alignDown(start) + unitLead(unit), start)
      assert.ok(alignUp(start) - alignDown(start) <= 4096)
    }),
  )
})

test('the pieces of a matrix cover its rows once, in order, and are no larger than asked', () => {
  fc.assert(
    fc.property(
      fc.constantFrom(...KINDS),
      fc.integer({ min: 1, max: 300 }),
      fc.integer({ min: 1, max: 100 }),
      fc.integer({ min: 1, max: 6 }),
      fc.integer({ min: 1, max: 200_000 }),
      fc.nat(5000),
      (kind, rows, columns, groupsPerChunk, limit, start) => {
        const group = groupBytes(kind, columns)
        const groups = Math.ceil(rows / TILE)
        const chunks = Math.ceil(groups / groupsPerChunk)
        const unit: Unit = {
          name: 'head',
          path: 'p',
          fileBytes: 0,
          start,
          bytes: groups * group,
          chunkBytes: groupsPerChunk * group,
          checksums: Array.from({ length: chunks }, (_, i) => i),
        }
        const tensor: PackedTensor = {
          name: 'head',
          kind,
          rows,
          columns,
          parts: [rows],
          offset: 0,
          bytes: unit.bytes,
        }
        const pieces = splitMatrix(unit, tensor, limit)
        let row = 0
        let at = start
        const sums: number[] = []
        for (const piece of pieces) {
          assert.is(piece.firstRow, row)
          assert.is(piece.firstRow % TILE, 0)
          assert.is(piece.unit.start, at)
          assert.is(piece.unit.bytes, Math.ceil(piece.rows / TILE) * group)
          assert.is(pieceCount(piece.unit) > 0, true)
          if (piece.unit.checksums.length > 1) assert.ok(unitFootprint(piece.unit) <= limit)
          row += piece.rows
          at += piece.unit.bytes
          sums.push(...piece.unit.checksums)
        }
        assert.is(row, rows)
        assert.is(at, start + unit.bytes)
        assert.equal(sums, unit.checksums)
      },
    ),
    { numRuns: 200 },
  )
})

test.run()
