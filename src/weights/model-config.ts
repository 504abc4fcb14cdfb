/** What the transformer needs to know of a checkpoint, whatever file it came from. */

export type Family = 'llama' | 'mistral' | 'qwen2' | 'qwen3'

/** Rotary position embedding (RoFormer, arXiv 2104.09864) and the rescalings of its frequencies. */
export type RopeScaling =
  | { readonly type: 'none' }
  | { readonly type: 'linear'; readonly factor: number }
  | {
      readonly type: 'llama3'
      readonly factor: number
      readonly lowFrequencyFactor: number
      readonly highFrequencyFactor: number
      readonly originalPositions: number
    }

export interface ModelConfig {
  readonly family: Family
  readonly vocabulary: number
  readonly hidden: number
  readonly layers: number
  readonly heads: number
  readonly kvHeads: number
  /** Elements of one attention head; not always hidden / heads. */
  readonly headSize: number
  readonly intermediate: number
  readonly activation: 'silu'
  readonly normEpsilon: number
  /** Positions that the model was configured for (`max_position_embeddings`). */
  readonly positions: number
  readonly rope: { readonly theta: number; readonly scaling: RopeScaling }
  /** Per layer: a token sees the keys less than this many positions back, itself included; 0 = all. */
  readonly windows: readonly number[]
  /** The output head is the embedding matrix. */
  readonly tiedHead: boolean
  readonly qkvBias: boolean
  readonly outputBias: boolean
  readonly mlpBias: boolean
  /** RMSNorm per head on queries and keys before the rotation (Qwen3). */
  readonly qkNorm: boolean
  readonly bosToken: number | undefined
  readonly eosTokens: readonly number[]
}
