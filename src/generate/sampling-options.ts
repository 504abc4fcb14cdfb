/** What a request may ask of the sampler: options, their ranges, and the defaults that come with a model. */
import { CoppiceError } from '../errors.ts'

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
  /** Tokens of prompt and output that `repeatPenalty` looks back, as in llama.cpp; -1: all, as in Hugging Face. */
  readonly repeatWindow: number
  /** Subtracted once from the logit of every token that occurs in the output (OpenAI's definition: not the prompt). */
  readonly presencePenalty: number
  /** Subtracted from a token's logit for each time it occurs in the output. */
  readonly frequencyPenalty: number
  /** Added to logits by token id, after the penalties; -Infinity bans a token. */
  readonly logitBias: Readonly<Record<number, number>>
  /** Safe integer; only its 54 bits matter. */
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

/** Fields of generation_config.json that mean the same as an option here. */
const CONFIG_FIELDS = [
  ['temperature', 'temperature'],
  ['top_k', 'topK'],
  ['top_p', 'topP'],
  ['min_p', 'minP'],
  ['repetition_penalty', 'repeatPenalty'],
] as const

/**
 * Reads generation_config.json.
 *
 * As in Hugging Face's `generate`, a model whose file does not say `do_sample: true` decodes greedily:
 * its temperature is 0. Its top-k, top-p and min-p stay, so that they apply when a request asks for a
 * temperature. What the file leaves out is off (Hugging Face's own top-k of 50 is not assumed). A
 * repetition penalty comes with Hugging Face's window: all tokens.
 * @throws CoppiceError CORRUPT_FILE when the text is not a JSON object or a field is out of range
 */
export function generationDefaults(json: string | undefined): GenerationDefaults {
  if (json === undefined) return { sampling: {}, eosTokens: [] }
  const fields = parseConfig(json)
  const sampling: { -readonly [Name in keyof SamplingOptions]?: number } = {}
  for (const [field, option] of CONFIG_FIELDS) {
    const value = fields[field]
    if (value === undefined || value === null) continue
    const problem = optionProblem(option, value)
    if (problem !== undefined) throw corruptConfig(`${field} ${problem}`)
    sampling[option] = value as number
  }
  if (sampling.repeatPenalty !== undefined) sampling.repeatWindow = -1
  sampling.temperature = fields.do_sample === true ? (sampling.temperature ?? 1) : 0
  const eos = fields.eos_token_id ?? []
  const eosTokens: unknown[] = Array.isArray(eos) ? eos : [eos]
  if (!eosTokens.every((id): id is number => Number.isInteger(id))) {
    throw corruptConfig(`eos_token_id must be a token id or a list of them, not ${JSON.stringify(eos)}`)
  }
  return { sampling: sampling as Partial<SamplingOptions>, eosTokens }
}

function parseConfig(json: string): Record<string, unknown> {
  let parsed: unknown
  try {
    parsed = JSON.parse(json)
  } catch (cause) {
    throw corruptConfig(`it is not JSON (${cause instanceof Error ? cause.message : cause})`)
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) {
    throw corruptConfig('it is not a JSON object')
  }
  return parsed as Record<string, unknown>
}

const corruptConfig = (problem: string): CoppiceError =>
  new CoppiceError('CORRUPT_FILE', `generation_config.json cannot be used: ${problem}; mend or remove the file`)

/** Least and greatest value of each numeric option, and whether it must be an integer. */
const RANGES: Readonly<Record<Exclude<keyof SamplingOptions, 'logitBias'>, readonly [number, number, 'integer'?]>> = {
  temperature: [0, 1000],
  topK: [0, Number.MAX_SAFE_INTEGER, 'integer'],
  topP: [0, 1],
  minP: [0, 1],
  repeatPenalty: [0.01, 100],
  repeatWindow: [-1, Number.MAX_SAFE_INTEGER, 'integer'],
  presencePenalty: [-100, 100],
  frequencyPenalty: [-100, 100],
  seed: [Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER, 'integer'],
}

/** What is wrong with the value, to follow the option's name; undefined when nothing is. */
function optionProblem(name: keyof typeof RANGES, value: unknown): string | undefined {
  const [least, most, kind] = RANGES[name]
  const fits = typeof value === 'number' && value >= least && value <= most
  if (fits && (kind === undefined || Number.isInteger(value))) return undefined
  const found = typeof value === 'number' ? value : JSON.stringify(value)
  return `must be ${kind === undefined ? 'a number' : 'an integer'} from ${least} to ${most}, not ${found}`
}

/** @throws CoppiceError INVALID_OPTION */
export function checkOptions(options: SamplingOptions, vocabulary: number): void {
  for (const name of Object.keys(RANGES) as (keyof typeof RANGES)[]) {
    const problem = optionProblem(name, options[name])
    if (problem !== undefined) throw new CoppiceError('INVALID_OPTION', `${name} ${problem}`)
  }
  for (const [token, value] of Object.entries(options.logitBias)) {
    const id = Number(token)
    const isToken = Number.isInteger(id) && id >= 0 && id < vocabulary
    if (!isToken || typeof value !== 'number' || !(value < Infinity)) {
      throw new CoppiceError(
        'INVALID_OPTION',
        `logitBias maps token ids from 0 to ${vocabulary - 1} to numbers or -Infinity, not ${token} to ${value}`,
      )
    }
  }
}
