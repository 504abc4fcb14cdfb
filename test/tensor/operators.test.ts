import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { Arena, createMemory } from '../../src/tensor/arena.ts'
import { Compute, MAXIMUM_STEPS } from '../../src/tensor/compute.ts'
import { Control } from '../../src/tensor/control.ts'
import { compileKernels } from '../../src/tensor/kernel-modules.ts'
import { instantiateKernels, type Kernels } from '../../src/tensor/kernels.ts'
import { GemmWord, RECORD_WORDS } from '../../src/tensor/operations.ts'
import { JOB_BYTES, Operators, quantisedBytes } from '../../src/tensor/operators.ts'
import { Rows } from '../../src/tensor/rows.ts'
import { firstDifference, randomFloats, soleOperators } from './harness.ts'
import { rmsNorm } from './twins/elementwise.ts'

const test = suite('operators')
const COLUMNS = 64

test('steps are executed in the order in which they were added, also when they do not fit in one job', () => {
  const { operators, arena } = soleOperators()
  const vector = (): number => arena.allocate('vector', COLUMNS * 4)
  const quantised = arena.allocate('quantised', quantisedBytes(1, COLUMNS))
  const row = (): Rows => new Rows(vector(), COLUMNS * 4, COLUMNS)
  const [a, b] = [row(), row()]
  const weight = vector()
  arena.f32(weight, COLUMNS).set(randomFloats(COLUMNS, 2))
  let expected = randomFloats(COLUMNS, 1)
  arena.f32(a.pointer, COLUMNS).set(expected)
  for (let step = 0; step < 2 * MAXIMUM_STEPS + 4; step += 2) {
    operators.rmsNorm(a, 1, weight, 1e-5, 'f32', { rows: b, quantised })
    operators.rmsNorm(b, 1, weight, 1e-5, 'f32', { rows: a, quantised })
    expected = rmsNorm(rmsNorm(expected, arena.f32(weight, COLUMNS), 1e-5), arena.f32(weight, COLUMNS), 1e-5)
  }
  operators.run()
  assert.is(firstDifference(arena.f32(a.pointer, COLUMNS), expected), -1)
  // Nothing is left over that would run again.
  operators.run()
  assert.is(firstDifference(arena.f32(a.pointer, COLUMNS), expected), -1)
})

test('groups of outputs are read side by side from 32 KiB on', () => {
  const memory = createMemory(1 << 20)
  const arena = new Arena(memory)
  const seen: number[] = []
  const kernels: Kernels = {
    ...instantiateKernels(memory, compileKernels('simd128')),
    run: (record) => void seen.push(new Int32Array(memory.buffer, record, RECORD_WORDS)[GemmWord.sideBySide]),
  }
  const compute = new Compute({ kernels: [kernels], control: new Control(), threads: 1, cores: 1 })
  const operators = new Operators(kernels, compute, arena, arena.allocate('jobs', JOB_BYTES))
  const rows = new Rows(arena.allocate('rows', 4 * 8192), 4 * 8192, 8192)
  for (const [kind, columns] of [
    ['f32', 992],
    ['f32', 1024],
    ['q4', 7264],
    ['q4', 7296],
  ] as const) {
    operators.matmul({ rows, quantised: 0 }, 1, { kind, rows: 8, columns, pointer: 0 }, rows)
  }
  operators.run()
  assert.equal(seen, [0, 1, 0, 1])
})

test.run()
