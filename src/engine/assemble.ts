/** Builds target and draft in the planned memories and brings their resident parts in. */
import { CoppiceError } from '../errors.ts'
import type { DiskMeter } from '../generate/decode.ts'
import { LayerStore, storeRequests } from '../memory/layer-store.ts'
import { type LoadBoard, type Unit, unitFootprint, unitLead } from '../memory/load-board.ts'
import { Loader } from '../memory/loader.ts'
import { type FileAccess, PackedReader } from '../memory/packed-reader.ts'
import type { Plan, PlannedRegion } from '../memory/plan.ts'
import type { Timeline } from '../memory/timeline.ts'
import { segmentUnit } from '../memory/units.ts'
import { ArrivingEmbedding, type Embedding, EmbeddingOnDisk, MatrixEmbedding } from '../model/embedding.ts'
import { type HeadPart, Transformer } from '../model/transformer.ts'
import { findTensor, matrixAt } from '../model/weights-view.ts'
import { cores } from '../runtime/platform.ts'
import { Arena, type Place } from '../tensor/arena.ts'
import { checksum } from '../tensor/checksum.ts'
import { Compute } from '../tensor/compute.ts'
import type { Control } from '../tensor/control.ts'
import { instantiateKernels } from '../tensor/kernels.ts'
import { type Bank, JOB_BYTES, Operators } from '../tensor/operators.ts'
import type { PackedModel } from '../weights/packed.ts'
import { findSegment } from '../weights/packed-layout.ts'
import type { Preparation, PreparedModel } from './prepare.ts'
import type { Progress } from './types.ts'

export interface AssemblyParts {
  readonly preparation: Preparation
  /** Of the sizes that the plan's banks have. */
  readonly memories: readonly WebAssembly.Memory[]
  readonly control: Control
  readonly board: LoadBoard
  readonly kernels: WebAssembly.Module
  /** For as many loaders as the preparation says. */
  readonly timeline: Timeline
  readonly onProgress: (progress: Progress) => void
  /** As in `LayerStoreOptions`. */
  readonly readAhead?: boolean
}

export interface Assembly {
  readonly target: Transformer
  readonly draft: Transformer | undefined
  readonly store: LayerStore
  /** What the target costs the disk: layers, head and embedding rows. */
  readonly disk: DiskMeter
  /** Regions as they were allocated. */
  readonly regions: readonly (PlannedRegion & { readonly pointer: number })[]
  /** Between calls: nothing is read, and what could not be read may be readable in the next one. */
  rest(): void
  close(): void
}

/** @throws CoppiceError CORRUPT_FILE | FILE_SYSTEM | ABORTED | WORKER_FAILED */
export function assemble(parts: AssemblyParts): Assembly {
  const { preparation, memories, control, board, timeline } = parts
  const { threads, loaders, files } = preparation
  const instances = memories.map((memory) => ({ memory, kernels: instantiateKernels(memory, parts.kernels) }))
  const compute = new Compute({ kernels: instances.map(({ kernels }) => kernels), control, threads, cores: cores() })
  const banks = instances.map(({ memory, kernels }, index) => {
    const arena = new Arena(memory, index)
    return { arena, operators: new Operators(kernels, compute, arena, arena.allocate('job records', JOB_BYTES)) }
  })
  // A small model that does not stream has no loader threads: it is read once, here.
  const inlineLoader = loaders === 0 ? new Loader(board, instances, files, { spans: timeline.inlineLoader }) : undefined
  const builder = new Builder(parts, banks, inlineLoader)
  const { target, store, embedding } = builder.target()
  const { draft, store: draftStore } = builder.draft() ?? {}
  return {
    target,
    draft,
    store,
    disk: {
      get bytesRead() {
        return store.bytesRead + embedding.bytesRead
      },
    },
    rest: () => {
      store.rest()
      draftStore?.rest()
    },
    regions: banks.flatMap(({ arena }) => arena.regions.map((region) => ({ ...region, bank: arena.bank }))),
    close: () => {
      inlineLoader?.close()
      builder.close()
    },
  }
}

class Builder {
  readonly #parts: AssemblyParts
  readonly #banks: readonly Bank[]
  /** The first bank. */
  readonly #arena: Arena
  readonly #operators: Operators
  readonly #inlineLoader: Loader | undefined
  readonly #embeddings: Embedding[] = []

  constructor(parts: AssemblyParts, banks: readonly Bank[], inlineLoader: Loader | undefined) {
    this.#parts = parts
    this.#banks = banks
    this.#arena = banks[0].arena
    this.#operators = banks[0].operators
    this.#inlineLoader = inlineLoader
  }

  close(): void {
    for (const embedding of this.#embeddings) embedding.close()
  }

  target(): { target: Transformer; store: LayerStore; embedding: Embedding } {
    const { layout, headPieces, target } = this.#parts.preparation
    const { plan, layerUnits, headUnits, embeddingUnit } = layout
    const pinned = new Map<number, Place>()
    plan.layerGroups.forEach((groups, layer) => {
      groups.forEach((group, i) => {
        if (group.pinned) this.#pin(pinned, layerUnits[layer][i], bankOfLayer(plan, layer))
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

  draft(): { draft: Transformer; store: LayerStore } | undefined {
    const { draft, draftUnits } = this.#parts.preparation
    if (draft === undefined || draftUnits === undefined) return undefined
    const { layers, head, embedding } = draftUnits
    const pinned = new Map<number, Place>()
    for (const unit of [...layers.flat(), head]) this.#pin(pinned, unit)
    if (embedding !== undefined) this.#pin(pinned, embedding)
    const store = this.#store('draft', pinned, layers, [head], embedding)
    const { vocabulary } = draft.packed.manifest.config
    const unit = embedding ?? head
    const source = this.#resident(draft.packed, store, pinned.get(unit)!, unit)
    const headPart = { unit: head, firstRow: 0, rows: vocabulary }
    return { draft: this.#transformer('draft', draft, store, layers, [headPart], source), store }
  }

  #pin(pinned: Map<number, Place>, unit: number, bank = 0): void {
    const { name } = this.#parts.board.units[unit]
    const bytes = unitFootprint(this.#parts.board.units[unit])
    pinned.set(unit, { bank, pointer: this.#banks[bank].arena.allocate(name, bytes, 4096) })
  }

  #store(
    name: 'target' | 'draft',
    pinned: Map<number, Place>,
    layers: readonly (readonly number[])[],
    head: readonly number[],
    embedding: number | undefined,
  ): LayerStore {
    const { board, control, preparation, readAhead, onProgress, timeline } = this.#parts
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
      readAhead,
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
      banks: this.#banks,
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

  #resident(packed: PackedModel, store: LayerStore, { pointer }: Place, unit: number): Embedding {
    const tensor = findTensor(packed.manifest.edges, 'embedding')
    const matrix = matrixAt(tensor, pointer + unitLead(this.#parts.board.units[unit]))
    const near = new MatrixEmbedding(this.#operators, matrix)
    return new ArrivingEmbedding(near, this.#embeddingOnDisk(packed), () => store.isReady(unit))
  }

  #embeddingOnDisk({ directory, manifest }: PackedModel): Embedding {
    const tensor = findTensor(manifest.edges, 'embedding')
    const unit = segmentUnit(directory, manifest.edges, 'embedding')
    return new EmbeddingOnDisk(unit, matrixAt(tensor, 0), this.#arena, fileAccess(this.#parts.preparation, unit))
  }

  /** The final norm's weights are too small to be a unit of loading: read and checked here. */
  #finalNorm(name: string, { directory, manifest }: PackedModel): number {
    const tensor = findTensor(manifest.edges, 'final_norm')
    const unit = segmentUnit(directory, manifest.edges, 'vectors')
    const bytes = readUnit(unit, fileAccess(this.#parts.preparation, unit))
    const from = tensor.offset - findSegment(manifest.edges, 'vectors').offset
    const pointer = this.#arena.allocate(`${name} final norm`, manifest.config.hidden * 4)
    this.#arena.u8(pointer, manifest.config.hidden * 4).set(bytes.subarray(from, from + manifest.config.hidden * 4))
    return pointer
  }
}

const bankOfLayer = ({ banks }: Plan, layer: number): number => banks.findIndex(({ layers }) => layers.includes(layer))

/** All files of the models were found when they were prepared. */
const fileAccess = ({ files }: Preparation, { path }: Unit): FileAccess => files.get(path)!

function readUnit(unit: Unit, access: FileAccess): Uint8Array {
  const file = new PackedReader(unit.path, { ...access, mode: 'buffered' })
  try {
    const bytes = new Uint8Array(unit.bytes)
    file.read(bytes, unit.start, unit.name)
    for (let chunk = 0; chunk < unit.checksums.length; chunk++) {
      const part = bytes.subarray(chunk * unit.chunkBytes, Math.min((chunk + 1) * unit.chunkBytes, unit.bytes))
      if (checksum(part) === unit.checksums[chunk]) continue
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
