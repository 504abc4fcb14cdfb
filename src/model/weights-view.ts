/** Where a layer's tensors lie in memory, given where its file's data begins. */
import { CoppiceError } from '../errors.ts'
import type { Matrix } from '../tensor/operators.ts'
import type { PackedFile, PackedTensor } from '../weights/manifest.ts'

export interface LayerWeights {
  readonly attentionNorm: number
  /** q, k and v one after the other: [heads*headSize | kvHeads*headSize | kvHeads*headSize] x hidden. */
  readonly qkv: Matrix
  /** Addresses of vectors; 0 = the model has none. */
  readonly qkvBias: number
  readonly qNorm: number
  readonly kNorm: number
  readonly attentionOutput: Matrix
  readonly attentionOutputBias: number
  readonly mlpNorm: number
  /** gate and up one after the other: [intermediate | intermediate] x hidden. */
  readonly gateUp: Matrix
  readonly gateUpBias: number
  readonly down: Matrix
  readonly downBias: number
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
  if (tensor.kind === 'vector') throw new CoppiceError('CORRUPT_FILE', `"${tensor.name}" is a vector, not a matrix`)
  return { kind: tensor.kind, rows: tensor.rows, columns: tensor.columns, pointer }
}

/** The layer whose file's data begins at address `base`. */
export function layerAt(file: PackedFile, base: number): LayerWeights {
  const matrix = (name: string): Matrix => {
    const tensor = findTensor(file, name)
    return matrixAt(tensor, base + tensor.offset)
  }
  const vector = (name: string): number => base + findTensor(file, name).offset
  const optional = (name: string): number => (file.tensors.some((t) => t.name === name) ? vector(name) : 0)
  return {
    attentionNorm: vector('attention_norm'),
    qkv: matrix('qkv'),
    qkvBias: optional('qkv_bias'),
    qNorm: optional('q_norm'),
    kNorm: optional('k_norm'),
    attentionOutput: matrix('attention_output'),
    attentionOutputBias: optional('attention_output_bias'),
    mlpNorm: vector('mlp_norm'),
    gateUp: matrix('gate_up'),
    gateUpBias: optional('gate_up_bias'),
    down: matrix('down'),
    downBias: optional('down_bias'),
  }
}
