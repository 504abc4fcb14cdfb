/**
 * A token tree in order of merit, with what is needed to grow it: what every source said of each node, and which
 * nodes have been looked behind. It is larger than what is put before the target.
 */
import { ROOT, type SourceMask, TokenTree } from './token-tree.ts'

/** Makes chances of acceptance of what sources say. */
export interface Judge {
  /** The chance that the target takes a guess, where it took everything before it. */
  chance(grown: CandidateTree, node: number): number
  /** What became of a guess that the target came to, whether or not it was put before it. */
  observe(grown: CandidateTree, node: number, accepted: boolean): void
}

/** Guesses of one source after one node, likeliest first. */
export interface Offer {
  readonly ids: ArrayLike<number>
  /** The source's own probabilities. */
  readonly promised: ArrayLike<number>
  /** What else tells guesses of a source apart; absent: the rank. */
  readonly classes?: ArrayLike<number>
  readonly count: number
}

/** A chance in scores. Rounding makes 0 of the least of chances, and scores must stay finite: they are subtracted. */
const scoreOf = (chance: number): number => Math.log(Math.max(Number.MIN_VALUE, chance))

export class CandidateTree {
  readonly tree: TokenTree
  /** Bits of the sources, by their place in what follows. */
  readonly sources: readonly SourceMask[]
  /** [nodes][sources]: probability of each node given its parent, where `tree.source` has the source's bit. */
  readonly promised: Float64Array
  /** [nodes][sources]: class of each node, under the same condition. */
  readonly classes: Uint8Array
  /** Nodes by falling score, of which `tree.size` count; parents come before children, equals as they were added. */
  readonly order: Int32Array
  /** Bits of the sources that looked behind a node: its children that they know are in the tree. */
  readonly expanded: Int32Array
  /** By node, between calls -1: where nodes go. */
  readonly #moved: Int32Array
  readonly #chosen: number[] = []
  readonly #fresh: number[] = []
  #changed = false

  constructor(capacity: number, sources: readonly SourceMask[]) {
    const nodes = capacity + 1
    this.tree = new TokenTree(capacity)
    this.sources = sources
    this.promised = new Float64Array(nodes * sources.length)
    this.classes = new Uint8Array(nodes * sources.length)
    this.order = new Int32Array(capacity)
    this.expanded = new Int32Array(nodes)
    this.#moved = new Int32Array(nodes).fill(-1)
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
    this.expanded.fill(0, 0, this.tree.count)
    this.tree.reset(rootToken)
    this.#fresh.length = 0
    this.#changed = false
  }

  /**
   * Takes what a source guesses after a node. The nodes count from `settle` on.
   * @param source place among the sources
   */
  offer(node: number, source: number, { ids, promised, classes, count }: Offer): void {
    // Whether the source names them or not, it says something of the children that are there.
    for (const child of this.tree.children(node)) this.#noteChange(child)
    for (let i = 0; i < count; i++) this.suggest(node, source, ids[i], promised[i], classes?.[i] ?? i)
    this.expanded[node] |= this.sources[source]
  }

  /** One guess; the same as `offer`, but that the parent does not count as looked behind. @returns the node, or -1 */
  suggest(parent: number, source: number, token: number, promised: number, kind: number): number {
    const { tree } = this
    const bit = this.sources[source]
    const before = tree.size
    const child = tree.add(parent, token, Number.NEGATIVE_INFINITY, bit)
    if (child < 0) return child
    if (tree.size > before) this.#fresh.push(child)
    else this.#noteChange(child)
    const at = child * this.sources.length + source
    this.promised[at] = promised
    this.classes[at] = kind
    return child
  }

  /** Puts what was offered in its place. @returns whether nodes that were there before got new places */
  settle(judge: Judge): boolean {
    const fresh = this.#fresh
    const changed = this.#changed
    let size = this.tree.size - fresh.length
    if (changed) {
      for (const node of fresh) this.order[size++] = node
      this.rescore(judge)
    } else {
      for (const node of fresh) {
        this.#score(node, judge)
        this.#insert(node, size++)
      }
    }
    this.#changed = false
    fresh.length = 0
    return changed
  }

  /** Scores all nodes anew: chances change as more is learnt. */
  rescore(judge: Judge): void {
    const { tree, order } = this
    for (let node = 1; node < tree.count; node++) this.#score(node, judge)
    // Most stay where they are, and of the others most move by little.
    for (let place = 1; place < tree.size; place++) {
      const node = order[place]
      if (this.#isBefore(node, order[place - 1])) this.#insert(node, place)
    }
  }

  /**
   * The best nodes that a source has not looked behind, best first; the list is overwritten by the next call.
   * @param limit how many at the most @param depth only nodes above it @param places of the order to look through
   * @param vocabulary only nodes whose token is below it. Below others, and below those that are not chosen in time,
   *   nothing is chosen: the source comes to a node by its parent.
   */
  bestUnexpanded(
    source: SourceMask,
    limit: number,
    depth: number,
    places: number,
    vocabulary = 2 ** 31,
  ): readonly number[] {
    const chosen = this.#chosen
    chosen.length = 0
    const { tree, order, expanded } = this
    const end = Math.min(places, tree.size)
    for (let place = 0; place < end && chosen.length < limit; place++) {
      const node = order[place]
      if ((expanded[node] & source) !== 0 || tree.depth[node] >= depth || tree.token[node] >= vocabulary) continue
      const parent = tree.parent[node]
      if ((expanded[parent] & source) !== 0 || chosen.includes(parent)) chosen.push(node)
    }
    return chosen
  }

  /** Puts the best `n` nodes into another tree, below its root, best first. */
  copyBest(n: number, target: TokenTree): void {
    const { tree } = this
    const placed = this.#moved
    const best = this.order.subarray(0, Math.min(n, tree.size))
    placed[ROOT] = ROOT
    for (const node of best) {
      placed[node] = target.add(placed[tree.parent[node]], tree.token[node], tree.logProb[node], tree.source[node])
    }
    for (const node of best) placed[node] = -1
  }

  /** Keeps the subtree under a node. */
  reroot(node: number, judge: Judge): void {
    const { size, count } = this.tree
    const survivors = this.tree.reroot(node)
    const kept = (values: Float64Array | Uint8Array | Int32Array, width: number): void => {
      // A node never moves to a later place, so nothing is overwritten before it has moved.
      survivors.forEach((from, to) => {
        for (let i = 0; i < width; i++) values[to * width + i] = values[from * width + i]
      })
    }
    kept(this.promised, this.sources.length)
    kept(this.classes, this.sources.length)
    kept(this.expanded, 1)
    this.expanded.fill(0, survivors.length, count)
    this.#keepOrder(survivors, size)
    this.rescore(judge)
  }

  /** @param survivors by their new index, the root being the first @param size of the tree before */
  #keepOrder(survivors: readonly number[], size: number): void {
    const { order } = this
    const moved = this.#moved
    for (let to = 1; to < survivors.length; to++) moved[survivors[to]] = to
    let kept = 0
    for (let place = 0; place < size; place++) if (moved[order[place]] >= 0) order[kept++] = moved[order[place]]
    for (const from of survivors) moved[from] = -1
  }

  #noteChange(node: number): void {
    if (this.#fresh.length === 0 || node < this.#fresh[0]) this.#changed = true
  }

  #score(node: number, judge: Judge): void {
    const { logProb, parent } = this.tree
    logProb[node] = logProb[parent[node]] + scoreOf(judge.chance(this, node))
  }

  /** Whether a node comes before another one in the order. */
  #isBefore(node: number, other: number): boolean {
    const { logProb } = this.tree
    return logProb[node] > logProb[other] || (logProb[node] === logProb[other] && node < other)
  }

  /** Puts a node in its place among the first `size`. */
  #insert(node: number, size: number): void {
    const { order } = this
    let low = 0
    let high = size
    while (low < high) {
      const middle = (low + high) >> 1
      if (this.#isBefore(node, order[middle])) high = middle
      else low = middle + 1
    }
    order.copyWithin(low + 1, low, size)
    order[low] = node
  }
}
