/** Asks sources as a proposal does, with paths and trees made by hand. */
import type { Context } from '../../../src/speculate/context.ts'
import type { Budget } from '../../../src/speculate/drafter.ts'
import { Guesses, type GuessTree, SHOWN, type Source } from '../../../src/speculate/sources/source.ts'
import { ROOT, TokenTree } from '../../../src/speculate/token-tree.ts'
import type { Verification } from '../../../src/speculate/verify.ts'

export interface Guess {
  readonly id: number
  readonly promised: number
  readonly kind: number
}

/** @param text of which the last tokens are the path */
export function successorsOf(source: Source, text: readonly number[]): Guess[] {
  const tokens = new Int32Array(SHOWN).fill(-1)
  const length = Math.min(SHOWN, text.length)
  if (length > 0) tokens.set(text.slice(-length), SHOWN - length)
  const guesses = new Guesses()
  source.successors({ tokens, length }, guesses)
  return Array.from({ length: guesses.count }, (_, i) => ({
    id: guesses.ids[i],
    promised: guesses.promised[i],
    kind: guesses.classes[i],
  }))
}

/** Has tokens accepted after the context, as a pass of the target does. */
export function accept(source: Source, context: Context, tokens: readonly number[]): void {
  const result: Verification = { tree: new TokenTree(0), path: [], tokens }
  source.learn(context, result, undefined)
  for (const token of tokens) context.push(token)
}

export class Proposal implements GuessTree {
  readonly tree: TokenTree
  readonly promised: number[] = [1]
  readonly kinds: number[] = [0]
  /** Calls of `add`. */
  asked = 0

  constructor(source: Source, context: Context, budget: Budget) {
    this.tree = new TokenTree(budget.nodes)
    this.tree.reset(context.root)
    source.propose!(context, this, budget)
  }

  add(parent: number, token: number, promised: number, kind: number): number {
    this.asked++
    const node = this.tree.add(parent, token, 0, 0)
    if (node >= 0) {
      this.promised[node] ??= promised
      this.kinds[node] ??= kind
    }
    return node
  }

  /** Tokens from the root to every leaf. */
  get branches(): number[][] {
    const { tree } = this
    const nodes = Array.from({ length: tree.size }, (_, i) => i + 1)
    return nodes.filter((node) => tree.children(node).next().done).map((node) => tree.pathTokens(node))
  }

  /** Tokens from the root to every node, in the order of the nodes. */
  get paths(): number[][] {
    return Array.from({ length: this.tree.size }, (_, i) => this.tree.pathTokens(ROOT + i + 1))
  }
}
