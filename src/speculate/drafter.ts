/** What every drafter offers: guesses for the tree, and an ear for what became of them. */
import type { Context } from './context.ts'
import type { TokenTree } from './token-tree.ts'
import type { NotedTokens, Verification } from './verify.ts'

/** Drafters with a draft model: 'tree', best-first trees; 'chain', its likeliest continuation. */
export type ModelDrafter = 'tree' | 'chain'
/**
 * Drafters without: 'trie', what was read and written before (Lookahead); 'trigram', a table with a search (ADED);
 * 'recycle', the target's own second choices (Token Recycling); 'ngram', prompt lookup; 'jacobi', n-grams of guesses that
 * are made beside the tree (Lookahead Decoding).
 */
export type SourceName = 'trie' | 'trigram' | 'recycle' | 'ngram' | 'jacobi'
export type DrafterName = ModelDrafter | SourceName

export const MODEL_DRAFTERS = ['tree', 'chain'] as const satisfies readonly ModelDrafter[]
export const SOURCES = ['trie', 'trigram', 'recycle', 'ngram', 'jacobi'] as const satisfies readonly SourceName[]
/** In the order of their bits in a node's sources. */
export const DRAFTERS = [...MODEL_DRAFTERS, ...SOURCES] as const

/** What the load option `drafters` may name: one drafter, or all that pay as one. */
export type DrafterChoice = DrafterName | 'hybrid'

export const sourceOf = (name: DrafterName): number => 1 << DRAFTERS.indexOf(name)

/** How much a proposal may cost. */
export interface Budget {
  /** Nodes that may be in the tree in the end, the root not counted. */
  readonly nodes: number
  /** Longest path, in nodes. */
  readonly depth: number
}

export interface Drafter {
  /** How many of the target's likeliest tokens at every node of the last proposal it wants to hear of; absent or 0: none. */
  readonly topTokens?: number
  /** A text begins, the prompt being in the target's cache. */
  startText?(context: Context): void
  /** The text is over, well or not. */
  endText?(): void
  /** Adds nodes below the tree's root, which is the context's last token; or none: abstaining is normal. */
  propose(context: Context, tree: TokenTree, budget: Budget): void
  /**
   * One small step of work ahead while the target is busy or waiting. The given tree is under
   * verification and must not be changed.
   * @param deadline time in ms (`now`) by which the caller would like control back
   * @returns false when nothing is left to do
   */
  grow?(tree: TokenTree, deadline: number): boolean
  /**
   * Tells what the target accepted. Called before the accepted tokens join the context.
   * @param seconds that the target's pass took @param top as wanted
   */
  observe(result: Verification, seconds: number, top?: NotedTokens): void
}
