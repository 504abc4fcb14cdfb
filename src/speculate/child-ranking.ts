/**
 * Which tokens a draft guesses after a node, and with what probability.
 *
 * Coupled (Daliri, Musco, Suresh, "Coupling without communication and drafter-invariant speculative decoding",
 * arXiv 2408.07978): the target's next token is the largest of logit / temperature + noise, and the noise is a
 * function of seed, position and token that anybody can compute. A draft that ranks by its own logits and the same
 * noise guesses the token that is really drawn wherever the two models roughly agree, so text at high temperatures
 * is guessed as well as greedy text.
 */
import type { Transformer } from '../model/transformer.ts'

/** Guesses per node. */
export const BRANCHING = 8

/** Candidates by the logits alone, before noise is added. */
const CANDIDATES = 64

/** What decides between tokens, and everybody can know (generate/noise.ts). */
export interface SharedNoise {
  /** Standard Gumbel noise of a token at a position. */
  gumbel(position: number, token: number): number
  /** The tokens whose noise alone could lift them above likelier ones, by ascending id, and their noise. */
  outliers(position: number): { readonly tokens: Int32Array; readonly noise: Float64Array }
}

export interface RankingRule {
  /** Of the request. */
  readonly temperature: number
  /** Exponent on the draft's probabilities, or on those of the coupled sums. */
  readonly sharpening: number
  /** Absent: by the draft's probabilities alone. */
  readonly noise?: SharedNoise
}

export class ChildRanking {
  /** The guesses of the last call, likeliest first, and the draft's probabilities of them. */
  readonly ids = new Int32Array(BRANCHING)
  readonly promised = new Float64Array(BRANCHING)
  readonly #draft: Transformer
  readonly #vocabulary: number
  readonly #branching: number
  rule: RankingRule = { temperature: 0, sharpening: 1 }

  /**
   * @param vocabulary tokens that may be guessed, the first ones of the draft's
   * @param branching guesses per node, at most `BRANCHING`
   */
  constructor(draft: Transformer, vocabulary: number, branching: number) {
    this.#draft = draft
    this.#vocabulary = vocabulary
    this.#branching = branching
  }

  /**
   * Ranks what follows a row.
   * @param row of the draft's last call of `head` @param position of the token that follows
   * @returns how many guesses there are
   */
  rank(row: number, position: number): number {
    const { noise } = this.rule
    return noise === undefined ? this.#rankPlain(row) : this.#rankCoupled(row, position, noise)
  }

  #rankPlain(row: number): number {
    const { sharpening } = this.rule
    const { ids, values, count, logSum } = this.#draft.topCandidates(row, this.#vocabulary, this.#branching, sharpening)
    for (let i = 0; i < count; i++) {
      this.ids[i] = ids[i]
      this.promised[i] = Math.exp((values[i] - values[0]) * sharpening - logSum)
    }
    return count
  }

  #rankCoupled(row: number, position: number, noise: SharedNoise): number {
    const { temperature, sharpening } = this.rule
    const scale = 1 / temperature
    const best: Best = new Best(this.ids, this.promised, this.#branching)
    const { ids, values, count } = this.#draft.topCandidates(row, this.#vocabulary, CANDIDATES, scale)
    for (let i = 0; i < count; i++) {
      best.offer(ids[i], values[i] * scale + noise.gumbel(position, ids[i]))
    }
    const least = count === 0 ? 0 : values[count - 1]
    const logits = this.#draft.logitsView(row)
    const { tokens, noise: added } = noise.outliers(position)
    // Those of the target that the draft does not know come last.
    for (let i = 0; i < tokens.length && tokens[i] < this.#vocabulary; i++) {
      const logit = logits[tokens[i]]
      // Others are among the candidates already.
      if (logit < least) best.offer(tokens[i], logit * scale + added[i])
    }
    return best.finish(sharpening)
  }
}

/** The largest of many sums, and the softmax over all of them. */
class Best {
  readonly #ids: Int32Array
  readonly #sums: Float64Array
  readonly #all: number[] = []
  readonly #most: number
  #count = 0

  /** @param sums receives the probabilities */
  constructor(ids: Int32Array, sums: Float64Array, most: number) {
    this.#ids = ids
    this.#sums = sums
    this.#most = most
  }

  offer(id: number, sum: number): void {
    this.#all.push(sum)
    if (this.#count === this.#most && sum <= this.#sums[this.#most - 1]) return
    let place = this.#count === this.#most ? this.#most - 1 : this.#count++
    while (place > 0 && this.#sums[place - 1] < sum) {
      this.#sums[place] = this.#sums[place - 1]
      this.#ids[place] = this.#ids[place - 1]
      place--
    }
    this.#sums[place] = sum
    this.#ids[place] = id
  }

  /** Turns sums into probabilities. */
  finish(sharpening: number): number {
    const top = this.#sums[0]
    let total = 0
    for (const sum of this.#all) total += Math.exp((sum - top) * sharpening)
    for (let i = 0; i < this.#count; i++) this.#sums[i] = Math.exp((this.#sums[i] - top) * sharpening) / total
    return this.#count
  }
}
