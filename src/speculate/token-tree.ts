/**
 * A tree of guesses about what comes next (SpecInfer, arXiv 2305.09781, section 3). Node 0 is the
 * root: the last accepted token, which needs no guess and is not counted in `size`.
 */

export const ROOT = 0

/** Who proposed a node; bits, because equal proposals are merged. */
export type SourceMask = number

export class TokenTree {
  readonly capacity: number
  readonly token: Int32Array
  /** Parent's index; -1 for the root. A parent's index is less than its children's. */
  readonly parent: Int32Array
  /** Root 0, its children 1, and so on. */
  readonly depth: Int32Array
  /** Cumulative log-probability along the path from the root, whose own is 0. */
  readonly logProb: Float64Array
  readonly source: Int32Array
  /** Cache slots of the node, -1 while it has none. */
  readonly draftSlot: Int32Array
  readonly targetSlot: Int32Array
  readonly #firstChild: Int32Array
  readonly #nextSibling: Int32Array
  #count = 0

  /** @param capacity nodes, the root not counted */
  constructor(capacity: number) {
    this.capacity = capacity
    const n = capacity + 1
    this.token = new Int32Array(n)
    this.parent = new Int32Array(n)
    this.depth = new Int32Array(n)
    this.logProb = new Float64Array(n)
    this.source = new Int32Array(n)
    this.draftSlot = new Int32Array(n)
    this.targetSlot = new Int32Array(n)
    this.#firstChild = new Int32Array(n)
    this.#nextSibling = new Int32Array(n)
    this.reset(0)
  }

  /** Nodes without the root. */
  get size(): number {
    return this.#count - 1
  }

  /** Nodes with the root: valid indices are `[0, count)`. */
  get count(): number {
    return this.#count
  }

  /** Empties the tree and plants a new root. */
  reset(rootToken: number): void {
    this.#count = 0
    this.#append(-1, rootToken, 0, 0, 0)
  }

  /**
   * Adds a child, or finds the sibling that already holds the token: then the better score and both
   * sources are kept.
   * @returns the node's index, or -1 when the tree is full
   */
  add(parent: number, token: number, logProb: number, source: SourceMask): number {
    const same = this.child(parent, token)
    if (same >= 0) {
      this.source[same] |= source
      if (logProb > this.logProb[same]) this.logProb[same] = logProb
      return same
    }
    if (this.#count > this.capacity) return -1
    return this.#append(parent, token, this.depth[parent] + 1, logProb, source)
  }

  /** The child of `parent` that holds `token`, or -1. */
  child(parent: number, token: number): number {
    for (let node = this.#firstChild[parent]; node >= 0; node = this.#nextSibling[node]) {
      if (this.token[node] === token) return node
    }
    return -1
  }

  /** The children of a node, the last added first. */
  children(node: number): number[] {
    const children: number[] = []
    for (let child = this.#firstChild[node]; child >= 0; child = this.#nextSibling[child]) children.push(child)
    return children
  }

  /** Nodes from the root's child down to `node` itself; empty for the root. */
  ancestors(node: number): number[] {
    const path: number[] = []
    for (let at = node; at !== ROOT; at = this.parent[at]) path.push(at)
    return path.reverse()
  }

  /** Tokens of `ancestors(node)`. */
  pathTokens(node: number): number[] {
    return this.ancestors(node).map((at) => this.token[at])
  }

  /**
   * Keeps the subtree under `node`, which becomes the root; the rest is dropped. Slots are kept.
   * @returns for every node of the new tree, its index in the old one
   */
  reroot(node: number): number[] {
    const survivors: number[] = []
    const newIndex = new Int32Array(this.#count).fill(-1)
    const base = this.logProb[node]
    const baseDepth = this.depth[node]
    const last = this.#count
    this.#count = 0
    for (let at = node; at < last; at++) {
      const kept = at === node ? -1 : newIndex[this.parent[at]]
      if (at !== node && kept < 0) continue
      const draftSlot = this.draftSlot[at]
      const targetSlot = this.targetSlot[at]
      const to = this.#append(
        kept,
        this.token[at],
        this.depth[at] - baseDepth,
        this.logProb[at] - base,
        at === node ? 0 : this.source[at],
      )
      this.draftSlot[to] = draftSlot
      this.targetSlot[to] = targetSlot
      newIndex[at] = to
      survivors.push(at)
    }
    return survivors
  }

  #append(parent: number, token: number, depth: number, logProb: number, source: number): number {
    const node = this.#count++
    this.token[node] = token
    this.parent[node] = parent
    this.depth[node] = depth
    this.logProb[node] = logProb
    this.source[node] = source
    this.draftSlot[node] = -1
    this.targetSlot[node] = -1
    this.#firstChild[node] = -1
    this.#nextSibling[node] = -1
    if (parent >= 0) {
      this.#nextSibling[node] = this.#firstChild[parent]
      this.#firstChild[parent] = node
    }
    return node
  }
}
