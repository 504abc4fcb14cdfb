/** Decides, before anything is loaded, what stays in one memory and what streams through it; banks.ts, how many there are. */
import { DIRECT_ALIGNMENT } from '../runtime/files.ts'
import { FIRST_ADDRESS, PAGE_BYTES, type Region, roundUp } from '../tensor/arena.ts'
import { type Unit, unitFootprint } from './load-board.ts'

/**
 * Slots for what streams: one in use, one that is complete or nearly so, and one that loaders fill. With two,
 * the disk would rest from the end of a read to the end of the products that are under way.
 */
export const SLOTS = 3

export interface MemoryRequest {
  /** Bytes of this memory at the most. */
  readonly budget: number
  /** What must be resident in any case: draft, caches, activations, norms. */
  readonly fixed: readonly Region[]
  /** Layers that another memory holds. */
  readonly elsewhere: ReadonlySet<number>
  /** The target's layers, in order: each the groups of tensors that are loaded as a whole. All are alike. */
  readonly layers: readonly (readonly Unit[])[]
  /** The matrix that makes logits. */
  readonly head: Unit
  /** The same matrix in pieces, each at most as large as the given bytes where its chunks allow. */
  readonly splitHead: (pieceBytes: number) => readonly Unit[]
  /** An embedding matrix of its own; `undefined` when it is the head (tied). */
  readonly embedding: Unit | undefined
  /** Extra activation memory that a streamed head needs: logits of all rows at once. */
  readonly streamedHeadBytes: number
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
  /** Bytes allowed; equals `totalBytes` and `drafterBytes` together when no budget was given. */
  readonly budgetBytes: number
  /** Bytes of the budget that tables of drafters without a model may take in all, beside WASM memory. */
  readonly drafterBytes: number
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
  /** Layers that stay in memory as a whole. */
  readonly pinnedLayers: readonly number[]
  /** Per layer its groups of tensors, in order: the bytes of each, and whether it stays in memory. */
  readonly layerGroups: readonly (readonly PlannedGroup[])[]
  readonly headBytes: number
  readonly headPinned: boolean
  /** 0: the head is the embedding. */
  readonly embeddingBytes: number
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
}

export interface PlannedGroup {
  readonly bytes: number
  readonly pinned: boolean
}

/** The plan, and the units in the numbering that loading uses. */
export interface Layout {
  readonly plan: Plan
  /** The groups of the layers, then the head (whole or in pieces), then a pinned embedding. */
  readonly units: readonly Unit[]
  /** Units per layer. */
  readonly layerUnits: readonly (readonly number[])[]
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
  const groups = layers.flat()
  const groupBytes = groups.map(unitFootprint)
  const layerUnits = numbered(layers)
  const near = layers.map((_, i) => i).filter((i) => !elsewhere.has(i))
  const nearUnits = near.flatMap((i) => layerUnits[i])
  const nearBytes = nearUnits.map((unit) => groupBytes[unit])
  const headBytes = unitFootprint(head)
  const embeddingBytes = embedding === undefined ? 0 : unitFootprint(embedding)
  const pieces = request.splitHead(Math.max(...groupBytes))
  const slotBytes = Math.max(...nearBytes, ...pieces.map(unitFootprint))
  const slotsBytes = SLOTS * slotBytes
  const fixedBytes = regionBytes(fixed)

  const exact = (more: number): number => FIRST_ADDRESS + fixedBytes + more
  const total = (more: number): number => roundUp(exact(more), PAGE_BYTES)
  const residentBudgetBytes = total(sum(nearBytes) + headBytes)
  const embeddedBudgetBytes = total(sum(nearBytes) + headBytes + embeddingBytes)
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
  const kept = choosePinned(near.length, layers[0].map(unitFootprint), room)
  const streamedUnits = new Set(nearUnits.filter((_, i) => !kept.has(i)))
  const isPinned = (unit: number): boolean => !streamedUnits.has(unit)
  const slots = resident ? 0 : SLOTS

  const regions: Region[] = [...fixed]
  if (!headPinned) regions.push({ name: 'logits of a streamed head', bytes: request.streamedHeadBytes })
  for (const unit of nearUnits) if (isPinned(unit)) regions.push({ name: groups[unit].name, bytes: groupBytes[unit] })
  if (headPinned) regions.push({ name: 'output head', bytes: headBytes })
  if (embeddingPinned) regions.push({ name: 'embedding', bytes: embeddingBytes })
  for (let i = 0; i < slots; i++) regions.push({ name: `slot ${i}`, bytes: slotBytes })

  const targetBytes = sum(groupBytes) + headBytes + embeddingBytes
  const streamedGroups = [...streamedUnits].map((unit) => groupBytes[unit])
  const streamed = sum(streamedGroups) + (headPinned ? 0 : sum(pieces.map(unitFootprint)))
  const pinnedBytes =
    sum(groupBytes) - sum(streamedGroups) + (headPinned ? headBytes : 0) + (embeddingPinned ? embeddingBytes : 0)
  const totalBytes = roundUp(FIRST_ADDRESS + regionBytes(regions), PAGE_BYTES)
  const units: Unit[] = [...groups, ...(headPinned ? [head] : pieces)]
  const headUnits = units.map((_, i) => i).slice(groups.length)
  if (embeddingPinned) units.push(embedding!)
  return {
    units,
    layerUnits,
    headUnits,
    embeddingUnit: embeddingPinned ? units.length - 1 : undefined,
    plan: {
      budgetBytes: request.budget,
      drafterBytes: 0,
      totalBytes,
      banks: [{ bytes: totalBytes, layers: near }],
      smallestBudgetBytes,
      residentBudgetBytes,
      regions: regions.map((region) => ({ ...region, bank: 0 })),
      layers: layers.length,
      pinnedLayers: layers.map((_, i) => i).filter((i) => layerUnits[i].every(isPinned)),
      layerGroups: layerUnits.map((own) => own.map((unit) => ({ bytes: groupBytes[unit], pinned: isPinned(unit) }))),
      headBytes,
      headPinned,
      embeddingBytes,
      embeddingPinned,
      slots,
      slotBytes: slots === 0 ? 0 : slotBytes,
      targetBytes,
      pinnedBytes,
      residency: pinnedBytes / targetBytes,
      streamedBytesPerPass: streamed,
    },
  }
}

/** Consecutive numbers in place of the elements. */
function numbered(lists: readonly (readonly unknown[])[]): number[][] {
  let next = 0
  return lists.map((list) => list.map(() => next++))
}

/** `keep` of `count` indices, as evenly spaced as can be. */
const spread = (count: number, keep: number): number[] =>
  Array.from({ length: keep }, (_, i) => Math.floor(((i + 1) * count) / keep) - 1)

/**
 * As many whole layers as fit in `room` bytes, and groups of others in what is left, so that as many bytes stay
 * as can. Both are spread over the depth, so that the loaders' work and the pauses that pinned layers give them
 * alternate. With more room there are never fewer bytes: another whole layer has more than any groups before.
 * @param count of layers @param groups bytes of the groups of each
 * @returns numbers of the groups, counted through all layers
 */
function choosePinned(count: number, groups: readonly number[], room: number): Set<number> {
  const layerBytes = sum(groups)
  const whole = spread(count, Math.min(count, Math.floor(room / layerBytes)))
  const others = Array.from({ length: count }, (_, layer) => layer).filter((layer) => !whole.includes(layer))
  const number = (layer: number, group: number): number => layer * groups.length + group
  const pinned = new Set(whole.flatMap((layer) => groups.map((_, group) => number(layer, group))))
  if (others.length === 0) return pinned
  bestCounts(groups, others.length, room - whole.length * layerBytes).forEach((keep, group) => {
    for (const i of spread(others.length, keep)) pinned.add(number(others[i], group))
  })
  return pinned
}

/** How many of each size, at most `most`, make the most bytes within `room`. */
function bestCounts(sizes: readonly number[], most: number, room: number): number[] {
  const [size, ...rest] = sizes
  const fitting = Math.min(most, Math.floor(room / size))
  if (rest.length === 0) return [fitting]
  let best: number[] = []
  let bestBytes = -1
  for (let keep = fitting; keep >= 0; keep--) {
    const counts = [keep, ...bestCounts(rest, most, room - keep * size)]
    const bytes = sum(counts.map((c, i) => c * sizes[i]))
    if (bytes > bestBytes) {
      best = counts
      bestBytes = bytes
    }
  }
  return best
}
