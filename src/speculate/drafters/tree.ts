/**
 * Best-first trees from a draft model (SpecExec, arXiv 2406.02532, algorithm 1): the nodes of the
 * result are the N most probable continuations by the draft's sharpened distribution.
 *
 * The drafter keeps a tree of its own, larger than what it proposes. Each node expanded there has
 * its key and value in a scratch slot of the draft's cache, so what was grown below an accepted
 * token is still there for the next proposal (LLMCad, arXiv 2309.04255, section 4.3).
 */

import type { Transformer } from '../../model/transformer.ts'
import { now } from '../../runtime/platform.ts'
import type { Context } from '../context.ts'
import type { Budget, Drafter } from '../drafter.ts'
import { ROOT, TokenTree } from '../token-tree.ts'
import type { Verification } from '../verify.ts'

/** Children considered per node. */
export const BRANCHING = 8

/** Longest path from the root. */
export const MAXIMUM_DEPTH = 24

/** Nodes expanded in one draft pass: one tile of rows, which costs little more than one row. */
const EXPANSION_ROWS = 8

export const SOURCE_TREE = 1

/** Scratch slots of the draft's cache for trees of `nodes` nodes. */
export const draftScratchSlots = (nodes: number): number => 3 * nodes + 8 * EXPANSION_ROWS

export interface TreeDrafterOptions {
  /** Largest budget that `propose` will be given. */
  readonly nodes: number
  /** Exponent on the draft's probabilities before they are compared; 1 takes them as they are. */
  readonly sharpening: number
}

export class TreeDrafter implements Drafter {
  readonly name = 'tree'
  /** Exponent on the draft's probabilities for the current text. */
  sharpening: number
  readonly #draft: Transformer
  readonly #grown: TokenTree
  readonly #nodes: number
  /** Grown nodes whose children are known. */
  readonly #expanded: Uint8Array
  readonly #free: number[] = []
  readonly #rowNodes: number[] = []
  #prefix = 0
  #usable = false
  #depth = MAXIMUM_DEPTH

  constructor(draft: Transformer, options: TreeDrafterOptions) {
    this.#draft = draft
    this.#nodes = options.nodes
    this.sharpening = options.sharpening
    // Every expansion adds BRANCHING nodes, and there are no more expansions than slots (and the root's).
    this.#grown = new TokenTree((draftScratchSlots(options.nodes) + 1) * BRANCHING)
    this.#expanded = new Uint8Array(this.#grown.capacity + 1)
  }

  propose(context: Context, tree: TokenTree, budget: Budget): void {
    if (budget.nodes <= 0) return
    this.#depth = Math.min(budget.depth, MAXIMUM_DEPTH)
    this.#plant(context)
    const grown = this.#grown
    let chosen = grown.best(budget.nodes)
    for (;;) {
      // A child is never better than its parent, so below the last of a full list nothing can enter.
      const isFull = chosen.length === budget.nodes
      const rows = this.#bestUnexpanded(isFull ? grown.logProb[chosen[chosen.length - 1]] : Number.NEGATIVE_INFINITY)
      if (rows.length === 0) break
      this.#expand(rows)
      chosen = grown.best(budget.nodes)
    }
    this.#copyTo(tree, chosen)
  }

  grow(_tree: TokenTree, deadline: number): boolean {
    if (!this.#usable) return false
    do {
      // Slots for a whole proposal stay free: what is grown now may all be in vain.
      if (this.#free.length < this.#nodes + EXPANSION_ROWS) return false
      const rows = this.#bestUnexpanded(Number.NEGATIVE_INFINITY)
      if (rows.length === 0) return false
      this.#expand(rows)
    } while (now() < deadline)
    return true
  }

  observe(result: Verification): void {
    if (!this.#usable) return
    const grown = this.#grown
    const cache = this.#draft.cache
    let at = ROOT
    let known = true
    const slots: number[] = []
    // Every gained token is followed down the grown tree, also past the proposal's leaves.
    for (const token of result.tokens) {
      const child = grown.child(at, token)
      if (child < 0) {
        known = false
        break
      }
      at = child
      if (slots.length === grown.depth[at] - 1 && this.#expanded[at] === 1) slots.push(grown.draftSlot[at])
    }
    cache.commit(slots, slots.length)
    this.#prefix = cache.length
    if (known && this.#expanded[at] === 1) this.#reroot(at)
    else this.#usable = false
  }

  reset(): void {
    this.#usable = false
    this.#draft.cache.truncate(0)
  }

  /** Makes the context's last token the root of the grown tree, and its children known. */
  #plant(context: Context): void {
    const { cache, batch } = this.#draft
    if (this.#usable && cache.length === context.length && this.#grown.token[ROOT] === context.root) {
      this.#prefix = context.length
      return
    }
    this.#grown.reset(context.root)
    this.#expanded.fill(0)
    this.#freeSlots()
    while (cache.length < context.length) {
      batch.clear()
      const end = Math.min(cache.length + batch.capacity, context.length)
      for (let p = cache.length; p < end; p++) batch.addPrefixRow(context.tokens[p], p)
      this.#draft.forward()
      cache.extend(end - cache.length)
    }
    this.#prefix = context.length
    this.#addChildren(ROOT, this.#draft.head([batch.count - 1]))
    this.#usable = true
  }

  /** The best nodes above a score whose children are not known yet: one draft pass of them, best first. */
  #bestUnexpanded(score: number): number[] {
    const { logProb, depth, capacity, size, count } = this.#grown
    const rows = this.#rowNodes
    rows.length = 0
    const limit = Math.min(EXPANSION_ROWS, this.#free.length, Math.floor((capacity - size) / BRANCHING))
    if (limit <= 0) return rows
    for (let node = 1; node < count; node++) {
      if (this.#expanded[node] === 1 || logProb[node] <= score || depth[node] >= this.#depth) continue
      if (rows.length === limit && logProb[node] <= logProb[rows[limit - 1]]) continue
      let place = rows.length === limit ? limit - 1 : rows.length
      while (place > 0 && logProb[rows[place - 1]] < logProb[node]) {
        rows[place] = rows[place - 1]
        place--
      }
      rows[place] = node
    }
    return rows
  }

  /** One draft pass over the given nodes; their parents are expanded already. */
  #expand(nodes: readonly number[]): void {
    const { batch, cache } = this.#draft
    const grown = this.#grown
    batch.clear()
    for (const node of nodes) {
      const slot = this.#free.pop()!
      grown.draftSlot[node] = slot
      const ancestors = grown.ancestors(grown.parent[node]).map((at) => grown.draftSlot[at])
      batch.addTreeRowWithAncestors(grown.token[node], slot, this.#prefix, ancestors)
    }
    if (cache.length !== this.#prefix) throw new Error('the draft cache and the drafter disagree about the prefix')
    this.#draft.forward()
    const logits = this.#draft.head(nodes.map((_, row) => row))
    const stride = this.#draft.logitsStride
    for (let row = 0; row < nodes.length; row++) this.#addChildren(nodes[row], logits + row * stride)
  }

  #addChildren(node: number, logits: number): void {
    const grown = this.#grown
    const { ids, values, count, logSum } = this.#draft.topCandidates(logits, BRANCHING, this.sharpening)
    for (let i = 0; i < count; i++) {
      const logProb = (values[i] - values[0]) * this.sharpening - logSum
      grown.add(node, ids[i], grown.logProb[node] + logProb, SOURCE_TREE)
    }
    this.#expanded[node] = 1
  }

  #copyTo(tree: TokenTree, chosen: readonly number[]): void {
    const grown = this.#grown
    const placed = new Map<number, number>([[ROOT, ROOT]])
    for (const node of chosen) {
      const to = tree.add(placed.get(grown.parent[node])!, grown.token[node], grown.logProb[node], SOURCE_TREE)
      placed.set(node, to)
    }
  }

  #reroot(node: number): void {
    const grown = this.#grown
    const old = this.#expanded.slice(0, grown.count)
    const survivors = grown.reroot(node)
    this.#expanded.fill(0)
    survivors.forEach((from, to) => {
      this.#expanded[to] = old[from]
    })
    this.#freeSlots()
  }

  /** Every scratch slot that no expanded node of the grown tree uses is free. */
  #freeSlots(): void {
    const { scratchStart, scratch } = this.#draft.cache
    const used = new Set<number>()
    for (let at = 1; at < this.#grown.count; at++) if (this.#expanded[at] === 1) used.add(this.#grown.draftSlot[at])
    this.#free.length = 0
    for (let slot = scratchStart + scratch - 1; slot >= scratchStart; slot--) if (!used.has(slot)) this.#free.push(slot)
  }
}
