/**
 * Decides over how many memories a model is spread. An address of WebAssembly has 32 bits, so what a budget allows
 * beyond one memory goes into further ones: *banks* of whole layers that stay, each with its keys and values. A
 * layer is computed in the memory where it lies, and only hidden rows go from one memory to the next.
 */
import { CoppiceError } from '../errors.ts'
import { formatBytes } from '../runtime/sizes.ts'
import { FIRST_ADDRESS, PAGE_BYTES, type Region, roundUp } from '../tensor/arena.ts'
import { unitFootprint } from './load-board.ts'
import { type Layout, type MemoryRequest, planMemory, regionBytes, SLOTS } from './plan.ts'

export interface PlanRequest extends Omit<MemoryRequest, 'budget' | 'fixed' | 'elsewhere'> {
  /** Bytes at the most; `undefined`: as many as the model can use, within `available`. */
  readonly budget: number | undefined
  /** How many bytes of a budget drafters take beside the memories; when it grows by one byte, they by one at the most. */
  readonly draftersOf: (budget: number) => number
  /** Bytes that the machine can spare, for the default budget. */
  readonly available: number
  /** Bytes of one memory at the most. */
  readonly memoryLimit: number
  /** What must be resident in the first memory when it holds so many layers: draft, caches, activations, norms. */
  readonly fixed: (layers: number) => readonly Region[]
  /** What a further memory with so many layers needs beside their weights: caches and activations of its own. */
  readonly further: (layers: number) => readonly Region[]
}

/** A way to spread the layers: what the first memory holds or streams, and what the further ones hold. */
interface Division {
  readonly first: Omit<MemoryRequest, 'budget'>
  /** The layers of each further memory. */
  readonly further: readonly (readonly number[])[]
  readonly furtherBytes: number
  /** The first memory, if it could hold all that is left to it. */
  readonly whole: Layout['plan']
}

/** The least bytes of memories for a purpose, over all divisions; infinite where no number of memories would do. */
interface Needs {
  readonly smallest: number
  readonly resident: number
  /** With the embedding too. */
  readonly everything: number
}

/**
 * A budget within one memory is spent there. Beyond, that number of layers moves to further memories with which
 * the least has to be read in each pass.
 * @throws CoppiceError OUT_OF_BUDGET when the budget cannot hold the model, with the numbers and the smallest budget
 *   that works
 */
export function planBanks(request: PlanRequest): Layout {
  const { memoryLimit, draftersOf } = request
  const one = divide(request, 0)!
  const fitsInOne = one.whole.totalBytes <= memoryLimit
  const divisions = fitsInOne ? [one] : [one, ...movedLayers(request)]
  const needs = leastBudgets(divisions, memoryLimit)
  const most = request.budget ?? request.available
  const drafterBytes = draftersOf(most)
  const room = most - drafterBytes
  const budget = request.budget === undefined ? Math.max(needs.smallest, Math.min(needs.everything, room)) : room
  if (budget < needs.smallest || needs.smallest === Number.POSITIVE_INFINITY) refuse(request, one, most, needs)
  const worksInOne = budget <= memoryLimit && one.whole.smallestBudgetBytes <= memoryLimit
  let best: { readonly layout: Layout; readonly division: Division } | undefined
  for (const division of worksInOne ? [one] : divisions) {
    const layout = planMemory({ ...division.first, budget: Math.min(memoryLimit, budget - division.furtherBytes) })
    if (layout === undefined) continue
    if (best === undefined || isBetter(layout.plan, best.layout.plan)) best = { layout, division }
  }
  const { plan, ...layout } = joined(request, best!.layout, best!.division)
  return {
    ...layout,
    plan: {
      ...plan,
      budgetBytes: request.budget ?? plan.totalBytes + drafterBytes,
      drafterBytes,
      smallestBudgetBytes: budgetFor(needs.smallest, draftersOf),
      residentBudgetBytes: budgetFor(needs.resident, draftersOf),
    },
  }
}

/** The least budget that leaves so many bytes to the memories. */
function budgetFor(bytes: number, draftersOf: PlanRequest['draftersOf']): number {
  if (bytes === Number.POSITIVE_INFINITY) return bytes
  // What is left of a budget never shrinks while it grows.
  const leaves = (budget: number): boolean => budget - draftersOf(budget) >= bytes
  let low = bytes
  let high = bytes
  while (!leaves(high)) high = bytes + draftersOf(high)
  while (low < high) {
    const middle = Math.floor((low + high) / 2)
    if (leaves(middle)) high = middle
    else low = middle + 1
  }
  return low
}

/** Of two plans that work; the later one moves more layers. */
const isBetter = (later: Layout['plan'], earlier: Layout['plan']): boolean =>
  later.streamedBytesPerPass === earlier.streamedBytesPerPass
    ? later.pinnedBytes > earlier.pinnedBytes
    : later.streamedBytesPerPass < earlier.streamedBytesPerPass

/** The divisions that move one layer, two, and so on. */
function movedLayers(request: PlanRequest): Division[] {
  const pieces = new Map<number, ReturnType<PlanRequest['splitHead']>>()
  const splitHead = (bytes: number) => {
    const known = pieces.get(bytes) ?? request.splitHead(bytes)
    pieces.set(bytes, known)
    return known
  }
  const divisions = request.layers.map((_, i) => divide({ ...request, splitHead }, i + 1))
  return divisions.filter((division) => division !== undefined)
}

/** Moves layers, spread evenly over the depth as streamed ones are. @returns `undefined` when one is too large */
function divide(request: PlanRequest, moved: number): Division | undefined {
  const { layers } = request
  const elsewhere = Array.from({ length: moved }, (_, i) => Math.floor(((i + 1) * layers.length) / moved) - 1)
  const further = fill(request, elsewhere)
  if (further === undefined) return undefined
  const first = { ...request, fixed: request.fixed(layers.length - moved), elsewhere: new Set(elsewhere) }
  return {
    first,
    further,
    furtherBytes: further.reduce((sum, bank) => sum + bankBytes(request, bank), 0),
    whole: planMemory({ ...first, budget: Number.POSITIVE_INFINITY })!.plan,
  }
}

/** Fills one memory after the other. */
function fill(request: PlanRequest, elsewhere: readonly number[]): number[][] | undefined {
  const banks: number[][] = []
  for (const layer of elsewhere) {
    const last = banks.at(-1)
    if (last !== undefined && bankBytes(request, [...last, layer]) <= request.memoryLimit) last.push(layer)
    else if (bankBytes(request, [layer]) <= request.memoryLimit) banks.push([layer])
    else return undefined
  }
  return banks
}

function bankBytes(request: PlanRequest, layers: readonly number[]): number {
  const weights = layers.flatMap((i) => request.layers[i]).reduce((sum, unit) => sum + unitFootprint(unit), 0)
  return roundUp(FIRST_ADDRESS + regionBytes(request.further(layers.length)) + weights, PAGE_BYTES)
}

/** The plan of the first memory and the further ones together. */
function joined(request: PlanRequest, { plan, ...layout }: Layout, { further, furtherBytes }: Division): Layout {
  const banks = further.map((layers) => ({ layers, bytes: bankBytes(request, layers) }))
  const regions = further.flatMap((layers, i) => {
    const groups = layers.flatMap((layer) => request.layers[layer])
    const weights = groups.map((unit) => ({ name: unit.name, bytes: unitFootprint(unit) }))
    return [...request.further(layers.length), ...weights].map((region) => ({ ...region, bank: i + 1 }))
  })
  return {
    ...layout,
    plan: {
      ...plan,
      totalBytes: plan.totalBytes + furtherBytes,
      banks: [...plan.banks, ...banks],
      regions: [...plan.regions, ...regions],
    },
  }
}

/** A purpose that one memory serves is served by one; else the least of what several would take counts. */
function leastBudgets([one, ...moved]: readonly Division[], limit: number): Needs {
  const least = (bytesOf: (plan: Layout['plan']) => number): number => {
    if (bytesOf(one.whole) <= limit) return bytesOf(one.whole)
    const possible = moved.filter(({ whole }) => bytesOf(whole) <= limit)
    return Math.min(...possible.map(({ whole, furtherBytes }) => bytesOf(whole) + furtherBytes))
  }
  return {
    smallest: least((plan) => plan.smallestBudgetBytes),
    resident: least((plan) => plan.residentBudgetBytes),
    everything: least((plan) => plan.totalBytes),
  }
}

function refuse(
  { memoryLimit, draftersOf }: PlanRequest,
  { first, whole }: Division,
  budget: number,
  needs: Needs,
): never {
  const parts = [...first.fixed]
    .sort((a, b) => b.bytes - a.bytes)
    .map((r) => `${r.name} ${formatBytes(r.bytes)}`)
    .join(', ')
  const least = planMemory({ ...first, budget: whole.smallestBudgetBytes })!.plan
  const what = `resident parts (${parts}) and ${SLOTS} slots of ${formatBytes(least.slotBytes)}`
  if (needs.smallest === Number.POSITIVE_INFINITY) {
    throw new CoppiceError(
      'OUT_OF_BUDGET',
      `no memory budget can hold this model: ${what} need ${whole.smallestBudgetBytes} bytes of one memory, which has ${memoryLimit} at the most. Give a shorter context, fewer nodes, smaller weights or a smaller draft.`,
    )
  }
  const smallest = budgetFor(needs.smallest, draftersOf)
  const resident = budgetFor(needs.resident, draftersOf)
  const drafters = draftersOf(smallest)
  const tables = drafters === 0 ? '' : `, with ${formatBytes(drafters)} for what drafters remember,`
  const streams = Number.isFinite(resident)
    ? `nothing would stream with ${resident} bytes (${formatBytes(resident)})`
    : 'no budget would keep all of it in memory'
  throw new CoppiceError(
    'OUT_OF_BUDGET',
    `a memory budget of ${formatBytes(budget)} (${budget} bytes) cannot hold this model: ${what}${tables} need at least ` +
      `${smallest} bytes (${formatBytes(smallest)}); ${streams}. ` +
      `Give at least the former, a shorter context, fewer nodes${drafters === 0 ? '' : ', fewer drafters'} or smaller weights.`,
  )
}
