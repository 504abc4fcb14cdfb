/** What load options say about drafting, checked and completed. */
import { CoppiceError } from '../errors.ts'
import {
  DRAFTERS,
  type DrafterChoice,
  MODEL_DRAFTERS,
  type ModelDrafter,
  SOURCES,
  type SourceName,
} from '../speculate/drafter.ts'
import { MAXIMUM_DEPTH } from '../speculate/drafters/tree.ts'
import { PACINGS, type PacingName } from '../speculate/pacing.ts'
import { checkSourceOptions, type SourceOptions } from '../speculate/sources/source-options.ts'
import { KINDS, type Kind } from '../tensor/layout.ts'
import { integerOption } from './options.ts'
import type { EngineOptions } from './protocol.ts'

const MAXIMUM_NODES = 1024
/** Of a planned tree: with the root, the rows of a prefill pass, so that trees need no memory of their own. */
const PLANNED_NODES = 63
/** Of a chain whose length is not given, as in llama.cpp. */
const CHAIN_NODES = 16
const CHAIN_P_MIN = 0.75

/** What guesses without a model unless `drafters` says otherwise. */
const HYBRID: readonly SourceName[] = ['trie', 'trigram', 'recycle', 'ngram']

/** The target drafts for itself. */
const SELF = 'self:'

export type DraftSource =
  | { readonly from: 'model'; readonly path: string }
  /** The target's own copy in another kind of weights. */
  | { readonly from: 'target'; readonly kind: Kind }

export interface SpeculationChoices {
  /** What the draft model makes; undefined: nothing, or there is none. */
  readonly model: ModelDrafter | undefined
  /** What guesses without a model. */
  readonly sources: readonly SourceName[]
  readonly sourceOptions: SourceOptions
  readonly pacing: PacingName
  /** At the most; 0: plain decoding. */
  readonly nodes: number
  /** Longest path of guesses. */
  readonly depth: number
  readonly pipeline: boolean
  readonly coupled: boolean
  readonly sharpening: number | undefined
  readonly leastProbability: number
  /** File of what the default owner's drafters begin with. */
  readonly state: string | undefined
}

/** @throws CoppiceError INVALID_OPTION */
export function draftSource({ draft }: EngineOptions): DraftSource | undefined {
  if (draft !== undefined && typeof draft !== 'string') {
    throw new CoppiceError('INVALID_OPTION', `draft must be the directory of a model or 'none', not ${draft}`)
  }
  if (draft === undefined || draft === 'none') return undefined
  if (!draft.startsWith(SELF)) return { from: 'model', path: draft }
  const kind = KINDS.find((name) => name === draft.slice(SELF.length))
  if (kind !== undefined) return { from: 'target', kind }
  throw new CoppiceError(
    'INVALID_OPTION',
    `draft "${draft}": after "self:" comes a kind of weights: ${KINDS.join(', ')}`,
  )
}

/** @throws CoppiceError INVALID_OPTION */
export function chooseSpeculation(options: EngineOptions, hasDraft: boolean): SpeculationChoices {
  const { pipeline = true, coupled = true, sharpening, draftPMin, drafterState, drafterOptions = {} } = options
  checkFlag('pipeline', pipeline)
  checkFlag('coupled', coupled)
  if (sharpening !== undefined && !(typeof sharpening === 'number' && sharpening > 0 && sharpening <= 100)) {
    throw new CoppiceError('INVALID_OPTION', `sharpening must be a number above 0 and up to 100, not ${sharpening}`)
  }
  if (draftPMin !== undefined && !(typeof draftPMin === 'number' && draftPMin >= 0 && draftPMin <= 1)) {
    throw new CoppiceError('INVALID_OPTION', `draftPMin must be a number from 0 to 1, not ${draftPMin}`)
  }
  const { model, sources } = chooseDrafters(options, hasDraft)
  const isPlain = model === undefined && sources.length === 0
  const pacing = choosePacing(options)
  const nodes = isPlain ? plainNodes(options) : chooseNodes(options.nodes, model, pacing)
  checkState(drafterState, sources.length > 0 && nodes > 0)
  return {
    model,
    sources,
    sourceOptions: checkSourceOptions(drafterOptions, sources),
    pacing,
    nodes,
    depth: MAXIMUM_DEPTH,
    pipeline,
    coupled,
    sharpening,
    leastProbability: draftPMin ?? (model === 'chain' ? CHAIN_P_MIN : 0),
    state: drafterState,
  }
}

function chooseDrafters(
  { drafters, draft }: EngineOptions,
  hasDraft: boolean,
): Pick<SpeculationChoices, 'model' | 'sources'> {
  if (drafters === undefined) {
    if (draft === 'none') return { model: undefined, sources: [] }
    return { model: hasDraft ? 'tree' : undefined, sources: HYBRID }
  }
  for (const name of drafters) checkDrafter(name, hasDraft)
  const isHybrid = drafters.includes('hybrid')
  const [model, second] = MODEL_DRAFTERS.filter((name) => drafters.includes(name))
  if (second !== undefined) {
    throw new CoppiceError(
      'INVALID_OPTION',
      `drafters names both ${model} and ${second}: the draft makes the one or the other`,
    )
  }
  return {
    model: model ?? (isHybrid && hasDraft ? 'tree' : undefined),
    sources: SOURCES.filter((name) => drafters.includes(name) || (isHybrid && HYBRID.includes(name))),
  }
}

function checkDrafter(name: DrafterChoice, hasDraft: boolean): void {
  if (name === 'hybrid') return
  if (!DRAFTERS.includes(name)) {
    throw new CoppiceError(
      'INVALID_OPTION',
      `there is no drafter "${name}" in this version; known: hybrid, ${DRAFTERS.join(', ')}`,
    )
  }
  if (hasDraft || !MODEL_DRAFTERS.some((known) => known === name)) return
  throw new CoppiceError('INVALID_OPTION', `the drafter "${name}" needs a draft model; give its directory as \`draft\``)
}

function choosePacing({ pacing, nodes, drafters }: EngineOptions): PacingName {
  if (pacing === undefined) {
    const isPlanned = nodes === 'auto' || (nodes === undefined && drafters?.[0] !== 'chain')
    return isPlanned ? 'planner' : 'fixed'
  }
  if (PACINGS.includes(pacing)) return pacing
  throw new CoppiceError('INVALID_OPTION', `pacing must be one of ${PACINGS.join(', ')}, not "${pacing}"`)
}

function chooseNodes(nodes: EngineOptions['nodes'], model: ModelDrafter | undefined, pacing: PacingName): number {
  if (nodes !== undefined && nodes !== 'auto') return checkNodes(nodes)
  return model === 'chain' && pacing === 'fixed' ? CHAIN_NODES : PLANNED_NODES
}

function plainNodes({ nodes, drafters }: EngineOptions): 0 {
  if (nodes === undefined || nodes === 'auto' || checkNodes(nodes) === 0) return 0
  const why = drafters === undefined ? 'without a draft model' : 'without a drafter'
  throw new CoppiceError(
    'INVALID_OPTION',
    `nodes is ${nodes}, but ${why} there is nothing to fill a tree with; give one or nodes 0`,
  )
}

function checkNodes(nodes: unknown): number {
  if (typeof nodes === 'number') return integerOption('nodes', nodes, 0, MAXIMUM_NODES)
  throw new CoppiceError(
    'INVALID_OPTION',
    `nodes must be an integer from 0 to ${MAXIMUM_NODES} or 'auto', not ${nodes}`,
  )
}

function checkState(state: unknown, hasSources: boolean): void {
  if (state === undefined) return
  if (typeof state !== 'string' || state === '') {
    throw new CoppiceError('INVALID_OPTION', `drafterState must be the name of a file, not ${JSON.stringify(state)}`)
  }
  if (hasSources) return
  throw new CoppiceError(
    'INVALID_OPTION',
    `drafterState is "${state}", but no drafter here learns from texts; name one of ${SOURCES.join(', ')} or 'hybrid' in drafters, or leave it out`,
  )
}

function checkFlag(name: string, value: unknown): void {
  if (typeof value === 'boolean') return
  throw new CoppiceError('INVALID_OPTION', `${name} must be true or false, not ${value}`)
}
