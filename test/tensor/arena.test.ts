/** A memory from its first to its last byte. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { CoppiceError } from '../../src/errors.ts'
import { Arena, createMemory, MEMORY_LIMIT_BYTES, PAGE_BYTES } from '../../src/tensor/arena.ts'
import { checksum } from '../../src/tensor/checksum.ts'
import { Compute } from '../../src/tensor/compute.ts'
import { Control } from '../../src/tensor/control.ts'
import { compileKernels } from '../../src/tensor/kernel-modules.ts'
import { instantiateKernels } from '../../src/tensor/kernels.ts'
import { KINDS, type Kind, matrixBytes } from '../../src/tensor/layout.ts'
import { JOB_BYTES, Operators, quantisedBytes } from '../../src/tensor/operators.ts'
import { Rows } from '../../src/tensor/rows.ts'
import { firstDifference, randomFloats } from './harness.ts'

const ROWS = 3
const COLUMNS = 64
const OUTPUTS = 24

const test = suite('arena')

test('regions follow each other at their alignment, and what does not fit is refused by name', () => {
  const arena = new Arena(createMemory(PAGE_BYTES), 3)
  assert.is(arena.bank, 3)
  const first = arena.allocate('first', 100)
  const second = arena.allocate('second', 4096, 4096)
  assert.ok(first > 0 && second >= first + 100 && second % 4096 === 0)
  assert.throws(
    () => arena.allocate('third', PAGE_BYTES),
    (error: unknown) =>
      error instanceof CoppiceError && error.code === 'OUT_OF_BUDGET' && error.message.includes('"third"'),
  )
})

/** y = x W^T with everything at the end of a memory: W last, so that it ends where the memory does. */
function product(memoryBytes: number, kind: Kind): { y: Float32Array; sum: number; weights: Uint8Array } {
  const memory = createMemory(memoryBytes)
  const arena = new Arena(memory)
  const bytes = matrixBytes(kind, OUTPUTS, COLUMNS)
  const rest = 4 * PAGE_BYTES
  arena.allocate('what fills the memory', memoryBytes - rest - arena.usedBytes)
  const kernels = instantiateKernels(memory, compileKernels('simd128'))
  const compute = new Compute({ kernels: [kernels], control: new Control(), threads: 1, cores: 1 })
  const operators = new Operators(kernels, compute, arena, arena.allocate('jobs', JOB_BYTES))
  const x = new Rows(arena.allocate('x', ROWS * COLUMNS * 4), COLUMNS * 4, COLUMNS)
  const quantised = arena.allocate('quantised', quantisedBytes(ROWS, COLUMNS))
  const y = new Rows(arena.allocate('y', ROWS * OUTPUTS * 4), OUTPUTS * 4, OUTPUTS)
  const pointer = arena.allocate('W', memoryBytes - Math.ceil(arena.usedBytes / 64) * 64)
  const matrix = { kind, rows: OUTPUTS, columns: COLUMNS, pointer: memoryBytes - bytes }
  assert.ok(matrix.pointer >= pointer)
  arena.f32(x.pointer, ROWS * COLUMNS).set(randomFloats(ROWS * COLUMNS, 1))
  // Any bytes are weights; halves without the largest exponents are finite.
  const weights = arena.u8(matrix.pointer, bytes)
  weights.set(Uint8Array.from({ length: bytes }, (_, i) => (i * 37 + (i >> 5)) & 0x3f))
  operators.quantise({ rows: x, quantised }, ROWS, kind)
  operators.matmul({ rows: x, quantised }, ROWS, matrix, y)
  operators.run()
  const sum = kernels.checksum(matrix.pointer, bytes) >>> 0
  return { y: arena.f32(y.pointer, ROWS * OUTPUTS).slice(), sum, weights: weights.slice() }
}

for (const kind of KINDS) {
  test(`${kind}: the largest memory can be used up to its last byte`, () => {
    const small = product(8 * PAGE_BYTES, kind)
    const large = product(MEMORY_LIMIT_BYTES, kind)
    assert.ok(small.y.some((value) => value !== 0))
    assert.is(firstDifference(large.y, small.y), -1)
    assert.is(large.sum, checksum(small.weights))
  })
}

test.run()
