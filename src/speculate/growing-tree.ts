/** A tree of candidates as those see it who decide when it is large enough. */
import type { CandidateTree } from './candidate-tree.ts'
import type { Growth } from './pacing.ts'

export class GrowingTree implements Growth {
  next: number[] = []
  depth = 0
  seconds = 0
  /** Nodes that may be put before the target. */
  limit = 0
  readonly #grown: CandidateTree

  constructor(grown: CandidateTree) {
    this.#grown = grown
  }

  get size(): number {
    return Math.min(this.limit, this.#grown.size)
  }

  readonly chanceAt = (place: number): number => this.#grown.chanceAt(place)

  /** @param next nodes that the next draft pass would look behind @param seconds spent so far */
  look(next: readonly number[], seconds: number): void {
    const { logProb, depth } = this.#grown.tree
    this.next = next.map((node) => Math.exp(logProb[node]))
    this.depth = next.length > 0 ? depth[next[0]] : 0
    this.seconds = seconds
  }
}
