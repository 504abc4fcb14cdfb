/**
 * Keys and values of past tokens. Per layer and KV head: slots `[0, context)` hold the committed
 * prefix (slot = position), slots `[context, context + scratch)` the nodes of a token tree.
 */
import type { Arena } from '../tensor/arena.ts'
import type { KvLayer } from '../tensor/attention.ts'
import type { ModelConfig } from '../weights/model-config.ts'

/** How keys and values are kept: f32, or int8 with one f32 scale per KV head and position. */
export const KV_KINDS = ['f32', 'q8'] as const satisfies readonly KvKind[]
export type KvKind = 'f32' | 'q8'

export interface KvShape {
  /** Positions that the prefix can hold. */
  readonly context: number
  /** Slots for tree nodes. */
  readonly scratch: number
  readonly kind: KvKind
}

/** Bytes of one key or value; the kernels take eight dimensions of int8 at a time. */
const vectorBytes = (config: ModelConfig, kind: KvKind): number =>
  kind === 'f32' ? config.headSize * 4 : Math.ceil(config.headSize / 8) * 8

/** Bytes of the keys (or values) of one KV head: the vectors of all slots, then their scales. */
function headBytes(config: ModelConfig, { context, scratch, kind }: KvShape): number {
  const scaleBytes = kind === 'f32' ? 0 : 4
  return Math.ceil(((context + scratch) * (vectorBytes(config, kind) + scaleBytes)) / 16) * 16
}

/** Bytes of the cache for some of the layers: all are alike. */
export function kvCacheBytes(config: ModelConfig, shape: KvShape, layers: number = config.layers): number {
  return 2 * layers * config.kvHeads * headBytes(config, shape)
}

export class KvCache {
  readonly context: number
  readonly scratch: number
  readonly kind: KvKind
  /** Positions committed so far: slots `[0, length)` are valid. */
  length = 0
  /** Where the kernels find the keys and values of each layer. */
  readonly layers: readonly KvLayer[]
  readonly #config: ModelConfig
  readonly #headStride: number
  readonly #vectorBytes: number
  /** The memory of each layer. */
  readonly #bytes: readonly Uint8Array[]

  /** @param arenas where each layer's keys and values go; layers of one arena lie one behind the other */
  constructor(config: ModelConfig, shape: KvShape, arenas: readonly Arena[], name: string) {
    this.context = shape.context
    this.scratch = shape.scratch
    this.kind = shape.kind
    this.#config = config
    this.#headStride = headBytes(config, shape)
    this.#vectorBytes = vectorBytes(config, shape.kind)
    const layerBytes = kvCacheBytes(config, shape, 1)
    const next = new Map<Arena, number>()
    for (const arena of new Set(arenas)) {
      const layers = arenas.filter((other) => other === arena).length
      next.set(arena, arena.allocate(name, layers * layerBytes, 4096))
    }
    const { kvHeads, headSize } = config
    this.layers = arenas.map((arena) => {
      const keys = next.get(arena)!
      next.set(arena, keys + layerBytes)
      return {
        kvHeads,
        headSize,
        keys,
        values: keys + kvHeads * this.#headStride,
        headStride: this.#headStride,
        scalesOffset: this.kind === 'f32' ? 0 : this.#scalesOffset,
      }
    })
    this.#bytes = this.layers.map(({ keys }, layer) => arenas[layer].u8(keys, layerBytes))
  }

  /** First slot of the scratch region. */
  get scratchStart(): number {
    return this.context
  }

  /** Bytes from a head's first vector to its first scale. */
  get #scalesOffset(): number {
    return (this.context + this.scratch) * this.#vectorBytes
  }

  /**
   * Makes the nodes in `slots` (root side first) part of the prefix, at positions `length` onwards.
   * All heads of all layers move, with their scales.
   */
  commit(slots: ArrayLike<number>, count: number): void {
    const heads = 2 * this.#config.kvHeads
    for (const bytes of this.#bytes) {
      for (let head = 0; head < heads; head++) {
        const vectors = head * this.#headStride
        this.#move(bytes, vectors, this.#vectorBytes, slots, count)
        if (this.kind === 'q8') this.#move(bytes, vectors + this.#scalesOffset, 4, slots, count)
      }
    }
    this.length += count
  }

  /** Moves the entries of `slots` of one head to the positions from `length` on. */
  #move(bytes: Uint8Array, start: number, entryBytes: number, slots: ArrayLike<number>, count: number): void {
    for (let i = 0; i < count; i++) {
      const from = start + slots[i] * entryBytes
      bytes.copyWithin(start + (this.length + i) * entryBytes, from, from + entryBytes)
    }
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
