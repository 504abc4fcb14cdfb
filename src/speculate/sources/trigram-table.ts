/**
 * What followed each pair of tokens: the trigram matrix of ADED (arXiv 2407.12021, section 3.1), bounded. Rows are
 * found by open addressing; when all are taken, a row that was not used for long is replaced (second chance).
 */
import { discard, release } from '../../runtime/platform.ts'
import { firstLength, halved, moved, nextLength, type TableBytes } from './growth.ts'

/** Successors per pair, as in the paper's code. */
export const MOST_SUCCESSORS = 12

/** What an accepted successor's weight grows by before a pair's weights are made to add up to 1 again. */
const REINFORCEMENT = 0.04

/** Observations that a weight remembers, by the above. */
export const MEMORY = 1 / REINFORCEMENT

const MOST_SEEN = 65_535

/** A place in each of the tables of rows. */
const ROW_BYTES = 4 + 4 + 2 + 1 + 1 + 8 * MOST_SUCCESSORS

/** Rows that there is room for at first, at the most. */
const FIRST_ROWS = 1024

const tableBytes = (rows: number): number => ROW_BYTES * rows + 4 * slotsOf(rows)

/** Bytes of a full table. @param capacity pairs */
export const trigramBytes = (capacity: number): TableBytes => ({
  held: tableBytes(capacity),
  moving: capacity > FIRST_ROWS ? tableBytes(halved(capacity)) : 0,
})

export class TrigramTable {
  /** Pairs that it holds at the most. */
  readonly capacity: number
  /** Rows that are taken: [0, size). */
  size = 0
  /** [rows] */
  first: Int32Array
  second: Int32Array
  /** [rows], how often the pair was observed. */
  seen: Uint16Array
  /** [rows], successors that are known. */
  counts: Uint8Array
  /** [rows][MOST_SUCCESSORS], by falling weight. */
  ids: Int32Array
  weights: Float32Array
  /** [rows], 1 for those that were used since the hand came by. */
  #used: Uint8Array
  #hand = 0
  /** Rows by hash, -1 for none; at most half are taken. */
  #slots: Int32Array

  constructor(capacity: number) {
    const rows = firstLength(capacity, FIRST_ROWS)
    this.capacity = capacity
    this.first = new Int32Array(rows)
    this.second = new Int32Array(rows)
    this.seen = new Uint16Array(rows)
    this.counts = new Uint8Array(rows)
    this.ids = new Int32Array(rows * MOST_SUCCESSORS)
    this.weights = new Float32Array(rows * MOST_SUCCESSORS)
    this.#used = new Uint8Array(rows)
    this.#slots = new Int32Array(slotsOf(rows)).fill(-1)
  }

  get heldBytes(): number {
    return tableBytes(this.first.length)
  }

  /** @returns the row of a pair, which counts as used, or -1 */
  find(a: number, b: number): number {
    const row = this.#slots[this.#slotOf(a, b)]
    if (row >= 0) this.#used[row] = 1
    return row
  }

  /**
   * Observes a token after a pair. Up to `MEMORY` observations, weights are the successors' shares of what was
   * observed; from then on each one adds `REINFORCEMENT`, as in the paper, which begins with a large corpus.
   */
  observe(a: number, b: number, token: number): void {
    const row = this.take(a, b)
    const base = row * MOST_SUCCESSORS
    const seen = this.seen[row]
    const gain = seen === 0 ? 1 : Math.max(REINFORCEMENT, 1 / seen)
    if (seen < MOST_SEEN) this.seen[row]++
    let at = 0
    while (at < this.counts[row] && this.ids[base + at] !== token) at++
    if (at === this.counts[row]) {
      // A new successor takes the weakest one's place when there is no other.
      if (at < MOST_SUCCESSORS) this.counts[row]++
      else at--
      this.ids[base + at] = token
      this.weights[base + at] = 0
    }
    this.weights[base + at] += gain
    this.#raise(base, at)
    this.#normalise(base, this.counts[row])
  }

  /** @returns the row of a pair, an empty one if it is new */
  take(a: number, b: number): number {
    const known = this.find(a, b)
    if (known >= 0) return known
    if (this.size === this.first.length && this.size < this.capacity) this.#grow()
    const row = this.size < this.capacity ? this.size++ : this.#evict()
    this.first[row] = a
    this.second[row] = b
    this.seen[row] = 0
    this.counts[row] = 0
    // Used once it is met again: pairs that never are go first.
    this.#used[row] = 0
    this.#slots[this.#slotOf(a, b)] = row
    return row
  }

  /** Forgets everything, down to the bytes. */
  clear(): void {
    this.#slots.fill(-1)
    for (const rows of [this.first, this.second, this.seen, this.counts, this.#used]) rows.fill(0, 0, this.size)
    for (const rows of [this.ids, this.weights]) rows.fill(0, 0, this.size * MOST_SUCCESSORS)
    this.size = 0
    this.#hand = 0
  }

  /** Of 32 to 64 thousand rows it takes 3 ms. */
  #grow(): void {
    const rows = nextLength(this.first.length, this.capacity)
    this.first = moved(this.first, new Int32Array(rows))
    this.second = moved(this.second, new Int32Array(rows))
    this.seen = moved(this.seen, new Uint16Array(rows))
    this.counts = moved(this.counts, new Uint8Array(rows))
    this.ids = moved(this.ids, new Int32Array(rows * MOST_SUCCESSORS))
    this.weights = moved(this.weights, new Float32Array(rows * MOST_SUCCESSORS))
    this.#used = moved(this.#used, new Uint8Array(rows))
    discard(this.#slots)
    this.#slots = new Int32Array(slotsOf(rows)).fill(-1)
    for (let row = 0; row < this.size; row++) this.#slots[this.#slotOf(this.first[row], this.second[row])] = row
  }

  release(): void {
    for (const table of [this.first, this.second, this.seen, this.counts, this.#used]) release(table)
    for (const table of [this.ids, this.weights, this.#slots]) release(table)
  }

  /** Moves a successor that gained weight to where it belongs. */
  #raise(base: number, from: number): void {
    const { ids, weights } = this
    const id = ids[base + from]
    const weight = weights[base + from]
    let at = from
    for (; at > 0 && weights[base + at - 1] < weight; at--) {
      ids[base + at] = ids[base + at - 1]
      weights[base + at] = weights[base + at - 1]
    }
    ids[base + at] = id
    weights[base + at] = weight
  }

  #normalise(base: number, count: number): void {
    let sum = 0
    for (let i = 0; i < count; i++) sum += this.weights[base + i]
    for (let i = 0; i < count; i++) this.weights[base + i] /= sum
  }

  /** @returns a row that is free to be taken: the next one that was not used since the hand last came by */
  #evict(): number {
    while (this.#used[this.#hand] === 1) {
      this.#used[this.#hand] = 0
      this.#hand = (this.#hand + 1) % this.capacity
    }
    const row = this.#hand
    this.#hand = (row + 1) % this.capacity
    this.#unlink(this.#slotOf(this.first[row], this.second[row]))
    return row
  }

  /** Empties a slot, and moves up those after it that would no longer be found (linear probing without tombstones). */
  #unlink(slot: number): void {
    const slots = this.#slots
    const mask = slots.length - 1
    let hole = slot
    for (let at = (hole + 1) & mask; slots[at] >= 0; at = (at + 1) & mask) {
      const home = this.#home(this.first[slots[at]], this.second[slots[at]])
      if (((at - home) & mask) < ((at - hole) & mask)) continue
      slots[hole] = slots[at]
      hole = at
    }
    slots[hole] = -1
  }

  /** Where a pair is, or where it would be put. */
  #slotOf(a: number, b: number): number {
    const mask = this.#slots.length - 1
    let slot = this.#home(a, b)
    for (;;) {
      const row = this.#slots[slot]
      if (row < 0 || (this.first[row] === a && this.second[row] === b)) return slot
      slot = (slot + 1) & mask
    }
  }

  #home(a: number, b: number): number {
    let hash = Math.imul(a, 0x9e3779b1) ^ Math.imul(b + 0x7f4a7c15, 0x85ebca6b)
    hash = Math.imul(hash ^ (hash >>> 15), 0x2c1b3c6d)
    return (hash ^ (hash >>> 13)) & (this.#slots.length - 1)
  }
}

/** At least two for each row. */
const slotsOf = (rows: number): number => 2 ** Math.ceil(Math.log2(Math.max(4, 2 * rows)))
