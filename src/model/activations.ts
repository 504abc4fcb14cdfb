/**
 * The working buffers of one transformer: named, sized once, overwritten by every layer. Every memory that holds
 * layers has its own; those of the output head are in one.
 */
import type { Arena, Region } from '../tensor/arena.ts'
import { scratchShares } from '../tensor/compute.ts'
import { ALIGNMENT, paddedInner, paddedOutputs } from '../tensor/layout.ts'
import { scoreStride, WIDENED_BYTES } from '../tensor/operations.ts'
import { type Operand, quantisedBytes } from '../tensor/operators.ts'
import { Rows } from '../tensor/rows.ts'
import type { ModelConfig } from '../weights/model-config.ts'
import { type KvShape, kvCacheBytes } from './kv-cache.ts'
import { rowBatchRegion } from './row-batch.ts'

export interface TransformerShape extends KvShape {
  /** Rows of a forward pass at the most. */
  readonly rows: number
  /** Rows of logits at once. */
  readonly logitsRows: number
  readonly headStreams: boolean
  readonly threads: number
}

/** Attention scores at the least: with room for more rows and heads at once, there are fewer and larger jobs. */
const SCORES_BYTES = 256 * 1024

/**
 * Bytes from row to row. Rows that lie a multiple of 4096 bytes apart fall into the same few lines of the
 * first-level cache, and tiles of 4 rows then run at half their speed: a cache line more keeps them apart.
 */
const stride = (columns: number): number => paddedInner(columns) * 4 + ALIGNMENT

function widths(config: ModelConfig) {
  const q = paddedOutputs(config.heads * config.headSize)
  const kv = paddedOutputs(config.kvHeads * config.headSize)
  return {
    hidden: config.hidden,
    attended: config.heads * config.headSize,
    q,
    kv,
    qkv: q + 2 * kv,
    gateUp: 2 * paddedOutputs(config.intermediate),
    gated: config.intermediate,
    half: config.headSize / 2,
  }
}

/** One row of all heads always fits, so plain decoding needs one block. */
function scoresBytes(config: ModelConfig, shape: TransformerShape): number {
  const scores = Math.max(SCORES_BYTES, config.heads * scoreStride(shape.context + shape.scratch))
  return scores + (shape.kind === 'f32' ? 0 : scratchShares(shape.threads) * WIDENED_BYTES)
}

/** Logits, and which rows they are of. */
const logitsBytes = (config: ModelConfig, rows: number): number => rows * (paddedOutputs(config.vocabulary) + 1) * 4

/** Bytes of the rows that go into a product, in whichever form. */
function operandBytes(config: ModelConfig, shape: TransformerShape): number {
  const w = widths(config)
  const widest = Math.max(w.hidden, w.attended, w.gated)
  const rows = Math.max(shape.rows, shape.logitsRows)
  return Math.max(rows * stride(widest), quantisedBytes(rows, widest))
}

/** What a transformer allocates beside its weights in a memory that holds `layers` of its layers, for the plan. */
export function layersRegions(name: string, config: ModelConfig, shape: TransformerShape, layers: number): Region[] {
  return [
    { name: `${name} KV cache`, bytes: kvCacheBytes(config, shape, layers) },
    rowBatchRegion(`${name} rows`, shape.rows),
    { name: `${name} activations`, bytes: activationBytes(config, shape) },
    { name: `${name} attention scores`, bytes: scoresBytes(config, shape) },
  ]
}

/** The same in the memory that holds its output head too. */
export function transformerRegions(
  name: string,
  config: ModelConfig,
  shape: TransformerShape,
  layers: number = config.layers,
): Region[] {
  return [...layersRegions(name, config, shape, layers), logitsRegion(name, config, shape)]
}

const logitsRegion = (name: string, config: ModelConfig, shape: TransformerShape): Region => ({
  name: `${name} logits`,
  bytes: logitsBytes(config, shape.logitsRows),
})

function activationBytes(config: ModelConfig, shape: TransformerShape): number {
  const w = widths(config)
  const rows = stride(w.hidden) + stride(w.attended) + stride(w.qkv) + stride(w.gateUp) + 2 * w.half * 4
  return shape.rows * rows + operandBytes(config, shape) + 64 * 8
}

export class Activations {
  /** The residual stream: [rows][hidden]. */
  readonly hidden: Rows
  /** Queries, keys and values side by side, and each of them alone. */
  readonly qkv: Rows
  readonly q: Rows
  readonly k: Rows
  readonly v: Rows
  readonly gateUp: Rows
  /**
   * What goes into the next product. As integers, or as f32 except for `attended`, all of them lie in
   * the same place: each is used up before the next is made.
   */
  readonly normed: Operand
  readonly attended: Operand
  readonly gated: Operand
  /** [rows][headSize/2]. */
  readonly cosines: Float32Array
  readonly sines: Float32Array
  readonly cosinesPointer: number
  readonly sinesPointer: number
  readonly scores: number
  readonly scoresBytes: number

  constructor(config: ModelConfig, shape: TransformerShape, arena: Arena, name: string) {
    const w = widths(config)
    const [, , activations, scores] = layersRegions(name, config, shape, 0)
    let next = arena.allocate(activations.name, activations.bytes)
    const take = (bytes: number): number => {
      const pointer = next
      next += Math.ceil(bytes / 64) * 64
      return pointer
    }
    const rows = (columns: number): Rows => new Rows(take(shape.rows * stride(columns)), stride(columns), columns)
    this.hidden = rows(w.hidden)
    this.qkv = rows(w.qkv)
    this.q = this.qkv
    this.k = this.q.columnsFrom(w.q)
    this.v = this.k.columnsFrom(w.kv)
    this.gateUp = rows(w.gateUp)
    const attended = rows(w.attended)
    const operand = take(operandBytes(config, shape))
    this.normed = { rows: new Rows(operand, stride(w.hidden), w.hidden), quantised: operand }
    this.attended = { rows: attended, quantised: operand }
    this.gated = { rows: new Rows(operand, stride(w.gated), w.gated), quantised: operand }
    this.cosinesPointer = take(shape.rows * w.half * 4)
    this.sinesPointer = take(shape.rows * w.half * 4)
    this.cosines = arena.f32(this.cosinesPointer, shape.rows * w.half)
    this.sines = arena.f32(this.sinesPointer, shape.rows * w.half)
    this.scores = arena.allocate(scores.name, scores.bytes)
    this.scoresBytes = scores.bytes
  }
}

/** What the output head reads and writes beside the activations. */
export class HeadBuffers {
  readonly logits: Rows
  /** Rows of the batch that the head is asked for: [logitsRows]. */
  readonly rows: Int32Array

  constructor(config: ModelConfig, shape: TransformerShape, arena: Arena, name: string) {
    const region = logitsRegion(name, config, shape)
    const pointer = arena.allocate(region.name, region.bytes)
    const stride = paddedOutputs(config.vocabulary) * 4
    this.logits = new Rows(pointer, stride, config.vocabulary)
    this.rows = arena.i32(pointer + shape.logitsRows * stride, shape.logitsRows)
  }
}
