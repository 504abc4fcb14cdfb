/**
 * The residual rule: a sampled tree is verified so that the text has the target's distribution, though not the
 * tokens of plain decoding (multi-step speculative sampling, SpecInfer, arXiv 2305.09781, section 4.3; for chains,
 * speculative sampling, arXiv 2302.01318).
 *
 * It holds under conditions that drawing and trying share, which is why both are here. The children of a node are
 * drawn from the draft's distribution q without replacement, as many as were wanted before the first was drawn, and
 * are tried in the order in which they were drawn. A child x is accepted with probability min(1, p(x) / q(x));
 * after a rejection p becomes norm(max(p - q, 0)) and q becomes norm(q without x). When no child is left, the token
 * is drawn from p as it then is.
 *
 * All draws are functions of seed and position. Every position of a text is decided once, at the one node that is
 * reached there, by draws of its own: so nodes of the same depth, and trees of different passes, may share them.
 */
import type { Drafter } from './drafter.ts'
import { ROOT, type TokenTree } from './token-tree.ts'
import type { Verification } from './verify.ts'

/** 'exact': the tokens of plain decoding; 'residual': their distribution. */
export const VERIFY_RULES = ['exact', 'residual'] as const satisfies readonly VerifyRule[]
/** By which rule guesses are accepted; see `GenerateOptions.verify`. */
export type VerifyRule = 'exact' | 'residual'

/** Uniform in (0, 1), a function of seed, position and word alone; independent for different words. */
export type UniformOf = (position: number, word: number) => number

/** Words below 0 belong to no token, so none of these draws is the sampler's own. */
const LAST_WORD = -1
const childWord = (i: number): number => -2 - 2 * i
const coinWord = (i: number): number => -3 - 2 * i

/** A drafter that samples, and remembers from what. */
export interface ResidualDrafter extends Drafter {
  /**
   * The distribution that the children of a proposed node were drawn from: [draft vocabulary], up to a factor.
   * Verification overwrites it.
   */
  drawnFrom(node: number): Float32Array
}

export interface ResidualWalk {
  /** Of the token after the root. */
  readonly position: number
  /** The target's distribution after a node, given the nodes accepted so far: [vocabulary]; it is overwritten. */
  readonly target: (node: number, path: readonly number[]) => Float64Array
  /** As `ResidualDrafter.drawnFrom`. */
  readonly draft: (node: number) => Float32Array
  readonly uniform: UniformOf
}

/** @param isLast true for a token after which the text ends */
export function verifyResidual(
  tree: TokenTree,
  { position, target, draft, uniform }: ResidualWalk,
  isLast: (token: number) => boolean,
): Verification {
  const path: number[] = []
  const tokens: number[] = []
  let node = ROOT
  for (;;) {
    const at = position + path.length
    const p = target(node, path)
    // Siblings are linked the last one first.
    const children = tree.children(node).reverse()
    const candidates = children.map((child) => tree.token[child])
    const chosen = children.length === 0 ? -1 : tryChildren(p, draft(node), candidates, (i) => uniform(at, coinWord(i)))
    const token = chosen < 0 ? pick(p, uniform(at, LAST_WORD)) : candidates[chosen]
    tokens.push(token)
    if (chosen < 0 || isLast(token)) return { tree, path, tokens }
    node = children[chosen]
    path.push(node)
  }
}

/**
 * Draws the children of a node, in the order in which they must be tried.
 * @param q what they are drawn from, up to a factor; not changed
 * @param count fewer are drawn only where fewer tokens have a chance
 * @param position of the children
 */
export function drawChildren(q: Float32Array, count: number, position: number, uniform: UniformOf): number[] {
  const drawn: number[] = []
  const chances: number[] = []
  for (let i = 0; i < count; i++) {
    const token = pick(q, uniform(position, childWord(i)))
    if (token < 0) break
    drawn.push(token)
    chances.push(q[token])
    q[token] = 0
  }
  drawn.forEach((token, i) => {
    q[token] = chances[i]
  })
  return drawn
}

/**
 * Tries children in the order in which they were drawn from `q` without replacement.
 * @param p the target's distribution; becomes what the token is to be drawn from when all are rejected. Like `q`,
 *   it counts up to a factor, and is at least as long
 * @param q becomes what is left of it
 * @param coin uniform in (0, 1), independent for every child
 * @returns place of the accepted child, or -1
 */
export function tryChildren(
  p: Float64Array,
  q: Float32Array,
  children: readonly number[],
  coin: (i: number) => number,
): number {
  let pSum = sum(p)
  for (const [i, x] of children.entries()) {
    const qSum = sum(q)
    if (coin(i) * (q[x] / qSum) < p[x] / pSum) return i
    for (let token = 0; token < q.length; token++) {
      p[token] = Math.max(p[token] / pSum - q[token] / qSum, 0)
    }
    for (let token = q.length; token < p.length; token++) p[token] /= pSum
    q[x] = 0
    pSum = sum(p)
    // Equal distributions reject nothing; this one was rejected by rounding alone.
    if (pSum === 0) return i
  }
  return -1
}

/** The token at which the cumulated weights pass `u` of their sum; -1 when all are 0. */
function pick(weights: ArrayLike<number>, u: number): number {
  let rest = u * sum(weights)
  let last = -1
  for (let token = 0; token < weights.length; token++) {
    if (weights[token] === 0) continue
    last = token
    rest -= weights[token]
    if (rest < 0) return token
  }
  return last
}

function sum(values: ArrayLike<number>): number {
  let total = 0
  for (let i = 0; i < values.length; i++) total += values[i]
  return total
}
