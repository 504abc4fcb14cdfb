/**
 * A checkpoint's config.json and generation_config.json, as the transformers library defines them for
 * each family, including what an absent field means.
 */
import { CoppiceError } from '../errors.ts'
import { isFile, joinPath, readBytes, statPath } from '../runtime/files.ts'
import { configProblem, FAMILIES, MAXIMUM_LAYERS } from './config-check.ts'
import { ConfigFields } from './hf-fields.ts'
import { readRope } from './hf-rope.ts'
import { type JsonObject, parseJsonObject } from './json.ts'
import type { Family, ModelConfig } from './model-config.ts'

export const CONFIG_NAME = 'config.json'
export const GENERATION_CONFIG_NAME = 'generation_config.json'

/** A config is a few kilobytes; a larger one is something else. */
const CONFIG_LIMIT_BYTES = 1 << 24

/** What an absent field stands for. */
interface Defaults {
  readonly vocabulary: number
  readonly hidden: number
  readonly intermediate: number
  /** 'heads': as many as there are heads. */
  readonly kvHeads: number | 'heads'
  /** 'hidden / heads': their quotient. */
  readonly headSize: number | 'hidden / heads'
  readonly positions: number
  readonly bosToken: number | undefined
  readonly eosTokens: readonly number[]
}

const DEFAULTS: Readonly<Record<Family, Defaults>> = {
  llama: {
    vocabulary: 32_000,
    hidden: 4096,
    intermediate: 11_008,
    kvHeads: 'heads',
    headSize: 'hidden / heads',
    positions: 2048,
    bosToken: 1,
    eosTokens: [2],
  },
  mistral: {
    vocabulary: 32_000,
    hidden: 4096,
    intermediate: 14_336,
    kvHeads: 8,
    headSize: 'hidden / heads',
    positions: 131_072,
    bosToken: 1,
    eosTokens: [2],
  },
  qwen2: {
    vocabulary: 151_936,
    hidden: 4096,
    intermediate: 22_016,
    kvHeads: 32,
    headSize: 'hidden / heads',
    positions: 32_768,
    bosToken: undefined,
    eosTokens: [],
  },
  qwen3: {
    vocabulary: 151_936,
    hidden: 4096,
    intermediate: 22_016,
    kvHeads: 32,
    headSize: 128,
    positions: 32_768,
    bosToken: undefined,
    eosTokens: [],
  },
}
const DEFAULT_LAYERS = 32
const DEFAULT_HEADS = 32
const DEFAULT_EPSILON = 1e-6
const DEFAULT_WINDOW = 4096
const DEFAULT_MAX_WINDOW_LAYERS = 28

/**
 * Reads the config of the checkpoint in `directory`.
 * @throws CoppiceError MODEL_NOT_FOUND without config.json, CORRUPT_FILE when a file is not what it
 *   should be, UNSUPPORTED_ARCHITECTURE when a field asks for something that cannot be run
 */
export function readHfConfig(directory: string): ModelConfig {
  const path = joinPath(directory, CONFIG_NAME)
  const generationPath = joinPath(directory, GENERATION_CONFIG_NAME)
  const generation = isFile(generationPath) ? readJsonFile(generationPath) : {}
  return parseHfConfig(readJsonFile(path), path, new ConfigFields(generation, generationPath))
}

/**
 * @param where path of the file, for messages
 * @param generation fields of generation_config.json, whose token ids go before those of config.json
 * @throws CoppiceError CORRUPT_FILE | UNSUPPORTED_ARCHITECTURE
 */
export function parseHfConfig(
  config: JsonObject,
  where: string,
  generation = new ConfigFields({}, GENERATION_CONFIG_NAME),
): ModelConfig {
  const fields = new ConfigFields(config, where)
  const modelType = fields.value('model_type')
  const family = FAMILIES.find((name) => name === modelType)
  if (family === undefined) throw fields.refusal('model_type', FAMILIES.join(', '))
  const defaults = DEFAULTS[family]

  fields.unsupported('quantization_config', 'none; give the checkpoint that was not quantised')
  fields.unsupported('auto_map', "none; the model's own Python code cannot be run")
  const activation = fields.text('hidden_act', 'silu')
  if (activation !== 'silu' && activation !== 'swish') throw fields.refusal('hidden_act', 'silu, swish')

  const hidden = fields.integer('hidden_size', defaults.hidden)
  const layers = fields.integer('num_hidden_layers', DEFAULT_LAYERS)
  if (layers > MAXIMUM_LAYERS) throw fields.malformed('num_hidden_layers', `at most ${MAXIMUM_LAYERS}`)
  const heads = fields.integer('num_attention_heads', DEFAULT_HEADS)
  const positions = fields.integer('max_position_embeddings', defaults.positions)
  const layerTypes = readLayerTypes(fields, family, layers)
  const windows = readWindows(fields, family, layers, layerTypes)
  const types = new Set(layerTypes ?? windows.map((size) => (size > 0 ? 'sliding_attention' : 'full_attention')))

  const result: ModelConfig = {
    family,
    vocabulary: fields.integer('vocab_size', defaults.vocabulary),
    hidden,
    layers,
    heads,
    kvHeads: readKvHeads(fields, defaults, heads),
    headSize: readHeadSize(fields, defaults, hidden, heads),
    intermediate: fields.integer('intermediate_size', defaults.intermediate),
    activation: 'silu',
    normEpsilon: fields.positive('rms_norm_eps', DEFAULT_EPSILON),
    positions,
    rope: readRope(fields, types, positions),
    windows,
    tiedHead: fields.flag('tie_word_embeddings', false),
    ...readBiases(fields, family),
    qkNorm: family === 'qwen3',
    ...readTokens(fields, generation, defaults),
  }
  fields.refuseOthers()
  const problem = configProblem(result)
  if (problem !== undefined) throw new CoppiceError('CORRUPT_FILE', `${where}: ${problem}`)
  return result
}

function readKvHeads(fields: ConfigFields, defaults: Defaults, heads: number): number {
  // Null says "as many as heads" in every family; an absent field does so in llama only.
  if (fields.value('num_key_value_heads') === null || defaults.kvHeads === 'heads') {
    return fields.integer('num_key_value_heads', heads)
  }
  return fields.integer('num_key_value_heads', defaults.kvHeads)
}

function readHeadSize(fields: ConfigFields, defaults: Defaults, hidden: number, heads: number): number {
  const given = fields.integer('head_dim', undefined)
  if (given !== undefined) return given
  if (defaults.headSize !== 'hidden / heads') return defaults.headSize
  if (hidden % heads !== 0) {
    throw new CoppiceError(
      'CORRUPT_FILE',
      `${fields.where}: without head_dim, hidden_size ${hidden} should be a multiple of num_attention_heads ${heads}`,
    )
  }
  return hidden / heads
}

function readBiases(fields: ConfigFields, family: Family): Pick<ModelConfig, 'qkvBias' | 'outputBias' | 'mlpBias'> {
  switch (family) {
    case 'llama': {
      const attention = fields.flag('attention_bias', false)
      return { qkvBias: attention, outputBias: attention, mlpBias: fields.flag('mlp_bias', false) }
    }
    case 'mistral':
      return { qkvBias: false, outputBias: false, mlpBias: false }
    case 'qwen2':
      // The family has these biases whatever the field says, and no others.
      fields.flag('attention_bias', true)
      return { qkvBias: true, outputBias: false, mlpBias: false }
    case 'qwen3': {
      const attention = fields.flag('attention_bias', false)
      return { qkvBias: attention, outputBias: attention, mlpBias: false }
    }
  }
}

function readLayerTypes(fields: ConfigFields, family: Family, layers: number): readonly string[] | undefined {
  const value = fields.value('layer_types')
  if (value === undefined || value === null) return undefined
  if (!Array.isArray(value) || value.length !== layers) {
    throw fields.malformed('layer_types', `a list with one entry for each of ${layers} layers`)
  }
  const known = family === 'llama' ? ['full_attention'] : ['full_attention', 'sliding_attention']
  if (!value.every((type) => known.includes(type))) throw fields.refusal('layer_types', known.join(', '))
  return value
}

/** The window of each layer; 0 where a token sees all before it. */
function readWindows(
  fields: ConfigFields,
  family: Family,
  layers: number,
  layerTypes: readonly string[] | undefined,
): number[] {
  switch (family) {
    case 'llama': {
      // Some files name a window and switch it off beside it; the family itself has none.
      if (fields.value('use_sliding_window') !== false) fields.unsupported('sliding_window', 'null for llama')
      else fields.value('sliding_window')
      return new Array(layers).fill(0)
    }
    case 'mistral': {
      const window = fields.value('sliding_window') === null ? 0 : fields.integer('sliding_window', DEFAULT_WINDOW)
      const use = fields.value('use_sliding_window')
      if (use !== undefined && use !== null && use !== window > 0) {
        throw fields.refusal('use_sliding_window', `${window > 0}, which is what sliding_window says`)
      }
      const type = window > 0 ? 'sliding_attention' : 'full_attention'
      if (layerTypes?.some((other) => other !== type)) {
        throw fields.refusal('layer_types', `${type} in all layers, which is what sliding_window says`)
      }
      return new Array(layers).fill(window)
    }
    case 'qwen2':
    case 'qwen3': {
      const use = fields.flag('use_sliding_window', false)
      const given = fields.value('sliding_window')
      const window = given === null ? 0 : use ? fields.integer('sliding_window', DEFAULT_WINDOW) : 0
      const full = fields.value('max_window_layers') ?? DEFAULT_MAX_WINDOW_LAYERS
      if (!Number.isSafeInteger(full) || (full as number) < 0) {
        throw fields.malformed('max_window_layers', 'a non-negative integer')
      }
      if (layerTypes === undefined) {
        return Array.from({ length: layers }, (_, layer) => (layer >= (full as number) ? window : 0))
      }
      if (window === 0 && layerTypes.includes('sliding_attention')) {
        throw fields.refusal('layer_types', 'full_attention only, since no sliding window is in use')
      }
      return layerTypes.map((type) => (type === 'sliding_attention' ? window : 0))
    }
  }
}

function readTokens(
  fields: ConfigFields,
  generation: ConfigFields,
  defaults: Defaults,
): Pick<ModelConfig, 'bosToken' | 'eosTokens'> {
  const own = { bos: fields.tokens('bos_token_id'), eos: fields.tokens('eos_token_id') }
  const isNull = (name: string): boolean => fields.value(name) === null
  const defaultBos = defaults.bosToken === undefined || isNull('bos_token_id') ? [] : [defaults.bosToken]
  const defaultEos = isNull('eos_token_id') ? [] : defaults.eosTokens
  return {
    bosToken: (generation.tokens('bos_token_id') ?? own.bos ?? defaultBos).at(0),
    eosTokens: generation.tokens('eos_token_id') ?? own.eos ?? defaultEos,
  }
}

function readJsonFile(path: string): JsonObject {
  const found = statPath(path)
  if (found !== undefined && (found.kind !== 'file' || found.stamp.bytes > CONFIG_LIMIT_BYTES)) {
    throw new CoppiceError(
      'CORRUPT_FILE',
      `${path} should be a JSON file of at most ${CONFIG_LIMIT_BYTES} bytes, but is a ${found.kind} of ${found.stamp.bytes}`,
    )
  }
  try {
    return parseJsonObject(new TextDecoder('utf-8', { fatal: true }).decode(readBytes(path)))
  } catch (cause) {
    if (cause instanceof CoppiceError) throw cause
    const what = cause instanceof SyntaxError ? cause.message : 'is not valid UTF-8'
    throw new CoppiceError('CORRUPT_FILE', `${path} ${what}`, { cause })
  }
}
