import { mkdtempSync, rmSync, truncateSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { CoppiceError } from '../../src/errors.ts'
import type { Unit } from '../../src/memory/load-board.ts'
import { type FileAccess, findAccess } from '../../src/memory/packed-reader.ts'
import { EmbeddingOnDisk, MatrixEmbedding } from '../../src/model/embedding.ts'
import { checksum } from '../../src/tensor/checksum.ts'
import { groupBytes, KINDS, type Kind, packGroup, paddedInner, TILE } from '../../src/tensor/layout.ts'
import { Rows } from '../../src/tensor/rows.ts'
import { scratch } from '../engine/harness.ts'
import { randomFloats, soleOperators } from '../tensor/harness.ts'

const VOCABULARY = 61
const COLUMNS = 40
const START = 4096
const GROUPS = Math.ceil(VOCABULARY / TILE)
const GROUPS_PER_CHUNK = 3
const directory = mkdtempSync(join(scratch, 'embedding-'))
process.on('exit', () => rmSync(directory, { recursive: true, force: true }))

function setUp(kind: Kind, name: string) {
  const group = groupBytes(kind, COLUMNS)
  const packed = new Uint8Array(GROUPS * group)
  const values = randomFloats(VOCABULARY * COLUMNS, 5)
  for (let g = 0; g < GROUPS; g++) {
    packGroup(kind, COLUMNS, values, g * TILE * COLUMNS, Math.min(TILE, VOCABULARY - g * TILE), packed, g * group)
  }
  const path = join(directory, `${name}-${kind}`)
  const file = new Uint8Array(START + packed.length)
  file.set(packed, START)
  writeFileSync(path, file)
  const chunkBytes = GROUPS_PER_CHUNK * group
  const checksums: number[] = []
  for (let at = 0; at < packed.length; at += chunkBytes) checksums.push(checksum(packed.slice(at, at + chunkBytes)))
  const unit: Unit = {
    name: 'embedding',
    path,
    fileBytes: file.length,
    start: START,
    bytes: packed.length,
    chunkBytes,
    checksums,
  }
  const { operators, arena } = soleOperators()
  const pointer = arena.allocate('weights', packed.length, 4096)
  arena.u8(pointer, packed.length).set(packed)
  const matrix = { kind, rows: GROUPS * TILE, columns: COLUMNS, pointer }
  const stride = paddedInner(COLUMNS) * 4
  const rows = (count: number): Rows => new Rows(arena.allocate('rows', count * stride), stride, COLUMNS)
  const read = (target: Rows, count: number): Float32Array => arena.f32(target.pointer, (count * stride) / 4).slice()
  return { unit, arena, matrix, operators, rows, read, values }
}

const accessOf = ({ path }: Unit): FileAccess => findAccess([path], 'buffered').get(path)!

const test = suite('embedding')
const TOKENS = [0, 60, 7, 8, 7, 33, 59]

for (const kind of KINDS) {
  test(`${kind}: rows from disk are the rows from memory, bit for bit`, () => {
    const { unit, arena, matrix, operators, rows, read, values } = setUp(kind, 'same')
    const [near, far] = [rows(TOKENS.length), rows(TOKENS.length)]
    // The kernels read the tokens from their own memory.
    const tokens = arena.i32(arena.allocate('tokens', TOKENS.length * 4), TOKENS.length)
    tokens.set(TOKENS)
    new MatrixEmbedding(operators, matrix).gather(tokens, tokens.length, near)
    const onDisk = new EmbeddingOnDisk(unit, matrix, arena, accessOf(unit))
    for (let again = 0; again < 2; again++) {
      onDisk.gather(tokens, tokens.length, far)
      assert.equal(new Uint32Array(read(far, tokens.length).buffer), new Uint32Array(read(near, tokens.length).buffer))
    }
    onDisk.close()
    if (kind === 'f32') {
      const row = read(near, tokens.length).subarray(paddedInner(COLUMNS), paddedInner(COLUMNS) + COLUMNS)
      assert.equal([...row], [...values.subarray(60 * COLUMNS, 61 * COLUMNS)])
    }
  })
}

test('a chunk is read whole at its first use, and only a group of rows afterwards', () => {
  const { unit, arena, matrix, rows } = setUp('q8', 'bytes')
  const target = rows(1)
  const embedding = new EmbeddingOnDisk(unit, matrix, arena, accessOf(unit))
  embedding.gather(Int32Array.of(1), 1, target)
  assert.is(embedding.bytesRead, unit.chunkBytes)
  embedding.gather(Int32Array.of(17), 1, target)
  assert.is(embedding.bytesRead, unit.chunkBytes + groupBytes('q8', COLUMNS))
  embedding.close()
})

test('a file that was changed is reported, also where it was read before', () => {
  const { unit, arena, matrix, rows } = setUp('f32', 'changed')
  const embedding = new EmbeddingOnDisk(unit, matrix, arena, accessOf(unit))
  const target = rows(1)
  embedding.gather(Int32Array.of(30), 1, target)
  utimesSync(unit.path, 1, 1)
  assert.throws(
    () => embedding.gather(Int32Array.of(30), 1, target),
    (error: unknown) =>
      error instanceof CoppiceError && error.code === 'CORRUPT_FILE' && /was changed.*load/.test(error.message),
  )
  embedding.close()
})

test('a damaged chunk is reported when it is used, and not before', () => {
  const { unit, arena, matrix, rows } = setUp('f32', 'damaged')
  const file = new Uint8Array(unit.fileBytes)
  writeFileSync(unit.path, file)
  const embedding = new EmbeddingOnDisk(unit, matrix, arena, accessOf(unit))
  assert.throws(
    () => embedding.gather(Int32Array.of(30), 1, rows(1)),
    (error: unknown) =>
      error instanceof CoppiceError && error.code === 'CORRUPT_FILE' && error.message.includes(unit.path),
  )
  embedding.close()
})

test('a file that ended is reported', () => {
  const { unit, arena, matrix, rows } = setUp('f32', 'short')
  truncateSync(unit.path, START + unit.chunkBytes + 10)
  const embedding = new EmbeddingOnDisk(unit, matrix, arena, accessOf(unit))
  embedding.gather(Int32Array.of(2), 1, rows(1))
  assert.throws(
    () => embedding.gather(Int32Array.of(60), 1, rows(1)),
    (error: unknown) => error instanceof CoppiceError && error.code === 'CORRUPT_FILE' && /ended/.test(error.message),
  )
  embedding.close()
})

test.run()
