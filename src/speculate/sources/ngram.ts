/**
 * Guesses that copy from the text itself: where its last tokens stood before, what followed them there (prompt lookup
 * decoding, Saxena 2023, github.com/apoorvumang/prompt-lookup-decoding). The public code takes the earliest of the
 * places; here the latest counts most.
 */
import type { Context } from '../context.ts'
import type { Budget } from '../drafter.ts'
import type { TableBytes } from './growth.ts'
import { type Guesses, type GuessTree, type Path, SHOWN, type Source } from './source.ts'

export interface NgramOptions {
  /** Last tokens that are looked up, at the most. Default 3. */
  readonly most?: number
  /** Longest chain that `propose` copies, in tokens. Default 10. */
  readonly copied?: number
  /** Places looked at per lookup, the latest ones. Default 4. */
  readonly recent?: number
}

/** Promise of the latest follower of one, two, and three or more tokens. */
const PROMISED = [0.15, 0.35, 0.6]

/** Each earlier place counts for so much less: all of them together less than the one after them. */
const EARLIER = 0.4

/** Last tokens that are looked up unless options say otherwise. */
const MOST = 3

const RECENT = 4
/** Bytes for a place that is looked at. */
const PLACE_BYTES = 4 + 8 + 1

/** @param length of a text */
export function ngramBytes(length: number, { most = MOST, recent = RECENT }: NgramOptions = {}): TableBytes {
  const positions = 2 ** Math.ceil(Math.log2(Math.max(FIRST_LENGTH, length)))
  return {
    held: most * gramBytes(positions) + PLACE_BYTES * recent,
    moving: positions > FIRST_LENGTH ? gramBytes(positions / 2) : 0,
  }
}

export class NgramSource implements Source {
  readonly name = 'ngram'
  readonly topTokens = 0
  readonly #copied: number
  readonly #recent: number
  /** By length, the shortest first. */
  readonly #grams: readonly GramIndex[]
  readonly #followers: Int32Array
  readonly #promised: Float64Array
  readonly #ranks: Uint8Array
  #context: Context | undefined

  /** @throws Error when an option makes no sense */
  constructor(options: NgramOptions = {}) {
    const { most = MOST, copied = 10, recent = RECENT } = options
    if (!(most >= 1 && most <= SHOWN)) throw new Error(`n-grams have 1 to ${SHOWN} tokens, not ${most}`)
    if (!(copied >= 1)) throw new Error(`at least 1 token is copied, not ${copied}`)
    if (!(recent >= 1)) throw new Error(`at least 1 place is looked at, not ${recent}`)
    this.#copied = copied
    this.#recent = recent
    this.#grams = Array.from({ length: most }, (_, i) => new GramIndex(i + 1))
    this.#followers = new Int32Array(recent)
    this.#promised = new Float64Array(recent)
    this.#ranks = new Uint8Array(recent)
  }

  get heldBytes(): number {
    return this.#grams.reduce((sum, { heldBytes }) => sum + heldBytes, PLACE_BYTES * this.#recent)
  }

  begin(context: Context): void {
    this.#context = context
    for (const grams of this.#grams) grams.clear()
    this.#catchUp(context)
  }

  end(): void {
    this.#context = undefined
  }

  successors({ tokens, length }: Path, guesses: Guesses): void {
    const context = this.#context
    if (context === undefined) return
    this.#catchUp(context)
    for (let n = Math.min(this.#grams.length, length); n > 0; n--) {
      const latest = this.#grams[n - 1].latest(context.tokens, tokens, SHOWN)
      if (latest < 0) continue
      this.#addFollowers(context, n, latest, guesses)
      return
    }
  }

  propose(context: Context, tree: GuessTree, budget: Budget): void {
    if (this.#context !== context) return
    this.#catchUp(context)
    const { tokens, length } = context
    for (let n = Math.min(this.#grams.length, length); n > 0; n--) {
      const latest = this.#grams[n - 1].latest(tokens, tokens, length)
      if (latest < 0) continue
      const copied = Math.min(this.#copied, budget.nodes, budget.depth, length - 1 - latest)
      let node = 0
      for (let i = 0; i < copied && node >= 0; i++) {
        node = tree.add(node, tokens[latest + 1 + i], promisedAfter(n + i), classOf(n + i, 0))
      }
      return
    }
  }

  /** Indexes all tokens that are followed by another. */
  #catchUp({ tokens, length }: Context): void {
    for (const grams of this.#grams) grams.read(tokens, length - 1)
  }

  #addFollowers(context: Context, n: number, latest: number, guesses: Guesses): void {
    const followers = this.#followers
    let count = 0
    let promised = promisedAfter(n)
    for (let rank = 0, at = latest; rank < this.#recent && at >= 0; rank++) {
      const token = context.tokens[at + 1]
      let i = 0
      while (i < count && followers[i] !== token) i++
      if (i === count) {
        followers[count++] = token
        this.#promised[i] = 0
        this.#ranks[i] = Math.min(rank, 255)
      }
      this.#promised[i] += promised
      promised *= EARLIER
      at = this.#grams[n - 1].before(at)
    }
    // The latest ones first, that is also by falling promise.
    for (let i = 0; i < count; i++) guesses.add(followers[i], this.#promised[i], classOf(n, this.#ranks[i]))
  }
}

const promisedAfter = (n: number): number => PROMISED[Math.min(n, PROMISED.length) - 1]

/** By length, then by how many places came later: 0 to 2 after one token, 3 and 4 after two, 5 to 7 after more. */
function classOf(n: number, rank: number): number {
  if (n === 1) return 2 - Math.min(rank, 2)
  if (n === 2) return 4 - Math.min(rank, 1)
  return 7 - Math.min(rank, 2)
}

const FIRST_LENGTH = 1024

/** Bytes of an index of so many positions: where each n-gram stood before, and twice as many places by hash. */
const gramBytes = (positions: number): number => 4 * (positions + 2 * positions)

/** Where in a text the n-grams of one length end. */
class GramIndex {
  readonly #n: number
  /** The latest end of each n-gram, plus 1, found by its hash: open addressing, a power of two of places. */
  #latest = new Int32Array(2 * FIRST_LENGTH)
  /** Per position, the end before it of the same n-gram, or -1. */
  #before = new Int32Array(FIRST_LENGTH)
  /** Positions that were read. */
  #length = 0

  constructor(n: number) {
    this.#n = n
  }

  get heldBytes(): number {
    return gramBytes(this.#before.length)
  }

  clear(): void {
    this.#length = 0
    this.#latest.fill(0)
  }

  /** Reads on in a text, up to position `end`. */
  read(text: Int32Array, end: number): void {
    for (; this.#length < end; this.#length++) {
      const at = this.#length
      if (at === this.#before.length) this.#grow(text)
      this.#before[at] = at < this.#n - 1 ? -1 : this.#put(text, at)
    }
  }

  /** The latest end of the last n tokens before `end`, or -1. @param text that was read */
  latest(text: Int32Array, tokens: Int32Array, end: number): number {
    return this.#latest[this.#slot(text, tokens, end)] - 1
  }

  /** The end before an end of the same n-gram, or -1. */
  before(at: number): number {
    return this.#before[at]
  }

  /** @returns the latest end so far, or -1 */
  #put(text: Int32Array, at: number): number {
    const slot = this.#slot(text, text, at + 1)
    const before = this.#latest[slot] - 1
    this.#latest[slot] = at + 1
    return before
  }

  #slot(text: Int32Array, tokens: Int32Array, end: number): number {
    const latest = this.#latest
    const mask = latest.length - 1
    let slot = this.#hash(tokens, end) & mask
    while (latest[slot] !== 0 && !this.#isSame(text, latest[slot], tokens, end)) slot = (slot + 1) & mask
    return slot
  }

  #hash(tokens: Int32Array, end: number): number {
    let h = 0
    for (let i = end - this.#n; i < end; i++) {
      h = Math.imul(h ^ tokens[i], 0x9e3779b1)
      h ^= h >>> 15
    }
    return h
  }

  #isSame(text: Int32Array, end: number, tokens: Int32Array, otherEnd: number): boolean {
    for (let i = 1; i <= this.#n; i++) if (text[end - i] !== tokens[otherEnd - i]) return false
    return true
  }

  #grow(text: Int32Array): void {
    const before = new Int32Array(2 * this.#before.length)
    before.set(this.#before)
    this.#before = before
    this.#latest = new Int32Array(2 * before.length)
    for (let at = this.#n - 1; at < this.#length; at++) this.#put(text, at)
  }
}
