/**
 * The kernels as functions of matrices and rows. Each call adds a step to the next job; `run` hands the
 * job out to all threads. A step that is too small to divide has one share.
 */

import type { Arena, Place } from './arena.ts'
import { type AttentionJob, attentionSteps, type KvLayer, writeAttention } from './attention.ts'
import { type Compute, MAXIMUM_STEPS } from './compute.ts'
import type { Kernels } from './kernels.ts'
import { BLOCK, groupBytes, isFloat, type Kind, paddedInner, paddedOutputs, TILE } from './layout.ts'
import { log } from './math.ts'
import {
  GatherWord,
  GemmWord,
  KIND_CODE,
  Operation,
  QuantiseWord,
  RECORD_BYTES,
  RmsNormWord,
  RotateAndStoreWord,
  SiluGateWord,
} from './operations.ts'
import type { Rows } from './rows.ts'

/** A memory, and the operators that work in it. */
export interface Bank {
  readonly arena: Arena
  readonly operators: Operators
}

/** A weight matrix W[rows x columns] in memory, in the tiled layout. */
export interface Matrix {
  readonly kind: Kind
  /** Outputs N. */
  readonly rows: number
  /** Inner dimension K. */
  readonly columns: number
  readonly pointer: number
}

/**
 * Bytes of rows as integers, the left side of integer products, in the largest of the layouts that
 * kernels use: of 32 values i16, an f32 scale and an i32.
 */
export const quantisedBytes = (rows: number, columns: number): number => rows * (paddedInner(columns) / BLOCK) * 72

/** The left side of a matrix product, in the one form or the other: as the weights' kind asks. */
export interface Operand {
  readonly rows: Rows
  /** Address of `quantisedBytes`. */
  readonly quantised: number
}

/**
 * Groups of so many bytes are read side by side by products of one or two rows; of shorter ones, the processor has to
 * find the next too often, and one stream is up to twice as fast (measured in kernels/README.md).
 */
const SIDE_BY_SIDE_BYTES = 32 * 1024

/** Where the queries, keys and values of a layer lie, and what becomes of them before attention. */
export interface HeadsJob {
  readonly rows: number
  readonly heads: number
  /** Of one stride. */
  readonly q: Rows
  readonly k: Rows
  readonly v: Rows
  /** Weights of the norm of each head, [headSize] f32; 0: none. */
  readonly qNorm: number
  readonly kNorm: number
  readonly epsilon: number
  /** Addresses of [rows][headSize/2] f32. */
  readonly cosines: number
  readonly sines: number
  readonly cache: KvLayer
  readonly slots: Int32Array
}

export interface Candidates {
  readonly ids: Int32Array
  readonly values: Float32Array
  readonly count: number
  /** ln of the sum of exp(scale * (logit - largest logit)) over the whole row. */
  readonly logSum: number
}

const MAXIMUM_CANDIDATES = 64

/** Tokens that `outliers` looks at in one call, and f64 that `sumExp` adds up. */
const OUTLIER_TOKENS = 1024
const SUMMED = 1024

/** Where the candidate lists lie behind the records. */
const IDS = MAXIMUM_STEPS * RECORD_BYTES
const VALUES = IDS + MAXIMUM_CANDIDATES * 4

const OUTLIERS = VALUES + MAXIMUM_CANDIDATES * 4
const OUTLIER_WORDS = 3 * OUTLIER_TOKENS
/** What the kernel needs beyond the list. */
const OUTLIER_ROOM = 80

/** Bytes of job records, candidate lists, and random words or numbers to be added up. */
export const JOB_BYTES = OUTLIERS + OUTLIER_WORDS * 4 + OUTLIER_ROOM

/**
 * What an element costs, in multiplications of a matrix product, about: `Compute.shares` divides by it.
 */
const QUANTISE_COST = 8
const NORM_COST = 16
const ROTATE_COST = 8
const GATE_COST = 48
const GATHER_COST = 16
export class Operators {
  readonly #kernels: Kernels
  readonly #compute: Compute
  readonly #records: Place
  /** The words of each step's record. */
  readonly #words: Int32Array[]
  readonly #floats: Float32Array[]
  readonly #shares = new Int32Array(MAXIMUM_STEPS)
  readonly #ids: Int32Array
  readonly #values: Float32Array
  readonly #outliers: Int32Array
  /** In the same place. */
  readonly #summed: Float64Array
  #steps = 0

  /**
   * All addresses that the methods take and give lie in the arena's memory.
   * @param kernels the calling thread's, in that memory
   * @param scratch address of `JOB_BYTES`
   */
  constructor(kernels: Kernels, compute: Compute, arena: Arena, scratch: number) {
    this.#kernels = kernels
    this.#compute = compute
    this.#records = { bank: arena.bank, pointer: scratch }
    const records = Array.from({ length: MAXIMUM_STEPS }, (_, step) => scratch + step * RECORD_BYTES)
    this.#words = records.map((record) => arena.i32(record, RECORD_BYTES / 4))
    this.#floats = records.map((record) => arena.f32(record, RECORD_BYTES / 4))
    this.#ids = arena.i32(scratch + IDS, MAXIMUM_CANDIDATES)
    this.#values = arena.f32(scratch + VALUES, MAXIMUM_CANDIDATES)
    this.#outliers = arena.i32(scratch + OUTLIERS, OUTLIER_WORDS)
    this.#summed = arena.f64(scratch + OUTLIERS, SUMMED)
  }

  /**
   * Executes the steps that were added since the last call, one after the other. Nothing else may add
   * steps in between: whoever waits for something calls `run` first.
   * @throws CoppiceError WORKER_FAILED
   */
  run(): void {
    const steps = this.#steps
    this.#steps = 0
    this.#compute.run(this.#records, this.#shares, steps)
  }

  /** Brings the first `count` rows into the form that weights of `kind` want. */
  quantise(x: Operand, count: number, kind: Kind): void {
    if (isFloat(kind)) return
    const { rows } = x
    const w = this.#begin(Operation.quantise)
    w[QuantiseWord.rows] = count
    w[QuantiseWord.columns] = rows.columns
    w[QuantiseWord.source] = rows.pointer
    w[QuantiseWord.sourceStride] = rows.stride
    w[QuantiseWord.values] = x.quantised
    w[QuantiseWord.kind] = KIND_CODE[kind]
    this.#end(count * (paddedInner(rows.columns) / BLOCK), count * rows.columns * QUANTISE_COST)
  }

  /** target[count x N] = x W^T (+ bias). @param bias address of N f32, 0 = none */
  matmul(x: Operand, count: number, matrix: Matrix, target: Rows, bias = 0): void {
    this.#gemm(x, count, matrix, target, bias, 0)
  }

  /** target += x W^T (+ bias): the residual connection. */
  matmulAdd(x: Operand, count: number, matrix: Matrix, target: Rows, bias = 0): void {
    this.#gemm(x, count, matrix, target, bias, 1)
  }

  /**
   * Root mean square layer normalisation (arXiv 1910.07467) of whole rows, in the form that weights of
   * `kind` want; padding becomes zeros.
   * @param sourceRows address of the rows' indices in `source`, i32; 0: the first rows
   */
  rmsNorm(
    source: Rows,
    count: number,
    weight: number,
    epsilon: number,
    kind: Kind,
    target: Operand,
    sourceRows = 0,
  ): void {
    const w = this.#begin(Operation.rmsNorm)
    w[RmsNormWord.rows] = count
    w[RmsNormWord.columns] = source.columns
    w[RmsNormWord.source] = source.pointer
    w[RmsNormWord.sourceStride] = source.stride
    w[RmsNormWord.sourceRows] = sourceRows
    w[RmsNormWord.weight] = weight
    this.#floats[this.#steps][RmsNormWord.epsilon] = epsilon
    w[RmsNormWord.target] = isFloat(kind) ? target.rows.pointer : 0
    w[RmsNormWord.targetStride] = target.rows.stride
    w[RmsNormWord.values] = target.quantised
    w[RmsNormWord.kind] = KIND_CODE[kind]
    this.#end(count, count * source.columns * NORM_COST)
  }

  /** Norm and rotation of each head of q and k; then k and v of each row go to their slot in the cache. */
  rotateAndStore(job: HeadsJob): void {
    const { cache } = job
    const w = this.#begin(Operation.rotateAndStore)
    w[RotateAndStoreWord.rows] = job.rows
    w[RotateAndStoreWord.heads] = job.heads
    w[RotateAndStoreWord.kvHeads] = cache.kvHeads
    w[RotateAndStoreWord.headSize] = cache.headSize
    w[RotateAndStoreWord.half] = cache.headSize / 2
    w[RotateAndStoreWord.q] = job.q.pointer
    w[RotateAndStoreWord.k] = job.k.pointer
    w[RotateAndStoreWord.v] = job.v.pointer
    w[RotateAndStoreWord.stride] = job.q.stride
    w[RotateAndStoreWord.qNorm] = job.qNorm
    w[RotateAndStoreWord.kNorm] = job.kNorm
    this.#floats[this.#steps][RotateAndStoreWord.epsilon] = job.epsilon
    w[RotateAndStoreWord.cosines] = job.cosines
    w[RotateAndStoreWord.sines] = job.sines
    w[RotateAndStoreWord.keys] = cache.keys
    w[RotateAndStoreWord.values] = cache.values
    w[RotateAndStoreWord.headStride] = cache.headStride
    w[RotateAndStoreWord.slots] = job.slots.byteOffset
    w[RotateAndStoreWord.scalesOffset] = cache.scalesOffset
    const units = job.rows * (job.heads + cache.kvHeads)
    this.#end(units, units * cache.headSize * ROTATE_COST)
  }

  /** softmax(q k / sqrt(headSize)) v for each row and head over what the row sees. */
  attention(job: AttentionJob): void {
    for (const step of attentionSteps(job, this.#compute.threads)) {
      const words = this.#begin(Operation.attention)
      writeAttention(words, this.#floats[this.#steps], job, step)
      this.#end(step.units, step.work)
    }
  }

  /**
   * target = silu(gate) * up in the form that weights of `kind` want, where up begins `upColumn` columns
   * after gate. The gate may be overwritten.
   */
  siluGate(source: Rows, count: number, upColumn: number, kind: Kind, target: Operand): void {
    const { columns } = target.rows
    const w = this.#begin(Operation.siluGate)
    w[SiluGateWord.rows] = count
    w[SiluGateWord.columns] = columns
    w[SiluGateWord.source] = source.pointer
    w[SiluGateWord.sourceStride] = source.stride
    w[SiluGateWord.upOffset] = upColumn * 4
    w[SiluGateWord.target] = isFloat(kind) ? target.rows.pointer : 0
    w[SiluGateWord.targetStride] = target.rows.stride
    w[SiluGateWord.values] = target.quantised
    w[SiluGateWord.kind] = KIND_CODE[kind]
    this.#end(count * (paddedInner(columns) / BLOCK), count * columns * GATE_COST)
  }

  /** Rows of an embedding matrix, dequantised. @param ids token ids in WASM memory */
  gather(ids: Int32Array, count: number, matrix: Matrix, target: Rows): void {
    const w = this.#begin(Operation.gather)
    w[GatherWord.rows] = count
    w[GatherWord.kind] = KIND_CODE[matrix.kind]
    w[GatherWord.columns] = matrix.columns
    w[GatherWord.paddedColumns] = paddedInner(matrix.columns)
    w[GatherWord.ids] = ids.byteOffset
    w[GatherWord.weights] = matrix.pointer
    w[GatherWord.target] = target.pointer
    w[GatherWord.targetStride] = target.stride
    this.#end(count, count * matrix.columns * GATHER_COST)
  }

  /**
   * The `k` largest of a row of logits (k <= 64), descending, and the normaliser of the distribution
   * softmax(scale * logits). The lists are overwritten by the next call.
   */
  topCandidates(logits: number, vocabulary: number, k: number, scale: number): Candidates {
    const largest = this.#largest(logits, vocabulary, k)
    return { ...largest, logSum: log(this.#kernels.sumExp(logits, vocabulary, scale, largest.values[0])) }
  }

  /** The same at a scale of 1, with a normaliser that is within 0.04, for what need not be exact. */
  coarseTopCandidates(logits: number, vocabulary: number, k: number): Candidates {
    const largest = this.#largest(logits, vocabulary, k)
    return { ...largest, logSum: Math.log(this.#kernels.coarseSumExp(logits, vocabulary, largest.values[0])) }
  }

  #largest(logits: number, vocabulary: number, k: number): Omit<Candidates, 'logSum'> {
    const ids = this.#ids
    const values = this.#values
    return { ids, values, count: this.#kernels.topK(logits, vocabulary, k, ids.byteOffset, values.byteOffset) }
  }

  /**
   * Random words of tokens at a position: Threefry-2x32 under a key, of the counters (position, token).
   * @param vocabulary tokens to look at @param least only where the first word, unsigned, is at least that
   * @param take receives token and words, by ascending token
   */
  outliers(
    [key0, key1]: readonly [number, number],
    position: number,
    vocabulary: number,
    least: number,
    take: (token: number, word0: number, word1: number) => void,
  ): void {
    const words = this.#outliers
    for (let first = 0; first < vocabulary; first += OUTLIER_TOKENS) {
      const end = Math.min(vocabulary, first + OUTLIER_TOKENS)
      const count = this.#kernels.outliers(key0, key1, position, first, end, least, words.byteOffset)
      for (let at = 0; at < 3 * count; at += 3) take(words[at], words[at + 1], words[at + 2])
    }
  }

  /** Sum of exp(x) as src/tensor/math.ts has it, of the first `count` values from -700 to 700, from the first one on. */
  sumExp(values: Float64Array, count: number): number {
    const summed = this.#summed
    let total = 0
    for (let first = 0; first < count; first += SUMMED) {
      const end = Math.min(count, first + SUMMED)
      summed.set(values.subarray(first, end))
      total = this.#kernels.sumExp64(summed.byteOffset, end - first, total)
    }
    return total
  }

  #gemm(x: Operand, count: number, matrix: Matrix, target: Rows, bias: number, accumulate: number): void {
    const { rows, quantised } = x
    const outputs = paddedOutputs(matrix.rows)
    const w = this.#begin(Operation.gemm)
    w[GemmWord.kind] = KIND_CODE[matrix.kind]
    w[GemmWord.rows] = count
    w[GemmWord.outputs] = outputs
    w[GemmWord.columns] = paddedInner(matrix.columns)
    w[GemmWord.x] = isFloat(matrix.kind) ? rows.pointer : quantised
    w[GemmWord.xStride] = rows.stride
    w[GemmWord.weights] = matrix.pointer
    w[GemmWord.y] = target.pointer
    w[GemmWord.yStride] = target.stride
    w[GemmWord.bias] = bias
    w[GemmWord.accumulate] = accumulate
    w[GemmWord.sideBySide] = groupBytes(matrix.kind, matrix.columns) < SIDE_BY_SIDE_BYTES ? 0 : 1
    this.#end(Math.ceil(outputs / (2 * TILE)), count * matrix.rows * matrix.columns)
  }

  /** The record of the next step. A job that is full is executed first. */
  #begin(operation: number): Int32Array {
    if (this.#steps === MAXIMUM_STEPS) this.run()
    const words = this.#words[this.#steps]
    words[0] = operation
    return words
  }

  /** @param units into which the kernel can cut the step @param work in multiplications of a product */
  #end(units: number, work: number): void {
    this.#shares[this.#steps++] = this.#compute.shares(units, work)
  }
}
