/** Sources without a model as one: they are asked together what may follow a node, and what they say is one tree. */
import type { CandidateTree, Judge } from './candidate-tree.ts'
import type { SharedNoise } from './child-ranking.ts'
import type { Context } from './context.ts'
import { type Budget, type SourceName, sourceOf } from './drafter.ts'
import { Guesses, MOST_GUESSES, type Path, SHOWN, type Source } from './sources/source.ts'
import { ROOT, type SourceMask, type TokenTree } from './token-tree.ts'
import type { TopTokens, Verification } from './verify.ts'

/**
 * Exponent on coupled sums. What look-ups know of probabilities is coarse, and the noise spreads it: taken as it is, a
 * promise of 0.96 was kept one time in three to two.
 */
const COUPLED_SHARPENING = 0.8
/** Guesses that a source itself gives less are left out. */
const LEAST_PROMISE = 0.005
/** Guesses whose whole path promises less than this share of the worst one that could be of use are left out. */
const HOPE = 0.25
/** Mean of standard Gumbel noise. */
const MEAN_NOISE = 0.5772

export class Lookups {
  /** Of whoever's text is written; always of the same names. */
  sources: readonly Source[] = []
  readonly bits: readonly SourceMask[]
  readonly #first: number
  /** Stands for all of them in `expanded`: they look behind a node together. */
  readonly #bit: SourceMask
  readonly #guesses = new Guesses()
  readonly #path: { tokens: Int32Array; length: number } & Path = { tokens: new Int32Array(SHOWN), length: 0 }
  #noise: SharedNoise | undefined
  #context: Context | undefined
  /** What sources are still to read, and how long the text was before it. */
  readonly #unread: number[] = []
  #readLength = 0

  /** @param first place of the first one among the sources of the trees that they are to grow */
  constructor(names: readonly SourceName[], first: number) {
    this.bits = names.map(sourceOf)
    this.#first = first
    this.#bit = this.bits[0] ?? 0
  }

  /** How many of the target's likeliest tokens at every node of the coming pass they learn from. */
  get topTokens(): number {
    return Math.max(0, ...this.sources.map(({ topTokens }) => topTokens))
  }

  /** @param noise that the text is drawn with; absent at temperature 0, and where guesses are not to know of it */
  begin(context: Context, temperature: number, noise: SharedNoise | undefined): void {
    this.#noise = noise
    this.#context = context
    this.#unread.length = 0
    for (const source of this.sources) source.begin(context, temperature)
  }

  /** Tokens that sources are still to read. */
  get unread(): number {
    return this.#unread.length
  }

  /**
   * Has sources read what was written since. To be called before they are asked for guesses, and not to be counted as
   * time that guesses take: it is no less where there are none.
   */
  catchUp(): void {
    if (this.#context === undefined || this.#unread.length === 0) return
    const { tokens, promptLength } = this.#context
    const before = { tokens, promptLength, length: this.#readLength }
    for (const source of this.sources) source.read?.(before, this.#unread)
    this.#unread.length = 0
  }

  /**
   * Looks behind the best `nodes` nodes of a tree, and behind what is found there, until nothing new is among them.
   * @param leastChance of a path that is looked behind
   */
  grow(grown: CandidateTree, context: Context, judge: Judge, { nodes, depth }: Budget, leastChance = 0): void {
    if (this.sources.length === 0) return
    if ((grown.expanded[ROOT] & this.#bit) === 0) this.#look(grown, ROOT, context, judge, nodes, leastChance)
    for (let place = 0; place < Math.min(nodes, grown.size); place++) {
      if (grown.chanceAt(place) < leastChance) return
      const node = grown.order[place]
      if ((grown.expanded[node] & this.#bit) !== 0 || grown.tree.depth[node] >= depth) continue
      if (grown.room < this.sources.length * MOST_GUESSES) return
      // Children come after their parents, so what was passed stays passed, unless all got new places.
      if (this.#look(grown, node, context, judge, nodes, leastChance)) place = -1
    }
  }

  /** The published way of making a tree, of the only source. @returns false when it has none of its own */
  propose(grown: CandidateTree, context: Context, judge: Judge, budget: Budget): boolean {
    const [source] = this.sources
    if (source?.propose === undefined || this.sources.length > 1) return false
    const add = (parent: number, token: number, promised: number, kind: number): number =>
      grown.suggest(parent, this.#first, token, promised, kind)
    source.propose(context, { add }, budget)
    grown.settle(judge)
    return true
  }

  /** A source without others beside it makes the whole tree, with what it learns from, itself. */
  get #isAlone(): boolean {
    return this.#first === 0 && this.sources.length === 1
  }

  /** Nodes of a budget that are left for guesses when sources get theirs to learn from, up to half of it. */
  guessesOf(nodes: number): number {
    if (this.#isAlone) return nodes
    const wanted = this.sources.reduce((sum, { windowNodes = 0 }) => sum + windowNodes, 0)
    return nodes - Math.min(wanted, nodes >> 1)
  }

  /** Adds what sources learn from, which is not there to be accepted. @param tree that is put before the target */
  addWindows(tree: TokenTree, { nodes, depth }: Budget): void {
    if (this.#isAlone) return
    for (const [i, source] of this.sources.entries()) {
      const add = (parent: number, token: number, promised: number): number =>
        tree.add(parent, token, tree.logProb[parent] + Math.log(promised), this.bits[i])
      source.window?.({ add }, { nodes: nodes - tree.size, depth })
    }
  }

  learn(context: Context, result: Verification, top: TopTokens | undefined): void {
    if (this.sources.length === 0) return
    if (this.#unread.length === 0) this.#readLength = context.length
    this.#unread.push(...result.tokens)
    for (const source of this.sources) source.learn?.(context, result, top)
  }

  end(): void {
    this.catchUp()
    this.#context = undefined
    for (const source of this.sources) source.end()
  }

  /** @returns whether nodes that were there before got new places */
  #look(
    grown: CandidateTree,
    node: number,
    context: Context,
    judge: Judge,
    places: number,
    leastChance: number,
  ): boolean {
    this.#show(grown, node, context)
    const worst = Math.max(leastChance, grown.size < places ? 0 : grown.chanceAt(places - 1))
    const least = Math.max(LEAST_PROMISE, (HOPE * worst) / Math.exp(grown.tree.logProb[node]))
    const guesses = this.#guesses
    const position = context.length + grown.tree.depth[node]
    for (let i = 0; i < this.sources.length; i++) {
      guesses.count = 0
      this.sources[i].successors(this.#path, guesses)
      if (this.#noise !== undefined) couple(guesses, position, this.#noise)
      while (guesses.count > 0 && guesses.promised[guesses.count - 1] < least) guesses.count--
      grown.offer(node, this.#first + i, guesses)
    }
    return grown.settle(judge)
  }

  /** The path that ends with a node. */
  #show({ tree }: CandidateTree, node: number, { tokens, length }: Context): void {
    const shown = this.#path.tokens
    let place = SHOWN
    for (let at = node; at !== ROOT && place > 0; at = tree.parent[at]) shown[--place] = tree.token[at]
    for (let from = length; place > 0 && from > 0; ) shown[--place] = tokens[--from]
    this.#path.length = SHOWN - place
  }
}

/**
 * Guesses as they stand once the noise is known that decides between them (see child-ranking.ts). All that a source
 * does not name stands against them with the mean of the noise.
 */
function couple({ ids, promised, classes, count }: Guesses, position: number, noise: SharedNoise): void {
  if (count === 0) return
  let rest = 1
  for (let i = 0; i < count; i++) rest -= promised[i]
  const sums = promised.subarray(0, count)
  for (let i = 0; i < count; i++) sums[i] = Math.log(promised[i]) + noise.gumbel(position, ids[i])
  let total = Math.exp(COUPLED_SHARPENING * (Math.log(Math.max(rest, 0.01)) + MEAN_NOISE))
  for (const sum of sums) total += Math.exp(COUPLED_SHARPENING * sum)
  for (let i = 0; i < count; i++) sums[i] = Math.exp(COUPLED_SHARPENING * sums[i]) / total
  // Likeliest first again.
  for (let i = 1; i < count; i++) {
    for (let at = i; at > 0 && promised[at] > promised[at - 1]; at--) swap(at, ids, promised, classes)
  }
}

function swap(at: number, ...lists: (Int32Array | Float64Array | Uint8Array)[]): void {
  for (const list of lists) {
    const value = list[at]
    list[at] = list[at - 1]
    list[at - 1] = value
  }
}
