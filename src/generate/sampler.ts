/**
 * The one definition of the next token: penalties and bias, temperature, top-k, top-p, min-p, then
 * Gumbel-max over what is left. Ties go to the lower token id everywhere. The draw is keyed by seed,
 * position and token, so it does not matter who asks, when, or along which path of a tree.
 */
import { CoppiceError } from '../errors.ts'
import { exp, log } from '../tensor/math.ts'
import { LARGEST_NOISE, Noise } from './noise.ts'

export interface SamplingOptions {
  /** 0: the largest logit. */
  readonly temperature: number
  /** Keep the k largest logits; 0: all. */
  readonly topK: number
  /** Keep the fewest most probable tokens that together reach this probability; 1: all. */
  readonly topP: number
  /** Keep tokens at least this probable relative to the most probable one; 0: all. */
  readonly minP: number
  /** Logits of recent tokens: positive ones divided, negative ones multiplied (CTRL, arXiv 1909.05858). */
  readonly repeatPenalty: number
  /** Tokens of prompt and output that the penalties look back; -1: all. */
  readonly repeatWindow: number
  /** Subtracted once from the logit of every token that occurs in the output. */
  readonly presencePenalty: number
  /** Subtracted from a token's logit for each time it occurs in the output. */
  readonly frequencyPenalty: number
  /** Added to logits by token id; -Infinity bans a token. */
  readonly logitBias: Readonly<Record<number, number>>
  /** Integer from 0 to 2^53 - 1. */
  readonly seed: number
}

/** What applies when neither the request nor the model's generation_config.json says otherwise. */
export const DEFAULT_SAMPLING: SamplingOptions = {
  temperature: 0,
  topK: 0,
  topP: 1,
  minP: 0,
  repeatPenalty: 1,
  repeatWindow: 64,
  presencePenalty: 0,
  frequencyPenalty: 0,
  logitBias: {},
  seed: 0,
}

export interface GenerationDefaults {
  readonly sampling: Partial<SamplingOptions>
  readonly eosTokens: readonly number[]
}

/**
 * Reads generation_config.json. As in Hugging Face's generate, a model whose file does not say
 * `do_sample: true` decodes greedily.
 * @throws CoppiceError CORRUPT_FILE when the text is not a JSON object
 */
export function generationDefaults(json: string | undefined): GenerationDefaults {
  if (json === undefined) return { sampling: {}, eosTokens: [] }
  let parsed: unknown
  try {
    parsed = JSON.parse(json)
  } catch (cause) {
    throw new CoppiceError('CORRUPT_FILE', 'generation_config.json is not JSON; mend or remove it', { cause })
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) {
    throw new CoppiceError('CORRUPT_FILE', 'generation_config.json is not a JSON object; mend or remove it')
  }
  const fields = parsed as Record<string, unknown>
  const numeric = (name: string): number | undefined => {
    const value = fields[name]
    return typeof value === 'number' ? value : undefined
  }
  const eos = fields.eos_token_id
  const eosTokens = (Array.isArray(eos) ? eos : [eos]).filter((id): id is number => Number.isInteger(id))
  const repeatPenalty = numeric('repetition_penalty')
  const common = repeatPenalty === undefined ? {} : { repeatPenalty, repeatWindow: -1 }
  if (fields.do_sample !== true) return { sampling: { ...common, temperature: 0 }, eosTokens }
  const entries = Object.entries({
    temperature: numeric('temperature') ?? 1,
    topK: numeric('top_k'),
    topP: numeric('top_p'),
    minP: numeric('min_p'),
  }).filter(([, value]) => value !== undefined)
  return { sampling: { ...common, ...Object.fromEntries(entries) }, eosTokens }
}

/**
 * Tokens more temperatures than this below the best have probabilities under e^-60: no noise lifts
 * them to the top, and in f64 they add nothing to a sum.
 */
const NEGLIGIBLE = 60

/** How far below the top, in temperatures, the best candidates are looked for, one after the other. */
const REACHES = [4, 8, 16, Number.POSITIVE_INFINITY]

export class Sampler {
  readonly options: SamplingOptions
  readonly #vocabulary: number
  readonly #noise: Noise
  readonly #bias: readonly (readonly [number, number])[]
  readonly #adjusts: boolean
  /** Logits after penalties and bias, when there are any. */
  readonly #adjusted: Float64Array
  /** Occurrences of each token in the window and in the output; only touched entries are non-zero. */
  readonly #recent: Uint32Array
  readonly #written: Uint32Array
  /** Candidates that are left, as token ids. */
  readonly #kept: Int32Array

  /** @throws CoppiceError INVALID_OPTION */
  constructor(options: Partial<SamplingOptions>, vocabulary: number) {
    this.options = { ...DEFAULT_SAMPLING, ...options }
    checkOptions(this.options, vocabulary)
    const o = this.options
    this.#vocabulary = vocabulary
    this.#noise = new Noise(o.seed)
    this.#bias = Object.entries(o.logitBias).map(([token, value]) => [Number(token), value] as const)
    this.#adjusts =
      this.#bias.length > 0 || o.repeatPenalty !== 1 || o.presencePenalty !== 0 || o.frequencyPenalty !== 0
    this.#adjusted = new Float64Array(this.#adjusts ? vocabulary : 0)
    this.#recent = new Uint32Array(this.#adjusts ? vocabulary : 0)
    this.#written = new Uint32Array(this.#adjusts ? vocabulary : 0)
    this.#kept = new Int32Array(vocabulary)
  }

  get isGreedy(): boolean {
    return this.options.temperature === 0
  }

  /**
   * The token that follows.
   * @param logits [vocabulary], not changed
   * @param position absolute position of the token that is chosen
   * @param tokens prompt, output and tree path so far, of which `length` count
   * @param promptLength how many of them are the prompt
   * @throws CoppiceError CORRUPT_FILE when no logit is a number, which only a damaged model produces
   */
  sample(logits: Float32Array, position: number, tokens: Int32Array, length: number, promptLength: number): number {
    const values = this.#adjusts ? this.#adjust(logits, tokens, length, promptLength) : logits
    const best = argmax(values, this.#vocabulary)
    const { temperature, topK, topP, minP } = this.options
    if (temperature === 0) return best
    const top = values[best]
    let count = this.#keepAbove(values, this.#vocabulary, top - NEGLIGIBLE * temperature)
    if (topK > 0 && count > topK) count = this.#keepLargest(values, count, top, topK)
    if (topP < 1) count = this.#keepNucleus(values, count, top, topP)
    if (minP > 0) count = this.#keepAbove(values, count, top + log(minP) * temperature)
    return this.#draw(values, count, position, best)
  }

  /** Natural logarithm of the token's probability under softmax(logits). */
  logprob(logits: Float32Array, token: number): number {
    const top = logits[argmax(logits, this.#vocabulary)]
    let sum = 0
    for (let i = 0; i < this.#vocabulary; i++) sum += exp(logits[i] - top)
    return logits[token] - top - log(sum)
  }

  #adjust(logits: Float32Array, tokens: Int32Array, length: number, promptLength: number): Float64Array {
    const { repeatPenalty, repeatWindow, presencePenalty, frequencyPenalty } = this.options
    const values = this.#adjusted
    for (let i = 0; i < this.#vocabulary; i++) values[i] = logits[i]
    const first = repeatWindow < 0 ? 0 : Math.max(0, length - repeatWindow)
    for (let i = first; i < length; i++) {
      const token = tokens[i]
      if (this.#recent[token]++ === 0) {
        values[token] = values[token] > 0 ? values[token] / repeatPenalty : values[token] * repeatPenalty
      }
    }
    const firstWritten = Math.max(first, promptLength)
    for (let i = firstWritten; i < length; i++) {
      const token = tokens[i]
      values[token] -= frequencyPenalty + (this.#written[token]++ === 0 ? presencePenalty : 0)
    }
    for (let i = first; i < length; i++) this.#recent[tokens[i]] = this.#written[tokens[i]] = 0
    for (const [token, value] of this.#bias) values[token] += value
    return values
  }

  /**
   * Keeps candidates of at least `limit`, out of all tokens at first and out of `#kept` afterwards.
   * @returns how many are left
   */
  #keepAbove(values: ArrayLike<number>, count: number, limit: number): number {
    const kept = this.#kept
    const all = count === this.#vocabulary
    let left = 0
    for (let i = 0; i < count; i++) {
      const token = all ? i : kept[i]
      if (values[token] >= limit) kept[left++] = token
    }
    return left
  }

  /**
   * Moves the best candidates to the front, best first, ties by lower id: those within `reach`
   * temperatures of the top. Sorting 128k candidates costs far more than the few that matter.
   * @returns how many were sorted
   */
  #sortBest(values: ArrayLike<number>, count: number, limit: number): number {
    const kept = this.#kept
    let sorted = 0
    for (let i = 0; i < count; i++) {
      const token = kept[i]
      if (values[token] < limit) continue
      kept[i] = kept[sorted]
      kept[sorted++] = token
    }
    kept.subarray(0, sorted).sort((a, b) => values[b] - values[a] || a - b)
    return sorted
  }

  #keepLargest(values: ArrayLike<number>, count: number, top: number, k: number): number {
    for (const reach of REACHES) {
      if (this.#sortBest(values, count, top - reach * this.options.temperature) >= k) return k
    }
    return count
  }

  #keepNucleus(values: ArrayLike<number>, count: number, top: number, topP: number): number {
    const { temperature } = this.options
    const kept = this.#kept
    // Summed in the order of ids, so that the total does not depend on how the list was sorted before.
    kept.subarray(0, count).sort()
    let total = 0
    for (let i = 0; i < count; i++) total += exp((values[kept[i]] - top) / temperature)
    for (const reach of REACHES) {
      const sorted = this.#sortBest(values, count, top - reach * temperature)
      let sum = 0
      for (let i = 0; i < sorted; i++) {
        sum += exp((values[kept[i]] - top) / temperature)
        if (sum >= topP * total) return i + 1
      }
    }
    return count
  }

  /** Gumbel-max over the kept candidates. */
  #draw(values: ArrayLike<number>, count: number, position: number, best: number): number {
    const { temperature } = this.options
    let chosen = best
    let highest = values[best] / temperature + this.#noise.gumbel(position, best)
    for (let i = 0; i < count; i++) {
      const token = this.#kept[i]
      const value = values[token] / temperature
      if (token === best || value + LARGEST_NOISE < highest) continue
      const noisy = value + this.#noise.gumbel(position, token)
      if (noisy > highest || (noisy === highest && token < chosen)) {
        highest = noisy
        chosen = token
      }
    }
    return chosen
  }
}

function argmax(values: ArrayLike<number>, count: number): number {
  let best = -1
  let top = Number.NEGATIVE_INFINITY
  for (let i = 0; i < count; i++) {
    if (values[i] > top || values[i] !== values[i]) {
      if (values[i] !== values[i]) return brokenModel(i)
      best = i
      top = values[i]
    }
  }
  return best < 0 ? brokenModel(0) : best
}

function brokenModel(token: number): never {
  throw new CoppiceError(
    'CORRUPT_FILE',
    `the model's logits are not numbers (token ${token}), so no next token can be chosen; the weights are damaged or overflow: run \`coppice verify\` and pack the model again`,
  )
}

function checkOptions(o: SamplingOptions, vocabulary: number): void {
  const inRange = (name: keyof SamplingOptions, least: number, most: number): void => {
    const value = o[name] as number
    if (typeof value !== 'number' || !(value >= least && value <= most)) {
      throw new CoppiceError('INVALID_OPTION', `${name} must be a number from ${least} to ${most}, not ${value}`)
    }
  }
  const integer = (name: keyof SamplingOptions, least: number, most: number): void => {
    if (!Number.isInteger(o[name])) {
      throw new CoppiceError('INVALID_OPTION', `${name} must be an integer, not ${o[name]}`)
    }
    inRange(name, least, most)
  }
  inRange('temperature', 0, 1000)
  // Below this, logits divided by the temperature overflow; 0 is what was meant.
  if (o.temperature > 0 && o.temperature < 1e-4) {
    throw new CoppiceError('INVALID_OPTION', `temperature must be 0 or at least 0.0001, not ${o.temperature}`)
  }
  integer('topK', 0, Number.MAX_SAFE_INTEGER)
  inRange('topP', 0, 1)
  inRange('minP', 0, 1)
  inRange('repeatPenalty', 0.01, 100)
  integer('repeatWindow', -1, Number.MAX_SAFE_INTEGER)
  inRange('presencePenalty', -100, 100)
  inRange('frequencyPenalty', -100, 100)
  integer('seed', 0, Number.MAX_SAFE_INTEGER)
  for (const [token, value] of Object.entries(o.logitBias)) {
    const id = Number(token)
    if (!Number.isInteger(id) || id < 0 || id >= vocabulary || typeof value !== 'number' || Number.isNaN(value)) {
      throw new CoppiceError(
        'INVALID_OPTION',
        `logitBias maps token ids from 0 to ${vocabulary - 1} to numbers, not ${token} to ${value}`,
      )
    }
  }
}
