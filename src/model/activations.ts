/** The working buffers of one transformer: named, sized once, overwritten by every layer. */
import type { Arena, Region } from '../tensor/arena.ts'
import { jobShares } from '../tensor/compute.ts'
import { paddedInner, paddedOutputs } from '../tensor/layout.ts'
import { scoreStride, WIDENED_BYTES } from '../tensor/operations.ts'
import { QuantisedRows, Rows } from '../tensor/operators.ts'
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

const stride = (columns: number): number => paddedInner(columns) * 4

function widths(config: ModelConfig) {
  const q = paddedOutputs(config.heads * config.headSize)
  const kv = paddedOutputs(config.kvHeads * config.headSize)
  return {
    hidden: config.hidden,
    attended: config.heads * config.headSize,
    qkv: q + 2 * kv,
    gateUp: 2 * paddedOutputs(config.intermediate),
    gated: config.intermediate,
    half: config.headSize / 2,
  }
}

/** One row of all heads always fits, so plain decoding needs one block. */
function scoresBytes(config: ModelConfig, shape: TransformerShape): number {
  const scores = Math.max(SCORES_BYTES, config.heads * scoreStride(shape.context + shape.scratch))
  return scores + (shape.kind === 'f32' ? 0 : jobShares(shape.threads) * WIDENED_BYTES)
}

const logitsBytes = (config: ModelConfig, rows: number): number => rows * paddedOutputs(config.vocabulary) * 4

/** Everything that a transformer allocates beside its weights, for the plan. */
export function transformerRegions(name: string, config: ModelConfig, shape: TransformerShape): Region[] {
  const w = widths(config)
  const widest = Math.max(w.hidden, w.attended, w.gated)
  return [
    { name: `${name} KV cache`, bytes: kvCacheBytes(config, shape) },
    rowBatchRegion(`${name} rows`, shape.rows),
    { name: `${name} activations`, bytes: activationBytes(config, shape) + QuantisedRows.bytes(shape.rows, widest) },
    { name: `${name} attention scores`, bytes: scoresBytes(config, shape) },
    { name: `${name} logits`, bytes: logitsBytes(config, shape.logitsRows) },
  ]
}

function activationBytes(config: ModelConfig, shape: TransformerShape): number {
  const w = widths(config)
  const rows =
    2 * stride(w.hidden) + stride(w.attended) + stride(w.qkv) + stride(w.gateUp) + stride(w.gated) + 2 * w.half * 4
  return shape.rows * rows + shape.logitsRows * stride(w.hidden) + 64 * 10
}

export class Activations {
  /** The residual stream: [rows][hidden]. */
  readonly hidden: Rows
  readonly normed: Rows
  readonly qkv: Rows
  readonly attended: Rows
  readonly gateUp: Rows
  readonly gated: Rows
  /** Final-normed rows that go through the output head. */
  readonly headInput: Rows
  readonly logits: Rows
  readonly quantised: QuantisedRows
  /** [rows][headSize/2]. */
  readonly cosines: Float32Array
  readonly sines: Float32Array
  readonly cosinesPointer: number
  readonly sinesPointer: number
  readonly scores: number
  readonly scoresBytes: number

  constructor(config: ModelConfig, shape: TransformerShape, arena: Arena, name: string) {
    const w = widths(config)
    const [, , activations, scores, logits] = transformerRegions(name, config, shape)
    let next = arena.allocate(activations.name, activations.bytes)
    const take = (bytes: number): number => {
      const pointer = next
      next += Math.ceil(bytes / 64) * 64
      return pointer
    }
    const rows = (columns: number, count = shape.rows): Rows => {
      return new Rows(take(count * stride(columns)), stride(columns), columns)
    }
    this.hidden = rows(w.hidden)
    this.normed = rows(w.hidden)
    this.qkv = rows(w.qkv)
    this.attended = rows(w.attended)
    this.gateUp = rows(w.gateUp)
    this.gated = rows(w.gated)
    this.headInput = rows(w.hidden, shape.logitsRows)
    this.cosinesPointer = take(shape.rows * w.half * 4)
    this.sinesPointer = take(shape.rows * w.half * 4)
    this.cosines = arena.f32(this.cosinesPointer, shape.rows * w.half)
    this.sines = arena.f32(this.sinesPointer, shape.rows * w.half)
    const widest = Math.max(w.hidden, w.attended, w.gated)
    this.quantised = new QuantisedRows(take(QuantisedRows.bytes(shape.rows, widest)), shape.rows, widest)
    this.scores = arena.allocate(scores.name, scores.bytes)
    this.scoresBytes = scores.bytes
    this.logits = new Rows(
      arena.allocate(logits.name, logits.bytes),
      paddedOutputs(config.vocabulary) * 4,
      config.vocabulary,
    )
  }
}
