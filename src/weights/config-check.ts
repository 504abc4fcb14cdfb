/** Whether the numbers of a `ModelConfig` can be those of a model, wherever they came from. */
import { isJsonObject, type JsonObject, showValue } from './json.ts'
import type { Family, ModelConfig, RopeScaling } from './model-config.ts'

export const FAMILIES: readonly Family[] = ['llama', 'mistral', 'qwen2', 'qwen3']

export const MAXIMUM_LAYERS = 2 ** 12

/**
 * Fields that count something: the name in a checkpoint's config.json, and the most that is accepted.
 * The limits are far above any model's and low enough that byte counts stay exact integers.
 */
const COUNTS = {
  vocabulary: ['vocab_size', 2 ** 24],
  hidden: ['hidden_size', 2 ** 20],
  layers: ['num_hidden_layers', MAXIMUM_LAYERS],
  heads: ['num_attention_heads', 2 ** 12],
  kvHeads: ['num_key_value_heads', 2 ** 12],
  headSize: ['head_dim', 2 ** 13],
  intermediate: ['intermediate_size', 2 ** 22],
  positions: ['max_position_embeddings', 2 ** 31],
} as const satisfies Partial<Record<keyof ModelConfig, readonly [string, number]>>

const isCount = (value: unknown, least: number, most: number): value is number =>
  Number.isInteger(value) && (value as number) >= least && (value as number) <= most

const isPositive = (value: unknown): value is number => typeof value === 'number' && Number.isFinite(value) && value > 0

/** What is wrong with `config`, as a sentence without its subject's file; `undefined` when nothing is. */
export function configProblem(config: ModelConfig): string | undefined {
  for (const [field, [name, most]] of Object.entries(COUNTS)) {
    const value = config[field as keyof typeof COUNTS]
    if (!isCount(value, 1, most)) {
      return `${field} (${name}) should be an integer from 1 to ${most}, not ${showValue(value)}`
    }
  }
  const { heads, kvHeads, headSize, layers, windows, vocabulary, bosToken, eosTokens, rope } = config
  if (heads % kvHeads !== 0) {
    return `heads (num_attention_heads) ${heads} should be a multiple of kvHeads (num_key_value_heads) ${kvHeads}`
  }
  if (headSize % 4 !== 0) {
    return `headSize (head_dim) should be a multiple of 4, the lanes of attention's vectors, not ${headSize}`
  }
  if (!isPositive(config.normEpsilon)) {
    return `normEpsilon (rms_norm_eps) should be a positive number, not ${showValue(config.normEpsilon)}`
  }
  if (!isPositive(rope.theta))
    return `rope.theta (rope_theta) should be a positive number, not ${showValue(rope.theta)}`
  const scaling = scalingProblem(rope.scaling)
  if (scaling !== undefined) return scaling
  if (windows.length !== layers) return `windows should have one entry per layer (${layers}), not ${windows.length}`
  for (const window of windows) {
    if (!isCount(window, 0, 2 ** 31)) return `windows should hold non-negative integers, not ${showValue(window)}`
  }
  for (const token of bosToken === undefined ? eosTokens : [bosToken, ...eosTokens]) {
    if (!isCount(token, 0, vocabulary - 1)) {
      return `bosToken and eosTokens (bos_token_id, eos_token_id) should be below the vocabulary's ${vocabulary}, not ${showValue(token)}`
    }
  }
  return undefined
}

function scalingProblem(scaling: RopeScaling): string | undefined {
  if (scaling.type === 'none') return undefined
  if (!isPositive(scaling.factor))
    return `RoPE scaling: factor should be a positive number, not ${showValue(scaling.factor)}`
  if (scaling.type === 'linear') return undefined
  const { lowFrequencyFactor: low, highFrequencyFactor: high, originalPositions } = scaling
  if (!isPositive(low) || !isPositive(high) || high <= low) {
    return `RoPE scaling llama3: low_freq_factor should be positive and below high_freq_factor, not ${showValue(low)} and ${showValue(high)}`
  }
  if (!isCount(originalPositions, 1, 2 ** 31)) {
    return `RoPE scaling llama3: original_max_position_embeddings should be a positive integer, not ${showValue(originalPositions)}`
  }
  return undefined
}

/**
 * Reads a `ModelConfig` that was stored as JSON.
 * @throws TypeError that says which field is wrong
 */
export function parseModelConfig(value: unknown): ModelConfig {
  if (!isJsonObject(value)) throw new TypeError(`should be an object, not ${showValue(value)}`)
  const family = FAMILIES.find((name) => name === value.family)
  if (family === undefined)
    throw new TypeError(`family should be one of ${FAMILIES.join(', ')}, not ${showValue(value.family)}`)
  if (value.activation !== 'silu')
    throw new TypeError(`activation should be "silu", not ${showValue(value.activation)}`)
  const { rope } = value
  if (!isJsonObject(rope)) throw new TypeError(`rope should be an object, not ${showValue(rope)}`)
  const config: ModelConfig = {
    family,
    vocabulary: numberOf(value, 'vocabulary'),
    hidden: numberOf(value, 'hidden'),
    layers: numberOf(value, 'layers'),
    heads: numberOf(value, 'heads'),
    kvHeads: numberOf(value, 'kvHeads'),
    headSize: numberOf(value, 'headSize'),
    intermediate: numberOf(value, 'intermediate'),
    activation: 'silu',
    normEpsilon: numberOf(value, 'normEpsilon'),
    positions: numberOf(value, 'positions'),
    rope: { theta: numberOf(rope, 'theta'), scaling: parseScaling(rope.scaling) },
    windows: numbersOf(value, 'windows'),
    tiedHead: booleanOf(value, 'tiedHead'),
    qkvBias: booleanOf(value, 'qkvBias'),
    outputBias: booleanOf(value, 'outputBias'),
    mlpBias: booleanOf(value, 'mlpBias'),
    qkNorm: booleanOf(value, 'qkNorm'),
    bosToken: value.bosToken === undefined ? undefined : numberOf(value, 'bosToken'),
    eosTokens: numbersOf(value, 'eosTokens'),
  }
  const problem = configProblem(config)
  if (problem !== undefined) throw new TypeError(problem)
  return config
}

function parseScaling(value: unknown): RopeScaling {
  if (!isJsonObject(value)) throw new TypeError(`rope.scaling should be an object, not ${showValue(value)}`)
  switch (value.type) {
    case 'none':
      return { type: 'none' }
    case 'linear':
      return { type: 'linear', factor: numberOf(value, 'factor') }
    case 'llama3':
      return {
        type: 'llama3',
        factor: numberOf(value, 'factor'),
        lowFrequencyFactor: numberOf(value, 'lowFrequencyFactor'),
        highFrequencyFactor: numberOf(value, 'highFrequencyFactor'),
        originalPositions: numberOf(value, 'originalPositions'),
      }
    default:
      throw new TypeError(`rope.scaling.type should be none, linear or llama3, not ${showValue(value.type)}`)
  }
}

function numberOf(object: JsonObject, field: string): number {
  const value = object[field]
  if (typeof value !== 'number') throw new TypeError(`${field} should be a number, not ${showValue(value)}`)
  return value
}

function booleanOf(object: JsonObject, field: string): boolean {
  const value = object[field]
  if (typeof value !== 'boolean') throw new TypeError(`${field} should be true or false, not ${showValue(value)}`)
  return value
}

function numbersOf(object: JsonObject, field: string): number[] {
  const value = object[field]
  if (!Array.isArray(value) || !value.every((item) => typeof item === 'number')) {
    throw new TypeError(`${field} should be a list of numbers, not ${showValue(value)}`)
  }
  return value
}
