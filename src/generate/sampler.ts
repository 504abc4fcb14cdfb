/**
 * The one definition of the next token: penalties and bias, temperature, top-k, top-p, min-p, then
 * Gumbel-max over what is left. Ties go to the lower token id everywhere. The draw is keyed by seed,
 * position and token, so it does not matter who asks, when, or along which path of a tree.
 */
import { CoppiceError } from '../errors.ts'
import { exp, log } from '../tensor/math.ts'
import { Noise, type OutlierScan, scanInTurn } from './noise.ts'
import { checkOptions, DEFAULT_SAMPLING, type SamplingOptions } from './sampling-options.ts'

/**
 * Candidates more temperatures than this below the best are out. Noise lies between -3.7 and 36.8,
 * so they could never win, and their probabilities, under e^-60, are lost in any f64 sum.
 */
const NEGLIGIBLE = 60

/** Up to this share of the vocabulary, each candidate's noise by itself takes less time than a look at everybody's. */
const FEW = 1 / 16

/** How far below the best the edge of top-k or top-p is looked for: sorting 128k candidates is seldom needed. */
const REACHES = [2, 4, 8, 16, NEGLIGIBLE]

/** What takes most of the time, by kernels or without: the bits are the same. */
export interface SamplingOperators {
  readonly outliers: OutlierScan
  /** Sum of exp(x) of the first `count` values, from the first one on; none is above 0 or below -`NEGLIGIBLE`. */
  readonly sumExp: (values: Float64Array, count: number) => number
}

const IN_TURN: SamplingOperators = {
  outliers: scanInTurn,
  sumExp: (values, count) => {
    let total = 0
    for (let i = 0; i < count; i++) total += exp(values[i])
    return total
  },
}

export class Sampler {
  readonly options: SamplingOptions
  readonly #vocabulary: number
  /** What decides between tokens at a temperature above 0. */
  readonly noise: Noise
  readonly #bias: readonly (readonly [number, number])[]
  readonly #adjusts: boolean
  /** Of min-p: the limit in units of `#scores`. */
  readonly #minScore: number
  /** Logits after penalties and bias, by token; then, by candidate, (logit - largest logit) / temperature. */
  readonly #scores: Float64Array
  /** Token ids of the candidates, ascending. */
  readonly #candidates: Int32Array
  /** Scores while they are sorted. */
  readonly #sorted: Float64Array
  readonly #operators: SamplingOperators
  /** Which tokens are in the repeat window; cleared after each use. */
  readonly #seen: Uint8Array
  /** How often each token occurs in the output; cleared after each use. */
  readonly #written: Uint32Array
  /** Of `distribution`; empty until it is asked for. */
  #probabilities = new Float64Array(0)

  /**
   * @param vocabulary logits per row @param operators absent: without kernels
   * @throws CoppiceError INVALID_OPTION
   */
  constructor(options: Partial<SamplingOptions>, vocabulary: number, operators = IN_TURN) {
    this.options = { ...DEFAULT_SAMPLING, ...options }
    checkOptions(this.options, vocabulary)
    const { temperature, topK, topP, minP, repeatPenalty, presencePenalty, frequencyPenalty } = this.options
    this.#vocabulary = vocabulary
    this.noise = new Noise(this.options.seed, vocabulary, operators.outliers.bind(operators))
    this.#bias = Object.entries(this.options.logitBias).map(([token, value]) => [Number(token), value] as const)
    const penalises = repeatPenalty !== 1 || presencePenalty !== 0 || frequencyPenalty !== 0
    this.#adjusts = penalises || this.#bias.length > 0
    this.#minScore = log(minP)
    this.#operators = operators
    this.#scores = new Float64Array(this.#adjusts || temperature > 0 ? vocabulary : 0)
    this.#candidates = new Int32Array(temperature > 0 ? vocabulary : 0)
    this.#sorted = new Float64Array(topK > 0 || topP < 1 ? vocabulary : 0)
    this.#seen = new Uint8Array(penalises ? vocabulary : 0)
    this.#written = new Uint32Array(penalises ? vocabulary : 0)
  }

  /** Uniform in (0, 1), as `Noise.uniform`: words below 0 are independent of what decides between tokens. */
  readonly uniform = (position: number, word: number): number => this.noise.uniform(position, word)

  get isGreedy(): boolean {
    return this.options.temperature === 0
  }

  /**
   * The token that follows.
   * @param logits [vocabulary], not changed
   * @param position absolute position of the token that is chosen
   * @param tokens prompt, output and tree path so far, of which `length` count
   * @param promptLength how many of them are the prompt
   * @throws CoppiceError CORRUPT_FILE when a logit is not a number, which only a damaged model produces;
   *   INVALID_OPTION when `logitBias` bans every token
   */
  sample(logits: Float32Array, position: number, tokens: Int32Array, length: number, promptLength: number): number {
    const values = this.#adjusts ? this.#adjust(logits, tokens, length, promptLength) : logits
    const best = this.#best(values, logits)
    if (this.isGreedy) return best
    return this.#draw(this.#select(values, best), position, best)
  }

  /**
   * What `sample` draws from: the probability of every token.
   * @returns [vocabulary], valid until the next call; the caller may change it
   * @throws CoppiceError as `sample`
   */
  distribution(logits: Float32Array, tokens: Int32Array, length: number, promptLength: number): Float64Array {
    const values = this.#adjusts ? this.#adjust(logits, tokens, length, promptLength) : logits
    const best = this.#best(values, logits)
    if (this.#probabilities.length === 0) this.#probabilities = new Float64Array(this.#vocabulary)
    const probabilities = this.#probabilities.fill(0)
    if (this.isGreedy) {
      probabilities[best] = 1
      return probabilities
    }
    const count = this.#select(values, best)
    const total = this.#operators.sumExp(this.#scores, count)
    for (let i = 0; i < count; i++) probabilities[this.#candidates[i]] = exp(this.#scores[i]) / total
    return probabilities
  }

  /**
   * Natural logarithm of the token's probability under softmax(logits), without penalties or temperature.
   * @throws CoppiceError CORRUPT_FILE
   */
  logprob(logits: Float32Array, token: number): number {
    const best = largest(logits, this.#vocabulary)
    if (best < 0) throw brokenModel(0, -Infinity)
    const top = logits[best]
    let sum = 0
    for (let i = 0; i < this.#vocabulary; i++) sum += exp(logits[i] - top)
    return logits[token] - top - log(sum)
  }

  /** The likeliest token. @throws CoppiceError as `sample` */
  #best(values: ArrayLike<number>, logits: Float32Array): number {
    const best = largest(values, this.#vocabulary)
    if (best < 0) throw largest(logits, this.#vocabulary) < 0 ? brokenModel(0, -Infinity) : allBanned()
    return best
  }

  /** Fills candidates and scores with what may be drawn. @returns how many */
  #select(values: ArrayLike<number>, best: number): number {
    const { temperature, topK, topP, minP } = this.options
    let count = this.#gather(values, values[best], temperature)
    if (topK > 0 && topK < count) count = this.#keepLargest(count, topK)
    if (topP < 1) count = this.#keepNucleus(count, topP)
    if (minP > 0) count = this.#keep(count, this.#minScore, Infinity)
    return count
  }

  #adjust(logits: Float32Array, tokens: Int32Array, length: number, promptLength: number): Float64Array {
    const { repeatPenalty, repeatWindow, presencePenalty, frequencyPenalty } = this.options
    const values = this.#scores
    for (let i = 0; i < this.#vocabulary; i++) values[i] = logits[i]
    if (repeatPenalty !== 1) {
      const seen = this.#seen
      const first = repeatWindow < 0 ? 0 : Math.max(0, length - repeatWindow)
      for (let i = first; i < length; i++) {
        const token = tokens[i]
        if (seen[token] === 1) continue
        seen[token] = 1
        values[token] = values[token] > 0 ? values[token] / repeatPenalty : values[token] * repeatPenalty
      }
      for (let i = first; i < length; i++) seen[tokens[i]] = 0
    }
    if (presencePenalty !== 0 || frequencyPenalty !== 0) {
      const written = this.#written
      for (let i = promptLength; i < length; i++) written[tokens[i]]++
      for (let i = promptLength; i < length; i++) {
        const token = tokens[i]
        if (written[token] === 0) continue
        values[token] -= written[token] * frequencyPenalty + presencePenalty
        written[token] = 0
      }
    }
    for (const [token, value] of this.#bias) values[token] += value
    return values
  }

  /** Fills candidates and scores. @returns how many */
  #gather(values: ArrayLike<number>, top: number, temperature: number): number {
    const scores = this.#scores
    const candidates = this.#candidates
    let count = 0
    for (let token = 0; token < this.#vocabulary; token++) {
      // `values` may be `#scores` itself: the write index never overtakes the read index.
      const score = (values[token] - top) / temperature
      if (score < -NEGLIGIBLE) continue
      scores[count] = score
      candidates[count++] = token
    }
    return count
  }

  /** Keeps candidates that score more than `edge`, and the first `ties` of those that score just that. */
  #keep(count: number, edge: number, ties: number): number {
    const scores = this.#scores
    const candidates = this.#candidates
    let kept = 0
    for (let i = 0; i < count; i++) {
      const score = scores[i]
      if (score < edge || (score === edge && --ties < 0)) continue
      scores[kept] = score
      candidates[kept++] = candidates[i]
    }
    return kept
  }

  /**
   * Sorts the scores from -`reach` up (from -`above` on excluded) at the start of `#sorted`, ascending.
   * @returns how many
   */
  #sortBand(count: number, reach: number, above: number): number {
    const scores = this.#scores
    const sorted = this.#sorted
    let size = 0
    for (let i = 0; i < count; i++) {
      const score = scores[i]
      if (score >= -reach && score < -above) sorted[size++] = score
    }
    // Plain numbers, because a comparator would cost ten times as much; ids follow from the ties.
    sorted.subarray(0, size).sort()
    return size
  }

  /** Top-k, for k below `count`. */
  #keepLargest(count: number, k: number): number {
    let missing = k
    let above = -1
    for (const reach of REACHES) {
      const size = this.#sortBand(count, reach, above)
      if (size < missing) {
        missing -= size
        above = reach
        continue
      }
      const edge = this.#sorted[size - missing]
      let ties = 0
      for (let i = size - missing; i < size && this.#sorted[i] === edge; i++) ties++
      return this.#keep(count, edge, ties)
    }
    return count
  }

  /** Top-p: the total is summed by ascending id, the nucleus by descending probability. */
  #keepNucleus(count: number, topP: number): number {
    const scores = this.#scores
    const sorted = this.#sorted
    const enough = topP * this.#operators.sumExp(scores, count)
    let sum = 0
    let above = -1
    for (const reach of REACHES) {
      const size = this.#sortBand(count, reach, above)
      above = reach
      let ties = 0
      for (let i = size - 1; i >= 0; i--) {
        ties = i < size - 1 && sorted[i] === sorted[i + 1] ? ties + 1 : 1
        sum += exp(sorted[i])
        if (sum >= enough) return this.#keep(count, sorted[i], ties)
      }
    }
    return count
  }

  /** Gumbel-max: the largest score + noise. */
  #draw(count: number, position: number, best: number): number {
    const scores = this.#scores
    const candidates = this.#candidates
    const noise = this.noise
    // The likeliest candidate first: a high mark spares the others' noise.
    let chosen = best
    let highest = noise.gumbel(position, best)
    const offer = (token: number, mark: number): void => {
      if (mark < highest || (mark === highest && token >= chosen)) return
      highest = mark
      chosen = token
    }
    let edge = Infinity
    if (count > this.#vocabulary * FEW) {
      // Of many, first those with the most noise; then it takes a high score to outdo the best of them.
      const { tokens, noise: added } = noise.outliers(position)
      edge = noise.edge
      for (let at = 0, i = 0; at < tokens.length && i < count; at++) {
        i = placeOf(tokens[at], candidates, i, count)
        if (i < count && candidates[i] === tokens[at]) offer(tokens[at], scores[i] + added[at])
      }
    }
    for (let i = 0; i < count; i++) {
      if (scores[i] + edge >= highest)
        offer(candidates[i], scores[i] + noise.gumbel(position, candidates[i], highest - scores[i]))
    }
    return chosen
  }
}

/** The first place in [from, count) of an ascending list that holds `value` or more; `count` if there is none. */
function placeOf(value: number, list: Int32Array, from: number, count: number): number {
  let low = from
  let high = count
  while (low < high) {
    const middle = (low + high) >> 1
    if (list[middle] < value) low = middle + 1
    else high = middle
  }
  return low
}

/** The lowest index of the largest value; -1 when all are -Infinity. @throws CoppiceError CORRUPT_FILE */
function largest(values: ArrayLike<number>, count: number): number {
  let best = -1
  let top = -Infinity
  for (let i = 0; i < count; i++) {
    const value = values[i]
    if (value <= top) continue
    if (!(value < Infinity)) throw brokenModel(i, value)
    top = value
    best = i
  }
  return best
}

const brokenModel = (token: number, value: number): CoppiceError =>
  new CoppiceError(
    'CORRUPT_FILE',
    `the model gave token ${token} the logit ${value}, so no next token can be chosen; the weights are damaged or overflow: run \`coppice verify\` and pack the model again`,
  )

const allBanned = (): CoppiceError =>
  new CoppiceError('INVALID_OPTION', 'logitBias bans every token that the model could choose; leave at least one')
