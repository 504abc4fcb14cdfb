/** Trees without a draft model: from one source by its own rule, or from all of them, best first. */
import { now } from '../../runtime/platform.ts'
import { CandidateTree, type Judge } from '../candidate-tree.ts'
import type { NoiseOf } from '../child-ranking.ts'
import type { Context } from '../context.ts'
import type { Budget, Drafter } from '../drafter.ts'
import { GrowingTree } from '../growing-tree.ts'
import { learnFrom } from '../judge.ts'
import type { Lookups } from '../lookups.ts'
import type { Pacing } from '../pacing.ts'
import { MOST_GUESSES } from '../sources/source.ts'
import type { TokenTree } from '../token-tree.ts'
import type { TopTokens, Verification } from '../verify.ts'
import { MAXIMUM_DEPTH } from './tree.ts'

/** Beyond twice of what was last worth a place before the target, and so many, nothing is looked up. */
const LEAST_REACH = 8

/** While guessing rests, passes are watched as often as takes no more than this share of their time. */
const WATCHING = 0.03

export interface LookupDrafterOptions {
  readonly lookups: Lookups
  /** Largest budget that `propose` will be given. */
  readonly nodes: number
}

/** How the guesses for one text are made. */
export interface LookupRule {
  readonly judge: Judge
  readonly pacing: Pacing
  /** Of the request. */
  readonly temperature: number
  /** As in `RankingRule`. */
  readonly noise?: NoiseOf
}

export class LookupDrafter implements Drafter {
  readonly #options: LookupDrafterOptions
  readonly #grown: CandidateTree
  readonly #growth: GrowingTree
  #rule: LookupRule | undefined
  #context: Context | undefined
  #seconds = 0
  /** Whether the grown tree is that of the pass that is under way. */
  #isGrown = false
  /** Whether it was grown only to see what would have become of its best guess, which had this chance. */
  #isWatching = false
  #hope = 0
  /** What watching a pass took last, and what passes took since. */
  #watchSeconds = 0
  #unwatchedSeconds = 0
  #reach = 0

  constructor(options: LookupDrafterOptions) {
    const { lookups, nodes } = options
    this.#options = options
    const guesses = lookups.bits.length * MOST_GUESSES
    this.#grown = new CandidateTree((nodes + 1) * guesses, lookups.bits)
    this.#growth = new GrowingTree(this.#grown)
  }

  get topTokens(): number {
    return this.#options.lookups.topTokens
  }

  begin(rule: LookupRule): void {
    this.#rule = rule
  }

  startText(context: Context): void {
    this.#context = context
    // What the last text was worth is no matter of this one's, which may be another owner's.
    this.#reach = this.#options.nodes
    this.#watchSeconds = 0
    this.#unwatchedSeconds = 0
    if (this.#rule !== undefined) this.#options.lookups.begin(context, this.#rule.temperature, this.#rule.noise)
  }

  endText(): void {
    this.#context = undefined
    this.#options.lookups.end()
  }

  propose(context: Context, tree: TokenTree, budget: Budget): void {
    const { lookups } = this.#options
    const rule = this.#rule
    this.#seconds = 0
    this.#isGrown = false
    this.#isWatching = false
    if (rule === undefined || budget.nodes <= 0) return
    if (!rule.pacing.shouldDraft()) {
      this.#watch(context, rule)
      return
    }
    lookups.catchUp()
    const began = now()
    const nodes = Math.min(lookups.guessesOf(budget.nodes), this.#reach)
    const depth = Math.min(budget.depth, MAXIMUM_DEPTH)
    this.#grown.reset(context.root)
    this.#isGrown = true
    if (!lookups.propose(this.#grown, context, rule.judge, { nodes, depth })) {
      lookups.grow(this.#grown, context, rule.judge, { nodes, depth })
    }
    this.#seconds = (now() - began) / 1000
    this.#growth.limit = nodes
    this.#growth.look([], this.#seconds)
    const chosen = Math.min(rule.pacing.cut(this.#growth), nodes)
    // That little was found says nothing of how much would be worth a place.
    if (chosen < this.#growth.size) this.#reach = Math.max(LEAST_REACH, 2 * chosen)
    else if (chosen >= this.#reach) this.#reach = Math.min(2 * this.#reach, this.#options.nodes)
    this.#grown.copyBest(chosen, tree)
    lookups.addWindows(tree, { nodes: budget.nodes, depth })
  }

  /** What would be guessed next is asked all the same: texts that begin to repeat what was read should not go by unseen. */
  #watch(context: Context, { judge, pacing }: LookupRule): void {
    if (pacing.watch === undefined || this.#watchSeconds > WATCHING * this.#unwatchedSeconds) return
    const { lookups } = this.#options
    lookups.catchUp()
    const began = now()
    this.#grown.reset(context.root)
    lookups.grow(this.#grown, context, judge, { nodes: 1, depth: 1 })
    this.#isGrown = true
    this.#isWatching = true
    this.#hope = this.#grown.size > 0 ? this.#grown.chanceAt(0) : 0
    this.#watchSeconds = (now() - began) / 1000
    this.#unwatchedSeconds = 0
  }

  observe(result: Verification, seconds: number, top?: TopTokens): void {
    const { lookups } = this.#options
    const rule = this.#rule
    this.#unwatchedSeconds += seconds
    if (this.#isWatching) {
      const { tree, order } = this.#grown
      rule?.pacing.watch?.(this.#hope, this.#grown.size > 0 && tree.token[order[0]] === result.tokens[0])
    }
    rule?.pacing.observe({
      nodes: result.tree.size,
      tokens: result.tokens.length,
      draftSeconds: this.#seconds,
      passSeconds: seconds,
    })
    if (this.#isGrown && rule !== undefined) learnFrom(result.tokens, this.#grown, rule.judge)
    if (this.#context !== undefined) lookups.learn(this.#context, result, top)
  }
}
