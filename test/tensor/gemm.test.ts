import fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import {
  BLOCK,
  groupBytes,
  isFloat,
  KINDS,
  type Kind,
  matrixBytes,
  packGroup,
  paddedInner,
  paddedOutputs,
  TILE,
  unpackGroup,
} from '../../src/tensor/layout.ts'
import { GatherWord, GemmWord, KIND_CODE, Operation, QuantiseWord } from '../../src/tensor/operations.ts'
import { quantisedBytes } from '../../src/tensor/operators.ts'
import { type Bench, firstDifference, randomFloats } from './harness.ts'
import { type Epilogue, gemmF32, gemmQuantised, halfAt, integersOf, quantise, setHalf } from './twins/gemm.ts'
import { operandBytes } from './twins/operand.ts'
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
  sideBySide: fc.boolean(),
  seed: fc.integer(),
})
type Shape = typeof shapes extends fc.Arbitrary<infer T> ? T : never

interface Activations {
  readonly x: Float32Array
  readonly stride: number
  /** Of `quantisedBytes`. */
  readonly quantised: Uint8Array
}

/** Rows [M x K] with a stride of the padded width and one vector more, zeros behind K. */
function placeActivations(source: Float32Array, rows: number, columns: number): Activations {
  const padded = paddedInner(columns)
  const width = padded + 4
  const x = bench.floats(rows * width).fill(0)
  for (let m = 0; m < rows; m++) x.set(source.subarray(m * columns, (m + 1) * columns), m * width)
  return { x, stride: width * 4, quantised: bench.bytes(quantisedBytes(rows, columns)) }
}

function runQuantise(kind: Kind, activations: Activations, rows: number, columns: number, parts: number): void {
  const words = {
    rows,
    columns,
    source: activations.x.byteOffset,
    sourceStride: activations.stride,
    values: activations.quantised.byteOffset,
    kind: KIND_CODE[kind],
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

/** The nearest f16, ties to even: added to a number whose last bit has the weight of f16's, the rest falls off. */
function toHalf(value: number): number {
  const exponent = Math.max(-14, Math.floor(Math.log2(Math.abs(value) || 1)))
  const magic = 1.5 * 2 ** (exponent - 10 + 52)
  return value + magic - magic
}

interface Product {
  readonly actual: Float32Array
  readonly expected: Float32Array
}

/** Runs the kernel and its twin on random data of a shape. */
function multiply(kind: Kind, shape: Shape): Product {
  const { rows, outputs, columns, parts, hasBias, accumulates, sideBySide, seed } = shape
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
  if (!isFloat(kind)) runQuantise(kind, activations, rows, columns, parts)
  const words = {
    kind: KIND_CODE[kind],
    rows,
    outputs: width,
    columns: paddedInner(columns),
    x: isFloat(kind) ? activations.x.byteOffset : activations.quantised.byteOffset,
    xStride: activations.stride,
    weights: packed.byteOffset,
    y: y.byteOffset,
    yStride: stride * 4,
    bias: hasBias ? placedBias.byteOffset : 0,
    accumulate: accumulates ? 1 : 0,
    sideBySide: sideBySide ? 1 : 0,
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
  if (isFloat(kind)) {
    const padded = new Float32Array(width * columns)
    padded.set(kind === 'f16' ? weights.map(toHalf) : weights)
    return gemmF32(source, padded, rows, width, columns, epilogue)
  }
  const inner = paddedInner(columns)
  const x = quantise(source, rows, columns, inner)
  return gemmQuantised(x, integersOf(kind, packed, outputs, columns), rows, width, inner, epilogue)
}

for (const kind of KINDS) {
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
      for (const sideBySide of [false, true]) {
        const rest = { outputs: 41, columns: 70, parts: 1, hasBias: false, accumulates: false, seed: rows }
        const { actual, expected } = multiply(kind, { rows, sideBySide, ...rest })
        assert.is(firstDifference(actual, expected), -1, `${rows} rows`)
      }
    }
  })
}

testEach('integer products are exact at the extremes: all values at their largest magnitude', () => {
  for (const [kind, value] of [
    ['q8', -1],
    ['q8', 1],
    ['q4', -1],
    ['q4', 1],
    ['q4a', -1],
    ['q4a', 1],
  ] as const) {
    bench.reset()
    const rows = 9
    const columns = 512
    const source = new Float32Array(rows * columns).fill(-3)
    const weights = new Float32Array(16 * columns).fill(value)
    const activations = placeActivations(source, rows, columns)
    const packed = placeWeights(kind, weights, 16, columns)
    runQuantise(kind, activations, rows, columns, 1)
    const y = bench.floats(rows * 16)
    const words = {
      kind: KIND_CODE[kind],
      rows,
      outputs: 16,
      columns,
      x: activations.quantised.byteOffset,
      xStride: 0,
      weights: packed.byteOffset,
      y: y.byteOffset,
      yStride: 64,
      bias: 0,
      accumulate: 0,
      sideBySide: 0,
    }
    bench.run(Operation.gemm, GemmWord, words)
    for (const result of y)
      assert.ok(Math.abs(result + 3 * value * columns) <= 0.001 * 3 * columns, `${kind}: ${result}`)
  }
})

/** Rows, and whether groups are read side by side. */
const FLOAT_TILES = [
  [4, 0],
  [3, 0],
  [2, 0],
  [2, 1],
  [1, 0],
  [1, 1],
] as const

testEach('every finite f16 weight is taken for exactly the number that it stands for, in every tile', () => {
  // Weights are in one row of the identity's place: y[n] = 1 * w[n][k], one inner value per product.
  const outputs = 64
  const columns = 32
  for (let first = 0; first < 0x10000; first += outputs * columns) {
    bench.reset()
    const bits = Uint16Array.from({ length: outputs * columns }, (_, i) => {
      const half = first + i
      return (half & 0x7c00) === 0x7c00 ? 0 : half
    })
    const packed = bench.bytes(matrixBytes('f16', outputs, columns))
    for (let n = 0; n < outputs; n++) {
      for (let k = 0; k < columns; k++) {
        const at = Math.floor(n / TILE) * groupBytes('f16', columns) + (k * TILE + (n % TILE)) * 2
        setHalf(packed, at, bits[n * columns + k])
      }
    }
    const eye = new Float32Array(columns * columns)
    for (let k = 0; k < columns; k++) eye[k * columns + k] = 1
    const x = bench.floats(eye)
    const y = bench.floats(columns * outputs)
    for (let row = 0, tile = 0, taken = 0; row < columns; row += taken, tile++) {
      const [most, sideBySide] = FLOAT_TILES[tile % FLOAT_TILES.length]
      taken = Math.min(most, columns - row)
      const words = {
        kind: KIND_CODE.f16,
        rows: taken,
        outputs,
        columns,
        x: x.byteOffset + row * columns * 4,
        xStride: columns * 4,
        weights: packed.byteOffset,
        y: y.byteOffset + row * outputs * 4,
        yStride: outputs * 4,
        bias: 0,
        accumulate: 0,
        sideBySide,
      }
      bench.run(Operation.gemm, GemmWord, words)
    }
    for (let n = 0; n < outputs; n++) {
      for (let k = 0; k < columns; k++) {
        const expected = halfAt(Uint8Array.of(bits[n * columns + k] & 255, bits[n * columns + k] >> 8), 0)
        // The sum begins at +0, so that -0 becomes 0.
        assert.is(y[k * outputs + n], expected + 0, bits[n * columns + k].toString(16))
      }
    }
  }
})

testEach('a q4a weight is scale times nibble plus minimum', () => {
  bench.reset()
  const columns = 32
  const packed = bench.bytes(matrixBytes('q4a', TILE, columns)).fill(0)
  // Output 5, inner value 6: nibble 9, scale 0.5, minimum -3; its other nibbles are 0.
  packed[1 * 16 + 1 * 4 + 2] = 9 << 4
  setHalf(packed, 128 + 5 * 2, 0x3800)
  setHalf(packed, 144 + 5 * 2, 0xc200)
  const rows = 2
  const source = new Float32Array(rows * columns)
  source[6] = 127
  source.fill(127, columns)
  const activations = placeActivations(source, rows, columns)
  runQuantise('q4a', activations, rows, columns, 1)
  const y = bench.floats(rows * TILE)
  const words = {
    kind: KIND_CODE.q4a,
    rows,
    outputs: TILE,
    columns,
    x: activations.quantised.byteOffset,
    xStride: 0,
    weights: packed.byteOffset,
    y: y.byteOffset,
    yStride: TILE * 4,
    bias: 0,
    accumulate: 0,
    sideBySide: 0,
  }
  bench.run(Operation.gemm, GemmWord, words)
  const expected = new Float32Array(rows * TILE)
  expected[5] = 127 * (0.5 * 9 - 3)
  expected[TILE + 5] = 127 * 0.5 * 9 + 127 * 32 * -3
  assert.equal([...y], [...expected])
})

for (const kind of KINDS.filter((kind) => !isFloat(kind))) {
  testEach(`activations for ${kind} weights equal the twin to the byte, and zeros fill the padding`, () => {
    fc.assert(
      fc.property(shapes, ({ rows, columns, parts, seed }) => {
        bench.reset()
        const source = randomFloats(rows * columns, seed)
        // A block of zeros, and one so small that its inverse scale overflows.
        source.fill(0, 0, Math.min(BLOCK, columns))
        if (rows > 1) source.fill(1e-38, columns, columns + Math.min(BLOCK, columns))
        const activations = placeActivations(source, rows, columns)
        runQuantise(kind, activations, rows, columns, parts)
        const padded = paddedInner(columns)
        const expected = operandBytes(quantise(source, rows, columns, padded), rows, padded, kind, bench.variant)
        assert.equal(activations.quantised.slice(0, expected.length), expected)
      }),
    )
  })
}

testEach('NaN and infinity neither trap nor disappear', () => {
  for (const kind of KINDS) {
    for (const odd of [Number.NaN, Number.POSITIVE_INFINITY]) {
      for (const columns of [64, 70]) {
        bench.reset()
        const source = randomFloats(columns, 1)
        source[columns - 1] = odd
        const activations = placeActivations(source, 1, columns)
        const packed = placeWeights(kind, randomFloats(8 * columns, 2), 8, columns)
        if (!isFloat(kind)) runQuantise(kind, activations, 1, columns, 1)
        const y = bench.floats(8)
        const words = {
          kind: KIND_CODE[kind],
          rows: 1,
          outputs: 8,
          columns: paddedInner(columns),
          x: isFloat(kind) ? activations.x.byteOffset : activations.quantised.byteOffset,
          xStride: activations.stride,
          weights: packed.byteOffset,
          y: y.byteOffset,
          yStride: 32,
          bias: 0,
          accumulate: 0,
          sideBySide: 0,
        }
        bench.run(Operation.gemm, GemmWord, words)
        for (const value of y) assert.not.ok(Number.isFinite(value), `${kind}, ${odd}`)
      }
    }
  }
})

testEach('gathered rows equal the unpacked matrix, zeros behind', () => {
  fc.assert(
    fc.property(shapes, fc.constantFrom(...KINDS), ({ rows, outputs, columns, parts, seed }, kind) => {
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
