/** Decides, before anything is loaded, what stays in one memory and what streams through it; banks.ts, how many there are. */
import { DIRECT_ALIGNMENT } from '../runtime/files.ts'
import { FIRST_ADDRESS, PAGE_BYTES, type Region, roundUp } from '../tensor/arena.ts'
import { type Unit, unitFootprint } from './load-board.ts'

/** Two slots are what a layer in use and a layer on its way need. */
export const MINIMUM_SLOTS = 2

export interface MemoryRequest {
  /** Bytes of this memory at the most. */
  readonly budget: number
  /** What must be resident in any case: draft, caches, activations, norms. */
  readonly fixed: readonly Region[]
  /** Layers that another memory holds. */
  readonly elsewhere: ReadonlySet<number>
  /** The target's layers, in order. */
  readonly layers: readonly Unit[]
  /** The matrix that makes logits. */
  readonly head: Unit
  /** The same matrix in pieces, each at most as large as the given bytes where its chunks allow. */
  readonly splitHead: (pieceBytes: number) => readonly Unit[]
  /** An embedding matrix of its own; `undefined` when it is the head (tied). */
  readonly embedding: Unit | undefined
  /** Extra activation memory that a streamed head needs: logits of all rows at once. */
  readonly streamedHeadBytes: number
  /** Bytes of the process outside WASM memory. */
  readonly process: { readonly runtime: number; readonly threads: number; readonly tokenizer: number }
}

/** A region and the memory in which it lies. */
export interface PlannedRegion extends Region {
  readonly bank: number
}

/** A WASM memory of the model. */
export interface PlannedBank {
  /** A multiple of 64 KiB. */
  readonly bytes: number
  /** Layers that are computed in it. Those of the first may stream. */
  readonly layers: readonly number[]
}

export interface Plan {
  /** Bytes allowed; equals `totalBytes` rounded up when no budget was given. */
  readonly budgetBytes: number
  /** Bytes of WASM memory that will be allocated, in all banks: a multiple of 64 KiB. */
  readonly totalBytes: number
  /** The WASM memories. One holds 4 GiB at the most, so further ones take pinned layers where the budget allows. */
  readonly banks: readonly PlannedBank[]
  /** Least budget with which this model runs with these options. */
  readonly smallestBudgetBytes: number
  /** Budget with which nothing streams; infinite when no number of memories would do. */
  readonly residentBudgetBytes: number
  readonly regions: readonly PlannedRegion[]
  readonly layers: number
  readonly pinnedLayers: readonly number[]
  readonly headPinned: boolean
  readonly embeddingPinned: boolean
  readonly slots: number
  readonly slotBytes: number
  /** Bytes of the target's matrices, and how many of them stay in memory. */
  readonly targetBytes: number
  readonly pinnedBytes: number
  /** `pinnedBytes / targetBytes`. */
  readonly residency: number
  /** Bytes read from disk in each pass. */
  readonly streamedBytesPerPass: number
  /** Estimated bytes of the process beside the budget. */
  readonly process: { readonly runtime: number; readonly threads: number; readonly tokenizer: number }
}

/** The plan, and the units in the numbering that loading uses. */
export interface Layout {
  readonly plan: Plan
  /** Layers first (unit i is layer i), then the head (whole or in pieces), then a pinned embedding. */
  readonly units: readonly Unit[]
  readonly headUnits: readonly number[]
  readonly embeddingUnit: number | undefined
}

const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0)

/** Bytes that regions take one behind the other, each from a block of the disk on. */
export const regionBytes = (regions: readonly Region[]): number =>
  sum(regions.map((r) => roundUp(r.bytes, DIRECT_ALIGNMENT)))

/** @returns `undefined` when the budget is below the smallest that works; without limit it is never */
export function planMemory(request: MemoryRequest): Layout | undefined {
  const { layers, head, embedding, fixed, elsewhere } = request
  const near = layers.map((_, i) => i).filter((i) => !elsewhere.has(i))
  const layerBytes = near.map((i) => unitFootprint(layers[i]))
  const headBytes = unitFootprint(head)
  const embeddingBytes = embedding === undefined ? 0 : unitFootprint(embedding)
  const pieces = request.splitHead(Math.max(...layers.map(unitFootprint)))
  const slotBytes = Math.max(...layerBytes, ...pieces.map(unitFootprint))
  const slotsBytes = MINIMUM_SLOTS * slotBytes
  const fixedBytes = regionBytes(fixed)

  const exact = (more: number): number => FIRST_ADDRESS + fixedBytes + more
  const total = (more: number): number => roundUp(exact(more), PAGE_BYTES)
  const residentBudgetBytes = total(sum(layerBytes) + headBytes)
  const embeddedBudgetBytes = total(sum(layerBytes) + headBytes + embeddingBytes)
  const streamedHeadBytes = roundUp(request.streamedHeadBytes, DIRECT_ALIGNMENT)
  const withStreamedHead = total(slotsBytes + streamedHeadBytes)
  const withPinnedHead = total(slotsBytes + headBytes)
  const smallestBudgetBytes = Math.min(residentBudgetBytes, withStreamedHead, withPinnedHead)

  // Memory comes in whole pages.
  const budget = Math.floor(request.budget / PAGE_BYTES) * PAGE_BYTES
  if (budget < smallestBudgetBytes) return undefined

  const resident = budget >= residentBudgetBytes
  const embeddingPinned = embedding === undefined ? false : budget >= embeddedBudgetBytes
  const headPinned = resident || budget >= withPinnedHead
  const room = resident
    ? Number.POSITIVE_INFINITY
    : budget - exact(slotsBytes + (headPinned ? headBytes : streamedHeadBytes))
  const pinnedHere = choosePinned(layerBytes, room).map((i) => near[i])
  const footprint = (i: number): number => unitFootprint(layers[i])
  const streamedLayers = near.filter((i) => !pinnedHere.includes(i)).map(footprint)
  const slots = resident ? 0 : MINIMUM_SLOTS

  const regions: Region[] = [...fixed]
  if (!headPinned) regions.push({ name: 'logits of a streamed head', bytes: request.streamedHeadBytes })
  for (const i of pinnedHere) regions.push({ name: `layer ${i}`, bytes: footprint(i) })
  if (headPinned) regions.push({ name: 'output head', bytes: headBytes })
  if (embeddingPinned) regions.push({ name: 'embedding', bytes: embeddingBytes })
  for (let i = 0; i < slots; i++) regions.push({ name: `slot ${i}`, bytes: slotBytes })

  const allLayers = sum(layers.map(unitFootprint))
  const targetBytes = allLayers + headBytes + embeddingBytes
  const streamed = sum(streamedLayers) + (headPinned ? 0 : sum(pieces.map(unitFootprint)))
  const pinnedBytes =
    allLayers - sum(streamedLayers) + (headPinned ? headBytes : 0) + (embeddingPinned ? embeddingBytes : 0)
  const totalBytes = roundUp(FIRST_ADDRESS + regionBytes(regions), PAGE_BYTES)
  const units: Unit[] = [...layers, ...(headPinned ? [head] : pieces)]
  const headUnits = units.map((_, i) => i).slice(layers.length)
  if (embeddingPinned) units.push(embedding!)
  return {
    units,
    headUnits,
    embeddingUnit: embeddingPinned ? units.length - 1 : undefined,
    plan: {
      budgetBytes: request.budget,
      totalBytes,
      banks: [{ bytes: totalBytes, layers: near }],
      smallestBudgetBytes,
      residentBudgetBytes,
      regions: regions.map((region) => ({ ...region, bank: 0 })),
      layers: layers.length,
      pinnedLayers: [...pinnedHere, ...elsewhere].sort((a, b) => a - b),
      headPinned,
      embeddingPinned,
      slots,
      slotBytes: slots === 0 ? 0 : slotBytes,
      targetBytes,
      pinnedBytes,
      residency: pinnedBytes / targetBytes,
      streamedBytesPerPass: streamed,
      process: request.process,
    },
  }
}

/**
 * As many layers as fit in `room` bytes, spread evenly over the depth, so that the loaders' work and
 * the pauses that pinned layers give them alternate.
 */
function choosePinned(layerBytes: readonly number[], room: number): number[] {
  const count = layerBytes.length
  for (let keep = count; keep > 0; keep--) {
    const chosen = Array.from({ length: keep }, (_, i) => Math.floor(((i + 1) * count) / keep) - 1)
    if (sum(chosen.map((i) => layerBytes[i])) <= room) return chosen
  }
  return []
}
