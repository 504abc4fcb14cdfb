/** Decides, before anything is loaded, what stays in memory and what streams. */
import { CoppiceError } from '../errors.ts'
import { DIRECT_ALIGNMENT } from '../runtime/files.ts'
import { formatBytes } from '../runtime/sizes.ts'
import { FIRST_ADDRESS, MEMORY_LIMIT_BYTES, PAGE_BYTES, type Region, roundUp } from '../tensor/arena.ts'
import { type Unit, unitFootprint } from './load-board.ts'

/** Two slots are what a layer in use and a layer on its way need. */
export const MINIMUM_SLOTS = 2

export interface PlanRequest {
  /** Bytes of WASM memory at the most; `undefined`: as many as the model can use, within `available`. */
  readonly budget: number | undefined
  /** Bytes that the machine can spare, for the default budget. */
  readonly available: number
  /** What must be resident in any case: draft, caches, activations, norms. */
  readonly fixed: readonly Region[]
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

export interface Plan {
  /** Bytes allowed; equals `totalBytes` rounded up when no budget was given. */
  readonly budgetBytes: number
  /** Bytes of WASM memory that will be allocated: a multiple of 64 KiB. */
  readonly totalBytes: number
  /** Least budget with which this model runs with these options. */
  readonly smallestBudgetBytes: number
  /** Budget with which nothing streams. */
  readonly residentBudgetBytes: number
  readonly regions: readonly Region[]
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
const regionBytes = (regions: readonly Region[]): number => sum(regions.map((r) => roundUp(r.bytes, DIRECT_ALIGNMENT)))

/**
 * @throws CoppiceError OUT_OF_BUDGET when the budget cannot hold the model, with the numbers and the
 * smallest budget that works
 */
export function planMemory(request: PlanRequest): Layout {
  const { layers, head, embedding, fixed } = request
  const layerBytes = layers.map(unitFootprint)
  const headBytes = unitFootprint(head)
  const embeddingBytes = embedding === undefined ? 0 : unitFootprint(embedding)
  const largestLayer = Math.max(...layerBytes)
  const pieces = request.splitHead(largestLayer)
  const slotBytes = Math.max(largestLayer, ...pieces.map(unitFootprint))
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

  const wanted = request.budget ?? Math.max(smallestBudgetBytes, Math.min(embeddedBudgetBytes, request.available))
  // Memory comes in whole pages.
  const budget = Math.floor(Math.min(wanted, MEMORY_LIMIT_BYTES) / PAGE_BYTES) * PAGE_BYTES
  if (budget < smallestBudgetBytes) refuse(request, wanted, smallestBudgetBytes, residentBudgetBytes, slotBytes)

  const resident = budget >= residentBudgetBytes
  const embeddingPinned = embedding === undefined ? false : budget >= embeddedBudgetBytes
  const headPinned = resident || budget >= withPinnedHead
  const room = resident
    ? Number.POSITIVE_INFINITY
    : budget - exact(slotsBytes + (headPinned ? headBytes : streamedHeadBytes))
  const pinnedLayers = choosePinned(layerBytes, room)
  const streamedLayers = layerBytes.filter((_, i) => !pinnedLayers.includes(i))
  const slots = resident ? 0 : MINIMUM_SLOTS

  const regions: Region[] = [...fixed]
  if (!headPinned) regions.push({ name: 'logits of a streamed head', bytes: request.streamedHeadBytes })
  for (const i of pinnedLayers) regions.push({ name: `layer ${i}`, bytes: layerBytes[i] })
  if (headPinned) regions.push({ name: 'output head', bytes: headBytes })
  if (embeddingPinned) regions.push({ name: 'embedding', bytes: embeddingBytes })
  for (let i = 0; i < slots; i++) regions.push({ name: `slot ${i}`, bytes: slotBytes })

  const targetBytes = sum(layerBytes) + headBytes + embeddingBytes
  const streamed = sum(streamedLayers) + (headPinned ? 0 : sum(pieces.map(unitFootprint)))
  const pinnedBytes =
    sum(layerBytes) - sum(streamedLayers) + (headPinned ? headBytes : 0) + (embeddingPinned ? embeddingBytes : 0)
  const totalBytes = roundUp(FIRST_ADDRESS + regionBytes(regions), PAGE_BYTES)
  const units: Unit[] = [...layers, ...(headPinned ? [head] : pieces)]
  const headUnits = units.map((_, i) => i).slice(layers.length)
  if (embeddingPinned) units.push(embedding!)
  return {
    units,
    headUnits,
    embeddingUnit: embeddingPinned ? units.length - 1 : undefined,
    plan: {
      budgetBytes: request.budget === undefined ? totalBytes : wanted,
      totalBytes,
      smallestBudgetBytes,
      residentBudgetBytes,
      regions,
      layers: layers.length,
      pinnedLayers,
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

function refuse(request: PlanRequest, budget: number, smallest: number, resident: number, slotBytes: number): never {
  const fixed = [...request.fixed]
    .sort((a, b) => b.bytes - a.bytes)
    .map((r) => `${r.name} ${formatBytes(r.bytes)}`)
    .join(', ')
  throw new CoppiceError(
    'OUT_OF_BUDGET',
    `a memory budget of ${formatBytes(budget)} (${budget} bytes) cannot hold this model: resident parts (${fixed}) and ` +
      `${MINIMUM_SLOTS} slots of ${formatBytes(slotBytes)} need at least ${smallest} bytes (${formatBytes(smallest)}); ` +
      `nothing would stream with ${resident} bytes (${formatBytes(resident)}). Give at least the former, a shorter context, fewer nodes or smaller weights.`,
  )
}
