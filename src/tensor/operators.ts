/**
 * The kernels as functions of matrices and rows. Each call writes one job record and runs it on all
 * threads, or alone where a hand-out would cost more than the work.
 */

import type { Arena } from './arena.ts'
import { type Compute, jobShares } from './compute.ts'
import type { Kernels } from './kernels.ts'
import { BLOCK, type Kind, paddedInner, paddedOutputs } from './layout.ts'
import { log } from './math.ts'
import {
  ATTENTION_PHASE,
  AttentionWord,
  GatherWord,
  GemmWord,
  KIND_CODE,
  Operation,
  QuantiseWord,
  RECORD_BYTES,
  RmsNormWord,
  RopeWord,
  SiluGateWord,
  StoreKvWord,
  scoreStride,
  WIDENED_BYTES,
} from './operations.ts'

/** A weight matrix W[rows x columns] in memory, in the tiled layout. */
export interface Matrix {
  readonly kind: Kind
  /** Outputs N. */
  readonly rows: number
  /** Inner dimension K. */
  readonly columns: number
  readonly pointer: number
}

/** f32 rows in memory: row r begins at `pointer + r * stride` bytes. */
export class Rows {
  readonly pointer: number
  readonly stride: number
  readonly columns: number

  constructor(pointer: number, stride: number, columns: number) {
    this.pointer = pointer
    this.stride = stride
    this.columns = columns
  }

  rowsFrom(row: number): Rows {
    return new Rows(this.pointer + row * this.stride, this.stride, this.columns)
  }

  columnsFrom(column: number): Rows {
    return new Rows(this.pointer + column * 4, this.stride, this.columns - column)
  }
}

/** Rows quantised for int8 products: int8 [rows][K], f32 scales and i32 sums per block of 32. */
export class QuantisedRows {
  readonly values: number
  readonly scales: number
  readonly sums: number

  /** @param pointer of `QuantisedRows.bytes(rows, columns)` bytes */
  constructor(pointer: number, rows: number, columns: number) {
    const padded = paddedInner(columns)
    this.values = pointer
    this.scales = pointer + rows * padded
    this.sums = this.scales + (rows * padded * 4) / BLOCK
  }

  static bytes(rows: number, columns: number): number {
    const padded = paddedInner(columns)
    return rows * padded + (2 * rows * padded * 4) / BLOCK
  }
}

/** The left side of a matrix product, in the form that the weights' kind asks for. */
export interface Prepared {
  readonly rows: Rows
  readonly quantised: QuantisedRows | undefined
}

/** What attention needs to know of a batch of rows. */
export interface Visibility {
  readonly prefixes: Int32Array
  readonly ancestorOffsets: Int32Array
  readonly ancestorSlots: Int32Array
}

/** Keys and values of one layer, as the kernels address them. */
export interface KvLayer {
  readonly kvHeads: number
  readonly headSize: number
  /** Address of the keys: per KV head one vector per slot, f32 or int8 (then f32 scales per slot). */
  readonly keys: number
  readonly values: number
  /** Bytes from one KV head to the next. */
  readonly headStride: number
  /** Bytes from a KV head's vectors to their scales; 0: the vectors are f32. */
  readonly scalesOffset: number
}

export interface AttentionJob {
  readonly rows: number
  readonly heads: number
  readonly queries: Rows
  readonly cache: KvLayer
  readonly output: Rows
  readonly batch: Visibility
  /** Keys that a row sees, itself included; 0: all. */
  readonly window: number
  /** Address of the scores' buffer. */
  readonly scores: number
  /** Its size: at the least the scores of one row for the query heads of one KV head, and WIDENED_BYTES per share for q8. */
  readonly scoresBytes: number
}

export interface Candidates {
  readonly ids: Int32Array
  readonly values: Float32Array
  readonly count: number
  /** ln of the sum of exp(scale * (logit - largest logit)) over the whole row. */
  readonly logSum: number
}

/**
 * Queries that share a block of keys from the first-level cache are many enough at this number; from
 * there on more KV heads at a time are worth more than more rows: they divide better over threads.
 */
const QUERIES_PER_KEY = 32

/**
 * Rows and KV heads whose scores fit in a buffer for `queries` queries, in blocks of nearly equal size.
 * @param group query heads per KV head
 */
export function attentionBlock(rows: number, kvHeads: number, group: number, queries: number): [number, number] {
  const even = (all: number, most: number): number => Math.ceil(all / Math.ceil(all / Math.max(1, most)))
  const enough = Math.min(rows, Math.ceil(QUERIES_PER_KEY / group))
  const kvHeadsAtOnce = even(kvHeads, Math.min(kvHeads, Math.floor(queries / (enough * group))))
  const rowsAtOnce = even(rows, Math.min(rows, Math.floor(queries / (kvHeadsAtOnce * group))))
  return [rowsAtOnce, kvHeadsAtOnce]
}

const MAXIMUM_CANDIDATES = 64

/**
 * Multiplications below which a job runs on the calling thread alone: handing it out and waiting
 * costs about as much as these.
 */
const ALONE_BELOW = 16384

export class Operators {
  readonly #kernels: Kernels
  readonly #compute: Compute
  readonly #record: number
  readonly #words: Int32Array
  readonly #floats: Float32Array
  readonly #ids: Int32Array
  readonly #values: Float32Array

  /** @param scratch address of 4096 bytes for the job record and candidate lists */
  constructor(kernels: Kernels, compute: Compute, arena: Arena, scratch: number) {
    this.#kernels = kernels
    this.#compute = compute
    this.#record = scratch
    this.#words = arena.i32(scratch, RECORD_BYTES / 4)
    this.#floats = arena.f32(scratch, RECORD_BYTES / 4)
    this.#ids = arena.i32(scratch + 1024, MAXIMUM_CANDIDATES)
    this.#values = arena.f32(scratch + 2048, MAXIMUM_CANDIDATES)
  }

  /** Quantises the first `count` rows when weights of `kind` want integers. */
  prepare(rows: Rows, count: number, kind: Kind, quantised: QuantisedRows): Prepared {
    if (kind === 'f32') return { rows, quantised: undefined }
    const w = this.#words
    w[0] = Operation.quantise
    w[QuantiseWord.rows] = count
    w[QuantiseWord.columns] = rows.columns
    w[QuantiseWord.paddedColumns] = paddedInner(rows.columns)
    w[QuantiseWord.source] = rows.pointer
    w[QuantiseWord.sourceStride] = rows.stride
    w[QuantiseWord.values] = quantised.values
    w[QuantiseWord.scales] = quantised.scales
    w[QuantiseWord.sums] = quantised.sums
    this.#run(count > 1, count * rows.columns)
    return { rows, quantised }
  }

  /** target[count x N] = x W^T (+ bias). @param bias address of N f32, 0 = none */
  matmul(x: Prepared, count: number, matrix: Matrix, target: Rows, bias = 0): void {
    this.#gemm(x, count, matrix, target, bias, 0)
  }

  /** target += x W^T (+ bias): the residual connection. */
  matmulAdd(x: Prepared, count: number, matrix: Matrix, target: Rows, bias = 0): void {
    this.#gemm(x, count, matrix, target, bias, 1)
  }

  /** Root mean square layer normalisation (arXiv 1910.07467) of whole rows; padding becomes zeros. */
  rmsNorm(source: Rows, count: number, weight: number, target: Rows, epsilon: number): void {
    this.#rmsNorm(source, count, 1, source.columns, weight, target, paddedInner(source.columns), epsilon)
  }

  /** The same over each head of each row, in place. */
  rmsNormHeads(x: Rows, count: number, heads: number, headSize: number, weight: number, epsilon: number): void {
    this.#rmsNorm(x, count, heads, headSize, weight, x, 0, epsilon)
  }

  /** Rotates each head in place by the angles of its row: cos and sin are [count][headSize/2]. */
  rope(x: Rows, count: number, heads: number, headSize: number, cosines: number, sines: number): void {
    const w = this.#words
    w[0] = Operation.rope
    w[RopeWord.rows] = count
    w[RopeWord.heads] = heads
    w[RopeWord.headSize] = headSize
    w[RopeWord.half] = headSize / 2
    w[RopeWord.x] = x.pointer
    w[RopeWord.stride] = x.stride
    w[RopeWord.cosines] = cosines
    w[RopeWord.sines] = sines
    this.#run(count > 1, count * heads * headSize)
  }

  /** Brings k and v of each row to its slot in the cache, in the cache's form. */
  storeKeysAndValues(k: Rows, v: Rows, count: number, cache: KvLayer, slots: Int32Array): void {
    const w = this.#words
    w[0] = Operation.storeKeysAndValues
    w[StoreKvWord.rows] = count
    w[StoreKvWord.kvHeads] = cache.kvHeads
    w[StoreKvWord.headSize] = cache.headSize
    w[StoreKvWord.k] = k.pointer
    w[StoreKvWord.v] = v.pointer
    w[StoreKvWord.sourceStride] = k.stride
    w[StoreKvWord.keys] = cache.keys
    w[StoreKvWord.values] = cache.values
    w[StoreKvWord.headStride] = cache.headStride
    w[StoreKvWord.slots] = slots.byteOffset
    w[StoreKvWord.scalesOffset] = cache.scalesOffset
    this.#run(false, 0)
  }

  /**
   * softmax(q k / sqrt(headSize)) v for each row and head over what the row sees. Where the scores of all
   * rows and heads do not fit in their buffer, it is done for some rows and KV heads at a time.
   */
  attention(job: AttentionJob): void {
    const { rows, heads, cache, batch } = job
    const group = heads / cache.kvHeads
    let positions = 0
    for (let row = 0; row < rows; row++) {
      const ancestors = batch.ancestorOffsets[row + 1] - batch.ancestorOffsets[row]
      positions = Math.max(positions, batch.prefixes[row] + ancestors)
    }
    const stride = scoreStride(positions)
    const widened = cache.scalesOffset === 0 ? 0 : jobShares(this.#compute.threads) * WIDENED_BYTES
    const queries = Math.floor((job.scoresBytes - widened) / stride)
    const [rowsAtOnce, kvHeadsAtOnce] = attentionBlock(rows, cache.kvHeads, group, queries)
    for (let kvHead = 0; kvHead < cache.kvHeads; kvHead += kvHeadsAtOnce) {
      const kvHeads = Math.min(kvHeadsAtOnce, cache.kvHeads - kvHead)
      for (let row = 0; row < rows; row += rowsAtOnce) {
        this.#attend(job, row, Math.min(rowsAtOnce, rows - row), kvHead, kvHeads, stride, positions)
      }
    }
  }

  #attend(
    job: AttentionJob,
    firstRow: number,
    rows: number,
    firstKvHead: number,
    kvHeads: number,
    stride: number,
    positions: number,
  ): void {
    const { cache, batch } = job
    const { headSize, headStride, scalesOffset } = cache
    const group = job.heads / cache.kvHeads
    const heads = kvHeads * group
    const queries = job.queries.rowsFrom(firstRow).columnsFrom(firstKvHead * group * headSize)
    const output = job.output.rowsFrom(firstRow).columnsFrom(firstKvHead * group * headSize)
    const w = this.#words
    w[0] = Operation.attention
    w[AttentionWord.rows] = rows
    w[AttentionWord.heads] = heads
    w[AttentionWord.kvHeads] = kvHeads
    w[AttentionWord.headSize] = headSize
    w[AttentionWord.queries] = queries.pointer
    w[AttentionWord.queryStride] = queries.stride
    w[AttentionWord.keys] = cache.keys + firstKvHead * headStride
    w[AttentionWord.values] = cache.values + firstKvHead * headStride
    w[AttentionWord.headStride] = headStride
    w[AttentionWord.output] = output.pointer
    w[AttentionWord.outputStride] = output.stride
    w[AttentionWord.prefixes] = batch.prefixes.byteOffset + firstRow * 4
    w[AttentionWord.ancestorOffsets] = batch.ancestorOffsets.byteOffset + firstRow * 4
    w[AttentionWord.ancestorSlots] = batch.ancestorSlots.byteOffset
    w[AttentionWord.window] = job.window
    this.#floats[AttentionWord.scale] = 1 / Math.sqrt(headSize)
    this.#floats[AttentionWord.softcap] = 0
    w[AttentionWord.scores] = job.scores
    w[AttentionWord.scoreStride] = stride
    w[AttentionWord.scalesOffset] = scalesOffset
    const scored = rows * heads * positions
    if (scalesOffset !== 0) {
      w[AttentionWord.phase] = ATTENTION_PHASE.queries
      this.#run(true, rows * heads * headSize)
    }
    w[AttentionWord.phase] = ATTENTION_PHASE.scores
    this.#run(true, scored * headSize)
    w[AttentionWord.phase] = ATTENTION_PHASE.weights
    this.#run(true, scored * 8)
    w[AttentionWord.phase] = ATTENTION_PHASE.values
    this.#run(true, scored * headSize)
  }

  /** target = silu(gate) * up, where up begins `upColumn` columns after gate. */
  siluGate(source: Rows, count: number, columns: number, upColumn: number, target: Rows): void {
    const w = this.#words
    w[0] = Operation.siluGate
    w[SiluGateWord.rows] = count
    w[SiluGateWord.columns] = columns
    w[SiluGateWord.source] = source.pointer
    w[SiluGateWord.sourceStride] = source.stride
    w[SiluGateWord.upOffset] = upColumn * 4
    w[SiluGateWord.target] = target.pointer
    w[SiluGateWord.targetStride] = target.stride
    w[SiluGateWord.paddedTo] = paddedInner(columns)
    this.#run(count > 1, count * columns * 8)
  }

  /** Rows of an embedding matrix, dequantised. @param ids token ids in WASM memory */
  gather(ids: Int32Array, count: number, matrix: Matrix, target: Rows): void {
    const w = this.#words
    w[0] = Operation.gather
    w[GatherWord.rows] = count
    w[GatherWord.kind] = KIND_CODE[matrix.kind]
    w[GatherWord.columns] = matrix.columns
    w[GatherWord.paddedColumns] = paddedInner(matrix.columns)
    w[GatherWord.ids] = ids.byteOffset
    w[GatherWord.weights] = matrix.pointer
    w[GatherWord.target] = target.pointer
    w[GatherWord.targetStride] = target.stride
    this.#run(count > 1, count * matrix.columns)
  }

  /**
   * The `k` largest of a row of logits (k <= 64), descending, and the normaliser of the distribution
   * softmax(scale * logits). The lists are overwritten by the next call.
   */
  topCandidates(logits: number, vocabulary: number, k: number, scale: number): Candidates {
    const ids = this.#ids
    const values = this.#values
    const count = this.#kernels.topK(logits, vocabulary, k, ids.byteOffset, values.byteOffset)
    const logSum = log(this.#kernels.sumExp(logits, vocabulary, scale, values[0]))
    return { ids, values, count, logSum }
  }

  #gemm(x: Prepared, count: number, matrix: Matrix, target: Rows, bias: number, accumulate: number): void {
    const w = this.#words
    w[0] = Operation.gemm
    w[GemmWord.kind] = KIND_CODE[matrix.kind]
    w[GemmWord.rows] = count
    w[GemmWord.outputs] = paddedOutputs(matrix.rows)
    w[GemmWord.columns] = paddedInner(matrix.columns)
    w[GemmWord.x] = x.quantised?.values ?? x.rows.pointer
    w[GemmWord.xStride] = x.rows.stride
    w[GemmWord.xScales] = x.quantised?.scales ?? 0
    w[GemmWord.xSums] = x.quantised?.sums ?? 0
    w[GemmWord.weights] = matrix.pointer
    w[GemmWord.y] = target.pointer
    w[GemmWord.yStride] = target.stride
    w[GemmWord.bias] = bias
    w[GemmWord.accumulate] = accumulate
    this.#run(true, count * matrix.rows * matrix.columns)
  }

  #rmsNorm(
    source: Rows,
    count: number,
    segments: number,
    columns: number,
    weight: number,
    target: Rows,
    paddedTo: number,
    epsilon: number,
  ): void {
    const w = this.#words
    w[0] = Operation.rmsNorm
    w[RmsNormWord.rows] = count
    w[RmsNormWord.segments] = segments
    w[RmsNormWord.segmentLength] = columns
    w[RmsNormWord.source] = source.pointer
    w[RmsNormWord.sourceStride] = source.stride
    w[RmsNormWord.weight] = weight
    w[RmsNormWord.target] = target.pointer
    w[RmsNormWord.targetStride] = target.stride
    w[RmsNormWord.paddedTo] = paddedTo
    this.#floats[RmsNormWord.epsilon] = epsilon
    this.#run(count > 1, count * segments * columns)
  }

  /** @param divisible whether more than one thread would get a share */
  #run(divisible: boolean, work: number): void {
    if (divisible && work >= ALONE_BELOW) this.#compute.run(this.#record)
    else this.#compute.runAlone(this.#record)
  }
}
