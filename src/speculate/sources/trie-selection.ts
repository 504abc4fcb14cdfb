/** How a proposal is chosen from the trie: children by weight, what may come next, and what was taken. */

import { moved, type TableBytes } from './growth.ts'
import { type GuessTree, MOST_GUESSES } from './source.ts'
import type { BranchTrie } from './trie-table.ts'

/** Children that are looked at, the last used first. Twice or eight times as many cost time and gained no tokens. */
export const MOST_SIBLINGS = 32

export const RANKING_BYTES = (4 + 8) * MOST_GUESSES

/** The children of a node by falling weight. */
export class Ranking {
  readonly nodes = new Int32Array(MOST_GUESSES)
  count = 0
  readonly #weights = new Float64Array(MOST_GUESSES)
  readonly #promptWeight: number
  #trie: BranchTrie | undefined
  #weight = 0
  #times = 0

  constructor(promptWeight: number) {
    this.#promptWeight = promptWeight
  }

  read(trie: BranchTrie, node: number): void {
    const { prompt, output, next } = trie
    const nodes = this.nodes
    const weights = this.#weights
    this.#trie = trie
    this.#weight = 0
    this.#times = 0
    this.count = 0
    let looked = 0
    for (let child = trie.first[node]; child !== 0 && looked < MOST_SIBLINGS; child = next[child], looked++) {
      const weight = prompt[child] * this.#promptWeight + output[child]
      this.#weight += weight
      this.#times += prompt[child] + output[child]
      let at = this.count
      while (at > 0 && weights[at - 1] < weight) at--
      if (at === MOST_GUESSES) continue
      if (this.count < MOST_GUESSES) this.count++
      for (let i = this.count - 1; i > at; i--) {
        nodes[i] = nodes[i - 1]
        weights[i] = weights[i - 1]
      }
      nodes[at] = child
      weights[at] = weight
    }
  }

  /** What a child is promised: its share of the weight, but for the chance that none of them comes. */
  promised(child: number): number {
    const { prompt, output } = this.#trie!
    return ((prompt[child] * this.#promptWeight + output[child]) / this.#weight) * (1 - this.unseen)
  }

  /** The chance that none of the children comes (Witten and Bell 1991, method A). */
  get unseen(): number {
    return 1 / (this.#times + 1)
  }
}

const FIRST_ENTRIES = 256
const ENTRY_BYTES = 32
const FIRST_SELECTED = 65
const SELECTED_BYTES = 32

/**
 * Bytes of a frontier and a selection. Every node that is taken out of the frontier is one of the selection, and what
 * may come next are its children.
 * @param nodes of the largest tree that is proposed; 0 where trees are made otherwise
 */
export function selectionBytes(nodes: number): TableBytes {
  const entries = 2 ** Math.ceil(Math.log2(Math.max(FIRST_ENTRIES, MOST_SIBLINGS * (nodes + 1))))
  const selected = Math.max(FIRST_SELECTED, nodes + 1)
  return {
    held: ENTRY_BYTES * entries + SELECTED_BYTES * selected,
    moving: entries > FIRST_ENTRIES ? (ENTRY_BYTES * entries) / 2 : 0,
  }
}

/** Nodes of the trie that may be selected next: the heaviest first; of equals the deepest, then the first one pushed. */
export class Frontier {
  /** What the last `pop` took out: a node of the trie, its level below the match, its parent in the selection. */
  node = 0
  level = 0
  parent = 0
  promised = 0
  /** Entries in the order of their pushes, and a heap of them. */
  #weights = new Float64Array(FIRST_ENTRIES)
  #levels = new Int32Array(FIRST_ENTRIES)
  #nodes = new Int32Array(FIRST_ENTRIES)
  #parents = new Int32Array(FIRST_ENTRIES)
  #promised = new Float64Array(FIRST_ENTRIES)
  #heap = new Int32Array(FIRST_ENTRIES)
  #pushed = 0
  #size = 0

  get heldBytes(): number {
    return this.#heap.length * ENTRY_BYTES
  }

  reset(): void {
    this.#pushed = 0
    this.#size = 0
  }

  push(weight: number, level: number, node: number, parent: number, promised: number): void {
    const entry = this.#pushed++
    if (entry === this.#heap.length) this.#grow()
    this.#weights[entry] = weight
    this.#levels[entry] = level
    this.#nodes[entry] = node
    this.#parents[entry] = parent
    this.#promised[entry] = promised
    const heap = this.#heap
    let at = this.#size++
    while (at > 0) {
      const above = (at - 1) >> 1
      if (!this.#isBefore(entry, heap[above])) break
      heap[at] = heap[above]
      at = above
    }
    heap[at] = entry
  }

  /** @returns false when nothing is left */
  pop(): boolean {
    if (this.#size === 0) return false
    const heap = this.#heap
    const best = heap[0]
    const entry = heap[--this.#size]
    let at = 0
    for (;;) {
      let below = 2 * at + 1
      if (below >= this.#size) break
      if (below + 1 < this.#size && this.#isBefore(heap[below + 1], heap[below])) below++
      if (!this.#isBefore(heap[below], entry)) break
      heap[at] = heap[below]
      at = below
    }
    heap[at] = entry
    this.node = this.#nodes[best]
    this.level = this.#levels[best]
    this.parent = this.#parents[best]
    this.promised = this.#promised[best]
    return true
  }

  #isBefore(a: number, b: number): boolean {
    if (this.#weights[a] !== this.#weights[b]) return this.#weights[a] > this.#weights[b]
    if (this.#levels[a] !== this.#levels[b]) return this.#levels[a] > this.#levels[b]
    return a < b
  }

  #grow(): void {
    const length = 2 * this.#heap.length
    this.#weights = moved(this.#weights, new Float64Array(length))
    this.#levels = moved(this.#levels, new Int32Array(length))
    this.#nodes = moved(this.#nodes, new Int32Array(length))
    this.#parents = moved(this.#parents, new Int32Array(length))
    this.#promised = moved(this.#promised, new Float64Array(length))
    this.#heap = moved(this.#heap, new Int32Array(length))
  }
}

/** The nodes of a proposal before they go into the tree; 0 is its root. Parents come before their children. */
export class Selection {
  count = 0
  #parents = new Int32Array(FIRST_SELECTED)
  #tokens = new Int32Array(FIRST_SELECTED)
  #kinds = new Int32Array(FIRST_SELECTED)
  #first = new Int32Array(FIRST_SELECTED)
  #next = new Int32Array(FIRST_SELECTED)
  /** Nodes of the tree that is filled. */
  #added = new Int32Array(FIRST_SELECTED)
  #promised = new Float64Array(FIRST_SELECTED)

  get heldBytes(): number {
    return this.#parents.length * SELECTED_BYTES
  }

  /** @param nodes that will be added, at the most */
  reset(nodes: number): void {
    this.count = 0
    this.#first[0] = 0
    const length = nodes + 1
    if (length <= this.#parents.length) return
    this.#parents = new Int32Array(length)
    this.#tokens = new Int32Array(length)
    this.#kinds = new Int32Array(length)
    this.#first = new Int32Array(length)
    this.#next = new Int32Array(length)
    this.#added = new Int32Array(length)
    this.#promised = new Float64Array(length)
  }

  /** @returns the child that holds the token, or 0 */
  find(parent: number, token: number): number {
    let at = this.#first[parent]
    while (at !== 0 && this.#tokens[at] !== token) at = this.#next[at]
    return at
  }

  add(parent: number, token: number, promised: number, kind: number): number {
    const at = ++this.count
    this.#parents[at] = parent
    this.#tokens[at] = token
    this.#promised[at] = promised
    this.#kinds[at] = kind
    this.#first[at] = 0
    this.#next[at] = this.#first[parent]
    this.#first[parent] = at
    return at
  }

  copy(tree: GuessTree): void {
    this.#added[0] = 0
    for (let at = 1; at <= this.count; at++) this.#copyOne(tree, at)
  }

  /** One branch after the other; each takes as many nodes as it is long, whatever it shares with others. */
  copyBranches(tree: GuessTree, nodes: number): void {
    let left = nodes
    for (let leaf = 1; leaf <= this.count && left > 0; leaf++) {
      if (this.#first[leaf] !== 0) continue
      const branch: number[] = []
      for (let at = leaf; at !== 0; at = this.#parents[at]) branch.push(at)
      for (const at of branch.reverse().slice(0, left)) this.#copyOne(tree, at)
      left -= branch.length
    }
  }

  #copyOne(tree: GuessTree, at: number): void {
    const parent = this.#added[this.#parents[at]]
    this.#added[at] = parent < 0 ? -1 : tree.add(parent, this.#tokens[at], this.#promised[at], this.#kinds[at])
  }
}
