/** The packed model of bench/stream.ts: its plans, and budgets by the share of the weights that they keep in memory. */
import { type Preparation, prepare } from '../src/engine/prepare.ts'
import type { EngineOptions } from '../src/engine/protocol.ts'
import type { ModelPlan } from '../src/engine/types.ts'
import { CoppiceError } from '../src/errors.ts'
import { availableMemoryBytes } from '../src/runtime/platform.ts'
import { PAGE_BYTES } from '../src/tensor/arena.ts'
import { resolveModel } from '../src/weights/resolve.ts'

export interface StreamModel {
  readonly directory: string
  readonly options: EngineOptions
  /** The model is cut off after so many layers. */
  readonly layers?: number
}

export function prepareStream({ directory, options, layers }: StreamModel): Preparation {
  const hooks = { onProgress: () => {}, isAborted: () => false }
  return prepare(directory, options, hooks, (path, packOptions) => {
    const packed = resolveModel(path, packOptions)
    if (layers === undefined) return packed
    const { manifest } = packed
    const config = { ...manifest.config, layers, windows: manifest.config.windows.slice(0, layers) }
    return { ...packed, manifest: { ...manifest, config, layers: manifest.layers.slice(0, layers) } }
  })
}

/** More than any model takes. */
const UNLIMITED = 2 ** 50

/** @returns undefined when the budget is too small */
function planWith(model: StreamModel, memory: number): ModelPlan | undefined {
  try {
    return prepareStream({ ...model, options: { ...model.options, memory } }).plan
  } catch (error) {
    if (error instanceof CoppiceError && error.code === 'OUT_OF_BUDGET') return undefined
    throw error
  }
}

/**
 * The plan of the least budget that keeps this share of the target's bytes in memory; 0: of the least budget at all.
 * @returns in words why there is none
 */
export function planOf(model: StreamModel, residency: number): ModelPlan | string {
  const most = planWith(model, UNLIMITED)
  if (most === undefined) return 'no budget works'
  if (most.residency < residency) {
    return `the engine can keep ${(most.residency * 100).toFixed(0)} % of this model in memory at the most`
  }
  let low = Math.ceil(most.smallestBudgetBytes / PAGE_BYTES)
  let high = Math.ceil(takenBy(most) / PAGE_BYTES)
  while (low < high) {
    const middle = Math.floor((low + high) / 2)
    const plan = planWith(model, middle * PAGE_BYTES)
    if (plan !== undefined && plan.residency >= residency) high = middle
    else low = middle + 1
  }
  const plan = planWith(model, low * PAGE_BYTES)
  if (plan === undefined || plan.residency < residency) throw new Error('more budget keeps less in memory')
  return takenBy(plan) <= freeMemory()
    ? plan
    : `its budget of ${(takenBy(plan) / 1e9).toFixed(2)} GB is more than this machine can spare`
}

const takenBy = ({ totalBytes, drafterBytes }: ModelPlan): number => totalBytes + drafterBytes

/** What processes of this benchmark may take together. */
export const freeMemory = (): number => availableMemoryBytes() * 0.8

/** Layers of the longest beginning of the model that the engine can keep in memory as a whole. */
export function residentLayers(model: StreamModel, layers: number): number {
  for (let keep = layers; keep > 1; keep--) {
    const plan = planWith({ ...model, layers: keep }, UNLIMITED)
    if (plan !== undefined && plan.residency === 1 && takenBy(plan) <= freeMemory()) return keep
  }
  return 1
}
