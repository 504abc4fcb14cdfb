/** Builds target and draft in the planned memories and brings their resident parts in. */
import { CoppiceError } from '../errors.ts'
import type { DiskMeter } from '../generate/decode.ts'
import { LayerStore } from '../memory/layer-store.ts'
import { type LoadBoard, type Unit, unitFootprint, unitLead } from '../memory/load-board.ts'
import { Loader } from '../memory/loader.ts'
import type { Plan, PlannedRegion } from '../memory/plan.ts'
import { segmentUnit } from '../memory/units.ts'
import { type Embedding, EmbeddingOnDisk, ResidentEmbedding } from '../model/embedding.ts'
import { type HeadPart, Transformer } from '../model/transformer.ts'
import { findTensor, matrixAt } from '../model/weights-view.ts'
import { ReadableFile } from '../runtime/files.ts'
import { cores } from '../runtime/platform.ts'
import { Arena, type Place } from '../tensor/arena.ts'
import { checksum } from '../tensor/checksum.ts'
import { Compute } from '../tensor/compute.ts'
import type { Control } from '../tensor/control.ts'
import { instantiateKernels } from '../tensor/kernels.ts'
import { type Bank, JOB_BYTES, Operators } from '../tensor/operators.ts'
import type { PackedModel } from '../weights/packed.ts'
import type { Preparation, PreparedModel } from './prepare.ts'
import type { Progress } from './types.ts'

export interface AssemblyParts {
  readonly preparation: Preparation
  /** Of the sizes that the plan's banks have. */
  readonly memories: readonly WebAssembly.Memory[]
  readonly control: Control
  readonly board: LoadBoard
  readonly kernels: WebAssembly.Module
  readonly onProgress: (progress: Progress) => void
}

export interface Assembly {
  readonly target: Transformer
  readonly draft: Transformer | undefined
  readonly store: LayerStore
  /** What the target costs the disk: layers, head and embedding rows. */
  readonly disk: DiskMeter
  /** Regions as they were allocated. */
  readonly regions: readonly (PlannedRegion & { readonly pointer: number })[]
  close(): void
}

/** @throws CoppiceError CORRUPT_FILE | FILE_SYSTEM | ABORTED | WORKER_FAILED */
export function assemble(parts: AssemblyParts): Assembly {
  const { preparation, memories, control, board } = parts
  const { threads, loaders, mode } = preparation
  const instances = memories.map((memory) => ({ memory, kernels: instantiateKernels(memory, parts.kernels) }))
  const compute = new Compute({ kernels: instances.map(({ kernels }) => kernels), control, threads, cores: cores() })
  const banks = instances.map(({ memory, kernels }, index) => {
    const arena = new Arena(memory, index)
    return { arena, operators: new Operators(kernels, compute, arena, arena.allocate('job records', JOB_BYTES)) }
  })
  // Without streaming there are no loader threads: what is resident is read once, here.
  const inlineLoader = loaders === 0 ? new Loader(board, instances, mode) : undefined
  const builder = new Builder(parts, banks, inlineLoader)
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
      get waitMs() {
        return store.waitMs
      },
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
    const { preparation, onProgress } = this.#parts
    const { layout, headPieces, target } = preparation
    const { plan, headUnits, embeddingUnit } = layout
    const pinned = new Map<number, Place>()
    for (const layer of plan.pinnedLayers) this.#pin(pinned, layer, bankOfLayer(plan, layer))
    if (plan.headPinned) this.#pin(pinned, headUnits[0])
    if (embeddingUnit !== undefined) this.#pin(pinned, embeddingUnit)
    const layers = Array.from({ length: plan.layers }, (_, i) => i)
    const streamed = [...layers, ...headUnits].filter((unit) => !pinned.has(unit))
    const store = this.#store(pinned, streamed, plan.slots, plan.slotBytes)
    const head = headUnits.map((unit, i) => ({ unit, firstRow: headPieces[i].firstRow, rows: headPieces[i].rows }))
    const { manifest } = target.packed
    const resident = manifest.config.tiedHead ? (plan.headPinned ? headUnits[0] : undefined) : embeddingUnit
    const embedding =
      resident === undefined ? this.#embeddingOnDisk(target.packed) : this.#resident(target.packed, pinned, resident)
    const transformer = this.#transformer('target', target, store, layers, head, embedding)
    store.loadPinned((done, total) => onProgress({ phase: 'load', file: 'target', done, total }))
    return { target: transformer, store, embedding }
  }

  draft(): Transformer | undefined {
    const { preparation, onProgress } = this.#parts
    const { draft, draftUnits } = preparation
    if (draft === undefined || draftUnits === undefined) return undefined
    const { layers, head, embedding } = draftUnits
    const pinned = new Map<number, Place>()
    for (const unit of [...layers, head]) this.#pin(pinned, unit)
    if (embedding !== undefined) this.#pin(pinned, embedding)
    const store = this.#store(pinned, [], 0, 0)
    const { vocabulary } = draft.packed.manifest.config
    const source = this.#resident(draft.packed, pinned, embedding ?? head)
    const headPart = { unit: head, firstRow: 0, rows: vocabulary }
    const transformer = this.#transformer('draft', draft, store, layers, [headPart], source)
    store.loadPinned((done, total) => onProgress({ phase: 'load', file: 'draft', done, total }))
    return transformer
  }

  #pin(pinned: Map<number, Place>, unit: number, bank = 0): void {
    const { name } = this.#parts.board.units[unit]
    const bytes = unitFootprint(this.#parts.board.units[unit])
    pinned.set(unit, { bank, pointer: this.#banks[bank].arena.allocate(name, bytes, 4096) })
  }

  #store(pinned: Map<number, Place>, streamed: number[], slots: number, slotBytes: number): LayerStore {
    const { board, control, preparation } = this.#parts
    const layers = preparation.layout.plan.layers
    return new LayerStore({
      board,
      control,
      inlineLoader: this.#inlineLoader,
      pinned,
      streamed,
      headStart: streamed.filter((unit) => unit < layers).length,
      slots: Array.from({ length: slots }, (_, i) => this.#arena.allocate(`slot ${i}`, slotBytes, 4096)),
    })
  }

  #transformer(
    name: string,
    model: PreparedModel,
    store: LayerStore,
    layerUnits: readonly number[],
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
    })
  }

  #resident(packed: PackedModel, pinned: Map<number, Place>, unit: number): Embedding {
    const tensor = findTensor(packed.manifest.edges, 'embedding')
    const pointer = pinned.get(unit)!.pointer + unitLead(this.#parts.board.units[unit])
    return new ResidentEmbedding(this.#operators, matrixAt(tensor, pointer))
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
    const segment = manifest.edges.segments.find((s) => s.name === 'vectors')!
    const from = tensor.offset - segment.offset
    const pointer = this.#arena.allocate(`${name} final norm`, manifest.config.hidden * 4)
    this.#arena.u8(pointer, manifest.config.hidden * 4).set(bytes.subarray(from, from + manifest.config.hidden * 4))
    return pointer
  }
}

const bankOfLayer = ({ banks }: Plan, layer: number): number => banks.findIndex(({ layers }) => layers.includes(layer))

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
