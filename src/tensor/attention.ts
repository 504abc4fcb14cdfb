/** Attention as the steps of a job: which rows and KV heads are done at a time, and their phases. */
import { scratchShares } from './compute.ts'
import { ATTENTION_PHASE, AttentionWord, scoreStride, WIDENED_BYTES } from './operations.ts'
import type { Rows } from './rows.ts'

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

/** Rows and KV heads whose scores fit in the buffer together. */
interface AttentionBlock {
  readonly firstRow: number
  readonly rows: number
  readonly firstKvHead: number
  readonly kvHeads: number
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

/** One phase of a block. */
interface AttentionStep {
  readonly block: AttentionBlock
  readonly phase: number
  /** Bytes of the scores of one query. */
  readonly stride: number
  /** Parts that it can be divided into. */
  readonly units: number
  /** In multiplications of a matrix product, about. */
  readonly work: number
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

/** What an element costs, as in operators.ts: of a query that becomes integers; of the scores. */
const QUANTISE_COST = 8
const SOFTMAX_COST = 8

/** Positions and dimensions that attention takes at a time, and at which its steps can be cut. */
const KEY_BLOCK = 64
const VALUE_STRIPE = 16

/**
 * The steps of softmax(q k / sqrt(headSize)) v for each row and head over what the row sees. Where the scores of all
 * rows and heads do not fit in their buffer, it is done for some rows and KV heads at a time.
 */
export function attentionSteps(job: AttentionJob, threads: number): AttentionStep[] {
  const { rows, heads, cache, batch } = job
  const group = heads / cache.kvHeads
  let positions = 0
  for (let row = 0; row < rows; row++) {
    const ancestors = batch.ancestorOffsets[row + 1] - batch.ancestorOffsets[row]
    positions = Math.max(positions, batch.prefixes[row] + ancestors)
  }
  const stride = scoreStride(positions)
  const widened = cache.scalesOffset === 0 ? 0 : scratchShares(threads) * WIDENED_BYTES
  const queries = Math.floor((job.scoresBytes - widened) / stride)
  const [rowsAtOnce, kvHeadsAtOnce] = attentionBlock(rows, cache.kvHeads, group, queries)
  const steps: AttentionStep[] = []
  for (let kvHead = 0; kvHead < cache.kvHeads; kvHead += kvHeadsAtOnce) {
    const kvHeads = Math.min(kvHeadsAtOnce, cache.kvHeads - kvHead)
    for (let row = 0; row < rows; row += rowsAtOnce) {
      const block = { firstRow: row, rows: Math.min(rowsAtOnce, rows - row), firstKvHead: kvHead, kvHeads }
      addPhases(steps, job, block, stride, positions, threads)
    }
  }
  return steps
}

function addPhases(
  steps: AttentionStep[],
  { heads, cache }: AttentionJob,
  block: AttentionBlock,
  stride: number,
  positions: number,
  threads: number,
): void {
  const { headSize, scalesOffset } = cache
  const queries = block.rows * block.kvHeads * (heads / cache.kvHeads)
  const scored = queries * positions
  const add = (phase: number, units: number, work: number): void =>
    void steps.push({ block, phase, stride, units: Math.min(units, scratchShares(threads)), work })
  const { queries: quantise, scores, weights, values } = ATTENTION_PHASE
  if (scalesOffset !== 0) add(quantise, queries, queries * headSize * QUANTISE_COST)
  add(scores, block.kvHeads * Math.ceil(positions / KEY_BLOCK), scored * headSize)
  add(weights, queries, scored * SOFTMAX_COST)
  add(values, valueUnits(block.kvHeads, headSize, threads), scored * headSize)
}

/**
 * What weighted values are divided into at the most: runs of whole KV heads where threads get equally many,
 * because such a run is read from its beginning to its end; else stripes.
 */
function valueUnits(kvHeads: number, headSize: number, threads: number): number {
  for (let runs = scratchShares(threads); runs > 0; runs -= threads) if (kvHeads % runs === 0) return runs
  return kvHeads * Math.ceil(headSize / VALUE_STRIPE)
}

/** Writes the record of a step, but for its operation. @param words of the record @param floats the same as f32 */
export function writeAttention(words: Int32Array, floats: Float32Array, job: AttentionJob, step: AttentionStep): void {
  const { cache, batch } = job
  const { headSize, headStride } = cache
  const { firstRow, rows, firstKvHead, kvHeads } = step.block
  const group = job.heads / cache.kvHeads
  const queries = job.queries.rowsFrom(firstRow).columnsFrom(firstKvHead * group * headSize)
  const output = job.output.rowsFrom(firstRow).columnsFrom(firstKvHead * group * headSize)
  words[AttentionWord.rows] = rows
  words[AttentionWord.heads] = kvHeads * group
  words[AttentionWord.kvHeads] = kvHeads
  words[AttentionWord.headSize] = headSize
  words[AttentionWord.queries] = queries.pointer
  words[AttentionWord.queryStride] = queries.stride
  words[AttentionWord.keys] = cache.keys + firstKvHead * headStride
  words[AttentionWord.values] = cache.values + firstKvHead * headStride
  words[AttentionWord.headStride] = headStride
  words[AttentionWord.output] = output.pointer
  words[AttentionWord.outputStride] = output.stride
  words[AttentionWord.prefixes] = batch.prefixes.byteOffset + firstRow * 4
  words[AttentionWord.ancestorOffsets] = batch.ancestorOffsets.byteOffset + firstRow * 4
  words[AttentionWord.ancestorSlots] = batch.ancestorSlots.byteOffset
  words[AttentionWord.window] = job.window
  floats[AttentionWord.scale] = 1 / Math.sqrt(headSize)
  // No family that is read caps its scores; a checkpoint with attn_logit_softcapping is refused.
  floats[AttentionWord.softcap] = 0
  words[AttentionWord.scores] = job.scores
  words[AttentionWord.scoreStride] = step.stride
  words[AttentionWord.scalesOffset] = cache.scalesOffset
  words[AttentionWord.phase] = step.phase
}
