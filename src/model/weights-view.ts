/** Where a layer's tensors lie in memory, given where each group of them begins. */
import { CoppiceError } from '../errors.ts'
import type { Matrix } from '../tensor/operators.ts'
import type { PackedFile, PackedTensor } from '../weights/manifest.ts'
import { findSegment, type LayerGroup } from '../weights/packed-layout.ts'

/** The norm before attention and its projections. */
export interface AttentionWeights {
  readonly norm: number
  /** q, k and v one after the other: [heads*headSize | kvHeads*headSize | kvHeads*headSize] x hidden. */
  readonly qkv: Matrix
  /** Addresses of vectors; 0 = the model has none. */
  readonly qkvBias: number
  readonly qNorm: number
  readonly kNorm: number
  readonly output: Matrix
  readonly outputBias: number
}

/** The norm before the feed-forward network and its first matrices. */
export interface GateUpWeights {
  readonly norm: number
  /** gate and up one after the other: [intermediate | intermediate] x hidden. */
  readonly matrix: Matrix
  readonly bias: number
}

export interface DownWeights {
  readonly matrix: Matrix
  readonly bias: number
}

/** Finds a packed tensor by name. @throws CoppiceError CORRUPT_FILE */
export function findTensor(file: PackedFile, name: string): PackedTensor {
  const tensor = file.tensors.find((t) => t.name === name)
  if (tensor === undefined) {
    throw new CoppiceError('CORRUPT_FILE', `${file.name} has no tensor "${name}"; pack the model again`)
  }
  return tensor
}

export function matrixAt(tensor: PackedTensor, pointer: number): Matrix {
  if (tensor.kind === 'vector')
    throw new CoppiceError('CORRUPT_FILE', `"${tensor.name}" is a vector, not a matrix; pack the model again`)
  return { kind: tensor.kind, rows: tensor.rows, columns: tensor.columns, pointer }
}

/** A group of a layer's tensors, of which the first lies at address `pointer`. */
class Group {
  readonly #file: PackedFile
  readonly #base: number

  constructor(file: PackedFile, group: LayerGroup, pointer: number) {
    this.#file = file
    this.#base = pointer - findSegment(file, group).offset
  }

  vector(name: string): number {
    return this.#base + findTensor(this.#file, name).offset
  }

  optional(name: string): number {
    return this.#file.tensors.some((tensor) => tensor.name === name) ? this.vector(name) : 0
  }

  matrix(name: string): Matrix {
    const tensor = findTensor(this.#file, name)
    return matrixAt(tensor, this.#base + tensor.offset)
  }
}

/** @param pointer address of the group's first byte */
export function attentionAt(file: PackedFile, pointer: number): AttentionWeights {
  const group = new Group(file, 'attention', pointer)
  return {
    norm: group.vector('attention_norm'),
    qkv: group.matrix('qkv'),
    qkvBias: group.optional('qkv_bias'),
    qNorm: group.optional('q_norm'),
    kNorm: group.optional('k_norm'),
    output: group.matrix('attention_output'),
    outputBias: group.optional('attention_output_bias'),
  }
}

/** @param pointer address of the group's first byte */
export function gateUpAt(file: PackedFile, pointer: number): GateUpWeights {
  const group = new Group(file, 'gate_up', pointer)
  return { norm: group.vector('mlp_norm'), matrix: group.matrix('gate_up'), bias: group.optional('gate_up_bias') }
}

/** @param pointer address of the group's first byte */
export function downAt(file: PackedFile, pointer: number): DownWeights {
  const group = new Group(file, 'down', pointer)
  return { matrix: group.matrix('down'), bias: group.optional('down_bias') }
}
