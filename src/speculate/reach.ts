/** How many nodes are worth looking behind: growing by look-ups takes time also where little of it is put before the target. */

/** Beyond twice of what was last worth a place before the target, and so many, nothing is looked up. */
const LEAST = 4

export class Reach {
  /** Nodes of the order of merit that are looked behind at the most. */
  nodes: number
  readonly #most: number

  constructor(most: number) {
    this.#most = most
    this.nodes = most
  }

  /** What the last text was worth is no matter of this one's, which may be another owner's. */
  startText(): void {
    this.nodes = this.#most
  }

  /** @param chosen of the `grown` nodes were put before the target */
  observe(chosen: number, grown: number): void {
    // That little was found says nothing of how much would be worth a place.
    if (chosen < grown) this.nodes = Math.min(this.#most, Math.max(LEAST, 2 * chosen))
    else if (chosen >= this.nodes) this.nodes = Math.min(this.#most, 2 * this.nodes)
  }
}
