/** The trie in memory: nodes by number, their counts, and how it keeps within its capacity. */
import { discard, release } from '../../runtime/platform.ts'
import { firstLength, halved, moved, nextLength, type TableBytes } from './growth.ts'

/** Share of the capacity that stays when room is made: room is made seldom, and what is recent stays. */
const KEPT = 0.75

/** Nodes whose counts have faded below this may be dropped. */
const LEAST = 1

/** Places of the first tables, at the most. */
const FIRST_NODES = 4096
/** A place in each of the tables of nodes. */
const NODE_BYTES = 28

/** What holds on to nodes. */
export interface Cursors {
  /** @param to gives the new number of a node, 0 when it was dropped */
  moved(to: (node: number) => number): void
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
  /** Per node. The root's parent is the root; that of a node whose parent is being dropped is -1. */
  token: Int32Array
  parent: Int32Array
  /** Children, the last used first. */
  first: Int32Array
  next: Int32Array
  #previous: Int32Array
  prompt: Float32Array
  output: Float32Array
  /** Nodes by their parents and tokens: open addressing, a power of two of places, taken in the order of the numbers. */
  #slots: Int32Array
  /** Hear when nodes get other numbers. */
  readonly cursors: Cursors[] = []
  /** While there is a prompt in it: nodes that were there before. */
  #known: number | undefined

  constructor(capacity: number, decay: number) {
    this.capacity = capacity
    this.decay = decay
    const length = firstLength(capacity + 1, FIRST_NODES)
    this.token = new Int32Array(length)
    this.parent = new Int32Array(length)
    this.first = new Int32Array(length)
    this.next = new Int32Array(length)
    this.#previous = new Int32Array(length)
    this.prompt = new Float32Array(length)
    this.output = new Float32Array(length)
    this.#slots = new Int32Array(slotsOf(length))
  }

  get heldBytes(): number {
    return tableBytes(this.token.length)
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
    if (kind === 'prompt') this.#known ??= this.count
    let child = this.child(node, token)
    if (child === 0) child = this.add(node, token)
    else if (this.first[node] !== child) {
      this.#unlink(child)
      this.#link(child)
    }
    const counts = kind === 'prompt' ? this.prompt : this.output
    if (isNew || counts[child] === 0) {
      // Sums of faded counts are rounded: no child may come out above its parent.
      const most = node === 0 ? Number.POSITIVE_INFINITY : counts[node]
      counts[child] = Math.min(counts[child] + weight, most)
    }
    return child
  }

  /** But for one fill, it takes as long as the text, not the trie, is, unless room was made meanwhile. */
  forgetPrompt(): void {
    if (this.#known === undefined) return
    const known = this.#known
    this.#known = undefined
    this.prompt.fill(0, 0, this.count + 1)
    this.#remove(known, (node) => this.output[node] === 0)
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

  /**
   * Fades counts, and drops the oldest of the nodes that fall below `LEAST`, until a share of the capacity is free.
   * The prompt of the request fades only when no other node is left.
   */
  #makeRoom(): void {
    const { output, prompt } = this
    const kept = Math.floor(this.capacity * KEPT)
    let fadesPrompt = false
    while (this.count > kept) {
      let excess = this.count - kept
      let others = 0
      this.#remove(0, (node, hangs) => {
        output[node] *= this.decay
        if (fadesPrompt) prompt[node] *= this.decay
        const isWeak = output[node] + prompt[node] < LEAST
        if (hangs || (isWeak && excess > 0)) {
          excess--
          return true
        }
        if (prompt[node] === 0) others++
        return false
      })
      for (const cursors of this.cursors) cursors.faded(this.decay, fadesPrompt)
      fadesPrompt = others === 0
    }
    // Numbers are others now: to forget the prompt, all nodes will be looked at.
    if (this.#known !== undefined) this.#known = 0
  }

  /**
   * Drops nodes; whatever hangs on them goes as well. The order of the others' numbers stays, and that of siblings.
   * @param known nodes that stay as they are, the first ones
   * @param drops asked of each of the others, in order, and told whether it hangs on one that is dropped
   */
  #remove(known: number, drops: (node: number, hangs: boolean) => boolean): void {
    const { parent, count } = this
    // Places were taken in this order, so without those that came last the others are found as they are.
    if (known === 0) this.#slots.fill(0)
    else for (let node = count; node > known; node--) this.#slots[this.#slotOf(node)] = 0
    const to = new Int32Array(count - known)
    this.count = known
    for (let node = known + 1; node <= count; node++) {
      const hangs = parent[node] < 0
      if (drops(node, hangs) || hangs) this.#drop(node)
      else to[node - known - 1] = this.#move(node, ++this.count)
    }
    for (let node = known + 1; node <= this.count; node++) this.#place(node)
    const numberOf = (node: number): number => (node <= known ? node : to[node - known - 1])
    for (const cursors of this.cursors) cursors.moved(numberOf)
    discard(to)
  }

  /** Its children, whose numbers are higher, are told. */
  #drop(node: number): void {
    if (this.parent[node] >= 0) this.#unlink(node)
    for (let child = this.first[node]; child !== 0; child = this.next[child]) this.parent[child] = -1
  }

  /** Gives a node another number, which is free and not higher. @returns it */
  #move(from: number, to: number): number {
    if (from === to) return to
    const { token, parent, first, next, prompt, output } = this
    const previous = this.#previous
    token[to] = token[from]
    parent[to] = parent[from]
    first[to] = first[from]
    next[to] = next[from]
    previous[to] = previous[from]
    prompt[to] = prompt[from]
    output[to] = output[from]
    if (previous[to] === 0) first[parent[to]] = to
    else next[previous[to]] = to
    if (next[to] !== 0) previous[next[to]] = to
    for (let child = first[to]; child !== 0; child = next[child]) parent[child] = to
    return to
  }

  #slotOf(node: number): number {
    const slots = this.#slots
    const mask = slots.length - 1
    let slot = hash(this.parent[node], this.token[node]) & mask
    while (slots[slot] !== node) slot = (slot + 1) & mask
    return slot
  }

  #grow(): void {
    const length = nextLength(this.token.length, this.capacity + 1)
    this.token = moved(this.token, new Int32Array(length))
    this.parent = moved(this.parent, new Int32Array(length))
    this.first = moved(this.first, new Int32Array(length))
    this.next = moved(this.next, new Int32Array(length))
    this.#previous = moved(this.#previous, new Int32Array(length))
    this.prompt = moved(this.prompt, new Float32Array(length))
    this.output = moved(this.output, new Float32Array(length))
    discard(this.#slots)
    this.#slots = new Int32Array(slotsOf(length))
    for (let node = 1; node <= this.count; node++) this.#place(node)
  }

  release(): void {
    for (const table of [this.token, this.parent, this.first, this.next, this.#previous]) release(table)
    for (const table of [this.prompt, this.output, this.#slots]) release(table)
  }
}

const tableBytes = (length: number): number => NODE_BYTES * length + 4 * slotsOf(length)

/** Bytes of a full trie. */
export function trieBytes(capacity: number): TableBytes {
  const length = capacity + 1
  // When nodes are dropped, the others' new numbers.
  const numbers = 4 * capacity
  return {
    held: tableBytes(length),
    moving: length > FIRST_NODES ? Math.max(numbers, tableBytes(halved(length))) : numbers,
  }
}

/** At most two of three places are taken. */
const slotsOf = (nodes: number): number => 2 ** Math.ceil(Math.log2(nodes * 1.5))

function hash(parent: number, token: number): number {
  let h = Math.imul(parent, 0x9e3779b1) ^ Math.imul(token, 0x85ebca77)
  h = Math.imul(h ^ (h >>> 15), 0x2c1b3c6d)
  return h ^ (h >>> 13)
}
