/**
 * Writes the ONNX models that the baselines run: chains of matrix products with the weights inside. The field
 * numbers are those of onnx.proto3; a dozen of them do not need a protobuf library.
 */
import type { Kind } from '../src/tensor/layout.ts'
import { randomNumbers } from '../test/tensor/harness.ts'

/** Kinds that onnxruntime can multiply as we do. */
export type OnnxKind = Extract<Kind, 'f32' | 'q8' | 'q4'>

const ELEMENT_BYTES: Readonly<Record<OnnxKind, number>> = { f32: 4, q8: 1, q4: 0.5 }

export const isOnnxKind = (kind: Kind): kind is OnnxKind => kind in ELEMENT_BYTES

/** A matrix product y = x W^T: W[outputs x columns]. */
export interface OnnxMatrix {
  readonly kind: OnnxKind
  readonly outputs: number
  readonly columns: number
  /** Bytes of the tensor B as `weightBytes` counts them, in one piece or several. */
  readonly weights: readonly Uint8Array[]
  /** f32 per output and block of 32 columns; absent for f32. */
  readonly scales?: readonly Uint8Array[]
}

/** Columns that share a scale, as in our layouts. */
export const ONNX_BLOCK = 32

/** MatMulNBits wants [outputs][columns / 32][16 or 32 bytes]; MatMul wants f32 [columns][outputs]. */
const weightBytes = (kind: OnnxKind, outputs: number, columns: number): number =>
  outputs * columns * ELEMENT_BYTES[kind]

const scaleBytes = (outputs: number, columns: number): number => (outputs * columns * 4) / ONNX_BLOCK

/** @returns views of `pattern` that make up `bytes`: large weights without as much memory. */
function repeated(pattern: Uint8Array, bytes: number): Uint8Array[] {
  const pieces: Uint8Array[] = []
  for (let at = 0; at < bytes; at += pattern.length)
    pieces.push(pattern.subarray(0, Math.min(pattern.length, bytes - at)))
  return pieces
}

/** Bytes of random weights, which are then repeated. */
const PATTERN_BYTES = 1 << 20

/** A matrix whose products neither grow nor shrink, of random weights that repeat. */
export function madeUpMatrix(kind: OnnxKind, outputs: number, columns: number): OnnxMatrix {
  const next = randomNumbers(5)
  const spread = 1 / Math.sqrt(columns)
  const scale = { f32: 1, q8: spread / 73, q4: spread / 4.3 }[kind]
  const scales = new Float32Array(scaleBytes(1, columns) / 4).fill(scale)
  // Zero on average, because whatever all weights had in common would grow from matrix to matrix.
  const pattern = {
    f32: () =>
      bytesOf(Float32Array.from({ length: PATTERN_BYTES / 4 }, () => (next() * 2 - 1) * spread * Math.sqrt(3))),
    q8: () => Uint8Array.from({ length: PATTERN_BYTES }, () => 1 + Math.floor(next() * 255)),
    q4: () => {
      const nibble = () => 1 + Math.floor(next() * 15)
      return Uint8Array.from({ length: PATTERN_BYTES }, () => nibble() | (nibble() << 4))
    },
  }[kind]()
  return {
    kind,
    outputs,
    columns,
    weights: repeated(pattern, weightBytes(kind, outputs, columns)),
    scales: repeated(bytesOf(scales), scaleBytes(outputs, columns)),
  }
}

const bytesOf = (values: Float32Array): Uint8Array => new Uint8Array(values.buffer)

/**
 * A model with input x [M][columns of the first matrix] f32 and output y. Each matrix takes what the one before it
 * gave, cut to its own number of columns.
 * @param accuracyLevel of MatMulNBits: 0 computes in f32, 4 in int8
 */
export function chainModel(matrices: readonly OnnxMatrix[], accuracyLevel: 0 | 4): Uint8Array {
  const nodes: Message[] = []
  const initializers: Message[] = []
  let value = 'x'
  let width = matrices[0].columns
  matrices.forEach((matrix, i) => {
    const { kind, outputs, columns, weights, scales } = matrix
    if (columns < width) {
      const bounds = { begin: 0, end: columns, axis: 1 }
      for (const [name, bound] of Object.entries(bounds)) {
        initializers.push(tensor(`${name}${i}`, INT64, [1], [int64(bound)]))
      }
      nodes.push(node('Slice', [value, `begin${i}`, `end${i}`, `axis${i}`], `cut${i}`, []))
      value = `cut${i}`
    }
    const result = i === matrices.length - 1 ? 'y' : `y${i}`
    if (kind === 'f32') {
      initializers.push(tensor(`w${i}`, FLOAT, [columns, outputs], weights))
      nodes.push(node('MatMul', [value, `w${i}`], result, []))
    } else {
      const blocks = columns / ONNX_BLOCK
      const bytes = weightBytes(kind, 1, ONNX_BLOCK)
      initializers.push(tensor(`w${i}`, UINT8, [outputs, blocks, bytes], weights))
      initializers.push(tensor(`s${i}`, FLOAT, [outputs * blocks], scales ?? []))
      const attributes = { K: columns, N: outputs, bits: kind === 'q4' ? 4 : 8, block_size: ONNX_BLOCK }
      const all = Object.entries({ ...attributes, accuracy_level: accuracyLevel })
      nodes.push(node('MatMulNBits', [value, `w${i}`, `s${i}`], result, all, 'com.microsoft'))
    }
    value = result
    width = outputs
  })
  const graph = [
    ...nodes.flatMap((message) => field(1, message)),
    ...field(2, text('chain')),
    ...initializers.flatMap((message) => field(5, message)),
    ...field(11, valueInfo('x', matrices[0].columns)),
    ...field(12, valueInfo('y', width)),
  ]
  return joined([
    ...number(1, 10),
    ...field(7, graph),
    ...field(8, [...field(1, text('')), ...number(2, 21)]),
    ...field(8, [...field(1, text('com.microsoft')), ...number(2, 1)]),
  ])
}

/** Encoded bytes, in pieces. */
type Message = readonly Uint8Array[]

/** TensorProto.DataType */
const FLOAT = 1
const UINT8 = 2
const INT64 = 7

function node(
  operator: string,
  inputs: readonly string[],
  output: string,
  attributes: readonly (readonly [string, number])[],
  domain = '',
): Message {
  const INT_ATTRIBUTE = 2
  return [
    ...inputs.flatMap((name) => field(1, text(name))),
    ...field(2, text(output)),
    ...field(4, text(operator)),
    ...attributes.flatMap(([name, value]) =>
      field(5, [...field(1, text(name)), ...number(3, value), ...number(20, INT_ATTRIBUTE)]),
    ),
    ...field(7, text(domain)),
  ]
}

const tensor = (name: string, type: number, shape: readonly number[], data: Message): Message => [
  ...shape.flatMap((dimension) => number(1, dimension)),
  ...number(2, type),
  ...field(8, text(name)),
  ...field(9, data),
]

/** f32 [M][columns] with M left open. */
function valueInfo(name: string, columns: number): Message {
  const shape = [...field(1, field(2, text('M'))), ...field(1, number(1, columns))]
  return [...field(1, text(name)), ...field(2, field(1, [...number(1, FLOAT), ...field(2, shape)]))]
}

const number = (id: number, value: number): Message => [varint(id << 3), varint(value)]

function field(id: number, content: Message): Message {
  const length = content.reduce((sum, piece) => sum + piece.length, 0)
  return [varint((id << 3) | 2), varint(length), ...content]
}

const text = (value: string): Message => [new TextEncoder().encode(value)]

const int64 = (value: number): Uint8Array => new Uint8Array(new BigInt64Array([BigInt(value)]).buffer)

function varint(value: number): Uint8Array {
  const bytes: number[] = []
  let rest = value
  for (; rest >= 128; rest = Math.floor(rest / 128)) bytes.push((rest % 128) | 128)
  bytes.push(rest)
  return Uint8Array.from(bytes)
}

function joined(message: Message): Uint8Array {
  const bytes = new Uint8Array(message.reduce((sum, piece) => sum + piece.length, 0))
  let at = 0
  for (const piece of message) {
    bytes.set(piece, at)
    at += piece.length
  }
  return bytes
}
