/** Do the baselines multiply the same matrices as we do? A benchmark against something else would mean nothing. */
import { Arena, createMemory } from '../src/tensor/arena.ts'
import { groupBytes, type Kind, matrixBytes, packGroup, TILE } from '../src/tensor/layout.ts'
import { quantisedBytes } from '../src/tensor/operators.ts'
import { Rows } from '../src/tensor/rows.ts'
import { randomFloats, randomNumbers } from '../test/tensor/harness.ts'
import { Team } from './harness.ts'
import { chainModel, ONNX_BLOCK, type OnnxKind } from './onnx.ts'
import type { Baseline } from './onnxruntime.ts'

const ROWS = 9
const OUTPUTS = 64
const COLUMNS = 256

/** Of the root mean square of the results. Both sides may round activations to 8 bits: half a step is 0.4 %. */
export const TOLERANCE = 0.03

/** @returns the largest difference of one product, over the root mean square of the results */
export async function disagreement(baseline: Baseline, kind: OnnxKind, accuracyLevel: 0 | 4): Promise<number> {
  const weights = exactWeights(kind)
  const x = randomFloats(ROWS * COLUMNS, 3).map((value) => Math.max(-2, Math.min(2, value)))
  const ours = await ourProduct(kind, weights.values, x)
  const { tensor, scales } = weights
  const matrix = { kind, outputs: OUTPUTS, columns: COLUMNS, weights: [tensor], scales: [scales] }
  const chain = await baseline.load(chainModel([matrix], accuracyLevel), 1, x, COLUMNS, OUTPUTS)
  const theirs = await chain.run(ROWS)()
  await chain.release()
  const squares = ours.reduce((sum, value) => sum + value * value, 0)
  const largest = ours.reduce((most, value, i) => Math.max(most, Math.abs(value - theirs[i])), 0)
  return largest / Math.sqrt(squares / ours.length)
}

/** Integers times powers of two, so that every quantiser finds the very same integers and scales. */
function exactWeights(kind: OnnxKind): { values: Float32Array; tensor: Uint8Array; scales: Uint8Array } {
  const next = randomNumbers(7)
  const most = kind === 'q4' ? 8 : 127
  const values = new Float32Array(OUTPUTS * COLUMNS)
  const integers = new Int8Array(OUTPUTS * COLUMNS)
  const scales = new Float32Array((OUTPUTS * COLUMNS) / ONNX_BLOCK)
  for (let i = 0; i < values.length; i++) {
    const block = Math.floor(i / ONNX_BLOCK)
    if (i % ONNX_BLOCK === 0) scales[block] = 2 ** -Math.floor(4 + 4 * next())
    // The first of a block is as large as they come, which fixes the scale.
    integers[i] = i % ONNX_BLOCK === 0 ? -most : Math.floor(next() * (2 * most - 1)) - most + 1
    values[i] = integers[i] * scales[block]
  }
  return { values, tensor: asTensor(kind, integers, values), scales: bytesOf(scales) }
}

/** As MatMulNBits and MatMul read them: unsigned integers with the zero in the middle, or f32 [columns][outputs]. */
function asTensor(kind: OnnxKind, integers: Int8Array, values: Float32Array): Uint8Array {
  if (kind === 'q8') return Uint8Array.from(integers, (value) => value + 128)
  if (kind === 'q4') {
    return Uint8Array.from({ length: integers.length / 2 }, (_, i) => {
      return (integers[2 * i] + 8) | ((integers[2 * i + 1] + 8) << 4)
    })
  }
  const turned = new Float32Array(values.length)
  for (let n = 0; n < OUTPUTS; n++) {
    for (let k = 0; k < COLUMNS; k++) turned[k * OUTPUTS + n] = values[n * COLUMNS + k]
  }
  return bytesOf(turned)
}

async function ourProduct(kind: Kind, weights: Float32Array, x: Float32Array): Promise<Float32Array> {
  const arena = new Arena(createMemory(1 << 20))
  const team = await Team.start(arena, 1)
  const bytes = matrixBytes(kind, OUTPUTS, COLUMNS)
  const pointer = arena.allocate('weights', bytes)
  const packed = arena.u8(pointer, bytes)
  for (let n = 0; n < OUTPUTS; n += TILE) {
    packGroup(kind, COLUMNS, weights, n * COLUMNS, TILE, packed, (n / TILE) * groupBytes(kind, COLUMNS))
  }
  const input = new Rows(arena.allocate('x', x.byteLength), COLUMNS * 4, COLUMNS)
  arena.f32(input.pointer, x.length).set(x)
  const operand = { rows: input, quantised: arena.allocate('quantised', quantisedBytes(ROWS, COLUMNS)) }
  const output = new Rows(arena.allocate('y', ROWS * OUTPUTS * 4), OUTPUTS * 4, OUTPUTS)
  const { operators } = team
  const matrix = { kind, rows: OUTPUTS, columns: COLUMNS, pointer }
  operators.quantise(operand, ROWS, kind)
  operators.matmul(operand, ROWS, matrix, output)
  operators.run()
  await team.close()
  return arena.f32(output.pointer, ROWS * OUTPUTS).slice()
}

const bytesOf = (values: Float32Array): Uint8Array => new Uint8Array(values.buffer, 0, values.byteLength)
