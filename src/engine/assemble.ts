/** Builds target and draft in a planned memory and brings their resident parts in. */
import { CoppiceError } from '../errors.ts'
import type { DiskMeter } from '../generate/decode.ts'
import { LayerStore, storeRequests } from '../memory/layer-store.ts'
import { type LoadBoard, type Unit, unitFootprint, unitLead } from '../memory/load-board.ts'
import { Loader } from '../memory/loader.ts'
import type { Timeline } from '../memory/timeline.ts'
import { segmentUnit } from '../memory/units.ts'
import { ArrivingEmbedding, type Embedding, EmbeddingOnDisk, MatrixEmbedding } from '../model/embedding.ts'
import { type HeadPart, Transformer } from '../model/transformer.ts'
import { findTensor, matrixAt } from '../model/weights-view.ts'
import { ReadableFile } from '../runtime/files.ts'
import { cores } from '../runtime/platform.ts'
import { Arena } from '../tensor/arena.ts'
import { checksum } from '../tensor/checksum.ts'
import { Compute } from '../tensor/compute.ts'
import type { Control } from '../tensor/control.ts'
import { instantiateKernels } from '../tensor/kernels.ts'
import { JOB_BYTES, Operators } from '../tensor/operators.ts'
import type { PackedModel } from '../weights/packed.ts'
import { findSegment } from '../weights/packed-layout.ts'
import type { Preparation, PreparedModel } from './prepare.ts'
import type { Progress } from './types.ts'

export interface AssemblyParts {
  readonly preparation: Preparation
  readonly memory: WebAssembly.Memory
  readonly control: Control
  readonly board: LoadBoard
  readonly kernels: WebAssembly.Module
  /** For as many loaders as the preparation says. */
  readonly timeline: Timeline
  readonly onProgress: (progress: Progress) => void
}

export interface Assembly {
  readonly target: Transformer
  readonly draft: Transformer | undefined
  readonly store: LayerStore
  /** What the target costs the disk: layers, head and embedding rows. */
  readonly disk: DiskMeter
  /** Regions as they were allocated. */
  readonly regions: Arena['regions']
  close(): void
}

/** @throws CoppiceError CORRUPT_FILE | FILE_SYSTEM | ABORTED | WORKER_FAILED */
export function assemble(parts: AssemblyParts): Assembly {
  const { preparation, memory, control, board, timeline } = parts
  const { loaders, mode } = preparation
  const arena = new Arena(memory)
  const kernels = instantiateKernels(memory, parts.kernels)
  const compute = new Compute({ kernels, control, threads: preparation.threads, cores: cores() })
  const operators = new Operators(kernels, compute, arena, arena.allocate('job records', JOB_BYTES))
  // Without streaming there are no loader threads: what is resident is read once, here.
  const inlineLoader = loaders === 0 ? new Loader(board, kernels, memory, mode, timeline.inlineLoader) : undefined
  const builder = new Builder(parts, arena, operators, inlineLoader)
  const { target, store, embedding } = builder.target()
  const draft = builder.draft()
  return {
    target,
    draft,
    store,
    disk: {
      get bytesRead() {
        return store.bytesRead + embedding.bytesRead
      },
    },
    regions: arena.regions,
    close: () => {
      inlineLoader?.close()
      builder.close()
    },
  }
}

class Builder {
  readonly #parts: AssemblyParts
  readonly #arena: Arena
  readonly #operators: Operators
  readonly #inlineLoader: Loader | undefined
  readonly #embeddings: Embedding[] = []

  constructor(parts: AssemblyParts, arena: Arena, operators: Operators, inlineLoader: Loader | undefined) {
    this.#parts = parts
    this.#arena = arena
    this.#operators = operators
    this.#inlineLoader = inlineLoader
  }

  close(): void {
    for (const embedding of this.#embeddings) embedding.close()
  }

  target(): { target: Transformer; store: LayerStore; embedding: Embedding } {
    const { layout, headPieces, target } = this.#parts.preparation
    const { plan, layerUnits, headUnits, embeddingUnit } = layout
    const pinned = new Map<number, number>()
    plan.layerGroups.forEach((groups, layer) => {
      groups.forEach((group, i) => {
        if (group.pinned) this.#pin(pinned, layerUnits[layer][i])
      })
    })
    if (plan.headPinned) this.#pin(pinned, headUnits[0])
    if (embeddingUnit !== undefined) this.#pin(pinned, embeddingUnit)
    const store = this.#store('target', pinned, layerUnits, [...headUnits], embeddingUnit)
    const head = headUnits.map((unit, i) => ({ unit, firstRow: headPieces[i].firstRow, rows: headPieces[i].rows }))
    const { manifest } = target.packed
    const resident = manifest.config.tiedHead ? (plan.headPinned ? headUnits[0] : undefined) : embeddingUnit
    const embedding =
      resident === undefined
        ? this.#embeddingOnDisk(target.packed)
        : this.#resident(target.packed, store, pinned.get(resident)!, resident)
    const transformer = this.#transformer('target', target, store, layerUnits, head, embedding)
    store.begin()
    return { target: transformer, store, embedding }
  }

  draft(): Transformer | undefined {
    const { draft, draftUnits } = this.#parts.preparation
    if (draft === undefined || draftUnits === undefined) return undefined
    const { layers, head, embedding } = draftUnits
    const pinned = new Map<number, number>()
    for (const unit of [...layers.flat(), head]) this.#pin(pinned, unit)
    if (embedding !== undefined) this.#pin(pinned, embedding)
    const store = this.#store('draft', pinned, layers, [head], embedding)
    const { vocabulary } = draft.packed.manifest.config
    const unit = embedding ?? head
    const source = this.#resident(draft.packed, store, pinned.get(unit)!, unit)
    const headPart = { unit: head, firstRow: 0, rows: vocabulary }
    return this.#transformer('draft', draft, store, layers, [headPart], source)
  }

  #pin(pinned: Map<number, number>, unit: number): void {
    const { board } = this.#parts
    pinned.set(unit, this.#arena.allocate(board.units[unit].name, unitFootprint(board.units[unit]), 4096))
  }

  #store(
    name: 'target' | 'draft',
    pinned: Map<number, number>,
    layers: readonly (readonly number[])[],
    head: readonly number[],
    embedding: number | undefined,
  ): LayerStore {
    const { board, control, preparation, onProgress, timeline } = this.#parts
    const { slots, slotBytes } = preparation.layout.plan
    const count = name === 'target' ? slots : 0
    const units = layers.flat()
    return new LayerStore({
      board,
      control,
      firstRequest: name === 'target' ? 0 : storeRequests(slots),
      inlineLoader: this.#inlineLoader,
      units: [...units, ...head, ...(embedding === undefined || embedding === head[0] ? [] : [embedding])],
      headStart: units.length,
      pinned,
      slots: Array.from({ length: count }, (_, i) => this.#arena.allocate(`slot ${i}`, slotBytes, 4096)),
      onPinned: (done, total) => onProgress({ phase: 'load', file: name, done, total }),
      // What the draft's store and transformer do is a part of drafting.
      ...(name === 'target' && { spans: timeline }),
    })
  }

  #transformer(
    name: 'target' | 'draft',
    model: PreparedModel,
    store: LayerStore,
    layerUnits: readonly (readonly number[])[],
    head: readonly HeadPart[],
    embedding: Embedding,
  ): Transformer {
    const { manifest } = model.packed
    this.#embeddings.push(embedding)
    return new Transformer({
      name,
      config: manifest.config,
      shape: model.shape,
      arena: this.#arena,
      operators: this.#operators,
      store,
      layerFiles: manifest.layers,
      layerUnits,
      embedding,
      finalNorm: this.#finalNorm(name, model.packed),
      head,
      headKind: manifest.quantisation.edges,
      checkpoint: () => this.#parts.control.checkpoint(),
      ...(name === 'target' && { spans: this.#parts.timeline }),
    })
  }

  /** @param pointer where the unit's place begins */
  #resident(packed: PackedModel, store: LayerStore, pointer: number, unit: number): Embedding {
    const tensor = findTensor(packed.manifest.edges, 'embedding')
    const matrix = matrixAt(tensor, pointer + unitLead(this.#parts.board.units[unit]))
    const near = new MatrixEmbedding(this.#operators, matrix)
    return new ArrivingEmbedding(near, this.#embeddingOnDisk(packed), () => store.isReady(unit))
  }

  #embeddingOnDisk({ directory, manifest }: PackedModel): Embedding {
    const tensor = findTensor(manifest.edges, 'embedding')
    return new EmbeddingOnDisk(segmentUnit(directory, manifest.edges, 'embedding'), matrixAt(tensor, 0), this.#arena)
  }

  /** The final norm's weights are too small to be a unit of loading: read and checked here. */
  #finalNorm(name: string, { directory, manifest }: PackedModel): number {
    const tensor = findTensor(manifest.edges, 'final_norm')
    const unit = segmentUnit(directory, manifest.edges, 'vectors')
    const bytes = readUnit(unit)
    const from = tensor.offset - findSegment(manifest.edges, 'vectors').offset
    const pointer = this.#arena.allocate(`${name} final norm`, manifest.config.hidden * 4)
    this.#arena.u8(pointer, manifest.config.hidden * 4).set(bytes.subarray(from, from + manifest.config.hidden * 4))
    return pointer
  }
}

function readUnit(unit: Unit): Uint8Array {
  const file = new ReadableFile(unit.path)
  try {
    const bytes = new Uint8Array(unit.bytes)
    const got = file.read(bytes, unit.start)
    for (let chunk = 0; chunk < unit.checksums.length; chunk++) {
      const part = bytes.subarray(chunk * unit.chunkBytes, Math.min((chunk + 1) * unit.chunkBytes, unit.bytes))
      if (got === unit.bytes && checksum(part) === unit.checksums[chunk]) continue
      throw new CoppiceError(
        'CORRUPT_FILE',
        `${unit.path}: ${unit.name} is damaged; run \`coppice verify\` and pack the model again`,
      )
    }
    return bytes
  } finally {
    file.close()
  }
}
