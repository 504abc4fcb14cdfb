import fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import {
  BLOCK,
  groupBytes,
  type Kind,
  matrixBytes,
  packGroup,
  paddedInner,
  paddedOutputs,
  TILE,
  unpackGroup,
} from '../../src/tensor/layout.ts'
import { GatherWord, GemmWord, KIND_CODE, Operation, QuantiseWord } from '../../src/tensor/operations.ts'
import { type Bench, firstDifference, randomFloats } from './harness.ts'
import { type Epilogue, gemmF32, gemmQuantised, integersOf, quantise } from './twins/gemm.ts'
import { everyVariant } from './variants.ts'

const test = suite('gemm')
let bench: Bench
const testEach = everyVariant(test, (next) => {
  bench = next
})

const shapes = fc.record({
  rows: fc.integer({ min: 1, max: 20 }),
  outputs: fc.integer({ min: 1, max: 90 }),
  columns: fc.integer({ min: 1, max: 150 }),
  parts: fc.integer({ min: 1, max: 4 }),
  hasBias: fc.boolean(),
  accumulates: fc.boolean(),
  seed: fc.integer(),
})
type Shape = typeof shapes extends fc.Arbitrary<infer T> ? T : never

interface Activations {
  readonly x: Float32Array
  readonly stride: number
  readonly quantised: { values: Int8Array; scales: Float32Array; sums: Int32Array }
}

/** Rows [M x K] with a stride of the padded width and one vector more, zeros behind K. */
function placeActivations(source: Float32Array, rows: number, columns: number): Activations {
  const padded = paddedInner(columns)
  const width = padded + 4
  const x = bench.floats(rows * width).fill(0)
  for (let m = 0; m < rows; m++) x.set(source.subarray(m * columns, (m + 1) * columns), m * width)
  const blocks = (rows * padded) / BLOCK
  const bytes = bench.bytes(rows * padded)
  const values = new Int8Array(bytes.buffer, bytes.byteOffset, bytes.length)
  return { x, stride: width * 4, quantised: { values, scales: bench.floats(blocks), sums: bench.integers(blocks) } }
}

function runQuantise(activations: Activations, rows: number, columns: number, parts: number): void {
  const words = {
    rows,
    columns,
    paddedColumns: paddedInner(columns),
    source: activations.x.byteOffset,
    sourceStride: activations.stride,
    values: activations.quantised.values.byteOffset,
    scales: activations.quantised.scales.byteOffset,
    sums: activations.quantised.sums.byteOffset,
  }
  bench.run(Operation.quantise, QuantiseWord, words, parts)
}

/** W[outputs x columns] in the tiled layout, in the memory of the kernels. */
function placeWeights(kind: Kind, source: Float32Array, outputs: number, columns: number): Uint8Array {
  const packed = bench.bytes(matrixBytes(kind, outputs, columns))
  const bytes = groupBytes(kind, columns)
  for (let n = 0; n < outputs; n += TILE) {
    packGroup(kind, columns, source, n * columns, Math.min(TILE, outputs - n), packed, (n / TILE) * bytes)
  }
  return packed
}

interface Product {
  readonly actual: Float32Array
  readonly expected: Float32Array
}

/** Runs the kernel and its twin on random data of a shape. */
function multiply(kind: Kind, shape: Shape): Product {
  const { rows, outputs, columns, parts, hasBias, accumulates, seed } = shape
  bench.reset()
  const source = randomFloats(rows * columns, seed)
  const weights = randomFloats(outputs * columns, seed + 1, 0.1)
  const activations = placeActivations(source, rows, columns)
  const packed = placeWeights(kind, weights, outputs, columns)
  const width = paddedOutputs(outputs)
  const bias = randomFloats(width, seed + 2)
  const previous = randomFloats(rows * width, seed + 3)
  const placedBias = bench.floats(bias)
  // Rows of y are one group further apart than they need to be; what lies between must stay.
  const stride = width + TILE
  const y = bench.floats(rows * stride).fill(7)
  for (let m = 0; m < rows; m++) y.set(previous.subarray(m * width, (m + 1) * width), m * stride)
  if (kind !== 'f32') runQuantise(activations, rows, columns, parts)
  const words = {
    kind: KIND_CODE[kind],
    rows,
    outputs: width,
    columns: paddedInner(columns),
    x: kind === 'f32' ? activations.x.byteOffset : activations.quantised.values.byteOffset,
    xStride: activations.stride,
    xScales: activations.quantised.scales.byteOffset,
    xSums: activations.quantised.sums.byteOffset,
    weights: packed.byteOffset,
    y: y.byteOffset,
    yStride: stride * 4,
    bias: hasBias ? placedBias.byteOffset : 0,
    accumulate: accumulates ? 1 : 0,
  }
  bench.run(Operation.gemm, GemmWord, words, parts)
  const epilogue: Epilogue = { bias: hasBias ? bias : undefined, previous: accumulates ? previous : undefined }
  const expected = new Float32Array(rows * stride).fill(7)
  const result = twin(kind, source, weights, packed, shape, epilogue)
  for (let m = 0; m < rows; m++) expected.set(result.subarray(m * width, (m + 1) * width), m * stride)
  return { actual: y, expected }
}

function twin(
  kind: Kind,
  source: Float32Array,
  weights: Float32Array,
  packed: Uint8Array,
  { rows, outputs, columns }: Shape,
  epilogue: Epilogue,
): Float32Array {
  const width = paddedOutputs(outputs)
  if (kind === 'f32') {
    const padded = new Float32Array(width * columns)
    padded.set(weights)
    return gemmF32(source, padded, rows, width, columns, epilogue)
  }
  const inner = paddedInner(columns)
  const x = quantise(source, rows, columns, inner)
  return gemmQuantised(x, integersOf(kind, packed, outputs, columns), rows, width, inner, epilogue)
}

for (const kind of ['f32', 'q8', 'q4'] as const) {
  testEach(`${kind} products equal the scalar twin bit for bit, for any shape and any number of shares`, () => {
    fc.assert(
      fc.property(shapes, (shape) => {
        const { actual, expected } = multiply(kind, shape)
        assert.is(firstDifference(actual, expected), -1)
      }),
      { numRuns: 120 },
    )
  })

  testEach(`${kind}: every number of rows from 1 to 40 is covered by tiles`, () => {
    for (let rows = 1; rows <= 40; rows++) {
      const shape = { rows, outputs: 41, columns: 70, parts: 1, hasBias: false, accumulates: false, seed: rows }
      const { actual, expected } = multiply(kind, shape)
      assert.is(firstDifference(actual, expected), -1, `${rows} rows`)
    }
  })
}

testEach('integer products are exact at the extremes: all values at their largest magnitude', () => {
  for (const [kind, value] of [
    ['q8', -1],
    ['q8', 1],
    ['q4', -1],
    ['q4', 1],
  ] as const) {
    bench.reset()
    const rows = 9
    const columns = 512
    const source = new Float32Array(rows * columns).fill(-3)
    const weights = new Float32Array(16 * columns).fill(value)
    const activations = placeActivations(source, rows, columns)
    const packed = placeWeights(kind, weights, 16, columns)
    runQuantise(activations, rows, columns, 1)
    const y = bench.floats(rows * 16)
    const words = {
      kind: KIND_CODE[kind],
      rows,
      outputs: 16,
      columns,
      x: activations.quantised.values.byteOffset,
      xStride: 0,
      xScales: activations.quantised.scales.byteOffset,
      xSums: activations.quantised.sums.byteOffset,
      weights: packed.byteOffset,
      y: y.byteOffset,
      yStride: 64,
      bias: 0,
      accumulate: 0,
    }
    bench.run(Operation.gemm, GemmWord, words)
    for (const result of y)
      assert.ok(Math.abs(result + 3 * value * columns) <= 0.001 * 3 * columns, `${kind}: ${result}`)
  }
})

testEach('quantised activations equal the twin, and zeros fill the padding', () => {
  fc.assert(
    fc.property(shapes, ({ rows, columns, parts, seed }) => {
      bench.reset()
      const source = randomFloats(rows * columns, seed)
      // A block of zeros, and one so small that its inverse scale overflows.
      source.fill(0, 0, Math.min(BLOCK, columns))
      if (rows > 1) source.fill(1e-38, columns, columns + Math.min(BLOCK, columns))
      const activations = placeActivations(source, rows, columns)
      runQuantise(activations, rows, columns, parts)
      const expected = quantise(source, rows, columns, paddedInner(columns))
      assert.equal(activations.quantised.values.slice(), expected.values)
      assert.equal(activations.quantised.sums.slice(), expected.sums)
      assert.is(firstDifference(activations.quantised.scales, expected.scales), -1)
    }),
  )
})

testEach('NaN and infinity neither trap nor disappear', () => {
  for (const kind of ['f32', 'q8', 'q4'] as const) {
    for (const odd of [Number.NaN, Number.POSITIVE_INFINITY]) {
      for (const columns of [64, 70]) {
        bench.reset()
        const source = randomFloats(columns, 1)
        source[columns - 1] = odd
        const activations = placeActivations(source, 1, columns)
        const packed = placeWeights(kind, randomFloats(8 * columns, 2), 8, columns)
        runQuantise(activations, 1, columns, 1)
        const y = bench.floats(8)
        const words = {
          kind: KIND_CODE[kind],
          rows: 1,
          outputs: 8,
          columns: paddedInner(columns),
          x: kind === 'f32' ? activations.x.byteOffset : activations.quantised.values.byteOffset,
          xStride: activations.stride,
          xScales: activations.quantised.scales.byteOffset,
          xSums: activations.quantised.sums.byteOffset,
          weights: packed.byteOffset,
          y: y.byteOffset,
          yStride: 32,
          bias: 0,
          accumulate: 0,
        }
        bench.run(Operation.gemm, GemmWord, words)
        for (const value of y) assert.not.ok(Number.isFinite(value), `${kind}, ${odd}`)
      }
    }
  }
})

testEach('gathered rows equal the unpacked matrix, zeros behind', () => {
  fc.assert(
    fc.property(shapes, fc.constantFrom('f32', 'q8', 'q4'), ({ rows, outputs, columns, parts, seed }, kind) => {
      bench.reset()
      const packed = placeWeights(kind, randomFloats(outputs * columns, seed), outputs, columns)
      const padded = paddedInner(columns)
      const ids = bench.integers(Array.from({ length: rows }, (_, i) => (i * 7 + Math.abs(seed)) % outputs))
      const target = bench.floats(rows * padded)
      const words = {
        rows,
        kind: KIND_CODE[kind],
        columns,
        paddedColumns: padded,
        ids: ids.byteOffset,
        weights: packed.byteOffset,
        target: target.byteOffset,
        targetStride: padded * 4,
      }
      bench.run(Operation.gather, GatherWord, words, parts)
      const group = new Float32Array(TILE * columns)
      for (let row = 0; row < rows; row++) {
        unpackGroup(kind, columns, packed, Math.floor(ids[row] / TILE) * groupBytes(kind, columns), group)
        const expected = new Float32Array(padded)
        expected.set(group.subarray((ids[row] % TILE) * columns, ((ids[row] % TILE) + 1) * columns))
        assert.is(firstDifference(target.subarray(row * padded, (row + 1) * padded), expected), -1)
      }
    }),
  )
})

test.run()
