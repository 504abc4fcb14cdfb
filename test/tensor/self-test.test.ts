import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { checksum } from '../../src/tensor/checksum.ts'
import { compileKernels, compileKernelsAfresh } from '../../src/tensor/kernel-modules.ts'
import { instantiateKernels, type Kernels, type KernelVariant } from '../../src/tensor/kernels.ts'
import { isFloat, KINDS } from '../../src/tensor/layout.ts'
import { GemmWord, Operation, RECORD_WORDS } from '../../src/tensor/operations.ts'
import {
  answersAreRight,
  INTEGER_KINDS,
  type IntegerKind,
  KNOWN_ANSWERS,
  packTestWeights,
  selfTest,
  TEST_COLUMNS,
  TEST_OUTPUTS,
  TEST_ROWS,
  testActivations,
} from '../../src/tensor/self-test.ts'
import { gemmQuantised, integersOf, quantise } from './twins/gemm.ts'
import { wrongModule } from './wrong-module.ts'

const test = suite('self-test of the kernels')

const integers = (kind: IntegerKind) => integersOf(kind, packTestWeights(kind), TEST_OUTPUTS, TEST_COLUMNS)

const answerOf = (kind: IntegerKind, rows: number): number => {
  const x = quantise(testActivations(rows), rows, TEST_COLUMNS, TEST_COLUMNS)
  const y = gemmQuantised(x, integers(kind), rows, TEST_OUTPUTS, TEST_COLUMNS)
  return checksum(new Uint8Array(y.buffer))
}

test('the known answers are those of the scalar twins', () => {
  for (const kind of INTEGER_KINDS) {
    const expected = TEST_ROWS.map((rows) => answerOf(kind, rows))
    assert.equal(KNOWN_ANSWERS[kind], expected, `${kind}: ${expected.map((n) => `0x${n.toString(16)}`).join(', ')}`)
  }
})

test('the known products hold every int8 that is ever written, every nibble in every output of a group, and both extremes', () => {
  const different = (values: Int8Array): number[] => [...new Set(values)].sort((a, b) => a - b)
  const range = (from: number, to: number): number[] => Array.from({ length: to - from + 1 }, (_, i) => from + i)
  assert.equal(different(integers('q8').values), range(-127, 127))
  for (const [kind, least] of [
    ['q4', -8],
    ['q4a', 0],
  ] as const) {
    const nibbles = integers(kind).values
    for (let output = 0; output < 8; output++) {
      const own = nibbles.filter((_, i) => Math.floor(i / TEST_COLUMNS) % 8 === output)
      assert.equal(different(own), range(least, least + 15), `${kind}, output ${output} of a group`)
    }
  }
  const rows = Math.max(...TEST_ROWS)
  const activations = quantise(testActivations(rows), rows, TEST_COLUMNS, TEST_COLUMNS)
  assert.equal(different(activations.values), range(-127, 127))
  // The largest sums of a block: these overflow where a lane is too narrow.
  assert.is(Math.max(...activations.sums), 32 * 127)
  assert.is(Math.min(...activations.sums), -32 * 127)
})

test('every kind of integer weights has known answers', () => {
  assert.equal([...INTEGER_KINDS].sort(), KINDS.filter((kind) => !isFloat(kind)).sort())
})

/** Kernels of a variant that are wrong from call `from` of `run` on. */
function faulty(variant: KernelVariant, memory: WebAssembly.Memory, from: number): Kernels {
  const kernels = honest(variant, memory)
  let calls = 0
  return { ...kernels, run: (...job) => (++calls >= from ? undefined : kernels.run(...job)) }
}

const honest = (_: KernelVariant, memory: WebAssembly.Memory): Kernels => ({
  ...instantiateKernels(memory, compileKernelsAfresh('simd128')),
})

/** A clock that is `step` ms later at every look, however busy the machine is. */
function ticking(step: number): () => number {
  let ms = 0
  return () => {
    ms += step
    return ms
  }
}
const STEADY = 0.01

test('the plain variant passes, and is what the others are measured by', () => {
  const report = selfTest(honest, ticking(STEADY))
  assert.equal(report.simd128, { result: 'passed', time: 1 })
  assert.is(report['relaxed-i16'].result, 'passed')
})

test('a variant that is wrong at once, after a while, or traps is found out', () => {
  for (const from of [1, 2, 30, 700]) {
    const report = selfTest(
      (variant, memory) => (variant === 'relaxed-i32' ? faulty(variant, memory, from) : honest(variant, memory)),
      ticking(STEADY),
    )
    assert.equal(report['relaxed-i32'], { result: 'wrong' }, `from call ${from} on`)
    assert.is(report.simd128.result, 'passed')
  }
  const trapping = (): never => {
    throw new WebAssembly.RuntimeError('unreachable')
  }
  const report = selfTest(
    (variant, memory) =>
      variant === 'relaxed-i16' ? { ...honest(variant, memory), run: trapping } : honest(variant, memory),
    ticking(STEADY),
  )
  assert.equal(report['relaxed-i16'], { result: 'wrong' })
})

test('tiles of one group and of several are both tried, with one row and with two', () => {
  for (const rows of [1, 2]) {
    for (const sideBySide of [0, 1]) {
      const wrong = (variant: KernelVariant, memory: WebAssembly.Memory): Kernels => {
        const kernels = honest(variant, memory)
        const run: Kernels['run'] = (record, part, parts) => {
          const words = new Int32Array(memory.buffer, record, RECORD_WORDS)
          const isGemm = words[0] === Operation.gemm
          if (isGemm && words[GemmWord.rows] === rows && words[GemmWord.sideBySide] === sideBySide) return
          kernels.run(record, part, parts)
        }
        return { ...kernels, run }
      }
      const report = selfTest(
        (variant, memory) => (variant === 'relaxed-i16' ? wrong(variant, memory) : honest(variant, memory)),
        ticking(STEADY),
      )
      assert.equal(report['relaxed-i16'], { result: 'wrong' }, `${rows} rows, ${sideBySide}`)
    }
  }
})

test('a variant that cannot be compiled is unsupported', () => {
  const report = selfTest((variant, memory) => (variant === 'simd128' ? honest(variant, memory) : undefined))
  assert.is(report.simd128.result, 'passed')
  assert.equal(report['relaxed-i16'], { result: 'unsupported' })
  assert.equal(report['relaxed-i32'], { result: 'unsupported' })
})

test('a variant whose optimised code did not come in time is not trusted', () => {
  const report = selfTest(honest, ticking(11))
  assert.is(report.simd128.result, 'passed')
  assert.equal(report['relaxed-i16'], { result: 'unproven' })
  assert.equal(report['relaxed-i32'], { result: 'unproven' })
})

test('a foreign module must know the answers', () => {
  assert.ok(answersAreRight(compileKernels('simd128')))
  assert.not.ok(answersAreRight(wrongModule()))
})

test.run()
