/**
 * Logits of one pass, computed when the walk comes to them: the row that is asked for and, since a
 * tile of rows costs little more than one, the likeliest rows below it.
 */
import type { Transformer } from '../model/transformer.ts'
import { now } from '../runtime/platform.ts'
import type { TokenTree } from '../speculate/token-tree.ts'
import type { NotedTokens } from '../speculate/verify.ts'

const TILE_ROWS = 8

export class LogitsReader {
  readonly #target: Transformer
  readonly #tree: TokenTree
  /** Row of the current chunk that holds a node's logits, or -1. */
  readonly #rowOf: Int32Array
  #chunk: number[] = []
  #topTokens = 0
  #top = new Int32Array(0)
  #logProbs = new Float32Array(0)
  #seconds = 0

  constructor(target: Transformer, tree: TokenTree) {
    this.#target = target
    this.#tree = tree
    this.#rowOf = new Int32Array(tree.capacity + 1)
  }

  /** Forgets the last pass. @param topTokens how many of the likeliest tokens to note wherever logits are computed */
  reset(topTokens = 0): void {
    this.#chunk = []
    this.#rowOf.fill(-1)
    this.#topTokens = topTokens
    this.#seconds = 0
    const size = this.#tree.count * topTokens
    if (this.#top.length < size) {
      this.#top = new Int32Array((this.#tree.capacity + 1) * topTokens)
      this.#logProbs = new Float32Array(this.#top.length)
    }
    this.#top.fill(-1, 0, size)
  }

  /** Logits after `node`: [vocabulary] f32, valid until another chunk is computed. */
  after(node: number): Float32Array {
    if (this.#rowOf[node] < 0) this.#compute(node)
    return this.#target.logitsView(this.#rowOf[node])
  }

  /** The likeliest tokens after every node, if they were to be noted; valid until the next pass. */
  top(): NotedTokens | undefined {
    const k = this.#topTokens
    if (k === 0) return undefined
    const left: number[] = []
    for (let node = 0; node < this.#tree.count; node++) if (this.#top[node * k] < 0) left.push(node)
    for (let start = 0; start < left.length; start += this.#target.headRows) {
      this.#take(left.slice(start, start + this.#target.headRows))
    }
    return { k, ids: this.#top, logProbs: this.#logProbs, seconds: this.#seconds }
  }

  #compute(node: number): void {
    // A head that comes from disk is read once per pass, for all rows.
    const limit = this.#target.headStreams ? this.#target.headRows : Math.min(TILE_ROWS, this.#target.headRows)
    const chunk = [node]
    const below = new Set(chunk)
    // Nodes were added best first, so the first ones below the node are the likeliest.
    for (let at = node + 1; at < this.#tree.count && chunk.length < limit; at++) {
      if (!below.has(this.#tree.parent[at])) continue
      below.add(at)
      chunk.push(at)
    }
    this.#take(chunk)
  }

  #take(chunk: number[]): void {
    for (const old of this.#chunk) this.#rowOf[old] = -1
    for (let row = 0; row < chunk.length; row++) this.#rowOf[chunk[row]] = row
    this.#chunk = chunk
    this.#target.head(chunk)
    const k = this.#topTokens
    if (k === 0) return
    const began = now()
    for (let row = 0; row < chunk.length; row++) this.#note(chunk[row], row, k)
    this.#seconds += (now() - began) / 1000
  }

  #note(node: number, row: number, k: number): void {
    const { ids, values, count, logSum } = this.#target.coarseTopCandidates(row, k)
    for (let i = 0; i < Math.min(k, count); i++) {
      this.#top[node * k + i] = ids[i]
      this.#logProbs[node * k + i] = values[i] - values[0] - logSum
    }
  }
}
