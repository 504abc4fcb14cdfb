/** A checkpoint on disk as those of the hub lie there: safetensors in shards, with an index. */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setImmediate } from 'node:timers/promises'
import { type TensorLayout, tensorBytes } from '../src/weights/safetensors-header.ts'
import { SafetensorsWriter } from '../src/weights/safetensors-writer.ts'

/** Bytes of a shard, unless one tensor has more. */
const SHARD_BYTES = 1 << 30

/** A tensor whose bytes are made while they are written, so that no checkpoint must fit in memory. */
export interface TensorStream extends TensorLayout {
  /** The bytes from the first to the last. A piece may be reused for the next. */
  pieces(): Iterable<Uint8Array>
}

/**
 * Replaces whatever is in `directory`.
 * @param config content of config.json
 * @returns bytes of all tensors
 */
export async function writeCheckpoint(
  directory: string,
  config: object,
  tensors: readonly TensorStream[],
): Promise<number> {
  rmSync(directory, { recursive: true, force: true })
  mkdirSync(directory, { recursive: true })
  const shards = shardsOf(tensors)
  const weightMap: Record<string, string> = {}
  for (const [i, shard] of shards.entries()) {
    const name = `model-${i + 1}-of-${shards.length}.safetensors`
    for (const tensor of shard) weightMap[tensor.name] = name
    await writeShard(join(directory, name), shard)
  }
  writeFileSync(join(directory, 'model.safetensors.index.json'), JSON.stringify({ weight_map: weightMap }))
  writeFileSync(join(directory, 'config.json'), JSON.stringify(config))
  return checkpointBytes(tensors)
}

export const checkpointBytes = (tensors: readonly TensorLayout[]): number =>
  tensors.reduce((sum, { dtype, shape }) => sum + tensorBytes(dtype, shape)!, 0)

function shardsOf(tensors: readonly TensorStream[]): TensorStream[][] {
  const shards: TensorStream[][] = [[]]
  for (const tensor of tensors) {
    const last = shards[shards.length - 1]
    if (last.length > 0 && checkpointBytes([...last, tensor]) > SHARD_BYTES) shards.push([tensor])
    else last.push(tensor)
  }
  return shards
}

async function writeShard(path: string, tensors: readonly TensorStream[]): Promise<void> {
  const writer = new SafetensorsWriter(path, tensors)
  try {
    for (const tensor of tensors) {
      for (const piece of tensor.pieces()) writer.write(piece)
      // Gigabytes take a while, and Ctrl-C is heard only between the tensors.
      await setImmediate()
    }
    writer.commit()
  } catch (error) {
    writer.discard()
    throw error
  }
}
