/** Trees from look-ups alone: as large as pays, and while guessing rests watched, so that it is known when to go on. */
import { now } from '../runtime/platform.ts'
import type { CandidateTree, Judge } from './candidate-tree.ts'
import type { Context } from './context.ts'
import type { Budget } from './drafter.ts'
import { GrowingTree } from './growing-tree.ts'
import { learnFrom } from './judge.ts'
import type { Lookups } from './lookups.ts'
import { Pace } from './pace.ts'
import type { Outcome, Pacing } from './pacing.ts'
import { Reach } from './reach.ts'
import type { TokenTree } from './token-tree.ts'
import type { NotedTokens, Verification } from './verify.ts'
import { WatchPace } from './watch-pace.ts'

/** With fewer tokens unread a watched pass is as good, and tables that have left the processor's caches are visited once. */
const MOST_UNREAD = 32

/**
 * While guessing rests, noting what the target holds likeliest takes no more than this share of passes' time: with a
 * target of 1 ms per pass it takes 1.5 % of each, with one of 30 ms nothing to speak of.
 */
const NOTING_SHARE = 0.0025

/** How guesses are weighed. */
export interface LookingRule {
  readonly judge: Judge
  readonly pacing: Pacing
}

export class LookedUpTree {
  readonly #lookups: Lookups
  readonly #grown: CandidateTree
  readonly #growth: GrowingTree
  readonly #reach: Reach
  /** Spent on the last proposal. */
  #seconds = 0
  /** Whether the grown tree is that of the pass that is under way. */
  #isGrown = false
  /** Whether it was grown only to see what would have become of its best guess, which had this chance. */
  #isWatching = false
  #hope = 0
  readonly #watchPace = new WatchPace()
  readonly #notePace = new Pace()

  /** @param grown is overwritten by every proposal @param nodes largest budget that `propose` will be given */
  constructor(lookups: Lookups, grown: CandidateTree, nodes: number) {
    this.#lookups = lookups
    this.#grown = grown
    this.#growth = new GrowingTree(grown)
    this.#reach = new Reach(nodes)
  }

  startText(): void {
    this.#reach.startText()
    this.#watchPace.startText()
    this.#notePace.reset()
  }

  /** As `Drafter.topTokens`. */
  get topTokens(): number {
    return this.#isGrown || this.#notePace.isDue(NOTING_SHARE) ? this.#lookups.topTokens : 0
  }

  propose(context: Context, tree: TokenTree, budget: Budget, { judge, pacing }: LookingRule): void {
    const lookups = this.#lookups
    this.#seconds = 0
    this.#isGrown = false
    this.#isWatching = false
    if (!pacing.shouldDraft()) {
      this.#watch(context, judge, pacing)
      return
    }
    lookups.catchUp()
    const began = now()
    const nodes = Math.min(lookups.guessesOf(budget.nodes), this.#reach.nodes)
    const { depth } = budget
    this.#grown.reset(context.root)
    this.#isGrown = true
    if (!lookups.propose(this.#grown, context, judge, { nodes, depth })) {
      lookups.grow(this.#grown, context, judge, { nodes, depth }, pacing.leastChance)
    }
    this.#growth.limit = nodes
    this.#growth.look([], (now() - began) / 1000)
    const chosen = Math.min(pacing.cut(this.#growth), nodes)
    this.#reach.observe(chosen, this.#growth.size)
    this.#grown.copyBest(chosen, tree)
    lookups.addWindows(tree, { nodes: budget.nodes, depth })
    this.#seconds = (now() - began) / 1000
  }

  /** What would be guessed next is asked all the same: texts that begin to repeat what was read should not go by unseen. */
  #watch(context: Context, judge: Judge, pacing: Pacing): void {
    if (pacing.watch === undefined || !this.#watchPace.isDue) return
    if (this.#lookups.unread >= MOST_UNREAD) this.#lookups.catchUp()
    const began = now()
    this.#grown.reset(context.root)
    this.#lookups.grow(this.#grown, context, judge, { nodes: 1, depth: 1 }, pacing.leastChance)
    this.#isGrown = true
    this.#isWatching = true
    this.#hope = this.#grown.size > 0 ? this.#grown.chanceAt(0) : 0
    this.#watchPace.begin((now() - began) / 1000)
  }

  /** What became of the last proposal. @param seconds of the pass */
  observe(result: Verification, seconds: number, { judge, pacing }: LookingRule, top?: NotedTokens): Outcome {
    if (top !== undefined) this.#notePace.begin(top.seconds)
    this.#notePace.observePass(seconds)
    this.#watchPace.observePass(seconds)
    if (this.#isWatching) {
      const grown = this.#grown
      const isRight = grown.size > 0 && grown.tree.token[grown.order[0]] === result.tokens[0]
      this.#watchPace.observeGuess(isRight)
      pacing.watch?.(this.#hope, isRight)
    }
    const { tree, tokens } = result
    const began = now()
    if (this.#isGrown) {
      learnFrom(tokens, this.#grown, judge)
      if (!this.#isWatching) this.#seconds += (now() - began) / 1000
    }
    const outcome = { nodes: tree.size, tokens: tokens.length, draftSeconds: this.#seconds, passSeconds: seconds }
    pacing.observe(outcome)
    return outcome
  }
}
