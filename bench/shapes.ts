/** Shapes of real checkpoints, as their config.json files give them. The benchmarks make the weights up. */
import type { ModelConfig } from '../src/weights/model-config.ts'

const llama = (
  sizes: Pick<
    ModelConfig,
    'vocabulary' | 'hidden' | 'layers' | 'heads' | 'kvHeads' | 'headSize' | 'intermediate' | 'positions' | 'rope'
  >,
  tiedHead: boolean,
): ModelConfig => ({
  family: 'llama',
  activation: 'silu',
  normEpsilon: 1e-5,
  windows: Array.from({ length: sizes.layers }, () => 0),
  tiedHead,
  qkvBias: false,
  outputBias: false,
  mlpBias: false,
  qkNorm: false,
  bosToken: 1,
  eosTokens: [2],
  ...sizes,
})

export const SHAPE_NAMES = ['135M', '1.1B', '8B'] as const
export type ShapeName = (typeof SHAPE_NAMES)[number]

export const SHAPES: Readonly<Record<ShapeName, ModelConfig>> = {
  /** HuggingFaceTB/SmolLM2-135M */
  '135M': llama(
    {
      vocabulary: 49152,
      hidden: 576,
      layers: 30,
      heads: 9,
      kvHeads: 3,
      headSize: 64,
      intermediate: 1536,
      positions: 8192,
      rope: { theta: 100000, scaling: { type: 'none' } },
    },
    true,
  ),
  /** TinyLlama/TinyLlama-1.1B-Chat-v1.0 */
  '1.1B': llama(
    {
      vocabulary: 32000,
      hidden: 2048,
      layers: 22,
      heads: 32,
      kvHeads: 4,
      headSize: 64,
      intermediate: 5632,
      positions: 2048,
      rope: { theta: 10000, scaling: { type: 'none' } },
    },
    false,
  ),
  /** meta-llama/Llama-3.1-8B */
  '8B': llama(
    {
      vocabulary: 128256,
      hidden: 4096,
      layers: 32,
      heads: 32,
      kvHeads: 8,
      headSize: 128,
      intermediate: 14336,
      positions: 131072,
      rope: {
        theta: 500000,
        scaling: { type: 'llama3', factor: 8, lowFrequencyFactor: 1, highFrequencyFactor: 4, originalPositions: 8192 },
      },
    },
    false,
  ),
}

/** The shape with another number of layers. */
export const withLayers = (config: ModelConfig, layers: number): ModelConfig => ({
  ...config,
  layers,
  windows: Array.from({ length: layers }, () => 0),
})

/** A matrix of the model: W[outputs x columns]. */
export interface MatrixShape {
  readonly outputs: number
  readonly columns: number
}

/** The matrices of one layer, fused as they are packed: qkv, attention output, gate and up, down. */
export function layerMatrices(config: ModelConfig): MatrixShape[] {
  const { hidden, heads, kvHeads, headSize, intermediate } = config
  return [
    { outputs: (heads + 2 * kvHeads) * headSize, columns: hidden },
    { outputs: hidden, columns: heads * headSize },
    { outputs: 2 * intermediate, columns: hidden },
    { outputs: hidden, columns: intermediate },
  ]
}
