/** How tests ask a source for guesses, and what a target says that exists only as a function. */
import { Context } from '../../../src/speculate/context.ts'
import type { Budget } from '../../../src/speculate/drafter.ts'
import { Guesses, type GuessTree, type Path, SHOWN, type Source } from '../../../src/speculate/sources/source.ts'
import { ROOT, TokenTree } from '../../../src/speculate/token-tree.ts'
import type { TopTokens, Verification } from '../../../src/speculate/verify.ts'

export const contextOf = (prompt: readonly number[], room = 512): Context => new Context(prompt, prompt.length + room)

export function pathOf(text: readonly number[]): Path {
  const shown = text.slice(-SHOWN)
  const tokens = new Int32Array(SHOWN).fill(-7)
  tokens.set(shown, SHOWN - shown.length)
  return { tokens, length: shown.length }
}

export interface Guess {
  readonly id: number
  readonly promised: number
  readonly kind: number
}

export function successors(source: Source, text: readonly number[]): Guess[] {
  const guesses = new Guesses()
  source.successors(pathOf(text), guesses)
  const { ids, promised, classes, count } = guesses
  return Array.from({ length: count }, (_, i) => ({ id: ids[i], promised: promised[i], kind: classes[i] }))
}

/** A tree that takes guesses, and every one that it was given. */
export class Guessed implements GuessTree {
  readonly tree: TokenTree
  readonly all: (Guess & { readonly parent: number })[] = []

  constructor(root: number, capacity: number) {
    this.tree = new TokenTree(capacity)
    this.tree.reset(root)
  }

  add(parent: number, token: number, promised: number, kind: number): number {
    this.all.push({ parent, id: token, promised, kind })
    return this.tree.add(parent, token, this.tree.logProb[parent] + Math.log(promised), 1)
  }

  /** Tokens of the path to every node, sorted. */
  get paths(): string[] {
    const nodes = Array.from({ length: this.tree.size }, (_, i) => i + 1)
    return nodes.map((node) => this.tree.pathTokens(node).join(' ')).sort()
  }
}

export function propose(source: Source, context: Context, nodes: number, depth = 32, capacity = nodes): Guessed {
  const guessed = new Guessed(context.root, capacity)
  source.propose!(context, guessed, { nodes, depth })
  return guessed
}

/** Has tokens accepted after the context, as a pass of the target does. */
export function accept(source: Source, context: Context, tokens: readonly number[]): void {
  const result: Verification = { tree: new TokenTree(0), path: [], tokens }
  source.learn?.(context, result, undefined)
  source.read?.(context, tokens)
  for (const token of tokens) context.push(token)
}

/** What a source proposes, with the promise and the class of every node. */
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
    return nodes.filter((node) => tree.children(node).length === 0).map((node) => tree.pathTokens(node))
  }

  /** Tokens from the root to every node, in the order of the nodes. */
  get paths(): number[][] {
    return Array.from({ length: this.tree.size }, (_, i) => this.tree.pathTokens(ROOT + i + 1))
  }
}

/** The first one has half of the probability, each other one half of that of the one before it. */
export const rankedTokens = (k: number, ids: readonly number[]): TopTokens => ({
  k,
  ids: Int32Array.from(ids),
  logProbs: Float32Array.from(ids, (_, i) => Math.log(0.5) * ((i % k) + 1)),
})

/** What a target says after a text, likeliest first. */
export type Target = (text: readonly number[]) => readonly number[]

export function topTokens({ tokens, length }: Context, tree: TokenTree, k: number, target: Target): TopTokens {
  const text = [...tokens.subarray(0, length)]
  const ids = Array.from({ length: tree.count }, (_, node) => target([...text, ...tree.pathTokens(node)]).slice(0, k))
  return rankedTokens(k, ids.flat())
}

/** A pass in which the target takes its likeliest token at every node. The context is left as it is. */
export function pass(context: Context, tree: TokenTree, target: Target): Verification {
  const text = [...context.tokens.subarray(0, context.length)]
  const path: number[] = []
  const tokens: number[] = []
  for (let node = 0; node >= 0; ) {
    const token = target([...text, ...tokens])[0]
    tokens.push(token)
    node = tree.child(node, token)
    if (node >= 0) path.push(node)
  }
  return { tree, path, tokens }
}
