/** A checkpoint of made-up weights as they come from the hub: bf16 safetensors in shards, with an index. */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { ModelConfig } from '../src/weights/model-config.ts'
import type { TensorLayout } from '../src/weights/safetensors-header.ts'
import { SafetensorsWriter } from '../src/weights/safetensors-writer.ts'
import { edgeRecipes, layerRecipes } from '../src/weights/tensor-names.ts'

/** Bytes of a shard, unless one tensor has more. */
const SHARD_BYTES = 1 << 30

/** Weights that are made up; the rest repeats them, from another place in every tensor. */
const POOL = (1 << 21) + 1

type Tensor = TensorLayout & { readonly bytes: number }

/**
 * Replaces whatever is in `directory`.
 * @returns bytes of all tensors
 */
export function writeSyntheticCheckpoint(directory: string, config: ModelConfig): number {
  rmSync(directory, { recursive: true, force: true })
  mkdirSync(directory, { recursive: true })
  const shards = shardsOf(tensorsOf(config))
  const pool = madeUpBfloats()
  const weightMap: Record<string, string> = {}
  shards.forEach((tensors, i) => {
    const name = `model-${i + 1}-of-${shards.length}.safetensors`
    for (const tensor of tensors) weightMap[tensor.name] = name
    writeShard(join(directory, name), tensors, pool)
  })
  writeFileSync(join(directory, 'model.safetensors.index.json'), JSON.stringify({ weight_map: weightMap }))
  writeFileSync(join(directory, 'config.json'), JSON.stringify(hubConfig(config)))
  return shards.flat().reduce((sum, { bytes }) => sum + bytes, 0)
}

function tensorsOf(config: ModelConfig): Tensor[] {
  const layers = Array.from({ length: config.layers }, (_, layer) => layerRecipes(config, layer))
  return [...edgeRecipes(config), ...layers.flat()].flatMap(({ type, columns, parts }) =>
    parts.map(({ source, rows }) => ({
      name: source,
      dtype: 'BF16' as const,
      shape: type === 'vector' ? [rows] : [rows, columns],
      bytes: rows * columns * 2,
    })),
  )
}

function shardsOf(tensors: readonly Tensor[]): Tensor[][] {
  const shards: Tensor[][] = [[]]
  let bytes = 0
  for (const tensor of tensors) {
    if (bytes > 0 && bytes + tensor.bytes > SHARD_BYTES) {
      shards.push([])
      bytes = 0
    }
    shards[shards.length - 1].push(tensor)
    bytes += tensor.bytes
  }
  return shards
}

function writeShard(path: string, tensors: readonly Tensor[], pool: Uint8Array): void {
  const writer = new SafetensorsWriter(path, tensors)
  tensors.forEach(({ bytes }, i) => {
    let from = ((i * 7919) % POOL) * 2
    for (let left = bytes; left > 0; ) {
      const piece = pool.subarray(from, Math.min(from + left, pool.length))
      writer.write(piece)
      left -= piece.length
      from = 0
    }
  })
  writer.commit()
}

/** Distributed like weights: bell-shaped, with an outlier now and then. */
function madeUpBfloats(): Uint8Array {
  const floats = new Float32Array(POOL)
  const bits = new Uint32Array(floats.buffer)
  let seed = 1
  const next = (): number => {
    seed = (seed * 48_271) % 2_147_483_647
    return seed / 2_147_483_647 - 0.5
  }
  for (let i = 0; i < POOL; i++) floats[i] = (next() + next() + next()) * (i % 499 === 0 ? 0.3 : 0.04)
  return new Uint8Array(Uint16Array.from(bits, (word) => word >>> 16).buffer)
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
