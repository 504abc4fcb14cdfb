/**
 * Acceptance by walking with the target's own sampler: at every node the token that plain decoding
 * would take is taken, so the text is plain decoding's, token for token (SpecExec, arXiv 2406.02532,
 * section 4; SpecInfer's greedy verification, arXiv 2305.09781, generalised to any deterministic sampler).
 */
import { ROOT, type TokenTree } from './token-tree.ts'

export interface Verification {
  readonly tree: TokenTree
  /** Accepted nodes, root side first; the root itself is not among them. */
  readonly path: readonly number[]
  /** Tokens gained: one per accepted node, then the target's own. Never empty. */
  readonly tokens: readonly number[]
}

/** The target's likeliest tokens after every node of a tree, the root included, by falling logit. */
export interface TopTokens {
  /** Per node. */
  readonly k: number
  /** [nodes][k], likeliest first; -1 where there are fewer. */
  readonly ids: Int32Array
  /** [nodes][k]: natural logarithm of the target's probability of each at temperature 1, within 0.04. */
  readonly logProbs: Float32Array
}

/** The same, and what it took to find them. */
export interface NotedTokens extends TopTokens {
  readonly seconds: number
}

/**
 * @param choose the token that the target takes after a node, given the nodes accepted so far
 * @param isLast true for a token after which the text ends
 */
export function verify(
  tree: TokenTree,
  choose: (node: number, path: readonly number[]) => number,
  isLast: (token: number) => boolean,
): Verification {
  const path: number[] = []
  const tokens: number[] = []
  let node = ROOT
  for (;;) {
    const token = choose(node, path)
    tokens.push(token)
    if (isLast(token)) return { tree, path, tokens }
    const child = tree.child(node, token)
    if (child < 0) return { tree, path, tokens }
    path.push(child)
    node = child
  }
}
