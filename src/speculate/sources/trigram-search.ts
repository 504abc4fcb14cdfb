/**
 * The Monte-Carlo tree search of ADED (arXiv 2407.12021, section 3.2): it weighs what a path promises against how often
 * it was tried. Unlike the published code, a leaf's reward is the probability of its path (there it is looked up for a
 * wrong token, and so is always 1), and nothing is drawn: equal tables make equal trees.
 */
import { ROOT } from '../token-tree.ts'
import type { GuessTree } from './source.ts'
import { MOST_SUCCESSORS } from './trigram-table.ts'

/** The paper's constants of exploration (section 4), after AlphaZero's. */
const C1 = 32
const C2 = 8
const ITERATIONS = 150
const MOST_PATHS = 24
/** Tokens of a path, as in the published code. */
const MOST_DEPTH = 4

/** By visits of the parent: what a child's prior is multiplied by, over one more than its own visits. */
const EXPLORATION = Float64Array.from(
  { length: ITERATIONS + 1 },
  (_, visits) => Math.sqrt(visits) * (C1 + Math.log((visits + C2 + 1) / C2)),
)

/** Adds the children of a node that stands for the pair (a, b). */
export type LookUp = (a: number, b: number, search: TrigramSearch, node: number) => void

/** An iteration looks at one node and adds its children. */
const MOST_NODES = 1 + ITERATIONS * MOST_SUCCESSORS
const UNKNOWN = -1

/** Bytes of the arrays of a search. */
export const SEARCH_BYTES = MOST_NODES * (6 * 4 + 3 + 3 * 8) + 4 * (ITERATIONS + 2)

/** The search, on arrays that are made once. Node 0 is the root; children of a node stand side by side, likeliest first. */
export class TrigramSearch {
  readonly #token = new Int32Array(MOST_NODES)
  readonly #parent = new Int32Array(MOST_NODES)
  readonly #depth = new Uint8Array(MOST_NODES)
  readonly #class = new Uint8Array(MOST_NODES)
  readonly #prior = new Float64Array(MOST_NODES)
  /** Product of the priors on the way. */
  readonly #chance = new Float64Array(MOST_NODES)
  readonly #visits = new Int32Array(MOST_NODES)
  readonly #reward = new Float64Array(MOST_NODES)
  /** `UNKNOWN` until the node was looked at. */
  readonly #children = new Int32Array(MOST_NODES)
  readonly #childCount = new Uint8Array(MOST_NODES)
  /** By node: the one of the proposed tree, -1 for none. */
  readonly #proposed = new Int32Array(MOST_NODES)
  /** Nodes by falling visits, and where those with so many visits begin. */
  readonly #order = new Int32Array(MOST_NODES)
  readonly #starts = new Int32Array(ITERATIONS + 2)
  #size = 0

  addChild(parent: number, token: number, prior: number, kind: number): void {
    const node = this.#size++
    this.#childCount[parent]++
    this.#token[node] = token
    this.#parent[node] = parent
    this.#depth[node] = this.#depth[parent] + 1
    this.#class[node] = kind
    this.#prior[node] = prior
    this.#chance[node] = this.#chance[parent] * prior
    this.#visits[node] = 0
    this.#reward[node] = 0
    this.#children[node] = UNKNOWN
    this.#childCount[node] = 0
  }

  /** Searches from the pair (a, b) for paths of up to `depth` tokens, and no more than `MOST_DEPTH`. */
  run(a: number, b: number, depth: number, lookUp: LookUp): void {
    const deepest = Math.min(MOST_DEPTH, depth)
    this.#size = 1
    this.#chance[ROOT] = 1
    this.#token[ROOT] = b
    this.#visits[ROOT] = 0
    this.#childCount[ROOT] = 0
    this.#children[ROOT] = UNKNOWN
    for (let i = 0; i < ITERATIONS; i++) {
      let node: number = ROOT
      while (this.#childCount[node] > 0) node = this.#choose(node)
      if (this.#children[node] === UNKNOWN && this.#depth[node] < deepest) {
        this.#children[node] = this.#size
        lookUp(node === ROOT ? a : this.#token[this.#parent[node]], this.#token[node], this, node)
      }
      if (this.#size === 1) return
      this.#reinforce(node)
    }
  }

  /**
   * Adds at most `nodes` nodes, of at most `MOST_PATHS` paths: those that were visited most. A child has fewer visits than
   * its parent, or as many and a later place.
   */
  emit(tree: GuessTree, nodes: number): void {
    this.#sort()
    this.#proposed.fill(-1, 0, this.#size)
    this.#proposed[ROOT] = ROOT
    let paths = 0
    let left = nodes
    // From here on, `#childCount` of a proposed node is not needed: it counts its proposed children.
    for (let i = 0; i < this.#size && left > 0; i++) {
      const node = this.#order[i]
      if (node === ROOT) {
        this.#childCount[ROOT] = 0
        continue
      }
      if (this.#visits[node] === 0) return
      const parent = this.#parent[node]
      if (this.#proposed[parent] < 0) continue
      const opensPath = parent === ROOT || this.#childCount[parent] > 0
      if (opensPath && paths === MOST_PATHS) continue
      this.#proposed[node] = tree.add(this.#proposed[parent], this.#token[node], this.#prior[node], this.#class[node])
      if (this.#proposed[node] < 0) return
      this.#childCount[parent]++
      this.#childCount[node] = 0
      if (opensPath) paths++
      left--
    }
  }

  /** The child with the largest upper bound. Rewards are at most 1: they decide between children of like priors. */
  #choose(node: number): number {
    const exploration = EXPLORATION[this.#visits[node]]
    const end = this.#children[node] + this.#childCount[node]
    let best = -1
    let most = -1
    for (let child = this.#children[node]; child < end; child++) {
      const visits = this.#visits[child]
      const worth = visits === 0 ? 0 : this.#reward[child] / visits
      const bound = worth + (this.#prior[child] * exploration) / (1 + visits)
      if (bound <= most) continue
      most = bound
      best = child
    }
    return best
  }

  /** Hands the probability of a leaf's path to all that lead to it. */
  #reinforce(leaf: number): void {
    const reward = this.#chance[leaf]
    for (let node = leaf; ; node = this.#parent[node]) {
      this.#visits[node]++
      this.#reward[node] += reward
      if (node === ROOT) return
    }
  }

  /** Counting sort of the nodes by falling visits; equal ones stay in the order in which they were found. */
  #sort(): void {
    const starts = this.#starts.fill(0)
    for (let node = 0; node < this.#size; node++) starts[ITERATIONS - this.#visits[node] + 1]++
    for (let i = 1; i < starts.length; i++) starts[i] += starts[i - 1]
    for (let node = 0; node < this.#size; node++) this.#order[starts[ITERATIONS - this.#visits[node]]++] = node
  }
}
