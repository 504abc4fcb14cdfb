/**
 * From a draft's probabilities to chances of acceptance: the common currency in which guesses are compared.
 *
 * A draft's probability is the wrong measure in itself. At temperature 0 the target takes its likeliest token,
 * however flat the draft is; at others the two models disagree by an amount that only their texts show. So guesses
 * are sorted into classes by rank and probability, and for every class it is counted how many acceptances the
 * probabilities promised and how many came.
 */

/** Upper edges of the classes of probability, finer where guesses are good. */
const EDGES = [0.003, 0.01, 0.03, 0.07, 0.15, 0.25, 0.4, 0.55, 0.7, 0.8, 0.88, 0.94, 0.975, 1]

/** Guesses of this rank and all later ones are one class. */
const RANK_CLASSES = 4

export interface CalibrationOptions {
  /** Classes by rank, or by what else a source tells its guesses apart. */
  readonly classes?: number
  /** Observations of a class that are remembered. */
  readonly remembered?: number
  /** Share of what is promised that is believed before there are counts. */
  readonly trust?: number
}

/** What the promise itself counts for, in acceptances: with so many promised, counts and promise weigh the same. */
const PRIOR = 1.5

/** Observations of a class that are remembered. */
const REMEMBERED = 512

/** No guess is certain; and a path never gets the score of its own beginning. */
const MOST = 0.999

const ROWS = EDGES.length

export class Calibration {
  readonly #promised: Float64Array
  readonly #accepted: Float64Array
  /** Counts by rank alone. */
  readonly #seen: Float64Array
  readonly #hits: Float64Array

  readonly #classes: number
  readonly #decay: number
  readonly #trust: number

  /** @param ranks guesses per node */
  constructor(ranks: number, { classes = RANK_CLASSES, remembered = REMEMBERED, trust = 1 }: CalibrationOptions = {}) {
    this.#classes = classes
    this.#decay = 1 - 1 / remembered
    this.#trust = trust
    this.#promised = new Float64Array(classes * ROWS)
    this.#accepted = new Float64Array(classes * ROWS)
    // Before there are counts: what a draft of the usual kind brings.
    this.#seen = new Float64Array(ranks).fill(4)
    this.#hits = Float64Array.from({ length: ranks }, (_, rank) => 4 * 0.6 * 0.25 ** Math.min(rank, 4))
  }

  /**
   * The chance that the target takes a guess, where it took everything before it.
   * @param rank 0 for the likeliest of its siblings @param promised the draft's probability
   */
  chance(rank: number, promised: number): number {
    const at = this.#classOf(rank, promised)
    return Math.min(MOST, (promised * (this.#accepted[at] + PRIOR * this.#trust)) / (this.#promised[at] + PRIOR))
  }

  /** What became of a guess that the target came to, whether or not it was put before it. */
  observe(rank: number, promised: number, accepted: boolean): void {
    const at = this.#classOf(rank, promised)
    this.#promised[at] = this.#promised[at] * this.#decay + promised
    this.#accepted[at] = this.#accepted[at] * this.#decay + (accepted ? 1 : 0)
    this.#seen[rank] = this.#seen[rank] * this.#decay + 1
    this.#hits[rank] = this.#hits[rank] * this.#decay + (accepted ? 1 : 0)
  }

  /** The mean chance of the guesses of a rank: what may be expected of those that are still to be made. */
  meanChance(rank: number): number {
    return this.#hits[rank] / this.#seen[rank]
  }

  #classOf(rank: number, promised: number): number {
    let row = 0
    while (row < ROWS - 1 && promised > EDGES[row]) row++
    return Math.min(rank, this.#classes - 1) * ROWS + row
  }
}
