/** A checkpoint of made-up weights as they come from the hub: bf16 safetensors in shards, with an index. */
import type { ModelConfig } from '../src/weights/model-config.ts'
import { edgeRecipes, layerRecipes } from '../src/weights/tensor-names.ts'
import { type TensorStream, writeCheckpoint } from './checkpoint-files.ts'
import { MadeUpWeights } from './made-up.ts'

/** Weights that are written at a time. */
const PIECE = 1 << 19

/**
 * Replaces whatever is in `directory`.
 * @returns bytes of all tensors
 */
export function writeSyntheticCheckpoint(directory: string, config: ModelConfig): Promise<number> {
  return writeCheckpoint(directory, hubConfig(config), tensorsOf(config))
}

function tensorsOf(config: ModelConfig): TensorStream[] {
  const weights = new MadeUpWeights()
  const layers = Array.from({ length: config.layers }, (_, layer) => layerRecipes(config, layer))
  return [...edgeRecipes(config), ...layers.flat()].flatMap(({ type, columns, parts }) =>
    parts.map(({ source, rows }) => ({
      name: source,
      dtype: 'BF16' as const,
      shape: type === 'vector' ? [rows] : [rows, columns],
      pieces: () => madeUpPieces(weights, rows * columns),
    })),
  )
}

function* madeUpPieces(weights: MadeUpWeights, count: number): Generator<Uint8Array> {
  const block = new Uint16Array(Math.min(count, PIECE))
  for (let done = 0; done < count; done += block.length) {
    const piece = block.subarray(0, count - done)
    weights.fill(piece)
    yield new Uint8Array(piece.buffer, 0, piece.byteLength)
  }
}

/** What the hub's config.json of a llama says. */
function hubConfig(config: ModelConfig): object {
  const { rope } = config
  if (config.family !== 'llama' || rope.scaling.type !== 'none') throw new Error('only plain llamas are made up')
  return {
    architectures: ['LlamaForCausalLM'],
    model_type: 'llama',
    hidden_act: 'silu',
    vocab_size: config.vocabulary,
    hidden_size: config.hidden,
    num_hidden_layers: config.layers,
    num_attention_heads: config.heads,
    num_key_value_heads: config.kvHeads,
    head_dim: config.headSize,
    intermediate_size: config.intermediate,
    max_position_embeddings: config.positions,
    rms_norm_eps: config.normEpsilon,
    rope_theta: rope.theta,
    tie_word_embeddings: config.tiedHead,
    bos_token_id: config.bosToken,
    eos_token_id: config.eosTokens[0],
  }
}
