/** How much of the memory budget is for what drafters without a model remember. */
import { CoppiceError } from '../errors.ts'
import { formatBytes } from '../runtime/sizes.ts'
import { leastOwnerBytes, mostOwnerBytes, type Sources } from '../speculate/sources/capacities.ts'
import { sizeOption } from './options.ts'
import type { SpeculationChoices } from './speculation-options.ts'

/** Unless it is given: a share of the budget, up to what two owners' tables take at their largest with most models. */
const SHARE = 1 / 32
const MOST = 48e6
/** Owners whose memories are kept beside the default one's. */
export const OWNERS = 16

/** What sources need to know of a model. */
export interface SourceTarget {
  readonly vocabulary: number
  readonly context: number
}

/** The sources that guess for an owner. */
export function sourcesOf(choices: SpeculationChoices, { vocabulary, context }: SourceTarget): Sources {
  const { sources, sourceOptions, nodes } = choices
  const names = nodes === 0 ? [] : sources
  return { names, options: sourceOptions, sizes: { vocabulary, context, proposed: names.length === 1 ? nodes : 0 } }
}

/** Bytes for one owner's tables: the writer's fit in beside those of the default owner, which is never forgotten. */
export const ownerShare = (drafterBytes: number): number => Math.floor(drafterBytes / 2)

/**
 * @param given the load option
 * @returns bytes for the tables of all owners, by budget
 * @throws CoppiceError INVALID_OPTION when the sources cannot live in what was given
 */
export function chooseDrafterMemory(given: number | string | undefined, sources: Sources): (budget: number) => number {
  const bytes = given === undefined ? undefined : sizeOption('drafterMemory', given)
  if (sources.names.length === 0) return () => 0
  const least = 2 * leastOwnerBytes(sources)
  if (bytes === undefined) {
    const most = Math.min(MOST, (1 + OWNERS) * mostOwnerBytes(sources))
    return (budget) => Math.max(least, Math.min(most, Math.floor(budget * SHARE)))
  }
  if (bytes < least) {
    const { vocabulary, context } = sources.sizes
    throw new CoppiceError(
      'INVALID_OPTION',
      `drafterMemory is ${bytes} bytes (${formatBytes(bytes)}), and ${sources.names.join(', ')} need at least ${least} (${formatBytes(least)}) with a vocabulary of ${vocabulary} tokens and a context of ${context}: give that much, name fewer drafters, or give smaller sizes in drafterOptions`,
    )
  }
  return () => bytes
}
