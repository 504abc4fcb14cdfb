/** How much the sources of one owner may remember, so that all their tables stay within a number of bytes. */
import type { SourceName } from '../drafter.ts'
import { type SourceSizes, sourceBytes } from './catalogue.ts'
import type { SourceOptions } from './source-options.ts'
import { TRIE_NODES } from './trie.ts'
import { PAIRS, PROMPT_PAIRS } from './trigram.ts'

/** With fewer a table forgets what it read before it is of use. Branches of 64 tokens, the longest, take 512 nodes. */
const LEAST = { nodes: 1024, pairs: 512, promptPairs: 1024 }

/** Steps from the least capacities to the whole ones. */
const STEPS = 1 << 12

/** Sources, and what their bytes depend on. */
export interface Sources {
  readonly names: readonly SourceName[]
  readonly sizes: SourceSizes
  readonly options: SourceOptions
}

/** Bytes that one owner's tables take at the most: tables grow one at a time. */
export function ownerBytes({ names, sizes, options }: Sources): number {
  const all = names.map((name) => sourceBytes(name, sizes, options))
  return all.reduce((sum, { held }) => sum + held, 0) + Math.max(0, ...all.map(({ moving }) => moving))
}

/** The same with the least capacities where options leave them open. */
export const leastOwnerBytes = (sources: Sources): number =>
  ownerBytes({ ...sources, options: withCapacities(sources, 0) })

/** The same with the sources' own defaults there. */
export const mostOwnerBytes = (sources: Sources): number =>
  ownerBytes({ ...sources, options: withCapacities(sources, 1) })

/**
 * Options whose capacities, where they were left open, are as large as the bytes allow, up to the sources' own
 * defaults: all of them by the same share.
 * @returns undefined when the least that works takes more
 */
export function fitCapacities(sources: Sources, bytes: number): SourceOptions | undefined {
  const fits = (step: number): boolean =>
    ownerBytes({ ...sources, options: withCapacities(sources, step / STEPS) }) <= bytes
  if (!fits(0)) return undefined
  let low = 0
  let high = STEPS
  while (low < high) {
    const middle = Math.ceil((low + high) / 2)
    if (fits(middle)) low = middle
    else high = middle - 1
  }
  return withCapacities(sources, low / STEPS)
}

/** @param share of what lies between the least capacities and the whole ones */
function withCapacities({ names, options, sizes }: Sources, share: number): SourceOptions {
  const between = (least: number, whole: number): number => Math.floor(least + share * (whole - least))
  const { trie, trigram } = options
  const capacity = trie?.capacity ?? between(LEAST.nodes, TRIE_NODES)
  const pairs = trigram?.pairs ?? between(LEAST.pairs, PAIRS)
  // A prompt has no more pairs than the context has tokens.
  const wholePrompt = Math.min(PROMPT_PAIRS, sizes.context)
  const promptPairs = trigram?.promptPairs ?? between(Math.min(LEAST.promptPairs, wholePrompt), wholePrompt)
  return {
    ...options,
    ...(names.includes('trie') && { trie: { ...trie, capacity } }),
    ...(names.includes('trigram') && { trigram: { ...trigram, pairs, promptPairs } }),
  }
}
