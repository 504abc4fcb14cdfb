/** Ways of guessing to race against each other. */
import type { LoadOptions } from '../src/index.ts'
import { SOURCES } from '../src/speculate/drafter.ts'

export interface Policy {
  readonly name: string
  readonly kind: 'plain' | 'plain with the whole budget' | 'chain' | 'tree' | 'fallback' | 'planner' | 'free' | 'hybrid'
  readonly options: LoadOptions
}

export const chain = (length: number): Policy => ({
  name: `chain ${length}`,
  kind: 'chain',
  options: { drafters: ['chain'], nodes: length, draftPMin: 0 },
})

export const tree = (nodes: number, more: LoadOptions = {}, suffix = ''): Policy => ({
  name: `tree ${nodes}${suffix}`,
  kind: 'tree',
  options: { drafters: ['tree'], nodes, ...more },
})

export const PLAIN: Policy = { name: 'plain', kind: 'plain', options: { draft: 'none' } }
/** The draft model's trees alone. */
export const PLANNER: Policy = { name: 'planner', kind: 'planner', options: { drafters: ['tree'] } }
/** Everything there is, and without the draft model. */
const HYBRID: Policy = { name: 'hybrid', kind: 'planner', options: {} }
const FREE: Policy = { name: 'no draft model', kind: 'planner', options: { draft: undefined } }

const OFF = ' no pipeline'
/** With and without the pipeline, all else equal. */
export const PIPELINES = ['tree 15', 'tree 31', 'fallback', 'planner'].map((on) => ({ on, off: on + OFF }))

const CHAINS = [1, 2, 3, 4, 6, 8, 12, 16]
const TREES = [2, 3, 4, 5, 7, 8, 15, 16, 31, 32, 63, 64, 127]
const ALL: readonly Policy[] = [
  PLAIN,
  PLANNER,
  HYBRID,
  FREE,
  ...CHAINS.map(chain),
  { name: 'chain p 0.75', kind: 'chain', options: { drafters: ['chain'] } },
  ...TREES.map((nodes) => tree(nodes)),
  { name: 'fallback', kind: 'fallback', options: { drafters: ['tree'], pacing: 'fallback' } },
  tree(15, { pipeline: false }, OFF),
  tree(31, { pipeline: false }, OFF),
  { name: `fallback${OFF}`, kind: 'fallback', options: { drafters: ['tree'], pacing: 'fallback', pipeline: false } },
  { ...PLANNER, name: `planner${OFF}`, options: { ...PLANNER.options, pipeline: false } },
]
const SKIPPED = [...[1, 3, 6, 12, 16].map(chain), ...[2, 3, 5, 8, 16, 32, 64, 127].map((n) => tree(n))]

/**
 * @param choice `all`, `short`, or names with commas between them; plain decoding comes first in any case, for all
 *   others are compared with it
 */
export function choosePolicies(choice: string): Policy[] {
  if (choice === 'all') return [...ALL]
  if (choice === 'short') return ALL.filter(({ name }) => SKIPPED.every((skipped) => skipped.name !== name))
  const named = choice.split(',').map((name) => {
    const found = ALL.find((policy) => policy.name === name)
    if (found === undefined) {
      throw new Error(`--policies knows all, short, ${ALL.map((policy) => policy.name).join(', ')}; not "${name}"`)
    }
    return found
  })
  return [PLAIN, ...named.filter((policy) => policy !== PLAIN)]
}

/** What guesses without a draft model, each alone and then together; with one; and the one alone. */
export function drafterPolicies(nodes: number | 'auto'): {
  readonly free: readonly Policy[]
  /** The trie's lesser ways of making trees, for comparison (Lookahead, arXiv 2312.12728, section 4.3). */
  readonly trieModes: readonly Policy[]
  readonly hybrid: Policy
  readonly hybridWithDraft: Policy
  readonly tree: Policy
  readonly chain: Policy
} {
  const free = SOURCES.map((name): Policy => {
    return { name, kind: 'free', options: { draft: 'none', drafters: [name], nodes } }
  })
  const trieModes = (['parallel', 'single'] as const).map((mode): Policy => {
    const options: LoadOptions = { draft: 'none', drafters: ['trie'], drafterOptions: { trie: { mode } }, nodes }
    return { name: `trie, ${mode}`, kind: 'free', options }
  })
  const hybrid = { drafters: ['hybrid'], nodes } satisfies LoadOptions
  return {
    free,
    trieModes,
    hybrid: { name: 'hybrid', kind: 'hybrid', options: { ...hybrid, draft: 'none' } },
    hybridWithDraft: { name: 'hybrid with draft', kind: 'hybrid', options: hybrid },
    tree: { name: 'tree', kind: 'tree', options: { drafters: ['tree'], nodes } },
    chain: { name: 'chain', kind: 'chain', options: { drafters: ['chain'], nodes, draftPMin: 0 } },
  }
}
