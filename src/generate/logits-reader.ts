/**
 * Logits of one pass, computed when the walk comes to them: the row that is asked for and, since a
 * tile of rows costs little more than one, the likeliest rows below it.
 */
import type { Transformer } from '../model/transformer.ts'
import type { TokenTree } from '../speculate/token-tree.ts'
import type { TopTokens } from '../speculate/verify.ts'

const TILE_ROWS = 8

export class LogitsReader {
  readonly #target: Transformer
  readonly #tree: TokenTree
  /** Row of the current chunk that holds a node's logits, or -1. */
  readonly #rowOf: Int32Array
  #chunk: number[] = []
  #top = new Int32Array(0)

  constructor(target: Transformer, tree: TokenTree) {
    this.#target = target
    this.#tree = tree
    this.#rowOf = new Int32Array(tree.capacity + 1)
  }

  /** Forgets the last pass. */
  reset(): void {
    this.#chunk = []
    this.#rowOf.fill(-1)
  }

  /** Logits after `node`: [vocabulary] f32, valid until another chunk is computed. */
  after(node: number): Float32Array {
    if (this.#rowOf[node] < 0) this.#compute(node)
    return this.#target.logitsView(this.#rowOf[node])
  }

  /** The `k` likeliest tokens after every node of the tree, the root included; valid until the next call. */
  top(k: number): TopTokens {
    const { count } = this.#tree
    const target = this.#target
    if (this.#top.length < count * k) this.#top = new Int32Array((this.#tree.capacity + 1) * k)
    const most = target.headRows
    // The first rows last: they are then there for the walk, which begins with them.
    for (let start = Math.floor((count - 1) / most) * most; start >= 0; start -= most) {
      this.#take(Array.from({ length: Math.min(most, count - start) }, (_, i) => start + i))
      for (const [row, node] of this.#chunk.entries()) {
        const { ids, count: found } = target.topCandidates(row, target.config.vocabulary, k, 1)
        for (let i = 0; i < k; i++) this.#top[node * k + i] = i < found ? ids[i] : -1
      }
    }
    return { k, ids: this.#top }
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
    chunk.forEach((at, row) => {
      this.#rowOf[at] = row
    })
    this.#chunk = chunk
    this.#target.head(chunk)
  }
}
