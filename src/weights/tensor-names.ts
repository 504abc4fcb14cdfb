/**
 * The tensors of a packed model, in the order the forward pass consumes them, and the names that they
 * have in a Hugging Face checkpoint.
 */
import { CoppiceError } from '../errors.ts'
import { showValue } from './json.ts'
import type { ModelConfig } from './model-config.ts'
import type { TensorInfo } from './safetensors.ts'

/** One tensor of the checkpoint that goes, whole, into a packed one. */
export interface TensorPart {
  /** Name in the checkpoint. */
  readonly source: string
  /** Outputs of a matrix, elements of a vector. */
  readonly rows: number
}

/** A packed tensor: one tensor of the checkpoint, or several laid one after the other. */
export interface TensorRecipe {
  readonly name: string
  readonly type: 'matrix' | 'vector'
  /** Inner dimension of a matrix; 1 for a vector. */
  readonly columns: number
  readonly parts: readonly TensorPart[]
}

/** Every recipe of a model. */
export interface ModelRecipes {
  readonly layers: readonly (readonly TensorRecipe[])[]
  readonly edges: readonly TensorRecipe[]
}

const EMBEDDING = 'embed_tokens.weight'
const HEAD = 'lm_head.weight'

/**
 * Tensors of decoder layer `layer`.
 * @param prefix what the checkpoint puts before `layers.`: usually `model.`
 */
export function layerRecipes(config: ModelConfig, layer: number, prefix = 'model.'): TensorRecipe[] {
  const { hidden, heads, kvHeads, headSize, intermediate } = config
  const base = `${prefix}layers.${layer}.`
  const vector = (name: string, source: string, rows: number): TensorRecipe => ({
    name,
    type: 'vector',
    columns: 1,
    parts: [{ source: base + source, rows }],
  })
  const linear = (name: string, columns: number, hasBias: boolean, modules: [string, number][]): TensorRecipe[] => {
    const parts = (suffix: string): TensorPart[] =>
      modules.map(([module, rows]) => ({ source: base + module + suffix, rows }))
    const weight: TensorRecipe = { name, type: 'matrix', columns, parts: parts('.weight') }
    return hasBias ? [weight, { name: `${name}_bias`, type: 'vector', columns: 1, parts: parts('.bias') }] : [weight]
  }
  return [
    vector('attention_norm', 'input_layernorm.weight', hidden),
    ...linear('qkv', hidden, config.qkvBias, [
      ['self_attn.q_proj', heads * headSize],
      ['self_attn.k_proj', kvHeads * headSize],
      ['self_attn.v_proj', kvHeads * headSize],
    ]),
    ...(config.qkNorm
      ? [vector('q_norm', 'self_attn.q_norm.weight', headSize), vector('k_norm', 'self_attn.k_norm.weight', headSize)]
      : []),
    ...linear('attention_output', heads * headSize, config.outputBias, [['self_attn.o_proj', hidden]]),
    vector('mlp_norm', 'post_attention_layernorm.weight', hidden),
    ...linear('gate_up', hidden, config.mlpBias, [
      ['mlp.gate_proj', intermediate],
      ['mlp.up_proj', intermediate],
    ]),
    ...linear('down', intermediate, config.mlpBias, [['mlp.down_proj', hidden]]),
  ]
}

/** Final norm, embedding, and the output head unless it is the embedding. */
export function edgeRecipes(config: ModelConfig, prefix = 'model.', embedding = prefix + EMBEDDING): TensorRecipe[] {
  const { hidden, vocabulary, tiedHead } = config
  const matrix = (name: string, source: string): TensorRecipe => ({
    name,
    type: 'matrix',
    columns: hidden,
    parts: [{ source, rows: vocabulary }],
  })
  return [
    { name: 'final_norm', type: 'vector', columns: 1, parts: [{ source: `${prefix}norm.weight`, rows: hidden }] },
    matrix('embedding', embedding),
    ...(tiedHead ? [] : [matrix('head', HEAD)]),
  ]
}

/** Weights of the model; a head that is the embedding counts once. */
export function parameterCount(config: ModelConfig): number {
  const count = (recipes: readonly TensorRecipe[]): number =>
    recipes.reduce((sum, { columns, parts }) => sum + columns * parts.reduce((rows, part) => rows + part.rows, 0), 0)
  return count(edgeRecipes(config)) + config.layers * count(layerRecipes(config, 0))
}

/** Buffers that older exports stored; they follow from the config. */
const DERIVED = /(^|\.)rotary_emb\.(inv_freq|cos_cached|sin_cached)$/

export interface CheckpointNames extends ModelRecipes {
  /** In a tied checkpoint that stores the matrix twice: both names. They must hold the same. */
  readonly twins: readonly [string, string] | undefined
}

/**
 * Finds every tensor of the model in a checkpoint, under the names with or without `model.`.
 * @param tensors the checkpoint's, by name
 * @param where the checkpoint's path, for messages
 * @throws CoppiceError CORRUPT_FILE when one is missing or has another shape than the config says,
 *   UNSUPPORTED_FORMAT when its dtype is none of F32, F16 and BF16, UNSUPPORTED_ARCHITECTURE when there
 *   are tensors that the model does not use
 */
export function resolveNames(
  config: ModelConfig,
  tensors: ReadonlyMap<string, TensorInfo>,
  where: string,
): CheckpointNames {
  const names = [...tensors.keys()]
  const prefix = names.some((name) => name.startsWith('model.')) ? 'model.' : ''
  const own = prefix + EMBEDDING
  // Exports of tied models drop one of the two names, and not always the same one.
  const embedding = config.tiedHead && !tensors.has(own) && tensors.has(HEAD) ? HEAD : own
  const edges = edgeRecipes(config, prefix, embedding)
  const layers = Array.from({ length: config.layers }, (_, layer) => layerRecipes(config, layer, prefix))
  const twins: [string, string] | undefined =
    config.tiedHead && embedding === own && tensors.has(HEAD) ? [own, HEAD] : undefined

  const unused = new Set(names)
  const missing: string[] = []
  for (const recipe of [...edges, ...layers.flat()]) {
    for (const { source, rows } of recipe.parts) {
      unused.delete(source)
      const info = tensors.get(source)
      if (info === undefined) missing.push(source)
      else checkTensor(info, recipe.type === 'matrix' ? [rows, recipe.columns] : [rows])
    }
  }
  if (missing.length > 0) throw missingTensors(missing, where)
  if (twins !== undefined) {
    unused.delete(HEAD)
    checkTensor(tensors.get(HEAD)!, [config.vocabulary, config.hidden])
  }
  const strangers = [...unused].filter((name) => !DERIVED.test(name))
  if (strangers.length > 0) {
    throw new CoppiceError(
      'UNSUPPORTED_ARCHITECTURE',
      `${where} has tensors that a ${config.family} model of this config does not use: ${list(strangers)}; its config.json does not describe it, or it is of an architecture that this version cannot run`,
    )
  }
  return { layers, edges, twins }
}

function checkTensor(info: TensorInfo, shape: readonly number[]): void {
  if (info.shape.length !== shape.length || info.shape.some((n, i) => n !== shape[i])) {
    throw new CoppiceError(
      'CORRUPT_FILE',
      `${info.file}: tensor ${info.name} should have the shape ${showValue(shape)} by config.json, but has ${showValue(info.shape)}`,
    )
  }
  if (info.dtype !== 'F32' && info.dtype !== 'F16' && info.dtype !== 'BF16') {
    throw new CoppiceError(
      'UNSUPPORTED_FORMAT',
      `${info.file}: tensor ${info.name} is ${info.dtype}; supported: F32, F16, BF16. Give the checkpoint that was not quantised`,
    )
  }
}

function missingTensors(missing: readonly string[], where: string): CoppiceError {
  const hint = missing.includes(HEAD)
    ? '; if the output head is the embedding, config.json should have tie_word_embeddings true'
    : ''
  return new CoppiceError('CORRUPT_FILE', `${where} lacks tensors that config.json asks for: ${list(missing)}${hint}`)
}

const list = (names: readonly string[]): string =>
  names.length <= 4 ? names.join(', ') : `${names.slice(0, 4).join(', ')} and ${names.length - 4} more`
