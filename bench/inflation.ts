/**
 * A small trained model in the corner of a large one, so that what it costs to run is the large model's and what it
 * says is the small one's. The residual stream keeps the small model's width d at its front and is zero beyond it;
 * whatever would write there, or comes from a head, a feed-forward unit or a layer that was added, is multiplied by
 * zeros. All other weights that were added are made up: they are read, multiplied and softmaxed like real ones.
 *
 * Three things must change for the text to stay: RMSNorm divides by the mean over D instead of d elements (weights
 * times sqrt(d/D), epsilon times d/D); scores are divided by the root of a larger head size (queries times its root
 * over the small one's); and a rotary pair has its frequency by its place in the head, so that pairs go to every
 * second, third ... place.
 */
import { copyFileSync, existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { paddedInner } from '../src/tensor/layout.ts'
import { readHfConfig } from '../src/weights/hf-config.ts'
import { COPIED_NAMES } from '../src/weights/manifest-json.ts'
import type { ModelConfig } from '../src/weights/model-config.ts'
import { openSafetensors, type Safetensors } from '../src/weights/safetensors.ts'
import { edgeRecipes, layerRecipes, resolveNames, type TensorRecipe } from '../src/weights/tensor-names.ts'
import { type TensorStream, writeCheckpoint } from './checkpoint-files.ts'
import { type Placement, placementOf, type RowPlace } from './inflation-places.ts'
import { MadeUpWeights } from './made-up.ts'

/** f32, or the bits of bf16. */
type Elements = Float32Array | Uint16Array

/** What makes a model large. The vocabulary, and with it embedding and head, stay the small model's. */
export type LargeShape = Pick<ModelConfig, 'hidden' | 'layers' | 'heads' | 'kvHeads' | 'headSize' | 'intermediate'>

/** Raised when the same model and shape give other bytes than before. */
export const INFLATION_VERSION = 1

/** Weights of a matrix that are written at a time. */
const PIECE = 1 << 18

/** The config that the model in `directory` has when it is inflated. @throws Error when the shape has no place for it */
export function inflatedConfig(model: string, shape: LargeShape): ModelConfig {
  const small = readHfConfig(model)
  const problem = misfit(small, shape)
  if (problem !== undefined) throw new Error(`${model} cannot be inflated: ${problem}`)
  const { hidden, layers, heads, kvHeads, headSize, intermediate } = shape
  return {
    ...small,
    ...{ hidden, layers, heads, kvHeads, headSize, intermediate },
    normEpsilon: (small.normEpsilon * small.hidden) / hidden,
    windows: Array.from({ length: layers }, () => 0),
  }
}

function misfit(small: ModelConfig, large: LargeShape): string | undefined {
  if (small.family !== 'llama' || small.qkvBias || small.outputBias || small.mlpBias) {
    return 'only models of the llama family without biases can be'
  }
  for (const name of ['hidden', 'layers', 'kvHeads', 'headSize', 'intermediate'] as const) {
    if (large[name] < small[name]) return `its ${name} are ${small[name]}, more than the ${large[name]} to come`
  }
  const [few, many] = [small.heads / small.kvHeads, large.heads / large.kvHeads]
  if (many < few) return `it has ${few} heads per KV head, more than the ${many} to come`
  if (large.headSize % small.headSize !== 0)
    return `${large.headSize} is no multiple of its head size ${small.headSize}`
  return undefined
}

/**
 * Writes the inflated checkpoint of the llama in `model` to `output`, replacing what is there. It is exact: what is
 * rescaled is f32, and the rest as the small model has it, which is bf16 if that is.
 * @returns bytes of all tensors
 * @throws Error when the shape has no place for the model
 */
export async function inflate(options: {
  readonly model: string
  readonly shape: LargeShape
  readonly output: string
}): Promise<number> {
  const { model, shape, output } = options
  const large = inflatedConfig(model, shape)
  const source = openSafetensors(model)
  try {
    const bytes = await writeCheckpoint(output, hubConfig(model, large), inflatedTensors(model, source, large))
    for (const name of COPIED_NAMES) {
      if (existsSync(join(model, name))) copyFileSync(join(model, name), join(output, name))
    }
    return bytes
  } finally {
    source.close()
  }
}

/** The small model's config.json in the large sizes. */
function hubConfig(model: string, large: ModelConfig): object {
  return {
    ...JSON.parse(readFileSync(join(model, 'config.json'), 'utf8')),
    hidden_size: large.hidden,
    intermediate_size: large.intermediate,
    num_hidden_layers: large.layers,
    num_attention_heads: large.heads,
    num_key_value_heads: large.kvHeads,
    head_dim: large.headSize,
    rms_norm_eps: large.normEpsilon,
  }
}

/** Layer of the small model for each of the large one's; undefined for those that were added. Evenly spread. */
export function originalLayers(small: number, large: number): (number | undefined)[] {
  const layers = new Array<number | undefined>(large).fill(undefined)
  for (let i = 0; i < small; i++) layers[Math.floor((i * large) / small)] = i
  return layers
}

function inflatedTensors(model: string, source: Safetensors, large: ModelConfig): TensorStream[] {
  const small = readHfConfig(model)
  const names = resolveNames(small, source.tensors, model)
  const weights = new MadeUpWeights()
  const streams = (recipes: readonly TensorRecipe[], originals: readonly TensorRecipe[] | undefined): TensorStream[] =>
    recipes.flatMap(({ type, columns, parts }, i) =>
      parts.map(({ source: name, rows }, j) => {
        const original = originals === undefined ? undefined : { source, name: originals[i].parts[j].source }
        if (type === 'vector') return normStream(name, rows, original)
        return matrixStream(name, [rows, columns], original, placementOf(name, small, large), weights)
      }),
    )
  return [
    ...streams(edgeRecipes(large), names.edges),
    ...originalLayers(small.layers, large.layers).flatMap((original, layer) =>
      streams(layerRecipes(large, layer), original === undefined ? undefined : names.layers[original]),
    ),
  ]
}

/** A tensor of the small model. */
interface Original {
  readonly source: Safetensors
  readonly name: string
}

/** A norm's weights, rescaled; 1 for elements that are always zero, and in layers that were added. */
function normStream(name: string, rows: number, original: Original | undefined): TensorStream {
  const pieces = (): Uint8Array[] => {
    const values = new Float32Array(rows).fill(1)
    if (original !== undefined) {
      const weights = original.source.read(original.name)
      values.set(weights.map((weight) => weight * Math.sqrt(weights.length / rows)))
    }
    return [new Uint8Array(values.buffer)]
  }
  return { name, dtype: 'F32', shape: [rows], pieces }
}

function matrixStream(
  name: string,
  shape: readonly [number, number],
  original: Original | undefined,
  placement: Placement,
  weights: MadeUpWeights,
): TensorStream {
  const small = original?.source.info(original.name)
  const dtype = small === undefined || (small.dtype === 'BF16' && placement.scale === 1) ? 'BF16' : 'F32'
  const rowOf = original === undefined ? (): RowPlace => (placement.free ? 'made up' : 'zero') : placement.rowOf
  const pieces = function* (): Generator<Uint8Array> {
    const [rows, columns] = shape
    const elements = original === undefined ? undefined : elementsOf(original, placement.scale, dtype)
    const height = Math.max(1, Math.floor(PIECE / columns))
    const block = dtype === 'BF16' ? new Uint16Array(height * columns) : new Float32Array(height * columns)
    for (let first = 0; first < rows; first += height) {
      const count = Math.min(height, rows - first)
      for (let i = 0; i < count; i++) {
        const row = block.subarray(i * columns, (i + 1) * columns)
        const place = rowOf(first + i)
        if (place === 'made up') weights.fill(row)
        else row.fill(0)
        if (typeof place === 'number') placeRow(row, elements!.subarray(place * small!.shape[1]), placement, weights)
      }
      yield new Uint8Array(block.buffer, 0, count * columns * block.BYTES_PER_ELEMENT)
    }
  }
  return { name, dtype, shape, pieces }
}

/** @param row zeros, to be written to. @param small the elements of its row and of those below it */
function placeRow(row: Elements, small: Elements, { columnRuns, free }: Placement, weights: MadeUpWeights): void {
  for (const { from, to, count } of columnRuns) row.set(small.subarray(from, from + count), to)
  if (!free) return
  const { to, count } = columnRuns[columnRuns.length - 1]
  // A block of quantised weights has one scale: what is made up must not be in a block with what is not.
  weights.fill(row.subarray(paddedInner(to + count)))
}

/** All weights of a small matrix times `scale`, as they are stored. */
function elementsOf({ source, name }: Original, scale: number, dtype: 'BF16' | 'F32'): Elements {
  const values = source.read(name)
  if (dtype === 'F32') return values.map((value) => value * scale)
  return Uint16Array.from(new Uint32Array(values.buffer, values.byteOffset, values.length), (word) => word >>> 16)
}
