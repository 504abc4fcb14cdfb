/** The drafter of a model with all that it learns: what passes cost here, and what guesses are worth. */
import { Sampler } from '../generate/sampler.ts'
import { decodingSeconds, type SpeculationStatistics, type Stats, tokensPerSecond } from '../generate/statistics.ts'
import type { Transformer } from '../model/transformer.ts'
import { Calibration } from '../speculate/calibration.ts'
import { BRANCHING } from '../speculate/child-ranking.ts'
import type { Drafter } from '../speculate/drafter.ts'
import { type SourceName, sourceOf } from '../speculate/drafter.ts'
import { LookupDrafter } from '../speculate/drafters/lookup.ts'
import { SampledTreeDrafter } from '../speculate/drafters/sampled-tree.ts'
import { expansionRows, TreeDrafter } from '../speculate/drafters/tree.ts'
import { TAKEN_AS_THEY_ARE } from '../speculate/judge.ts'
import { Lookups } from '../speculate/lookups.ts'
import { DrafterMemory } from '../speculate/memory.ts'
import { FallbackPacing, FixedPacing, type Pacing } from '../speculate/pacing.ts'
import { DISK_BOUND, PassCosts } from '../speculate/pass-costs.ts'
import { Planner } from '../speculate/planner.ts'
import type { ResidualDrafter } from '../speculate/residual.ts'
import { fitCapacities, leastOwnerBytes, type Sources } from '../speculate/sources/capacities.ts'
import { makeSource, SAVING } from '../speculate/sources/catalogue.ts'
import { OWNERS, ownerShare, sourcesOf } from './drafter-share.ts'
import type { SpeculationChoices } from './speculation-options.ts'

/**
 * Exponents on the draft's probabilities, to begin with. At temperature 0 the target takes its top token, however
 * flat the draft is, so probabilities as they are underrate the likeliest branch. Above, the target samples from its
 * distribution to the power of 1/temperature, and so the draft's is taken to the same power; coupled sums have the
 * temperature in them.
 */
const GREEDY_SHARPENING = 3
const COUPLED_SHARPENING = 1.5

/** A plain pass that takes so many times one with a tree tells nothing. */
const DISTURBED = 1.1

/** Texts at temperatures so close share what was learnt. */
const TEMPERATURE_STEP = 0.25

/** Of a tree for the residual rule, when its size is left open. */
const RESIDUAL_NODES = 16

/** Whose texts are nobody's in particular. */
export const DEFAULT_OWNER = ''

interface SpeculationParts {
  readonly choices: SpeculationChoices
  readonly draft: Transformer | undefined
  /** Of the target's largest pass. */
  readonly rows: number
  /** Tokens that target and draft both have. */
  readonly vocabulary: number
  /** The target's own. */
  readonly targetVocabulary: number
  /** Tokens of the longest text. */
  readonly context: number
  /** What all owners' tables may take. */
  readonly drafterBytes: number
  /** Whether weights come from disk in every pass. */
  readonly streams: boolean
  /** Share of what a pass reads that may be read before it begins. */
  readonly readAhead: number
}

export class Speculation {
  /** What the target's passes and the draft's cost. */
  readonly costs: PassCosts
  readonly #parts: SpeculationParts
  readonly #lookups: Lookups
  readonly #sources: Sources
  readonly #tree: TreeDrafter | undefined
  readonly #lookup: LookupDrafter | undefined
  /** By owner. */
  readonly #memories = new Map<string, DrafterMemory>()
  /** Of the text that was prepared for last: that of the draft model, if there is one, and that of look-ups. */
  #planners: readonly Planner[] = []
  /** Of the planners, when the text began. */
  #declinedBefore = 0

  constructor(parts: SpeculationParts) {
    const { choices, draft, rows } = parts
    const { model, nodes, leastProbability, sources } = choices
    this.#parts = parts
    this.costs = new PassCosts(rows, expansionRows(nodes), parts.readAhead)
    this.#lookups = new Lookups(sources, model === undefined ? 0 : 1)
    this.#sources = sourcesOf(choices, { vocabulary: parts.targetVocabulary, context: parts.context })
    if (nodes === 0) return
    if (draft !== undefined && model !== undefined) {
      this.#tree = new TreeDrafter(draft, {
        name: model,
        nodes,
        branching: this.#branching,
        leastProbability,
        vocabulary: parts.vocabulary,
        costs: this.costs,
        lookups: this.#lookups,
      })
    } else if (sources.length > 0) this.#lookup = new LookupDrafter({ lookups: this.#lookups, nodes })
  }

  /** Absent: plain decoding. */
  get drafter(): Drafter | undefined {
    return this.#tree ?? this.#lookup
  }

  /** Prepares for a text. @param owner whose text it is: only what was learnt from the same owner's is used */
  begin(sampler: Sampler, owner: string): void {
    if (this.drafter === undefined) return
    const { coupled, sharpening, model } = this.#parts.choices
    const { temperature } = sampler.options
    const memory = this.memoryOf(owner)
    const isCoupled = coupled && temperature > 0
    const { judge, calibration } = memory.learnt(samplingName(isCoupled, temperature))
    this.#planners = [memory.pacing, memory.without].filter((pacing) => pacing instanceof Planner)
    this.#declinedBefore = this.#declined
    if (calibration !== undefined) for (const planner of this.#planners) planner.calibration = calibration
    this.#lookups.sources = memory.sources
    const rule = {
      judge: sharpening === undefined ? judge : TAKEN_AS_THEY_ARE,
      pacing: memory.pacing,
      temperature,
      ...(isCoupled && { noise: sampler.noise }),
    }
    this.#lookup?.begin(rule)
    this.#tree?.begin({
      ...rule,
      ...(memory.without !== undefined && { without: memory.without }),
      // A chain's stop rule is about the draft's own probabilities.
      sharpening: sharpening ?? (model === 'chain' && !isCoupled ? 1 : defaultSharpening(isCoupled, temperature)),
    })
  }

  /** What guessing brought to the text that was prepared for last. */
  statistics(stats: Stats): SpeculationStatistics | undefined {
    if (this.drafter === undefined || stats.passes === 0) return undefined
    const costs = this.costs
    const drafted = stats.passes - (stats.depths[0] ?? 0)
    const rows = Math.round((stats.nodesPerPass * stats.passes) / Math.max(1, drafted)) + 1
    const withTree = drafted > 0 ? costs.pass(rows) : undefined
    // Without such a pass there is only an assumption of how passes grow; and a plain pass that took longer than
    // those with more rows was disturbed, as the first ones often are. Of passes that waited for the disk a plain one
    // takes as long as others, but a few of them in a text that mostly computed say how long their rows took.
    // (Not by `wait`, which the prompt's passes are part of.)
    const { draft, draftHidden, verify } = stats.seconds
    const waits = verify <= (1 - DISK_BOUND) * (decodingSeconds(stats) - (draft - draftHidden))
    const isSeen = costs.hasSeen(1) || (costs.areDiskBound && waits)
    const isKnown = isSeen && costs.pass(1) <= DISTURBED * (withTree ?? Number.POSITIVE_INFINITY)
    const plain = isKnown ? costs.pass(1) : undefined
    const declinedSpeedUp = this.#planners.find((planner) => planner.declinedSpeedUp !== undefined)?.declinedSpeedUp
    return {
      streams: this.#parts.streams,
      declined: this.#declined - this.#declinedBefore,
      ...(withTree !== undefined && { draftedSecondsPerPass: withTree }),
      ...(plain !== undefined && { plainSecondsPerPass: plain, speedUp: tokensPerSecond(stats) * plain }),
      ...(declinedSpeedUp !== undefined && { declinedSpeedUp }),
    }
  }

  /**
   * Prepares for a text under the residual rule.
   * @returns undefined where the exact walk does the same: at temperature 0, and without guesses
   */
  beginResidual(sampler: Sampler): ResidualDrafter | undefined {
    const { choices, draft, vocabulary } = this.#parts
    const { model, nodes, pacing } = choices
    if (draft === undefined || model === undefined || nodes === 0 || sampler.isGreedy) return undefined
    const { logitBias } = sampler.options
    const known = Object.entries(logitBias).filter(([token]) => Number(token) < vocabulary)
    // The nearer the draft's distribution comes to the target's, the more is accepted.
    const own = new Sampler({ ...sampler.options, logitBias: Object.fromEntries(known) }, vocabulary, draft.sampling)
    return new SampledTreeDrafter(
      draft,
      { name: model, nodes: pacing === 'planner' ? Math.min(RESIDUAL_NODES, nodes) : nodes, vocabulary },
      { distribution: own.distribution.bind(own), uniform: sampler.uniform },
    )
  }

  /** Bytes that all owners' tables may take. */
  get drafterBytes(): number {
    return this.#parts.drafterBytes
  }

  /** Whether a state's section of a source is taken by one that is here. */
  takes(source: SourceName): boolean {
    return SAVING.includes(source) && this.#sources.names.includes(source)
  }

  /** Whether there is anything to remember. */
  get remembers(): boolean {
    return this.drafter !== undefined && this.#parts.choices.sources.length > 0
  }

  /** Everybody's memory, by owner; whoever wrote last comes last. */
  get memories(): ReadonlyMap<string, DrafterMemory> {
    return this.#memories
  }

  /** Drops what was learnt from an owner's texts. Not to be called while a text is written. */
  forget(owner: string): void {
    const memory = this.#memories.get(owner)
    if (memory === undefined) return
    if (this.#lookups.sources === memory.sources) this.#lookups.sources = []
    this.#memories.delete(owner)
    memory.release()
  }

  /**
   * Bytes for all owners' tables with which the default owner can begin with a state.
   * @param kept bytes of the state that no source here takes
   */
  drafterBytesFor(kept: number): number {
    return 2 * (leastOwnerBytes(this.#sources) + kept)
  }

  /**
   * The owner's memory, made when there is none. Those that wrote longest ago may lose theirs, the default owner never.
   * @param kept bytes that a new one will hold beside its tables; see `drafterBytesFor`
   */
  memoryOf(owner: string, kept = 0): DrafterMemory {
    this.#makeRoom(owner)
    const memory = this.#memories.get(owner) ?? this.#newMemory(kept)
    this.#memories.delete(owner)
    this.#memories.set(owner, memory)
    return memory
  }

  #newMemory(kept: number): DrafterMemory {
    const { choices, targetVocabulary, drafterBytes } = this.#parts
    const { pacing, nodes, model } = choices
    const { names } = this.#sources
    const options = fitCapacities(this.#sources, ownerShare(drafterBytes) - kept)
    if (options === undefined) throw new Error(`${drafterBytes} bytes are too few for ${names.join(', ')}`)
    const planner = (hasModel: boolean, hasOthers = false): Planner =>
      new Planner(this.costs, new Calibration(BRANCHING), nodes, hasModel ? expansionRows(nodes) : 0, hasOthers)
    const hasModel = model !== undefined
    const isMixed = hasModel && names.length > 0
    return new DrafterMemory({
      sources: names.map((name) => makeSource(name, targetVocabulary, options)),
      pacing: pacing === 'planner' ? planner(hasModel, isMixed) : simplePacing(pacing === 'fallback', nodes),
      ...(pacing === 'planner' && isMixed && { without: planner(false) }),
      branching: this.#branching,
      model: model === undefined ? 0 : sourceOf(model),
    })
  }

  /** Passes so far that were left without guesses because none seemed to pay. */
  get #declined(): number {
    return this.#planners.reduce((sum, { declined }) => sum + declined, 0)
  }

  /**
   * Forgets owners until the writer can come to hold its share, beside what the others hold. There is room for it at the
   * latest when only the default owner is left, which has no more than its share either.
   */
  #makeRoom(writer: string): void {
    const { drafterBytes } = this.#parts
    const held = (owner: string): number =>
      this.#memories.get(owner)!.heldBytes.reduce((sum, { bytes }) => sum + bytes, 0)
    const besides = [...this.#memories.keys()].filter((owner) => owner !== writer)
    let room = drafterBytes - ownerShare(drafterBytes) - besides.reduce((sum, owner) => sum + held(owner), 0)
    const others = besides.filter((owner) => owner !== DEFAULT_OWNER)
    let tooMany = others.length + (writer === DEFAULT_OWNER ? 0 : 1) - OWNERS
    for (const owner of others) {
      if (tooMany <= 0 && room >= 0) return
      room += held(owner)
      this.forget(owner)
      tooMany--
    }
  }

  get #branching(): number {
    const { model } = this.#parts.choices
    return model === undefined ? 0 : model === 'chain' ? 1 : BRANCHING
  }
}

/** Texts that share what was learnt. */
function samplingName(isCoupled: boolean, temperature: number): string {
  if (temperature === 0) return 'greedy'
  return `${isCoupled ? 'coupled' : 'sampled'} ${Math.round(Math.min(temperature, 2) / TEMPERATURE_STEP)}`
}

const simplePacing = (falls: boolean, nodes: number): Pacing =>
  falls ? new FallbackPacing(nodes) : new FixedPacing(nodes)

function defaultSharpening(isCoupled: boolean, temperature: number): number {
  if (isCoupled) return COUPLED_SHARPENING
  return Math.min(GREEDY_SHARPENING, temperature === 0 ? GREEDY_SHARPENING : 1 / temperature)
}
