/** What knows likely continuations without a model: guesses by what was read and written before. */
import type { Context, TextSoFar } from '../context.ts'
import type { Budget, SourceName } from '../drafter.ts'
import type { TopTokens, Verification } from '../verify.ts'

/** Tokens of a path that a source is shown, at the most. */
export const SHOWN = 16

/** Guesses that a source may make after a path. */
export const MOST_GUESSES = 12

/** Classes of guesses that a source tells apart beside their probability, such as ranks or lengths of what matched. */
export const CLASSES = 8

/** The end of a text with a path of guesses after it. */
export interface Path {
  /** The last tokens in order, of which the last `length` entries count: `tokens[SHOWN - 1]` is the newest. */
  readonly tokens: Int32Array
  /** At most `SHOWN`; less only at the beginning of a text. */
  readonly length: number
}

/** Where a source puts what it thinks comes next, likeliest first. */
export class Guesses {
  readonly ids = new Int32Array(MOST_GUESSES)
  /** The source's own probability of each; it is calibrated later. */
  readonly promised = new Float64Array(MOST_GUESSES)
  /** Class of each, below `CLASSES`. */
  readonly classes = new Uint8Array(MOST_GUESSES)
  count = 0

  /** Ignored when the list is full. */
  add(id: number, promised: number, kind: number): void {
    if (this.count === MOST_GUESSES) return
    this.ids[this.count] = id
    this.promised[this.count] = promised
    this.classes[this.count++] = kind
  }
}

/** A tree that a source makes its own way. */
export interface GuessTree {
  /**
   * Adds a guess, or finds the sibling that holds the token.
   * @param parent 0 is the root, the context's last token
   * @returns the node, or -1 when there is no room
   */
  add(parent: number, token: number, promised: number, kind: number): number
}

export interface Source {
  readonly name: SourceName
  /** How many of the target's likeliest tokens at every node of the coming pass it learns from; 0: none. */
  readonly topTokens: number
  /** A text begins; the context has its prompt. @param temperature that it is sampled with */
  begin(context: Context, temperature: number): void
  /** What may follow a path. Called some 64 times per pass of the target: microseconds each. */
  successors(path: Path, guesses: Guesses): void
  /** The published way of making a whole tree, where it is not best-first growth by `successors`. */
  propose?(context: Context, tree: GuessTree, budget: Budget): void
  /**
   * Adds nodes that are not there to be accepted: the source learns from what the target says after them. For trees of
   * several sources, which otherwise ask for `successors` only. It may do with any budget.
   */
  window?(tree: GuessTree, budget: Budget): void
  /** How many of them it would add. */
  readonly windowNodes?: number
  /**
   * Learns from a pass of the target. Called before the accepted tokens join the context.
   * @param top of every node of the tree, the root included; absent when nobody asked for it
   */
  learn?(context: Context, result: Verification, top: TopTokens | undefined): void
  /**
   * Learns what was written. It comes when guesses are asked for next, at the latest before `end`: where nothing is
   * guessed for a while, one visit of tables that have left the processor's caches does for many passes.
   * @param before the text before these tokens
   */
  read?(before: TextSoFar, tokens: readonly number[]): void
  /** The text is over: what must not outlive it is forgotten. */
  end(): void
  /** Bytes that its tables take in memory, about. */
  readonly heldBytes: number
  /** Nodes, pairs or tokens that it knows something of, of what it would save. */
  readonly entries?: number
  /** What is worth keeping between runs; absent: nothing. */
  save?(): Uint8Array
  /** Takes what `save` returned in place of what it knows. @throws Error in words when the bytes make no sense */
  load?(bytes: Uint8Array): void
  /** Gives the memory of its largest tables back; nothing is asked of it any more. */
  release?(): void
  /** Learns from a text beside the ones that are written. */
  warm?(tokens: ArrayLike<number>): void
}
