/**
 * Keys and values of past tokens. Per layer and KV head: slots `[0, context)` hold the committed
 * prefix (slot = position), slots `[context, context + scratch)` the nodes of a token tree.
 */
import type { Arena } from '../tensor/arena.ts'
import type { ModelConfig } from '../weights/model-config.ts'

export interface KvShape {
  /** Positions that the prefix can hold. */
  readonly context: number
  /** Slots for tree nodes. */
  readonly scratch: number
}

/** Bytes of the cache: keys and values, f32. */
export function kvCacheBytes(config: ModelConfig, shape: KvShape): number {
  return 2 * config.layers * config.kvHeads * (shape.context + shape.scratch) * config.headSize * 4
}

export class KvCache {
  readonly context: number
  readonly scratch: number
  /** Bytes from one KV head to the next, within a layer. */
  readonly headStride: number
  /** Positions committed so far: slots `[0, length)` are valid. */
  length = 0
  readonly #config: ModelConfig
  readonly #pointer: number
  readonly #values: Float32Array

  constructor(config: ModelConfig, shape: KvShape, arena: Arena, name: string) {
    this.context = shape.context
    this.scratch = shape.scratch
    this.headStride = (shape.context + shape.scratch) * config.headSize * 4
    this.#config = config
    const bytes = kvCacheBytes(config, shape)
    this.#pointer = arena.allocate(name, bytes, 4096)
    this.#values = arena.f32(this.#pointer, bytes / 4)
  }

  /** Address of a layer's keys: [kvHeads][slots][headSize] f32. */
  keys(layer: number): number {
    return this.#pointer + 2 * layer * this.#config.kvHeads * this.headStride
  }

  /** Address of a layer's values, laid out like its keys. */
  values(layer: number): number {
    return this.keys(layer) + this.#config.kvHeads * this.headStride
  }

  /** First slot of the scratch region. */
  get scratchStart(): number {
    return this.context
  }

  /**
   * Makes the nodes in `slots` (root side first) part of the prefix, at positions `length` onwards.
   * All heads of all layers move.
   */
  commit(slots: ArrayLike<number>, count: number): void {
    const { headSize, layers, kvHeads } = this.#config
    const rows = 2 * layers * kvHeads
    const slotsPerHead = this.context + this.scratch
    for (let row = 0; row < rows; row++) {
      const base = row * slotsPerHead
      for (let i = 0; i < count; i++) {
        const from = (base + slots[i]) * headSize
        this.#values.copyWithin((base + this.length + i) * headSize, from, from + headSize)
      }
    }
    this.length += count
  }

  /** Declares that slots `[length, length + count)` were written in place and are valid. */
  extend(count: number): void {
    this.length += count
  }

  /** Forgets everything from position `length` on. */
  truncate(length: number): void {
    this.length = Math.min(this.length, length)
  }
}
