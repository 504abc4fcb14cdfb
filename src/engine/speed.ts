/**
 * Measured speeds of this machine, and what a plan can expect of them. They are measured by `coppice plan`, which has
 * the time, and kept in the cache; loading a model only reads them there, so it never waits for a measurement.
 */
import { type Unit, unitFootprint } from '../memory/load-board.ts'
import { measureReadSpeeds } from '../memory/read-speed.ts'
import { isFile } from '../runtime/files.ts'
import { engineFlags, processor, runtimeName, runtimeVersion } from '../runtime/platform.ts'
import { KERNEL_BUILD } from '../tensor/kernel-modules.ts'
import type { Kind } from '../tensor/layout.ts'
import type { PackedModel } from '../weights/packed.ts'
import { expectationOf, type Weights } from './expectation.ts'
import { type Figures, figuresOf, isSpeed, OLDEST_SPEED_MS } from './figures.ts'
import type { KernelChoice } from './kernel-choice.ts'
import { type KernelSpeed, MEASURED_ROWS, measureKernelSpeed } from './kernel-speed.ts'
import type { Preparation } from './prepare.ts'
import { readFigures } from './read-figures.ts'
import type { ModelPlan } from './types.ts'

type KernelFigures = { readonly speed: KernelSpeed }

const kernelFigures = (variant: string, threads: number, kind: Kind): Figures<KernelFigures> =>
  figuresOf<KernelFigures>({
    folder: 'speeds',
    situation: [
      ...[`${runtimeName()} ${runtimeVersion()}`, ...engineFlags(), processor()],
      `kernels ${KERNEL_BUILD} ${variant}, ${threads} threads, ${kind}, rows ${MEASURED_ROWS.join()}`,
    ],
    isValid: ({ speed }) => Array.isArray(speed) && speed.length === MEASURED_ROWS.length && speed.every(isSpeed),
    oldestMs: OLDEST_SPEED_MS,
  })

/**
 * Measures what the cache does not know of this model's disk and kernels.
 * @param again also what it knows
 * @returns whether there was anything to measure
 */
export async function measureSpeeds(preparation: Preparation, kernels: KernelChoice, again: boolean): Promise<boolean> {
  // Of the target: the draft need not be packed yet.
  const { units } = preparation.layout
  const disk = readFigures(units[0].path)
  const unread = isFile(units[0].path) && (again || disk.read() === undefined)
  if (unread) disk.write(await measureReadSpeeds(units))
  const { threads } = preparation
  const unknown = kindsOf(preparation).filter(
    (kind) => again || kernelFigures(kernels.variant, threads, kind).read() === undefined,
  )
  if (unknown.length === 0) return unread
  const speeds = await measureKernelSpeed(kernels.module, threads, unknown)
  unknown.forEach((kind, i) => {
    kernelFigures(kernels.variant, threads, kind).write({ speed: speeds[i] })
  })
  return true
}

/** The plan with what the cache lets expect of it. */
export function planWithExpectation(preparation: Preparation, variant: string): ModelPlan {
  const { plan, cached, loaders, speculation, threads, board } = preparation
  const kernels = new Map<Kind, KernelSpeed>()
  for (const kind of kindsOf(preparation)) {
    const figures = kernelFigures(variant, threads, kind).read()
    if (figures !== undefined) kernels.set(kind, figures.speed)
  }
  const expected = expectationOf({
    streamedBytesPerPass: plan.streamedBytesPerPass,
    cached,
    loaders,
    read: plan.streamedBytesPerPass === 0 ? undefined : readFigures(board.units[0].path).read(),
    kernels,
    ...weightsOf(preparation),
    nodes: speculation.nodes,
    isPlanned: speculation.pacing === 'planner',
  })
  return expected === undefined ? plan : { ...plan, expected }
}

function weightsOf({ target, draft, layout, draftUnits, board }: Preparation) {
  const weights = ({ manifest }: PackedModel, layers: readonly number[], head: readonly number[]): Weights[] => {
    const bytes = (units: readonly number[]): number =>
      units.map((unit): Unit => board.units[unit]).reduce((sum, unit) => sum + unitFootprint(unit), 0)
    const { quantisation } = manifest
    return [
      { kind: quantisation.layers, bytes: bytes(layers) },
      { kind: quantisation.edges, bytes: bytes(head) },
    ]
  }
  return {
    target: weights(target.packed, layout.layerUnits.flat(), layout.headUnits),
    draft: draft && draftUnits ? weights(draft.packed, draftUnits.layers.flat(), [draftUnits.head]) : [],
  }
}

function kindsOf(preparation: Preparation): Kind[] {
  const { target, draft } = weightsOf(preparation)
  return [...new Set([...target, ...draft].map(({ kind }) => kind))]
}
