/** The drafter of a model with all that it learns: what passes cost here, and what guesses are worth. */
import { Sampler } from '../generate/sampler.ts'
import { type SpeculationStatistics, type Stats, tokensPerSecond } from '../generate/statistics.ts'
import type { Transformer } from '../model/transformer.ts'
import { Calibration } from '../speculate/calibration.ts'
import { BRANCHING } from '../speculate/child-ranking.ts'
import { SampledTreeDrafter } from '../speculate/drafters/sampled-tree.ts'
import { expansionRows, TreeDrafter } from '../speculate/drafters/tree.ts'
import { FallbackPacing, FixedPacing, type Pacing } from '../speculate/pacing.ts'
import { PassCosts } from '../speculate/pass-costs.ts'
import { Planner } from '../speculate/planner.ts'
import type { ResidualDrafter } from '../speculate/residual.ts'
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

export class Speculation {
  /** What the target's passes and the draft's cost. */
  readonly costs: PassCosts
  /** Absent: plain decoding. */
  readonly drafter: TreeDrafter | undefined
  readonly #choices: SpeculationChoices
  readonly #draft: Transformer | undefined
  readonly #vocabulary: number
  readonly #planner: Planner | undefined
  /** By the way of sampling. */
  readonly #calibrations = new Map<string, Calibration>()
  readonly #streams: boolean
  /** Of the planner, when the text began. */
  #declinedBefore = 0

  /**
   * @param rows of the target's largest pass
   * @param vocabulary tokens that target and draft both have
   * @param streams whether weights come from disk in every pass
   */
  constructor(
    choices: SpeculationChoices,
    draft: Transformer | undefined,
    rows: number,
    vocabulary: number,
    streams: boolean,
  ) {
    const { drafter: name, pacing, nodes, leastProbability } = choices
    this.#choices = choices
    this.#streams = streams
    this.#draft = draft
    this.#vocabulary = vocabulary
    const draftRows = expansionRows(nodes)
    this.costs = new PassCosts(rows, draftRows)
    if (draft === undefined || nodes === 0) return
    this.#planner =
      pacing === 'planner' ? new Planner(this.costs, new Calibration(BRANCHING), nodes, draftRows) : undefined
    this.drafter = new TreeDrafter(draft, {
      name,
      nodes,
      branching: name === 'chain' ? 1 : BRANCHING,
      leastProbability,
      vocabulary,
      pacing: this.#planner ?? simplePacing(pacing === 'fallback', nodes),
      costs: this.costs,
    })
  }

  /** Prepares for a text. */
  begin(sampler: Sampler): void {
    const { coupled, sharpening, drafter } = this.#choices
    const { temperature } = sampler.options
    this.#declinedBefore = this.#planner?.declined ?? 0
    const isCoupled = coupled && temperature > 0
    const calibration = this.#calibrationOf(isCoupled, temperature)
    if (this.#planner !== undefined) this.#planner.calibration = calibration
    this.drafter?.begin({
      temperature,
      // A chain's stop rule is about the draft's own probabilities.
      sharpening: sharpening ?? (drafter === 'chain' && !isCoupled ? 1 : defaultSharpening(isCoupled, temperature)),
      calibration: sharpening === undefined ? calibration : undefined,
      ...(isCoupled && { noise: sampler.noise }),
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
    // those with more rows was disturbed, as the first ones often are.
    const isKnown = costs.hasSeen(1) && costs.pass(1) <= DISTURBED * (withTree ?? Number.POSITIVE_INFINITY)
    const plain = isKnown ? costs.pass(1) : undefined
    const declinedSpeedUp = this.#planner?.declinedSpeedUp
    return {
      streams: this.#streams,
      declined: (this.#planner?.declined ?? 0) - this.#declinedBefore,
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
    const { drafter: name, nodes, pacing } = this.#choices
    const vocabulary = this.#vocabulary
    if (this.#draft === undefined || nodes === 0 || sampler.isGreedy) return undefined
    const { logitBias } = sampler.options
    const known = Object.entries(logitBias).filter(([token]) => Number(token) < vocabulary)
    // The nearer the draft's distribution comes to the target's, the more is accepted.
    const own = new Sampler({ ...sampler.options, logitBias: Object.fromEntries(known) }, vocabulary)
    return new SampledTreeDrafter(
      this.#draft,
      { name, nodes: pacing === 'planner' ? Math.min(RESIDUAL_NODES, nodes) : nodes, vocabulary },
      { distribution: own.distribution.bind(own), uniform: sampler.uniform },
    )
  }

  #calibrationOf(isCoupled: boolean, temperature: number): Calibration {
    const step = Math.round(Math.min(temperature, 2) / TEMPERATURE_STEP)
    const key = temperature === 0 ? 'greedy' : `${isCoupled ? 'coupled' : 'sampled'} ${step}`
    let found = this.#calibrations.get(key)
    if (found === undefined) {
      found = new Calibration(BRANCHING)
      this.#calibrations.set(key, found)
    }
    return found
  }
}

const simplePacing = (falls: boolean, nodes: number): Pacing =>
  falls ? new FallbackPacing(nodes) : new FixedPacing(nodes)

function defaultSharpening(isCoupled: boolean, temperature: number): number {
  if (isCoupled) return COUPLED_SHARPENING
  return Math.min(GREEDY_SHARPENING, temperature === 0 ? GREEDY_SHARPENING : 1 / temperature)
}
