/**
 * What guesses are worth, from what several sources say of them: the common currency of a tree that all of them grow.
 *
 * Each source is calibrated by itself. Where several speak of one guess, their log-odds are added with weights that
 * are learnt from what became of such guesses, as data compressors mix predictions (Mahoney, "Adaptive weighing of
 * context models for lossless data compression", 2005). So a second opinion raises a chance as far as it has been
 * worth something on this text, and a source that does not pay fades out by itself.
 */
import type { Calibration } from './calibration.ts'
import type { CandidateTree, Judge } from './candidate-tree.ts'
import { ROOT, type SourceMask } from './token-tree.ts'

/** Log-odds beyond this are not told apart. */
const MOST_ODDS = 7
/** How fast weights follow, at the least; while there is little experience, faster. */
const LEAST_GAIN = 0.015
const FIRST_GAIN = 0.25
/**
 * To begin with: what each opinion beside that of the draft model weighs, how much each further one adds, and what
 * the model's silence takes away.
 */
const SECOND_WEIGHT = 0.15
const AGREEMENT = 0.3
const SILENCE = -3

/** Guesses of one combination of sources. */
interface Mix {
  /** Per source, those that are not in the combination unused; the last one is the bias. */
  readonly weights: Float64Array
  count: number
}

export class MixingJudge implements Judge {
  readonly #calibrations: readonly Calibration[]
  readonly #model: SourceMask
  readonly #mixes = new Map<number, Mix>()
  readonly #odds: Float64Array

  /**
   * @param calibrations of the sources, in the order of the tree's
   * @param model bit of the draft model, whose silence on a guess after a node that it looked behind is telling; 0: none
   */
  constructor(calibrations: readonly Calibration[], model: SourceMask) {
    this.#calibrations = calibrations
    this.#model = model
    this.#odds = new Float64Array(calibrations.length)
  }

  chance(grown: CandidateTree, node: number): number {
    const mask = grown.tree.source[node]
    if (this.#isPlain(grown, node)) return this.#calibrated(grown, node, placeOf(grown, mask))
    return this.#mixed(grown, node, this.#mixOf(grown, node))
  }

  observe(grown: CandidateTree, node: number, accepted: boolean): void {
    if (!this.#isPlain(grown, node)) {
      const mix = this.#mixOf(grown, node)
      const error = (accepted ? 1 : 0) - this.#mixed(grown, node, mix)
      const gain = LEAST_GAIN + FIRST_GAIN / (1 + mix.count++)
      const { weights } = mix
      const { sources, tree } = grown
      for (let source = 0; source < sources.length; source++) {
        if ((tree.source[node] & sources[source]) !== 0) weights[source] += gain * error * this.#odds[source]
      }
      weights[sources.length] += gain * error
    }
    const { sources, promised, classes, tree } = grown
    for (let source = 0; source < sources.length; source++) {
      if ((tree.source[node] & sources[source]) === 0) continue
      const at = node * sources.length + source
      this.#calibrations[source].observe(classes[at], promised[at], accepted)
    }
  }

  /** One source alone, and no model that knows better. */
  #isPlain(grown: CandidateTree, node: number): boolean {
    const mask = grown.tree.source[node]
    return (mask & (mask - 1)) === 0 && !this.#isSilent(grown, node)
  }

  #isSilent({ tree, expanded }: CandidateTree, node: number): boolean {
    return (expanded[tree.parent[node]] & this.#model) !== 0 && (tree.source[node] & this.#model) === 0
  }

  #calibrated({ sources, promised, classes }: CandidateTree, node: number, source: number): number {
    const at = node * sources.length + source
    return this.#calibrations[source].chance(classes[at], promised[at])
  }

  #mixOf(grown: CandidateTree, node: number): Mix {
    const { sources, tree } = grown
    const isSilent = this.#isSilent(grown, node)
    const mask = tree.source[node]
    const key = 2 * mask + (isSilent ? 1 : 0)
    let mix = this.#mixes.get(key)
    if (mix === undefined) {
      const opinions = sources.filter((source) => (mask & source) !== 0).length
      const weights = new Float64Array(sources.length + 1).fill(1 / opinions)
      if ((mask & this.#model) !== 0) {
        weights.fill(SECOND_WEIGHT)
        weights[sources.indexOf(this.#model)] = 1
      }
      weights[sources.length] = AGREEMENT * (opinions - 1) + (isSilent ? SILENCE : 0)
      mix = { weights, count: 0 }
      this.#mixes.set(key, mix)
    }
    return mix
  }

  #mixed(grown: CandidateTree, node: number, { weights }: Mix): number {
    const { sources, tree } = grown
    let sum = weights[sources.length]
    for (let source = 0; source < sources.length; source++) {
      if ((tree.source[node] & sources[source]) === 0) continue
      const chance = this.#calibrated(grown, node, source)
      const odds = Math.log(chance / (1 - chance))
      this.#odds[source] = Math.max(-MOST_ODDS, Math.min(MOST_ODDS, odds))
      sum += weights[source] * this.#odds[source]
    }
    return 1 / (1 + Math.exp(-Math.max(-MOST_ODDS, Math.min(MOST_ODDS, sum))))
  }
}

/** Place of the one source that a mask has. */
const placeOf = ({ sources }: CandidateTree, mask: SourceMask): number => sources.indexOf(mask)

/** Probabilities are taken for chances as they are; of several, the largest. */
export const TAKEN_AS_THEY_ARE: Judge = {
  chance({ sources, promised, tree }, node) {
    let most = 0
    for (let source = 0; source < sources.length; source++) {
      const has = (tree.source[node] & sources[source]) !== 0
      if (has) most = Math.max(most, promised[node * sources.length + source])
    }
    return most
  },
  observe() {},
}

/**
 * What a pass of the target says of the guesses on its way, whether they were put before it or not.
 * @returns the node that the last token is at, or -1 where the tree ends before
 */
export function learnFrom(tokens: readonly number[], grown: CandidateTree, judge: Judge): number {
  const { tree } = grown
  let at = ROOT
  for (const token of tokens) {
    for (const child of tree.children(at)) judge.observe(grown, child, tree.token[child] === token)
    at = tree.child(at, token)
    if (at < 0) break
  }
  return at
}
