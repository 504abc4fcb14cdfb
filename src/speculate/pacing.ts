/** When to stop drafting, and how much of what was drafted to put before the target. */

export const PACINGS = ['planner', 'fixed', 'fallback'] as const satisfies readonly PacingName[]
/** When to stop drafting; see `LoadOptions.pacing`. */
export type PacingName = 'planner' | 'fixed' | 'fallback'

/** A tree that is being grown, as far as a decision needs it. */
export interface Growth {
  /** Nodes so far. */
  readonly size: number
  /** Chance of the path to the node at a place of the order, best first. */
  chanceAt(place: number): number
  /** Chances of the paths to the nodes that the next draft pass would look behind, best first. */
  readonly next: readonly number[]
  /** Depth of the first of them: how far the best path leads. */
  readonly depth: number
  /** Seconds spent on this tree while nobody else had to be waited for. */
  readonly seconds: number
}

/** What became of a pass. */
export interface Outcome {
  /** Nodes put before the target. */
  readonly nodes: number
  /** Tokens gained, the target's own included. */
  readonly tokens: number
  /** Drafting before the pass. */
  readonly draftSeconds: number
  /** The pass itself. */
  readonly passSeconds: number
}

export interface Pacing {
  /** A text begins. */
  startText?(): void
  /**
   * Whether to draft at all for the coming pass.
   * @param unread tokens of the text that would have to be read first
   */
  shouldDraft(unread?: number): boolean
  /** Whether nobody else either should guess for the pass that `shouldDraft` last said no to. */
  readonly needsPlain?: boolean
  /** A path of guesses with less of a chance than this would not pay, nor would what comes behind it; absent: 0. */
  readonly leastChance?: number
  /** How many of `growth.next`, which is not empty, another draft pass should look behind; 0: no further pass. */
  expand(growth: Growth): number
  /** How many of the best nodes to put before the target. */
  cut(growth: Growth): number
  observe(outcome: Outcome): void
  /** What became of a pass that was left to others, because `shouldDraft` said no. */
  observeWithout?(outcome: Outcome): void
  /**
   * What the best guess would have been worth in a pass that was left without, where asking costs next to nothing.
   * @param chance that it was given @param right whether the target took it
   */
  watch?(chance: number, right: boolean): void
}

/** The N best nodes, always (SpecExec, arXiv 2406.02532, algorithm 1). */
export class FixedPacing implements Pacing {
  readonly #nodes: number

  constructor(nodes: number) {
    this.#nodes = nodes
  }

  shouldDraft(): boolean {
    return this.#nodes > 0
  }

  expand({ size, chanceAt, next }: Growth): number {
    // A child is never better than its parent, so below the last of a full list nothing can enter.
    return size < this.#nodes || next[0] > chanceAt(this.#nodes - 1) ? next.length : 0
  }

  cut({ size }: Growth): number {
    return Math.min(size, this.#nodes)
  }

  observe(): void {}
}

const LEAST_ALPHA = 0.01
const MOST_ALPHA = 0.99

/**
 * LLMCad's self-adjusting fallback (arXiv 2309.04255, section 4.2): the target is asked as soon as the best path
 * is less likely than alpha, and alpha follows what the target then says.
 */
export class FallbackPacing implements Pacing {
  readonly #nodes: number
  #alpha: number
  /** Of the tree under verification: chance and length of its best path. */
  #confidence = 1
  #length = 1

  /** @param nodes of the largest tree */
  constructor(nodes: number, alpha = 0.1) {
    this.#nodes = nodes
    this.#alpha = alpha
  }

  get alpha(): number {
    return this.#alpha
  }

  shouldDraft(): boolean {
    return this.#nodes > 0
  }

  /** Only the nodes that are likely enough themselves are part of the tree, so only these are looked behind. */
  expand({ next, chanceAt, size }: Growth): number {
    if (size >= this.#nodes && chanceAt(this.#nodes - 1) >= this.#alpha) return 0
    return next.filter((chance) => chance >= this.#alpha).length
  }

  cut({ size, next, depth, chanceAt }: Growth): number {
    this.#confidence = next.length > 0 ? next[0] : this.#alpha
    this.#length = Math.max(1, depth)
    const most = Math.min(size, this.#nodes)
    let likely = 0
    while (likely < most && chanceAt(likely) >= this.#alpha) likely++
    // With the guess that was too unlikely to go on from, which the best path ends with.
    return Math.min(most, likely + 1)
  }

  observe({ nodes, tokens }: Outcome): void {
    if (nodes === 0) return
    const correct = Math.min(this.#length, tokens - 1)
    if (correct === this.#length) this.#alpha *= 0.5
    else this.#alpha /= this.#confidence ** ((this.#length - correct) / this.#length)
    this.#alpha = Math.min(MOST_ALPHA, Math.max(LEAST_ALPHA, this.#alpha))
  }
}
