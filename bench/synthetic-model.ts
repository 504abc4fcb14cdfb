/** A transformer with made-up weights: the engine's own classes from the embedding to the logits, without any file. */

import { LayerStore, storeRequests } from '../src/memory/layer-store.ts'
import { LoadBoard, type Unit } from '../src/memory/load-board.ts'
import { type TransformerShape, transformerRegions } from '../src/model/activations.ts'
import { MatrixEmbedding } from '../src/model/embedding.ts'
import { Transformer } from '../src/model/transformer.ts'
import { attentionAt, downAt, findTensor, gateUpAt, matrixAt } from '../src/model/weights-view.ts'
import { Arena, createMemory, MEMORY_LIMIT_BYTES } from '../src/tensor/arena.ts'
import { Control } from '../src/tensor/control.ts'
import type { Kind } from '../src/tensor/layout.ts'
import type { Matrix } from '../src/tensor/operators.ts'
import type { PackedFile } from '../src/weights/manifest.ts'
import type { ModelConfig } from '../src/weights/model-config.ts'
import { type DataLayout, edgesLayout, layerLayout, quantisationOf } from '../src/weights/packed-layout.ts'
import { type BatchForm, fillBatch, fillMatrix, MatrixPass, regionsBytes, type Team } from './harness.ts'

/** Rows of logits at once, as the engine has them. */
const LOGITS_ROWS = 32
const MOST_ROWS = 64

export interface SyntheticShape {
  readonly config: ModelConfig
  readonly kind: Kind
  readonly threads: number
  /** Committed positions that every row sees. */
  readonly prefix: number
}

/** Weights, caches and buffers in one memory; the transformer on them comes with a team. */
export class SyntheticModel {
  readonly arena: Arena
  /** All matrices of a pass: the layers' and the output head. */
  readonly matrices: readonly Matrix[]
  readonly #shape: SyntheticShape
  readonly #layers: readonly PackedFile[]
  readonly #pointers: readonly number[]
  readonly #edges: DataLayout
  readonly #edgesPointer: number

  constructor(shape: SyntheticShape) {
    const { config, kind } = shape
    this.#shape = shape
    this.arena = new Arena(createMemory(SyntheticModel.bytes(shape)))
    const layer = layerLayout(config, kind)
    const names = Array.from({ length: config.layers }, (_, i) => `layer ${i}`)
    this.#layers = names.map((name) => packedFile(name, layer))
    this.#pointers = names.map((name) => this.#fill(name, layer))
    this.#edges = edgesLayout(config, quantisationOf(kind).edges)
    this.#edgesPointer = this.#fill('edges', this.#edges)
    const layers = this.#pointers.flatMap((pointer, i) => {
      const [attentionPointer, gateUpPointer, downPointer] = groupPointers(this.#layers[i], pointer)
      const { qkv, output } = attentionAt(this.#layers[i], attentionPointer)
      const gateUp = gateUpAt(this.#layers[i], gateUpPointer)
      return [qkv, output, gateUp.matrix, downAt(this.#layers[i], downPointer).matrix]
    })
    this.matrices = [...layers, this.#edgeMatrix(config.tiedHead ? 'embedding' : 'head')]
  }

  static bytes({ config, kind, threads, prefix }: SyntheticShape): number {
    const layers = config.layers * layerLayout(config, kind).bytes
    const edges = edgesLayout(config, quantisationOf(kind).edges).bytes
    const regions = regionsBytes(transformerRegions('model', config, transformerShape(threads, prefix)))
    const head = { outputs: config.vocabulary, columns: config.hidden }
    const pass = MatrixPass.bytes([head, { outputs: 2 * config.intermediate, columns: config.intermediate }], MOST_ROWS)
    return layers + edges + regions + pass + (config.layers + 16) * 4096 + (1 << 20)
  }

  /** Whether one WASM memory can hold it. */
  static fits(shape: SyntheticShape): boolean {
    return SyntheticModel.bytes(shape) <= MEMORY_LIMIT_BYTES
  }

  transformer({ operators }: Team): Transformer {
    const { config, kind, threads, prefix } = this.#shape
    const control = new Control()
    const groups = this.#pointers.map((pointer, i) => groupPointers(this.#layers[i], pointer))
    const units = [...groups.flat(), this.matrices[this.matrices.length - 1].pointer]
    const headUnit = units.length - 1
    const store = new LayerStore({
      board: new LoadBoard({ units: units.map(unitInMemory), requests: storeRequests(0) }, control),
      control,
      firstRequest: 0,
      units: units.map((_, unit) => unit),
      pinned: new Map(units.map((pointer, unit) => [unit, { bank: 0, pointer }])),
      headStart: headUnit,
      slots: [],
    })
    const transformer = new Transformer({
      name: 'model',
      config,
      shape: transformerShape(threads, prefix),
      banks: [{ arena: this.arena, operators }],
      store,
      layerFiles: this.#layers,
      layerUnits: groups.map((_, layer) => [3 * layer, 3 * layer + 1, 3 * layer + 2]),
      embedding: new MatrixEmbedding(operators, this.#edgeMatrix('embedding')),
      finalNorm: this.#edgesPointer + findTensor(packedFile('edges', this.#edges), 'final_norm').offset,
      head: [{ unit: headUnit, firstRow: 0, rows: config.vocabulary }],
      headKind: quantisationOf(kind).edges,
      checkpoint: () => {},
    })
    transformer.cache.extend(prefix)
    return transformer
  }

  #edgeMatrix(name: string): Matrix {
    const tensor = findTensor(packedFile('edges', this.#edges), name)
    return matrixAt(tensor, this.#edgesPointer + tensor.offset)
  }

  #fill(name: string, layout: DataLayout): number {
    const pointer = this.arena.allocate(name, layout.bytes, 4096)
    for (const { kind, columns, rows, offset, bytes } of layout.tensors) {
      if (kind === 'vector') this.arena.f32(pointer + offset, rows).fill(1)
      else fillMatrix(kind, columns, this.arena.u8(pointer + offset, bytes))
    }
    return pointer
  }
}

/** One pass of `rows` rows, and the logits of all of them. */
export function modelPass(model: Transformer, rows: number, prefix: number): () => void {
  const form: BatchForm = rows === 1 ? 'row' : 'tree'
  fillBatch(model.batch, model.cache, rows, form, prefix)
  const chunks: number[][] = []
  for (let row = 0; row < rows; row += model.headRows) {
    chunks.push(Array.from({ length: Math.min(model.headRows, rows - row) }, (_, i) => row + i))
  }
  return () => {
    model.forward()
    for (const chunk of chunks) model.head(chunk)
  }
}

/** The same without the head. */
export function layersPass(model: Transformer, rows: number, prefix: number): () => void {
  fillBatch(model.batch, model.cache, rows, rows === 1 ? 'row' : 'tree', prefix)
  return () => model.forward()
}

const transformerShape = (threads: number, prefix: number): TransformerShape => ({
  context: prefix,
  scratch: MOST_ROWS,
  rows: MOST_ROWS,
  logitsRows: LOGITS_ROWS,
  headStreams: false,
  threads,
  kind: 'f32',
})

const packedFile = (name: string, { tensors, bytes, segments }: DataLayout): PackedFile => ({
  name,
  bytes,
  sha256: '',
  dataOffset: 0,
  headerChecksum: 0,
  tensors,
  segments: segments.map((segment) => ({ ...segment, checksums: [] })),
})

/** Where the groups of a layer begin, whose data begins at `pointer`. */
const groupPointers = (file: PackedFile, pointer: number): number[] =>
  file.segments.map(({ offset }) => pointer + offset)

/** A unit that is never loaded, because it is there. */
const unitInMemory = (): Unit => ({
  name: 'in memory',
  path: '',
  fileBytes: 0,
  start: 0,
  bytes: 0,
  chunkBytes: 1,
  checksums: [],
})
