/**
 * Best-first trees from a draft model (SpecExec, arXiv 2406.02532, algorithm 1): the most probable continuations by
 * what is known of the draft's probabilities. With one guess per node the tree is the draft's greedy chain.
 *
 * The drafter keeps a tree of its own, larger than what it proposes. Each node expanded there has
 * its key and value in a scratch slot of the draft's cache, so what was grown below an accepted
 * token is still there for the next proposal (LLMCad, arXiv 2309.04255, section 4.3).
 */

import type { Transformer } from '../../model/transformer.ts'
import { now } from '../../runtime/platform.ts'
import { CandidateTree, type Judge } from '../candidate-tree.ts'
import { ChildRanking, type RankingRule } from '../child-ranking.ts'
import type { Context } from '../context.ts'
import { DraftText } from '../draft-text.ts'
import { type Budget, type Drafter, type DrafterName, sourceOf } from '../drafter.ts'
import { GrowingTree } from '../growing-tree.ts'
import { learnFrom, TAKEN_AS_THEY_ARE } from '../judge.ts'
import { LookedUpTree, type LookingRule } from '../looked-up-tree.ts'
import type { Lookups } from '../lookups.ts'
import type { Pacing } from '../pacing.ts'
import type { PassCosts } from '../pass-costs.ts'
import { Reach } from '../reach.ts'
import { ROOT, type SourceMask, type TokenTree } from '../token-tree.ts'
import type { NotedTokens, Verification } from '../verify.ts'

/** Longest path from the root. */
export const MAXIMUM_DEPTH = 32

/** Nodes expanded in one draft pass: a tile or two of rows, which cost little more than one row. */
const EXPANSION_ROWS = 8
/** The same for large trees, which would take too many passes otherwise; the draft's head takes no more. */
const MOST_EXPANSION_ROWS = 32

/** Rows of a draft pass that grows trees of at most `nodes` nodes. */
export const expansionRows = (nodes: number): number =>
  Math.min(MOST_EXPANSION_ROWS, Math.max(EXPANSION_ROWS, nodes >> 4))

/** Scratch slots of the draft's cache for trees of `nodes` nodes. */
export const draftScratchSlots = (nodes: number): number => 3 * nodes + 8 * expansionRows(nodes)

export interface TreeDrafterOptions {
  readonly name: DrafterName
  /** Largest budget that `propose` will be given. */
  readonly nodes: number
  /** Guesses per node: 1 makes chains. */
  readonly branching: number
  /** Paths end at a guess that the draft gives less than this. */
  readonly leastProbability: number
  /** Tokens that may be guessed, the first ones of the draft's vocabulary. */
  readonly vocabulary: number
  /** Takes what draft passes cost. */
  readonly costs: PassCosts
  /** What else guesses, behind the same nodes and behind its own. */
  readonly lookups: Lookups
}

/** A draft pass that is under way. */
interface Expansion {
  readonly nodes: readonly number[]
  readonly steps: Iterator<void>
}

/** How the guesses for one text are made. */
export interface DraftingRule extends RankingRule {
  readonly judge: Judge
  readonly pacing: Pacing
  /** Of passes that the model has no part in, but look-ups have; absent: while the model rests, all rests. */
  readonly without?: Pacing
}

/** Place of the draft model among the sources of the grown tree; those without a model come after it. */
const MODEL = 0

export class TreeDrafter implements Drafter {
  readonly #options: TreeDrafterOptions
  readonly #draft: Transformer
  readonly #text: DraftText
  readonly #ranking: ChildRanking
  readonly #grown: CandidateTree
  readonly #rows: number
  readonly #free: number[] = []
  readonly #growth: GrowingTree
  /** Of passes that the model has no part in. */
  readonly #looked: LookedUpTree
  /** Of look-ups beside the model. */
  readonly #reach: Reach
  readonly #bit: SourceMask
  #rule: DraftingRule | undefined
  #context: Context | undefined
  #prefix = 0
  #usable = false
  #hasReadBefore = false
  #depth = MAXIMUM_DEPTH
  /** Begun while the target waited. */
  #pending: Expansion | undefined
  /** Spent on the last proposal. */
  #seconds = 0
  /** How it was made, if the model had no part in it. */
  #lookingRule: LookingRule | undefined

  constructor(draft: Transformer, options: TreeDrafterOptions) {
    this.#options = options
    this.#draft = draft
    this.#text = new DraftText(draft, options.vocabulary)
    this.#ranking = new ChildRanking(draft, options.vocabulary, options.branching)
    this.#rows = options.branching === 1 ? 1 : expansionRows(options.nodes)
    this.#bit = sourceOf(options.name)
    // Every expansion adds a node per guess, and there are no more expansions than slots (and the root's).
    const expansions = draftScratchSlots(options.nodes) + 1
    const { bits } = options.lookups
    this.#grown = new CandidateTree(expansions * (options.branching + bits.length), [this.#bit, ...bits])
    this.#growth = new GrowingTree(this.#grown)
    this.#looked = new LookedUpTree(options.lookups, this.#grown, options.nodes)
    this.#reach = new Reach(options.nodes)
  }

  begin(rule: DraftingRule): void {
    this.#ranking.rule = rule
    this.#rule = rule
    this.#usable = false
    this.#pending = undefined
    this.#lookingRule = undefined
    this.#draft.cache.truncate(0)
  }

  get topTokens(): number {
    return this.#lookingRule === undefined ? this.#options.lookups.topTokens : this.#looked.topTokens
  }

  startText(context: Context): void {
    this.#context = context
    this.#looked.startText()
    this.#reach.startText()
    this.#rule?.pacing.startText?.()
    if (this.#rule !== undefined) this.#options.lookups.begin(context, this.#rule.temperature, this.#rule.noise)
  }

  endText(): void {
    this.#context = undefined
    this.#options.lookups.end()
  }

  propose(context: Context, tree: TokenTree, budget: Budget): void {
    const rule = this.#rule
    this.#seconds = 0
    this.#lookingRule = undefined
    if (rule === undefined || budget.nodes <= 0) return
    const { pacing, without, judge } = rule
    this.#depth = Math.min(budget.depth, MAXIMUM_DEPTH)
    if (!pacing.shouldDraft(this.#unread(context))) {
      if (without === undefined || pacing.needsPlain) return
      // What the model grew is overwritten.
      this.#usable = false
      this.#lookingRule = { judge, pacing: without }
      this.#looked.propose(context, tree, { nodes: budget.nodes, depth: this.#depth }, this.#lookingRule)
      return
    }
    this.#catchUp(context)
    const { lookups } = this.#options
    lookups.catchUp()
    const began = now()
    if (!this.#plant(context)) return
    const nodes = lookups.guessesOf(budget.nodes)
    const growth = this.#growth
    growth.limit = nodes
    for (;;) {
      this.#lookUp(Math.min(nodes, this.#reach.nodes))
      const next = this.#bestUnexpanded(nodes)
      this.#seconds = (now() - began) / 1000
      growth.look(next, this.#seconds)
      const rows = next.length === 0 ? 0 : pacing.expand(growth)
      if (rows === 0) break
      this.#expand(next.slice(0, rows))
    }
    const chosen = Math.min(pacing.cut(growth), nodes)
    this.#reach.observe(chosen, growth.size)
    this.#grown.copyBest(chosen, tree)
    lookups.addWindows(tree, { nodes: budget.nodes, depth: this.#depth })
  }

  grow(_tree: TokenTree, deadline: number): boolean {
    if (!this.#usable) return false
    do {
      if (this.#pending === undefined) {
        // Slots for a whole proposal stay free: what is grown now may all be in vain.
        if (this.#free.length < this.#options.nodes + this.#rows) return false
        const next = this.#bestUnexpanded(Number.POSITIVE_INFINITY)
        if (next.length === 0) return false
        this.#pending = this.#begin([...next])
      }
      if (this.#pending.steps.next().done) this.#finish(this.#pending)
    } while (now() < deadline)
    return true
  }

  observe(result: Verification, seconds: number, top?: NotedTokens): void {
    const { lookups } = this.#options
    if (this.#context !== undefined) lookups.learn(this.#context, result, top)
    if (this.#lookingRule !== undefined) {
      const outcome = this.#looked.observe(result, seconds, this.#lookingRule, top)
      this.#rule?.pacing.observeWithout?.(outcome)
      return
    }
    const began = now()
    if (this.#usable) this.#follow(result.tokens)
    this.#rule?.pacing.observe({
      nodes: result.tree.size,
      tokens: result.tokens.length,
      draftSeconds: this.#seconds + (now() - began) / 1000,
      passSeconds: seconds,
    })
  }

  /** The text goes on with these: what was grown below them is kept. */
  #follow(tokens: readonly number[]): void {
    const { tree, expanded } = this.#grown
    this.#settle(tokens)
    // Every gained token is followed down the grown tree, also past the proposal's leaves.
    const at = learnFrom(tokens, this.#grown, this.#judge)
    const slots: number[] = []
    for (let node = ROOT, i = 0; i < tokens.length; i++) {
      node = tree.child(node, tokens[i])
      if (node < 0 || (expanded[node] & this.#bit) === 0) break
      slots.push(tree.draftSlot[node])
    }
    const { cache } = this.#draft
    cache.commit(slots, slots.length)
    this.#prefix = cache.length
    if (at >= 0 && (expanded[at] & this.#bit) !== 0) {
      this.#grown.reroot(at, this.#judge)
      this.#freeSlots()
    } else this.#usable = false
  }

  /** Ends the draft pass that is under way: to the end, if some of it is still of use, else at once. */
  #settle(tokens: readonly number[]): void {
    const pending = this.#pending
    if (pending === undefined) return
    const { tree } = this.#grown
    const isOnPath = (node: number): boolean => {
      const path = tree.pathTokens(node)
      return path.length >= tokens.length && tokens.every((token, i) => token === path[i])
    }
    if (pending.nodes.some(isOnPath)) this.#finish(pending)
    this.#pending = undefined
  }

  /** Reads what was written while nothing was drafted, the prompt first of all, but for the last few tokens. */
  #catchUp(context: Context): void {
    const unread = this.#unread(context)
    if (unread === 0 || !this.#text.knows(context)) return
    this.#usable = false
    const began = now()
    this.#text.read(context, this.#draft.cache.length + unread)
    // The first time the weights may have had to be read, too: a short prompt would seem to take a second for ever.
    if (this.#hasReadBefore) this.#options.costs.observeRead(unread, (now() - began) / 1000)
    this.#hasReadBefore = true
  }

  /** How many tokens that is. */
  #unread({ length }: Context): number {
    return Math.max(0, length - EXPANSION_ROWS - this.#draft.cache.length)
  }

  /**
   * Makes the context's last token the root of the grown tree, and its children known.
   * @returns false when the draft does not know a token of the text
   */
  #plant(context: Context): boolean {
    const { cache, batch } = this.#draft
    const { tree } = this.#grown
    this.#prefix = context.length
    if (this.#usable && cache.length === context.length && tree.token[ROOT] === context.root) return true
    if (!this.#text.knows(context)) return false
    this.#grown.reset(context.root)
    this.#freeSlots()
    const began = now()
    this.#text.finish(context)
    this.#addChildren(ROOT, 0)
    this.#grown.settle(this.#judge)
    if (batch.count <= this.#rows) this.#options.costs.observeDraft(batch.count, (now() - began) / 1000)
    this.#usable = true
    return true
  }

  /** One draft pass of the best nodes whose children are not known yet, best first. @param places of the order to look through */
  #bestUnexpanded(places: number): readonly number[] {
    const limit = Math.min(
      this.#rows,
      this.#free.length,
      Math.floor(this.#grown.room / (this.#options.branching + this.#options.lookups.bits.length)),
    )
    return this.#grown.bestUnexpanded(this.#bit, limit, this.#depth, places, this.#options.vocabulary)
  }

  /** One draft pass over the given nodes; their parents are expanded already. */
  #expand(nodes: readonly number[]): void {
    const began = now()
    this.#finish(this.#begin(nodes))
    this.#options.costs.observeDraft(nodes.length, (now() - began) / 1000)
  }

  #begin(nodes: readonly number[]): Expansion {
    const { batch, cache } = this.#draft
    const { tree } = this.#grown
    if (cache.length !== this.#prefix) throw new Error('the draft cache and the drafter disagree about the prefix')
    batch.clear()
    for (const node of nodes) {
      const slot = this.#free.pop()!
      tree.draftSlot[node] = slot
      const ancestors = tree.ancestors(tree.parent[node]).map((at) => tree.draftSlot[at])
      batch.addTreeRowWithAncestors(tree.token[node], slot, this.#prefix, ancestors)
    }
    return { nodes, steps: this.#draft.steps() }
  }

  #finish({ nodes, steps }: Expansion): void {
    while (!steps.next().done) {
      // Layer by layer.
    }
    this.#draft.head(nodes.map((_, row) => row))
    for (const [row, node] of nodes.entries()) this.#addChildren(node, row)
    this.#grown.settle(this.#judge)
    this.#pending = undefined
  }

  /** What is known without the draft, behind the best nodes. */
  #lookUp(places: number): void {
    const budget = { nodes: places, depth: this.#depth }
    if (this.#context !== undefined) {
      const { leastChance } = this.#rule?.pacing ?? {}
      this.#options.lookups.grow(this.#grown, this.#context, this.#judge, budget, leastChance)
    }
  }

  get #judge(): Judge {
    return this.#rule?.judge ?? TAKEN_AS_THEY_ARE
  }

  /** @param row of the last call of the draft's head */
  #addChildren(node: number, row: number): void {
    const { ids, promised } = this.#ranking
    const { leastProbability } = this.#options
    const position = this.#prefix + this.#grown.tree.depth[node]
    let count = this.#ranking.rank(row, position)
    while (count > 0 && promised[count - 1] < leastProbability) count--
    this.#grown.offer(node, MODEL, { ids, promised, count })
  }

  /** Every scratch slot that no expanded node of the grown tree uses is free. */
  #freeSlots(): void {
    const { scratchStart, scratch } = this.#draft.cache
    const { tree, expanded } = this.#grown
    const used = new Set<number>()
    for (let at = 1; at < tree.count; at++) if ((expanded[at] & this.#bit) !== 0) used.add(tree.draftSlot[at])
    this.#free.length = 0
    for (let slot = scratchStart + scratch - 1; slot >= scratchStart; slot--) if (!used.has(slot)) this.#free.push(slot)
  }
}
