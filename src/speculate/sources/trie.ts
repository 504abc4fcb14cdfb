/**
 * Guesses from what was read and written before (Lookahead, Zhao et al., arXiv 2312.12728): every run of some twelve
 * tokens is a branch of a trie whose nodes count how often they came by, and what follows the end of the text is
 * looked up below the longest of its suffixes that the trie knows. Counts of the prompt and of outputs are apart:
 * those of the prompt weigh more while its request lasts, and are gone after it.
 */
import type { Context } from '../context.ts'
import type { Budget } from '../drafter.ts'
import type { Verification } from '../verify.ts'
import { type Guesses, type GuessTree, MOST_GUESSES, type Path, SHOWN, type Source } from './source.ts'

/**
 * How `propose` spends its nodes: on the most frequent nodes, whose branches share their beginnings ('tree'); on the
 * same branches, each paid for in full ('parallel'); on the most frequent branch alone ('single').
 */
export type TrieMode = 'tree' | 'parallel' | 'single'

export interface TrieOptions {
  /** Tokens that may be guessed: a saved trie with others is refused. Default: whatever was read. */
  readonly vocabulary?: number
  /** Tokens of a branch, at least 2. Default 12. */
  readonly branchLength?: number
  /** What a count in the prompt is worth in counts of outputs. Default 2; the public code ranks as if it were 9999. */
  readonly promptWeight?: number
  /** Most nodes, some 36 bytes each. Default 262144. */
  readonly capacity?: number
  /** What is left of a count when it fades for want of room, between 0 and 0.9. Default 0.5. */
  readonly decay?: number
  /** Default 'tree'. */
  readonly mode?: TrieMode
  /** Nodes found after which `propose` asks no shorter suffix. Default `branchLength`; for a single branch half of it. */
  readonly enough?: number
}

const LARGEST_TOKEN = 0x7fffffff

/** Class of a guess by the tokens that matched before it. */
const CLASS_BY_LENGTH = [0, 0, 1, 2, 3, 4, 4, 5, 5, 6, 6, 7]

/** Share of a proposal that goes by the counts of outputs alone, as in the public code: no prompt crowds them out. */
const OUTPUT_SHARE = 0.5

export class TrieSource implements Source {
  readonly name = 'trie'
  readonly topTokens = 0
  readonly #vocabulary: number
  readonly #branchLength: number
  readonly #promptWeight: number
  readonly #mode: TrieMode
  readonly #enough: number
  #trie: BranchTrie
  /** The end of the text: the next branch as far as it is known. */
  readonly #pending: Int32Array
  #pendingLength = 0
  /** How many of them, the first ones, are the prompt's. */
  #pendingPrompt = 0
  readonly #ranked: Ranking
  readonly #frontier = new Frontier()
  readonly #selection = new Selection()

  /** @throws Error when an option makes no sense */
  constructor(options: TrieOptions = {}) {
    const { branchLength = 12, promptWeight = 2, capacity = 1 << 18, decay = 0.5, mode = 'tree' } = options
    if (!(branchLength >= 2)) throw new Error(`branches need at least 2 tokens, not ${branchLength}`)
    if (!(promptWeight > 0)) throw new Error(`the weight of the prompt is above 0, not ${promptWeight}`)
    if (!(capacity >= 8 * branchLength)) {
      throw new Error(
        `a trie needs at least ${8 * branchLength} nodes, not ${capacity}, for branches of ${branchLength}`,
      )
    }
    if (!(decay > 0 && decay <= 0.9)) throw new Error(`decay is above 0 and at most 0.9, not ${decay}`)
    this.#vocabulary = options.vocabulary ?? LARGEST_TOKEN + 1
    this.#branchLength = branchLength
    this.#promptWeight = promptWeight
    this.#mode = mode
    this.#enough = options.enough ?? (mode === 'single' ? branchLength >> 1 : branchLength)
    this.#trie = new BranchTrie(capacity, decay)
    this.#pending = new Int32Array(branchLength)
    this.#ranked = new Ranking(promptWeight)
  }

  /** Nodes of the trie, without its root. */
  get entries(): number {
    return this.#trie.count
  }

  get heldBytes(): number {
    return this.#trie.heldBytes + this.#frontier.heldBytes + this.#selection.heldBytes
  }

  begin({ tokens, promptLength }: Context): void {
    this.end()
    const length = this.#branchLength
    for (let start = 0; start < promptLength; start++) {
      this.#trie.insert(tokens, start, Math.min(start + length, promptLength), 'prompt')
    }
    this.#pendingLength = Math.min(length - 1, promptLength)
    this.#pendingPrompt = this.#pendingLength
    this.#pending.set(tokens.subarray(promptLength - this.#pendingLength, promptLength))
  }

  learn(_context: Context, { tokens }: Verification): void {
    for (const token of tokens) this.#append(token)
  }

  warm(tokens: ArrayLike<number>): void {
    for (let start = 0; start < tokens.length; start++) {
      this.#trie.insert(tokens, start, Math.min(start + this.#branchLength, tokens.length), 'output')
    }
  }

  end(): void {
    for (let start = this.#pendingPrompt; start < this.#pendingLength; start++) {
      this.#trie.insert(this.#pending, start, this.#pendingLength, 'output')
    }
    this.#pendingLength = 0
    this.#pendingPrompt = 0
    this.#trie.forgetPrompt()
  }

  successors({ tokens, length }: Path, guesses: Guesses): void {
    const trie = this.#trie
    const ranked = this.#ranked
    let seen = 0
    // What the longer suffixes leave to the shorter ones: once more than their guesses were seen, something else comes.
    let left = 1
    for (let matched = Math.min(length, this.#branchLength - 1); matched > 0; matched--) {
      const node = trie.find(tokens, SHOWN - matched, SHOWN)
      if (node === 0) continue
      const times = trie.prompt[node] + trie.output[node]
      // Every place where the longer suffix stood is one of this suffix, too: without others there is nothing new.
      if (times <= seen) continue
      seen = times
      if (trie.first[node] === 0) continue
      ranked.read(trie, node)
      for (let rank = 0; rank < ranked.count; rank++) {
        const child = ranked.nodes[rank]
        const id = trie.token[child]
        if (!holds(guesses, id)) guesses.add(id, left * ranked.promised(child), classOf(matched))
      }
      if (guesses.count === MOST_GUESSES) break
      left *= ranked.unseen
    }
    sort(guesses)
  }

  propose(context: Context, tree: GuessTree, budget: Budget): void {
    const { tokens, length } = context
    const selection = this.#selection
    selection.reset(budget.nodes)
    if (budget.nodes <= 0) return
    for (let matched = Math.min(length, this.#branchLength - 1); matched > 0; matched--) {
      const node = this.#trie.find(tokens, length - matched, length)
      if (node === 0) continue
      if (this.#mode === 'single') this.#selectBranch(node, matched, budget)
      else this.#select(node, matched, budget)
      if (selection.count >= Math.min(this.#enough, budget.nodes)) break
    }
    if (this.#mode === 'parallel') selection.copyBranches(tree, budget.nodes)
    else selection.copy(tree)
  }

  /** What outputs left in the trie; of the prompt under way there is nothing in it. */
  save(): Uint8Array {
    return this.#trie.save(this.#branchLength)
  }

  load(bytes: Uint8Array): void {
    this.#trie = this.#trie.load(bytes, this.#branchLength, this.#vocabulary)
  }

  #append(token: number): void {
    const length = this.#branchLength
    this.#pending[this.#pendingLength++] = token
    if (this.#pendingLength < length) return
    if (this.#pendingPrompt === 0) this.#trie.insert(this.#pending, 0, length, 'output')
    else {
      // It begins in the prompt, and goes with it; what is of the prompt was counted as such.
      this.#trie.insert(this.#pending, 0, length, 'prompt', this.#pendingPrompt--)
    }
    this.#pending.copyWithin(0, 1)
    this.#pendingLength--
  }

  /** The most frequent nodes below a match: first by outputs, for their share of what is left, then by all counts. */
  #select(match: number, matched: number, budget: Budget): void {
    const { count } = this.#selection
    const share = Math.floor((budget.nodes - count) * OUTPUT_SHARE)
    this.#selectBy(match, matched, budget.depth, count + share, 0)
    this.#selectBy(match, matched, budget.depth, budget.nodes, this.#promptWeight)
  }

  /** @param limit nodes of the selection in the end */
  #selectBy(match: number, matched: number, depth: number, limit: number, promptWeight: number): void {
    const trie = this.#trie
    const frontier = this.#frontier
    const selection = this.#selection
    frontier.reset()
    let node = match
    let at = 0
    let level = 1
    for (;;) {
      if (level <= depth) {
        this.#ranked.read(trie, node)
        let looked = 0
        for (let child = trie.first[node]; child !== 0 && looked < MOST_SIBLINGS; child = trie.next[child], looked++) {
          const weight = trie.prompt[child] * promptWeight + trie.output[child]
          if (weight > 0) frontier.push(weight, level, child, at, this.#ranked.promised(child))
        }
      }
      if (selection.count >= limit || !frontier.pop()) return
      node = frontier.node
      level = frontier.level
      at = selection.find(frontier.parent, trie.token[node])
      if (at === 0) {
        at = selection.add(frontier.parent, trie.token[node], frontier.promised, classOf(matched + level - 1))
      }
      level++
    }
  }

  /** The most frequent child, its most frequent child, and so on, if that is longer than what was selected before. */
  #selectBranch(match: number, matched: number, budget: Budget): void {
    const trie = this.#trie
    const ranked = this.#ranked
    const selection = this.#selection
    const most = Math.min(budget.nodes, budget.depth)
    const branch: number[] = []
    const promised: number[] = []
    for (let node = match; trie.first[node] !== 0 && branch.length < most; ) {
      ranked.read(trie, node)
      node = ranked.nodes[0]
      branch.push(node)
      promised.push(ranked.promised(node))
    }
    if (branch.length <= selection.count) return
    selection.reset(budget.nodes)
    let at = 0
    for (const [i, node] of branch.entries()) {
      at = selection.add(at, trie.token[node], promised[i], classOf(matched + i))
    }
  }
}

const classOf = (matched: number): number => CLASS_BY_LENGTH[Math.min(matched, CLASS_BY_LENGTH.length - 1)]

function holds({ ids, count }: Guesses, id: number): boolean {
  for (let i = 0; i < count; i++) if (ids[i] === id) return true
  return false
}

/** By falling promise; equal ones stay in their order. */
function sort({ ids, promised, classes, count }: Guesses): void {
  for (let i = 1; i < count; i++) {
    for (let j = i; j > 0 && promised[j] > promised[j - 1]; j--) {
      swap(ids, j)
      swap(promised, j)
      swap(classes, j)
    }
  }
}

function swap(list: Int32Array | Float64Array | Uint8Array, j: number): void {
  const value = list[j]
  list[j] = list[j - 1]
  list[j - 1] = value
}

/** Children that are looked at, the last used first. Twice or eight times as many cost time and gained no tokens. */
const MOST_SIBLINGS = 32

/** The children of a node by falling weight. */
class Ranking {
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

/** Nodes of the trie that may be selected next: the heaviest first; of equals the deepest, then the first one pushed. */
class Frontier {
  /** What the last `pop` took out: a node of the trie, its level below the match, its parent in the selection. */
  node = 0
  level = 0
  parent = 0
  promised = 0
  /** Entries in the order of their pushes, and a heap of them. */
  #weights = new Float64Array(256)
  #levels = new Int32Array(256)
  #nodes = new Int32Array(256)
  #parents = new Int32Array(256)
  #promised = new Float64Array(256)
  #heap = new Int32Array(256)
  #pushed = 0
  #size = 0

  get heldBytes(): number {
    return this.#heap.length * 32
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
    this.#weights = copied(this.#weights, new Float64Array(length))
    this.#levels = copied(this.#levels, new Int32Array(length))
    this.#nodes = copied(this.#nodes, new Int32Array(length))
    this.#parents = copied(this.#parents, new Int32Array(length))
    this.#promised = copied(this.#promised, new Float64Array(length))
    this.#heap = copied(this.#heap, new Int32Array(length))
  }
}

function copied<T extends Int32Array | Float32Array | Float64Array>(from: T, to: T): T {
  to.set(from)
  return to
}

/** The nodes of a proposal before they go into the tree; 0 is its root. Parents come before their children. */
class Selection {
  count = 0
  #parents = new Int32Array(65)
  #tokens = new Int32Array(65)
  #kinds = new Int32Array(65)
  #first = new Int32Array(65)
  #next = new Int32Array(65)
  /** Nodes of the tree that is filled. */
  #added = new Int32Array(65)
  #promised = new Float64Array(65)

  get heldBytes(): number {
    return this.#parents.length * 32
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

/** 'COTR' and a version. */
const MAGIC = [0x43, 0x4f, 0x54, 0x52, 1]

/** Counts are saved in sixteenths: what has faded further is next to be dropped. */
const SAVED_COUNT = 16

/** Share of the capacity that stays when room is made: room is made seldom, and what is recent stays. */
const KEPT = 0.75

/** Nodes whose counts have faded below this may be dropped. */
const LEAST = 1

const FIRST_NODES = 4096

/**
 * The trie in tables. Node 0 is the root; as it is nobody's child or sibling, 0 also stands for none. Children have
 * higher numbers than their parents, and their output counts are at most those of their parents.
 */
class BranchTrie {
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
  readonly #capacity: number
  readonly #decay: number
  #hasPrompt = false

  /** @param capacity most nodes, the root not counted */
  constructor(capacity: number, decay: number) {
    this.#capacity = capacity
    this.#decay = decay
  }

  get heldBytes(): number {
    return this.token.length * 28 + this.#slots.length * 4
  }

  /** @returns the node of a whole run of tokens, or 0 */
  find(tokens: ArrayLike<number>, start: number, end: number): number {
    let node = 0
    for (let i = start; i < end; i++) {
      node = this.#child(node, tokens[i])
      if (node === 0) return 0
    }
    return node
  }

  /** Counts a branch. @param counted tokens at its beginning that were counted before */
  insert(tokens: ArrayLike<number>, start: number, end: number, kind: 'prompt' | 'output', counted = 0): void {
    if (this.count + end - start > this.#capacity) this.#makeRoom()
    while (this.count + end - start >= this.token.length) this.#grow()
    if (kind === 'prompt') this.#hasPrompt = true
    const counts = kind === 'prompt' ? this.prompt : this.output
    let node = 0
    for (let i = start; i < end; i++) {
      let child = this.#child(node, tokens[i])
      if (child === 0) child = this.#add(node, tokens[i])
      else if (this.first[node] !== child) {
        this.#unlink(child)
        this.#link(child)
      }
      // What was counted before may have been dropped since.
      if (i - start >= counted || counts[child] === 0) counts[child]++
      node = child
    }
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

  /** Nodes in the order of their numbers; each as the distance to its parent, token and output count, in LEB128. */
  save(branchLength: number): Uint8Array {
    const to = new Int32Array(this.count + 1)
    let saved = 0
    for (let node = 1; node <= this.count; node++) if (this.output[node] > 0) to[node] = ++saved
    const out = new Writer(MAGIC.length + 10 + saved * 15)
    for (const byte of MAGIC) out.number(byte)
    out.number(branchLength)
    out.number(saved)
    for (let node = 1; node <= this.count; node++) {
      if (to[node] === 0) continue
      out.number(to[node] - to[this.parent[node]])
      out.number(this.token[node])
      out.number(Math.max(1, Math.round(this.output[node] * SAVED_COUNT)))
    }
    return out.bytes()
  }

  /** A trie like this one of what was saved. @throws Error when the bytes are not what `save` makes */
  load(bytes: Uint8Array, branchLength: number, vocabulary: number): BranchTrie {
    const input = new Reader(bytes)
    if (MAGIC.some((byte) => input.number() !== byte))
      throw new Error('this is not a saved trie, or of another version')
    const length = input.number()
    if (length !== branchLength) {
      throw new Error(`the saved trie has branches of ${length} tokens; asked for were ${branchLength}`)
    }
    const count = input.number()
    if (count > this.#capacity)
      throw new Error(`the saved trie has ${count} nodes; there is room for ${this.#capacity}`)
    // A node takes three bytes or more: no long table for a short file.
    if (count * 3 > bytes.length) throw new Error(`the saved trie is cut off: it should have ${count} nodes`)
    const trie = new BranchTrie(this.#capacity, this.#decay)
    const depth = new Int32Array(count + 1)
    for (let node = 1; node <= count; node++) {
      const parent = node - input.number()
      const token = input.number()
      const output = input.number() / SAVED_COUNT
      if (!(parent >= 0 && parent < node)) throw new Error(`node ${node} of the saved trie has no parent`)
      depth[node] = depth[parent] + 1
      if (depth[node] > branchLength)
        throw new Error(`a branch of the saved trie is longer than ${branchLength} tokens`)
      if (token >= vocabulary) throw new Error(`node ${node} of the saved trie has a token that is none: ${token}`)
      if (!(output > 0) || (parent > 0 && Math.fround(output) > trie.output[parent])) {
        throw new Error(`node ${node} of the saved trie has a count that cannot be: ${output}`)
      }
      if (trie.#child(parent, token) !== 0) throw new Error(`node ${node} of the saved trie is there twice`)
      if (node >= trie.token.length) trie.#grow()
      trie.output[trie.#add(parent, token)] = output
    }
    if (!input.isAtEnd) throw new Error('the saved trie is followed by something else')
    return trie
  }

  #child(parent: number, token: number): number {
    const slots = this.#slots
    const mask = slots.length - 1
    for (let slot = hash(parent, token) & mask; ; slot = (slot + 1) & mask) {
      const node = slots[slot]
      if (node === 0 || (this.token[node] === token && this.parent[node] === parent)) return node
    }
  }

  #add(parent: number, token: number): number {
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
    const kept = Math.floor(this.#capacity * KEPT)
    let fadesPrompt = false
    while (this.count > kept) {
      let excess = this.count - kept
      let others = 0
      for (let node = 1; node <= this.count; node++) {
        output[node] *= this.#decay
        if (fadesPrompt) prompt[node] *= this.#decay
        const isWeak = output[node] + prompt[node] < LEAST
        // Whatever hangs on a dropped node goes with it.
        if (parent[parent[node]] < 0 || (isWeak && excess > 0)) {
          this.#drop(node)
          excess--
        } else if (prompt[node] === 0) others++
      }
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
    this.#placeAll()
  }

  #placeAll(): void {
    this.#slots.fill(0)
    for (let node = 1; node <= this.count; node++) this.#place(node)
  }

  #grow(): void {
    const length = Math.min(2 * this.token.length, this.#capacity + 1)
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

/** At most two of three places are taken. */
const slotsOf = (nodes: number): number => 2 ** Math.ceil(Math.log2(nodes * 1.5))

function hash(parent: number, token: number): number {
  let h = Math.imul(parent, 0x9e3779b1) ^ Math.imul(token, 0x85ebca77)
  h = Math.imul(h ^ (h >>> 15), 0x2c1b3c6d)
  return h ^ (h >>> 13)
}

/** Numbers below 2^32 in LEB128: seven bits a byte, the lowest first. */
class Writer {
  readonly #bytes: Uint8Array
  #length = 0

  /** @param most bytes */
  constructor(most: number) {
    this.#bytes = new Uint8Array(most)
  }

  number(value: number): void {
    let rest = value
    for (; rest > 127; rest >>>= 7) this.#bytes[this.#length++] = (rest & 127) | 128
    this.#bytes[this.#length++] = rest
  }

  bytes(): Uint8Array {
    return this.#bytes.slice(0, this.#length)
  }
}

class Reader {
  readonly #bytes: Uint8Array
  #at = 0

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes
  }

  get isAtEnd(): boolean {
    return this.#at === this.#bytes.length
  }

  number(): number {
    let value = 0
    for (let scale = 1; scale < 2 ** 35; scale *= 128) {
      if (this.isAtEnd) throw new Error('the saved trie is cut off')
      const byte = this.#bytes[this.#at++]
      value += (byte & 127) * scale
      if (byte < 128) return value
    }
    throw new Error('the saved trie has a number that is too long')
  }
}
