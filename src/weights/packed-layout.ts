/**
 * Where everything lies in the files of a packed model. It follows from the config and the kinds of
 * weights alone, so that a manifest can be checked against it.
 */
import { CoppiceError } from '../errors.ts'
import { ALIGNMENT, groupBytes, isFloat, type Kind, matrixBytes, paddedOutputs } from '../tensor/layout.ts'
import type { PackedFile, PackedTensor, Quantisation, Segment } from './manifest.ts'
import type { ModelConfig } from './model-config.ts'
import type { TensorLayout } from './safetensors-header.ts'
import { edgeRecipes, layerRecipes, parameterCount, type TensorRecipe } from './tensor-names.ts'

/** Files end, and their data begins, at multiples of this, so that they can be read past the page cache. */
export const FILE_ALIGNMENT = 4096
/** Bytes per checksum, unless one group of rows is larger. */
export const CHUNK_BYTES = 1 << 20

export const EDGES_NAME = 'edges.safetensors'
export const layerFileName = (layer: number): string => `layer-${String(layer).padStart(5, '0')}.safetensors`
/** Name of the tensor that fills a file up to its alignment. */
const PAD_NAME = '__pad'
/** The segment that holds the vectors of the edges. */
const VECTORS = 'vectors'

/** The segments of a layer file, in the order of a pass, and the tensor that each begins with. */
export const LAYER_GROUPS = [
  { name: 'attention', firstTensor: 'attention_norm' },
  { name: 'gate_up', firstTensor: 'mlp_norm' },
  { name: 'down', firstTensor: 'down' },
] as const
export type LayerGroup = (typeof LAYER_GROUPS)[number]['name']

/** @throws CoppiceError CORRUPT_FILE */
export function findSegment(file: PackedFile, name: string): Segment {
  const segment = file.segments.find((s) => s.name === name)
  if (segment !== undefined) return segment
  throw new CoppiceError('CORRUPT_FILE', `${file.name} has no segment "${name}"; pack the model again`)
}

/** A file's data, without what depends on the weights' values. */
export interface DataLayout {
  readonly tensors: readonly PackedTensor[]
  readonly segments: readonly Omit<Segment, 'checksums'>[]
  /** Bytes of all data, padding included. */
  readonly bytes: number
}

/** @param kind kind of the matrices */
export function layerLayout(config: ModelConfig, kind: Kind): DataLayout {
  const { tensors, bytes } = placeTensors(layerRecipes(config, 0), kind)
  const starts = LAYER_GROUPS.map(({ firstTensor }) => tensors.find(({ name }) => name === firstTensor)!.offset)
  const segments = LAYER_GROUPS.map(({ name }, i) => {
    const end = i + 1 < starts.length ? starts[i + 1] : bytes
    return { name, offset: starts[i], bytes: end - starts[i], chunkBytes: CHUNK_BYTES }
  })
  return { tensors, bytes, segments }
}

/** @param kind kind of the matrices */
export function edgesLayout(config: ModelConfig, kind: Kind): DataLayout {
  const { tensors, bytes } = placeTensors(edgeRecipes(config), kind)
  const segments: Omit<Segment, 'checksums'>[] = []
  const vectors = tensors.filter((tensor) => tensor.kind === 'vector')
  const last = vectors[vectors.length - 1]
  const vectorBytes = last.offset + last.bytes - vectors[0].offset
  segments.push({ name: VECTORS, offset: vectors[0].offset, bytes: vectorBytes, chunkBytes: CHUNK_BYTES })
  for (const { name, kind, rows, columns, offset } of tensors) {
    if (kind === 'vector') continue
    const group = groupBytes(kind, columns)
    const chunkBytes = group * Math.max(1, Math.floor(CHUNK_BYTES / group))
    segments.push({ name, offset, bytes: matrixBytes(kind, rows, columns), chunkBytes })
  }
  return { tensors, bytes, segments }
}

/** Checksums that a segment has. */
export const chunkCount = ({ bytes, chunkBytes }: Omit<Segment, 'checksums'>): number => Math.ceil(bytes / chunkBytes)

/** Rows that a recipe's parts take when laid one after the other: each begins a new group of 8. */
const fusedRows = ({ parts }: TensorRecipe): number => parts.reduce((sum, { rows }) => sum + paddedOutputs(rows), 0)

function placeTensors(recipes: readonly TensorRecipe[], kind: Kind): { tensors: PackedTensor[]; bytes: number } {
  let offset = 0
  const tensors = recipes.map((recipe): PackedTensor => {
    const { name, type, columns } = recipe
    const parts = recipe.parts.map(({ rows }) => rows)
    // A single matrix keeps its own number of rows: the vocabulary must not grow by padding.
    const rows = parts.length === 1 && !name.endsWith('_bias') ? parts[0] : fusedRows(recipe)
    const stored = type === 'vector' ? rows * 4 : matrixBytes(kind, rows, columns)
    const bytes = Math.ceil(stored / ALIGNMENT) * ALIGNMENT
    const tensor = { name, kind: type === 'vector' ? ('vector' as const) : kind, rows, columns, parts, offset, bytes }
    offset += bytes
    return tensor
  })
  return { tensors, bytes: Math.ceil(offset / FILE_ALIGNMENT) * FILE_ALIGNMENT }
}

/** The tensors as a safetensors header lists them: vectors as F32, tiled matrices as U8, and the filling. */
export function headerTensors({ tensors, bytes }: DataLayout): TensorLayout[] {
  const listed = tensors.map(
    (tensor): TensorLayout =>
      tensor.kind === 'vector'
        ? { name: tensor.name, dtype: 'F32', shape: [tensor.bytes / 4] }
        : { name: tensor.name, dtype: 'U8', shape: [tensor.bytes] },
  )
  const end = tensors.reduce((sum, tensor) => sum + tensor.bytes, 0)
  return end < bytes ? [...listed, { name: PAD_NAME, dtype: 'U8', shape: [bytes - end] }] : listed
}

/** What the header cannot say of the tensors: kind, logical shape, and the rows of fused parts. */
export function headerMetadata({ tensors }: DataLayout): Record<string, string> {
  const metadata: Record<string, string> = { format: 'coppice' }
  for (const { name, kind, rows, columns, parts } of tensors) {
    metadata[name] = kind === 'vector' ? `vector [${parts}]` : `${kind} [${rows},${columns}] of rows [${parts}]`
  }
  return metadata
}

const SMALL_MODEL = 16e6
const LARGE_MODEL = 500e6

/** What 'auto' stands for: small models lose quality by quantisation and need no memory saved. */
export function chooseKind(weights: 'auto' | Kind, config: ModelConfig): Kind {
  if (weights !== 'auto') return weights
  const parameters = parameterCount(config)
  return parameters < SMALL_MODEL ? 'f32' : parameters < LARGE_MODEL ? 'q8' : 'q4'
}

/** The edges keep 8 bits under q4 and q4a: embedding and output head suffer most from fewer. */
export const quantisationOf = (kind: Kind): Quantisation => ({ layers: kind, edges: isFloat(kind) ? kind : 'q8' })
