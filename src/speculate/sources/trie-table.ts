/** The trie in memory: nodes by number, their counts, and how it keeps within its capacity. */
/** Share of the capacity that stays when room is made: room is made seldom, and what is recent stays. */
const KEPT = 0.75

/** Nodes whose counts have faded below this may be dropped. */
const LEAST = 1

const FIRST_NODES = 4096
/** A place in each of the tables of nodes. */
const NODE_BYTES = 28

/** What holds on to nodes. */
export interface Cursors {
  /** @param to new numbers by old ones; 0 where a node was dropped */
  moved(to: Int32Array): void
  faded(decay: number, fadesPrompt: boolean): void
}

/**
 * The trie in tables. Node 0 is the root; as it is nobody's child or sibling, 0 also stands for none. Children have
 * higher numbers than their parents, and their output counts are at most those of their parents.
 */
export class BranchTrie {
  /** Most nodes, the root not counted. */
  readonly capacity: number
  /** What is left of a count when it fades. */
  readonly decay: number
  /** Nodes without the root. */
  count = 0
  /** Per node. The root's parent is the root; that of a node that is being dropped is -1. */
  token = new Int32Array(FIRST_NODES)
  parent = new Int32Array(FIRST_NODES)
  /** Children, the last used first. */
  first = new Int32Array(FIRST_NODES)
  next = new Int32Array(FIRST_NODES)
  #previous = new Int32Array(FIRST_NODES)
  prompt = new Float32Array(FIRST_NODES)
  output = new Float32Array(FIRST_NODES)
  /** Nodes by their parents and tokens: open addressing, a power of two of places. */
  #slots = new Int32Array(slotsOf(FIRST_NODES))
  /** Hear when nodes get other numbers. */
  readonly cursors: Cursors[] = []
  #hasPrompt = false

  constructor(capacity: number, decay: number) {
    this.capacity = capacity
    this.decay = decay
  }

  get heldBytes(): number {
    return this.token.length * NODE_BYTES + this.#slots.length * 4
  }

  /** @returns the node of a whole run of tokens, or 0 */
  find(tokens: ArrayLike<number>, start: number, end: number): number {
    let node = 0
    for (let i = start; i < end; i++) {
      node = this.child(node, tokens[i])
      if (node === 0) return 0
    }
    return node
  }

  /** Makes sure that there is room for so many more nodes, a quarter of the capacity at the most. */
  reserve(nodes: number): void {
    if (this.count + nodes > this.capacity) this.#makeRoom()
  }

  /**
   * Comes by the child that holds a token, which is added where it is missing.
   * @param weight of one count
   * @param isNew whether to count it; what was counted before is so only when it was dropped since
   * @returns the child
   */
  visit(node: number, token: number, kind: 'prompt' | 'output', weight: number, isNew: boolean): number {
    let child = this.child(node, token)
    if (child === 0) child = this.add(node, token)
    else if (this.first[node] !== child) {
      this.#unlink(child)
      this.#link(child)
    }
    if (kind === 'prompt') this.#hasPrompt = true
    const counts = kind === 'prompt' ? this.prompt : this.output
    if (isNew || counts[child] === 0) {
      // Sums of faded counts are rounded: no child may come out above its parent.
      const most = node === 0 ? Number.POSITIVE_INFINITY : counts[node]
      counts[child] = Math.min(counts[child] + weight, most)
    }
    return child
  }

  forgetPrompt(): void {
    if (!this.#hasPrompt) return
    this.#hasPrompt = false
    this.prompt.fill(0)
    for (let node = 1; node <= this.count; node++) {
      if (this.output[node] === 0 || this.parent[this.parent[node]] < 0) this.#drop(node)
    }
    this.#compact()
  }

  /** @returns the child that holds the token, or 0 */
  child(parent: number, token: number): number {
    const slots = this.#slots
    const mask = slots.length - 1
    for (let slot = hash(parent, token) & mask; ; slot = (slot + 1) & mask) {
      const node = slots[slot]
      if (node === 0 || (this.token[node] === token && this.parent[node] === parent)) return node
    }
  }

  /** Adds a child that is not there, with no counts. There must be room for it. @returns its node */
  add(parent: number, token: number): number {
    if (this.count + 1 >= this.token.length) this.#grow()
    const node = ++this.count
    this.token[node] = token
    this.parent[node] = parent
    this.first[node] = 0
    this.prompt[node] = 0
    this.output[node] = 0
    this.#link(node)
    this.#place(node)
    return node
  }

  #place(node: number): void {
    const slots = this.#slots
    const mask = slots.length - 1
    let slot = hash(this.parent[node], this.token[node]) & mask
    while (slots[slot] !== 0) slot = (slot + 1) & mask
    slots[slot] = node
  }

  /** Makes a node the first child of its parent. */
  #link(node: number): void {
    const parent = this.parent[node]
    const second = this.first[parent]
    this.next[node] = second
    this.#previous[node] = 0
    if (second !== 0) this.#previous[second] = node
    this.first[parent] = node
  }

  #unlink(node: number): void {
    const previous = this.#previous[node]
    const next = this.next[node]
    if (previous === 0) this.first[this.parent[node]] = next
    else this.next[previous] = next
    if (next !== 0) this.#previous[next] = previous
  }

  /** The node's children must be dropped as well, before `#compact`. */
  #drop(node: number): void {
    this.#unlink(node)
    this.parent[node] = -1
  }

  /**
   * Fades counts, and drops the oldest of the nodes that fall below `LEAST`, until a share of the capacity is free.
   * The prompt of the request fades only when no other node is left.
   */
  #makeRoom(): void {
    const { output, prompt, parent } = this
    const kept = Math.floor(this.capacity * KEPT)
    let fadesPrompt = false
    while (this.count > kept) {
      let excess = this.count - kept
      let others = 0
      for (let node = 1; node <= this.count; node++) {
        output[node] *= this.decay
        if (fadesPrompt) prompt[node] *= this.decay
        const isWeak = output[node] + prompt[node] < LEAST
        // Whatever hangs on a dropped node goes with it.
        if (parent[parent[node]] < 0 || (isWeak && excess > 0)) {
          this.#drop(node)
          excess--
        } else if (prompt[node] === 0) others++
      }
      for (const cursors of this.cursors) cursors.faded(this.decay, fadesPrompt)
      fadesPrompt = others === 0
      this.#compact()
    }
  }

  /** Closes the gaps that dropped nodes left. The order of the numbers stays, and that of siblings. */
  #compact(): void {
    const { token, parent, first, next, prompt, output } = this
    const previous = this.#previous
    // The places are found anew afterwards; until then they hold the new numbers.
    const to = this.#slots
    let count = 0
    to[0] = 0
    for (let node = 1; node <= this.count; node++) to[node] = parent[node] < 0 ? 0 : ++count
    for (let node = 0; node <= this.count; node++) {
      if (parent[node] < 0) continue
      const at = to[node]
      token[at] = token[node]
      parent[at] = to[parent[node]]
      first[at] = to[first[node]]
      next[at] = to[next[node]]
      previous[at] = to[previous[node]]
      prompt[at] = prompt[node]
      output[at] = output[node]
    }
    this.count = count
    for (const cursors of this.cursors) cursors.moved(to)
    this.#placeAll()
  }

  #placeAll(): void {
    this.#slots.fill(0)
    for (let node = 1; node <= this.count; node++) this.#place(node)
  }

  #grow(): void {
    const length = Math.min(2 * this.token.length, this.capacity + 1)
    this.token = copied(this.token, new Int32Array(length))
    this.parent = copied(this.parent, new Int32Array(length))
    this.first = copied(this.first, new Int32Array(length))
    this.next = copied(this.next, new Int32Array(length))
    this.#previous = copied(this.#previous, new Int32Array(length))
    this.prompt = copied(this.prompt, new Float32Array(length))
    this.output = copied(this.output, new Float32Array(length))
    this.#slots = new Int32Array(slotsOf(length))
    this.#placeAll()
  }
}

/** Bytes that a full trie takes. */
export const mostTrieBytes = (capacity: number): number => NODE_BYTES * (capacity + 1) + 4 * slotsOf(capacity + 1)

/** At most two of three places are taken. */
const slotsOf = (nodes: number): number => 2 ** Math.ceil(Math.log2(nodes * 1.5))

function hash(parent: number, token: number): number {
  let h = Math.imul(parent, 0x9e3779b1) ^ Math.imul(token, 0x85ebca77)
  h = Math.imul(h ^ (h >>> 15), 0x2c1b3c6d)
  return h ^ (h >>> 13)
}

export function copied<T extends Int32Array | Float32Array | Float64Array>(from: T, to: T): T {
  to.set(from)
  return to
}
