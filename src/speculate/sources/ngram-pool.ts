/**
 * The n-gram pool of Lookahead Decoding (arXiv 2402.02057, section 3.2): for a first token the n-grams that were found
 * last. When there are too many first tokens, the one whose n-grams are oldest makes room.
 */
/** Bytes that a pool takes. Some 40 of them are what an entry of a map takes. */
export const poolBytes = (ngram: number, most: number, keys: number): number => keys * (4 * most * (ngram - 1) + 1 + 40)

export class NgramPool {
  /** [keys], n-grams of each slot. */
  readonly counts: Uint8Array
  /** Tokens of an n-gram after its first. */
  readonly #rest: number
  readonly #most: number
  readonly #keys: number
  /** [keys][most][rest], the newest first. */
  readonly #tokens: Int32Array
  /** Slots by first token, in the order of their last n-gram. */
  readonly #slots = new Map<number, number>()

  /**
   * @param most n-grams per first token, at most 255
   * @param keys first tokens
   */
  constructor(ngram: number, most: number, keys: number) {
    this.#rest = ngram - 1
    this.#most = most
    this.#keys = keys
    this.counts = new Uint8Array(keys)
    this.#tokens = new Int32Array(keys * most * this.#rest)
  }

  clear(): void {
    this.#slots.clear()
    this.counts.fill(0)
    this.#tokens.fill(0)
  }

  /** @returns the slot of a first token, or -1 */
  find(first: number): number {
    return this.#slots.get(first) ?? -1
  }

  /** The token at `place` after the first one, of a slot's n-gram `i`; 0 is the newest. */
  at(slot: number, i: number, place: number): number {
    return this.#tokens[(slot * this.#most + i) * this.#rest + place]
  }

  /** Whether the tokens after an n-gram's first are those at `tokens[from]` to `tokens[from + count - 1]`. */
  startsWith(slot: number, i: number, tokens: Int32Array, from: number, count: number): boolean {
    const base = (slot * this.#most + i) * this.#rest
    for (let place = 0; place < count; place++) {
      if (this.#tokens[base + place] !== tokens[from + place]) return false
    }
    return true
  }

  /** Makes an n-gram its first token's newest one. */
  add(ngram: Int32Array): void {
    const slot = this.#take(ngram[0])
    const first = slot * this.#most * this.#rest
    let at = 0
    while (at < this.counts[slot] && !this.startsWith(slot, at, ngram, 1, this.#rest)) at++
    if (at === this.counts[slot]) {
      if (at < this.#most) this.counts[slot]++
      else at--
    }
    this.#tokens.copyWithin(first + this.#rest, first, first + at * this.#rest)
    for (let place = 0; place < this.#rest; place++) this.#tokens[first + place] = ngram[place + 1]
  }

  #take(token: number): number {
    let slot = this.find(token)
    if (slot < 0) {
      slot = this.#slots.size
      if (slot === this.#keys) {
        const [oldest, freed] = this.#slots.entries().next().value!
        this.#slots.delete(oldest)
        slot = freed
      }
      this.counts[slot] = 0
    } else {
      this.#slots.delete(token)
    }
    this.#slots.set(token, slot)
    return slot
  }
}
