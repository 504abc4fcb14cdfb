/**
 * Trees for the residual rule (SpecInfer, arXiv 2305.09781, section 4.3): a shape that is known beforehand, filled
 * with tokens that are drawn without replacement from what the request's own sampling options make of the draft's
 * logits. The shape is that of `treeShape` with the chances below. Children per node, by depth from the root's on:
 *
 *     16 nodes: 3 | 3 1 1 | 2 1 1 | 1 | 1 | 1 | 1
 *     63 nodes: 7 | 6 2 1 1 1 1 | 4 1 1 1 1 1 1 | 4 1 1 1 1 1 1 1 | 3 1 1 1 1 1 1 1 1 | 2 1 1 1 1 1 | 1 | 1 | 1 | 1 | 1
 *
 * A chain is the shape with one child per node.
 *
 * Draft passes go depth by depth. The distribution of every node with children is kept for verification: so many
 * times the draft's vocabulary in f32, at most `MOST_KEPT_BYTES`, beside the budget for memory.
 */
import type { Transformer } from '../../model/transformer.ts'
import type { Context } from '../context.ts'
import { DraftText } from '../draft-text.ts'
import { type Budget, type DrafterName, sourceOf } from '../drafter.ts'
import { drawChildren, type ResidualDrafter, type UniformOf } from '../residual.ts'
import { ROOT, type TokenTree } from '../token-tree.ts'
import { type TreeShape, treeShape } from '../tree-shape.ts'
import type { Verification } from '../verify.ts'
import { MAXIMUM_DEPTH } from './tree.ts'

/** Chances of the i-th draw to be accepted, measured on the embedded pair at temperature 0.8. */
const CHANCES = [0.66, 0.1, 0.06, 0.034, 0.02, 0.016, 0.011, 0.007]

/** Of the distributions that are kept. Larger trees than this allows have fewer nodes with children. */
const MOST_KEPT_BYTES = 16 * 1024 * 1024

export interface SampledTreeOptions {
  readonly name: DrafterName
  /** Nodes of every tree for which there is room. */
  readonly nodes: number
  /** Tokens that may be guessed, the first ones of the draft's vocabulary. */
  readonly vocabulary: number
}

/** How the guesses for one text are drawn. */
export interface SamplingRule {
  /**
   * What a token is drawn from, after `length` tokens of which `promptLength` are the prompt: [vocabulary], valid
   * until the next call.
   */
  readonly distribution: (
    logits: Float32Array,
    tokens: Int32Array,
    length: number,
    promptLength: number,
  ) => Float64Array
  readonly uniform: UniformOf
}

export class SampledTreeDrafter implements ResidualDrafter {
  readonly name: DrafterName
  readonly #draft: Transformer
  readonly #text: DraftText
  readonly #vocabulary: number
  readonly #shape: TreeShape
  readonly #rule: SamplingRule
  /** By place: its token, -1 where there is none. */
  readonly #tokens: Int32Array
  /** By place: where the draft's cache has its key and value, -1 while they are not known. */
  readonly #slots: Int32Array
  /** By place with children: what these were drawn from. */
  readonly #kept = new Map<number, Float32Array>()
  /** By node of the proposal. */
  readonly #places: number[] = []

  constructor(draft: Transformer, options: SampledTreeOptions, rule: SamplingRule) {
    const { name, nodes, vocabulary } = options
    this.name = name
    this.#draft = draft
    this.#text = new DraftText(draft, vocabulary)
    this.#vocabulary = vocabulary
    this.#rule = rule
    this.#shape = treeShape(name === 'chain' ? CHANCES.slice(0, 1) : CHANCES, {
      size: nodes,
      depth: MAXIMUM_DEPTH,
      parents: Math.max(1, Math.floor(MOST_KEPT_BYTES / (4 * vocabulary))),
    })
    this.#tokens = new Int32Array(this.#shape.size + 1)
    this.#slots = new Int32Array(this.#shape.size + 1)
    draft.cache.truncate(0)
  }

  propose(context: Context, tree: TokenTree, budget: Budget): void {
    this.#places.length = 0
    if (budget.nodes <= 0 || budget.depth <= 0 || !this.#text.knows(context)) return
    this.#tokens.fill(-1)
    this.#slots.fill(-1)
    this.#text.finish(context)
    this.#draw(ROOT, 0, context, budget)
    let used = 0
    for (let depth = 1; depth < budget.depth; depth++) {
      const parents = this.#parentsAt(depth, budget)
      if (parents.length === 0) break
      for (let first = 0; first < parents.length; first += this.#draft.headRows) {
        used = this.#expand(parents.slice(first, first + this.#draft.headRows), used, context, budget)
      }
    }
    this.#copy(tree)
  }

  observe({ path }: Verification): void {
    const slots: number[] = []
    for (const node of path) {
      const slot = this.#slots[this.#places[node]]
      if (slot < 0) break
      slots.push(slot)
    }
    this.#draft.cache.commit(slots, slots.length)
  }

  drawnFrom(node: number): Float32Array {
    return this.#kept.get(this.#places[node])!
  }

  /** Places of a depth that hold a token and are to have children. */
  #parentsAt(depth: number, { nodes }: Budget): number[] {
    const places: number[] = []
    for (const [place, children] of this.#shape.children.entries()) {
      const isParent = children.length > 0 && children[0] <= nodes
      if (isParent && this.#shape.depth[place] === depth && this.#tokens[place] >= 0) places.push(place)
    }
    return places
  }

  /**
   * One draft pass over places of one depth, which makes their children known.
   * @param used scratch slots that are taken @returns how many are taken then
   */
  #expand(places: readonly number[], used: number, context: Context, budget: Budget): number {
    const { batch, cache } = this.#draft
    batch.clear()
    for (const [i, place] of places.entries()) {
      const slot = cache.scratchStart + used + i
      const ancestors = this.#path(this.#shape.parent[place]).map((at) => this.#slots[at])
      this.#slots[place] = slot
      batch.addTreeRowWithAncestors(this.#tokens[place], slot, context.length, ancestors)
    }
    this.#draft.forward()
    this.#draft.head(places.map((_, row) => row))
    for (const [row, place] of places.entries()) this.#draw(place, row, context, budget)
    return used + places.length
  }

  /** Draws the children of a place from the logits of a row. Their number depends on shape and budget alone. */
  #draw(place: number, row: number, context: Context, { nodes }: Budget): void {
    const { tokens, length, promptLength } = context
    const path = this.#path(place)
    // The context has room for a path: penalties look at it.
    for (const [i, at] of path.entries()) tokens[length + i] = this.#tokens[at]
    const end = length + path.length
    const kept = this.#keptAt(place)
    kept.set(this.#rule.distribution(this.#draft.logitsView(row), tokens, end, promptLength))
    const children = this.#shape.children[place].filter((child) => child <= nodes)
    const drawn = drawChildren(kept, children.length, end, this.#rule.uniform)
    for (const [i, token] of drawn.entries()) this.#tokens[children[i]] = token
  }

  #keptAt(place: number): Float32Array {
    let kept = this.#kept.get(place)
    if (kept === undefined) {
      kept = new Float32Array(this.#vocabulary)
      this.#kept.set(place, kept)
    }
    return kept
  }

  /** Places from the root's child down to `place` itself; none for the root. */
  #path(place: number): number[] {
    const path: number[] = []
    for (let at = place; at !== ROOT; at = this.#shape.parent[at]) path.push(at)
    return path.reverse()
  }

  /** In the shape's order: parents come before children, and siblings as they were drawn. */
  #copy(tree: TokenTree): void {
    const nodes = new Map([[ROOT, ROOT]])
    this.#places.push(ROOT)
    for (let place = 1; place <= this.#shape.size; place++) {
      const token = this.#tokens[place]
      if (token < 0) continue
      const { parent } = this.#shape
      const above = nodes.get(parent[place])!
      const chance = this.#kept.get(parent[place])![token]
      const node = tree.add(above, token, tree.logProb[above] + Math.log(chance), sourceOf(this.name))
      nodes.set(place, node)
      this.#places.push(place)
    }
  }
}
