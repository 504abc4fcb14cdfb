/** Trees without a draft model: from one source by its own rule, or from all of them, best first. */
import { CandidateTree } from '../candidate-tree.ts'
import type { SharedNoise } from '../child-ranking.ts'
import type { Context } from '../context.ts'
import type { Budget, Drafter } from '../drafter.ts'
import { LookedUpTree, type LookingRule } from '../looked-up-tree.ts'
import type { Lookups } from '../lookups.ts'
import { MOST_GUESSES } from '../sources/source.ts'
import type { TokenTree } from '../token-tree.ts'
import type { NotedTokens, Verification } from '../verify.ts'
import { MAXIMUM_DEPTH } from './tree.ts'

export interface LookupDrafterOptions {
  readonly lookups: Lookups
  /** Largest budget that `propose` will be given. */
  readonly nodes: number
}

/** How the guesses for one text are made. */
export interface LookupRule extends LookingRule {
  /** Of the request. */
  readonly temperature: number
  /** As in `RankingRule`. */
  readonly noise?: SharedNoise
}

export class LookupDrafter implements Drafter {
  readonly #lookups: Lookups
  readonly #looked: LookedUpTree
  #rule: LookupRule | undefined
  #context: Context | undefined
  /** Whether there was a proposal for the pass that is under way. */
  #hasProposed = false

  constructor({ lookups, nodes }: LookupDrafterOptions) {
    this.#lookups = lookups
    const guesses = lookups.bits.length * MOST_GUESSES
    this.#looked = new LookedUpTree(lookups, new CandidateTree((nodes + 1) * guesses, lookups.bits), nodes)
  }

  get topTokens(): number {
    return this.#looked.topTokens
  }

  begin(rule: LookupRule): void {
    this.#rule = rule
  }

  startText(context: Context): void {
    this.#context = context
    this.#looked.startText()
    if (this.#rule !== undefined) this.#lookups.begin(context, this.#rule.temperature, this.#rule.noise)
  }

  endText(): void {
    this.#context = undefined
    this.#lookups.end()
  }

  propose(context: Context, tree: TokenTree, { nodes, depth }: Budget): void {
    this.#hasProposed = this.#rule !== undefined && nodes > 0
    if (this.#rule === undefined || nodes <= 0) return
    this.#looked.propose(context, tree, { nodes, depth: Math.min(depth, MAXIMUM_DEPTH) }, this.#rule)
  }

  observe(result: Verification, seconds: number, top?: NotedTokens): void {
    if (this.#rule !== undefined && this.#hasProposed) this.#looked.observe(result, seconds, this.#rule, top)
    if (this.#context !== undefined) this.#lookups.learn(this.#context, result, top)
  }
}
