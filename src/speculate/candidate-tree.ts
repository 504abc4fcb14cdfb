/**
 * A token tree in order of merit, with what is needed to grow it: which nodes' children are known, and what the
 * draft said of each node. It is larger than what is put before the target.
 */
import { ROOT, TokenTree } from './token-tree.ts'

/** The chance of a guess from its rank among its siblings and the draft's probability. */
export type Chance = (rank: number, promised: number) => number

/** A chance in scores. Rounding makes 0 of the least of chances, and scores must stay finite: they are subtracted. */
const scoreOf = (chance: number): number => Math.log(Math.max(Number.MIN_VALUE, chance))

export class CandidateTree {
  readonly tree: TokenTree
  /** The draft's probability of each node, given its parent. */
  readonly promised: Float64Array
  /** Place among its siblings, likeliest first. */
  readonly rank: Uint8Array
  /** Nodes by falling score, of which `tree.size` count; parents come before children, equals as they were added. */
  readonly order: Int32Array
  /** 1 where a node's children are in the tree. */
  readonly expanded: Uint8Array
  readonly #chosen: number[] = []

  constructor(capacity: number) {
    this.tree = new TokenTree(capacity)
    this.promised = new Float64Array(capacity + 1)
    this.rank = new Uint8Array(capacity + 1)
    this.order = new Int32Array(capacity)
    this.expanded = new Uint8Array(capacity + 1)
  }

  get size(): number {
    return this.tree.size
  }

  /** Nodes that still fit. */
  get room(): number {
    return this.tree.capacity - this.tree.size
  }

  /** The chance of the whole path to the node that comes at a place of the order. */
  chanceAt(place: number): number {
    return Math.exp(this.tree.logProb[this.order[place]])
  }

  reset(rootToken: number): void {
    this.tree.reset(rootToken)
    this.expanded.fill(0)
  }

  /**
   * Adds the children of a node, likeliest first. There must be room for them.
   * @param promised the draft's probabilities of the `count` tokens
   */
  expand(node: number, ids: ArrayLike<number>, promised: ArrayLike<number>, count: number, chance: Chance): void {
    const { tree } = this
    for (let rank = 0; rank < count; rank++) {
      const before = tree.size
      const child = tree.add(node, ids[rank], tree.logProb[node] + scoreOf(chance(rank, promised[rank])), 0)
      if (tree.size === before) continue
      this.promised[child] = promised[rank]
      this.rank[child] = rank
      this.#insert(child, before)
    }
    this.expanded[node] = 1
  }

  /** Scores all nodes anew: chances change as more is learnt. */
  rescore(chance: Chance): void {
    const { tree, order } = this
    const { logProb, parent, count } = tree
    for (let node = 1; node < count; node++) {
      logProb[node] = logProb[parent[node]] + scoreOf(chance(this.rank[node], this.promised[node]))
      order[node - 1] = node
    }
    order.subarray(0, tree.size).sort((a, b) => logProb[b] - logProb[a] || a - b)
  }

  /**
   * The best nodes whose children are not known, best first; the list is overwritten by the next call.
   * @param limit how many at the most @param depth only nodes above it @param places of the order to look through
   */
  bestUnexpanded(limit: number, depth: number, places: number): readonly number[] {
    const chosen = this.#chosen
    chosen.length = 0
    const end = Math.min(places, this.tree.size)
    for (let place = 0; place < end && chosen.length < limit; place++) {
      const node = this.order[place]
      if (this.expanded[node] === 0 && this.tree.depth[node] < depth) chosen.push(node)
    }
    return chosen
  }

  /** Puts the best `n` nodes into another tree, below its root, best first. */
  copyBest(n: number, target: TokenTree, source: number): void {
    const { tree, order } = this
    const placed = new Map([[ROOT, ROOT]])
    for (let place = 0; place < Math.min(n, tree.size); place++) {
      const node = order[place]
      const parent = placed.get(tree.parent[node])!
      placed.set(node, target.add(parent, tree.token[node], tree.logProb[node], source))
    }
  }

  /** Keeps the subtree under a node. */
  reroot(node: number, chance: Chance): void {
    const survivors = this.tree.reroot(node)
    const kept = <T extends Float64Array | Uint8Array>(values: T): void => {
      // A node never moves to a later place, so nothing is overwritten before it has moved.
      survivors.forEach((from, to) => {
        values[to] = values[from]
      })
      values.fill(0, survivors.length)
    }
    kept(this.promised)
    kept(this.rank)
    kept(this.expanded)
    this.rescore(chance)
  }

  #insert(node: number, size: number): void {
    const { order } = this
    const { logProb } = this.tree
    let low = 0
    let high = size
    while (low < high) {
      const middle = (low + high) >> 1
      if (logProb[order[middle]] >= logProb[node]) low = middle + 1
      else high = middle
    }
    order.copyWithin(low + 1, low, size)
    order[low] = node
  }
}
