/**
 * ADED (arXiv 2407.12021): a table of what followed each pair of tokens, and a search that makes a tree of guesses
 * from it. What was written stays from one text to the next; trigrams that touch the prompt are kept apart and are
 * forgotten with the text.
 */
import type { Context, TextSoFar } from '../context.ts'
import type { Budget } from '../drafter.ts'
import type { TableBytes } from './growth.ts'
import { broken, HEAD_BYTES, type Kind, readHead, startSaving } from './saved.ts'
import { type Guesses, type GuessTree, type Path, SHOWN, type Source } from './source.ts'
import { SEARCH_BYTES, TrigramSearch } from './trigram-search.ts'
import { MEMORY, MOST_SUCCESSORS, TrigramTable, trigramBytes } from './trigram-table.ts'

/** Observations from which on a pair's successors count as well known. */
const WELL_KNOWN = 4
/** Ranks that classes tell apart. */
const RANKS = 4

/** A row without its successors, and a successor, in what is saved. */
const ROW_BYTES = 12
const SUCCESSOR_BYTES = 8
const KIND: Kind = { name: 'table of trigrams', mark: 'copT', version: 1 }

export interface TrigramOptions {
  /**
   * Pairs that are remembered between texts: at least 1, some 120 bytes each. Default `PAIRS`, 65536; of a model as many
   * as its memory allows, up to that.
   */
  readonly pairs?: number
  /**
   * Pairs of the prompt that are remembered during a text, at least 1. Default `PROMPT_PAIRS`, 8192; of a model fewer
   * likewise, and no more than its context has tokens.
   */
  readonly promptPairs?: number
}

export const PAIRS = 65_536
export const PROMPT_PAIRS = 8_192

/** What does not depend on how many pairs there are. */
const SEARCHING_BYTES = SEARCH_BYTES + 2 * MOST_SUCCESSORS * (4 + 8)

export function trigramSourceBytes({ pairs = PAIRS, promptPairs = PROMPT_PAIRS }: TrigramOptions = {}): TableBytes {
  const [lasting, passing] = [trigramBytes(pairs), trigramBytes(promptPairs)]
  return { held: lasting.held + passing.held + SEARCHING_BYTES, moving: Math.max(lasting.moving, passing.moving) }
}

export class TrigramSource implements Source {
  readonly name = 'trigram'
  readonly topTokens = 0
  readonly #vocabulary: number
  readonly #lasting: TrigramTable
  /** Trigrams with a token of the prompt in them, until the text ends. */
  readonly #passing: TrigramTable
  readonly #search = new TrigramSearch()
  /** What `#look` found: successors by falling weight, which add up to 1 at the most. */
  readonly #ids = new Int32Array(2 * MOST_SUCCESSORS)
  readonly #weights = new Float64Array(2 * MOST_SUCCESSORS)
  #count = 0
  /** Observations of the pair that was looked for. */
  #seen = 0
  /** Ends of the pairs that the search looks for. */
  readonly #lookUp = (a: number, b: number, search: TrigramSearch, node: number): void => {
    this.#look(a, b)
    for (let rank = 0; rank < this.#count; rank++) {
      search.addChild(node, this.#ids[rank], this.#weights[rank], this.#class(rank))
    }
  }

  /** @param vocabulary tokens that may be guessed */
  constructor(vocabulary: number, { pairs = PAIRS, promptPairs = PROMPT_PAIRS }: TrigramOptions = {}) {
    this.#vocabulary = vocabulary
    this.#lasting = new TrigramTable(pairs)
    this.#passing = new TrigramTable(promptPairs)
  }

  get heldBytes(): number {
    return this.#lasting.heldBytes + this.#passing.heldBytes + SEARCHING_BYTES
  }

  get entries(): number {
    return this.#lasting.size
  }

  begin({ tokens, promptLength }: Context): void {
    this.#passing.clear()
    for (let i = 2; i < promptLength; i++) this.#passing.observe(tokens[i - 2], tokens[i - 1], tokens[i])
  }

  end(): void {
    this.#passing.clear()
  }

  warm(tokens: ArrayLike<number>): void {
    for (let i = 2; i < tokens.length; i++) this.#lasting.observe(tokens[i - 2], tokens[i - 1], tokens[i])
  }

  /** Trigrams that begin in the prompt pass with it. */
  read({ tokens, length, promptLength }: TextSoFar, written: readonly number[]): void {
    if (length < 2) return
    let a = tokens[length - 2]
    let b = tokens[length - 1]
    for (const [i, token] of written.entries()) {
      const table = length - 2 + i < promptLength ? this.#passing : this.#lasting
      table.observe(a, b, token)
      a = b
      b = token
    }
  }

  successors({ tokens, length }: Path, guesses: Guesses): void {
    if (length < 2) return
    this.#look(tokens[SHOWN - 2], tokens[SHOWN - 1])
    for (let rank = 0; rank < this.#count; rank++) {
      guesses.add(this.#ids[rank], this.#weights[rank], this.#class(rank))
    }
  }

  propose({ tokens, length }: Context, tree: GuessTree, budget: Budget): void {
    if (length < 2) return
    this.#search.run(tokens[length - 2], tokens[length - 1], budget.depth, this.#lookUp)
    this.#search.emit(tree, budget.nodes)
  }

  save(): Uint8Array {
    const { size, first, second, seen, counts, ids, weights } = this.#lasting
    let successors = 0
    for (let row = 0; row < size; row++) successors += counts[row]
    const view = startSaving(KIND, this.#vocabulary, size, size * ROW_BYTES + successors * SUCCESSOR_BYTES)
    let at = HEAD_BYTES
    for (let row = 0; row < size; row++) {
      view.setInt32(at, first[row], true)
      view.setInt32(at + 4, second[row], true)
      view.setUint16(at + 8, seen[row], true)
      view.setUint16(at + 10, counts[row], true)
      at += ROW_BYTES
      for (let i = row * MOST_SUCCESSORS; i < row * MOST_SUCCESSORS + counts[row]; i++) {
        view.setInt32(at, ids[i], true)
        view.setFloat32(at + 4, weights[i], true)
        at += SUCCESSOR_BYTES
      }
    }
    return new Uint8Array(view.buffer)
  }

  /** Of more pairs than it may hold it keeps those that were seen most often, and of equal ones the last. */
  load(bytes: Uint8Array): void {
    const { view, rows } = readHead(KIND, this.#vocabulary, bytes)
    const seen = new Uint16Array(Math.min(rows, Math.floor(bytes.length / ROW_BYTES)))
    let at = HEAD_BYTES
    for (let row = 0; row < rows; row++) {
      const end = this.#checkRow(view, at, row)
      seen[row] = view.getUint16(at + 8, true)
      at = end
    }
    if (at !== bytes.length) throw broken(KIND, `its ${rows} pairs end at byte ${at}, and it has ${bytes.length}`)
    const table = this.#lasting
    const isWanted = mostSeen(seen, table.capacity)
    table.clear()
    at = HEAD_BYTES
    for (let i = 0; i < rows; i++) {
      const count = view.getUint16(at + 10, true)
      if (isWanted(i)) this.#loadRow(view, at, count)
      at += ROW_BYTES + count * SUCCESSOR_BYTES
    }
  }

  #loadRow(view: DataView, at: number, count: number): void {
    const table = this.#lasting
    const row = table.take(view.getInt32(at, true), view.getInt32(at + 4, true))
    table.seen[row] = view.getUint16(at + 8, true)
    table.counts[row] = count
    for (let i = 0; i < count; i++) {
      const from = at + ROW_BYTES + i * SUCCESSOR_BYTES
      table.ids[row * MOST_SUCCESSORS + i] = view.getInt32(from, true)
      table.weights[row * MOST_SUCCESSORS + i] = view.getFloat32(from + 4, true)
    }
  }

  release(): void {
    this.#lasting.release()
    this.#passing.release()
  }

  /** @returns where the next row begins @throws Error in words */
  #checkRow(view: DataView, at: number, row: number): number {
    const room = view.byteLength - at
    if (room < ROW_BYTES) throw broken(KIND, `it ends within pair ${row}`)
    const count = view.getUint16(at + 10, true)
    if (count < 1 || count > MOST_SUCCESSORS) throw broken(KIND, `pair ${row} has ${count} successors`)
    if (view.getUint16(at + 8, true) < 1) throw broken(KIND, `pair ${row} was never seen`)
    const end = at + ROW_BYTES + count * SUCCESSOR_BYTES
    if (end > view.byteLength) throw broken(KIND, `it ends within pair ${row}`)
    this.#checkToken(view.getInt32(at, true), row)
    this.#checkToken(view.getInt32(at + 4, true), row)
    let sum = 0
    let last = 1
    const tokens = new Set<number>()
    for (let i = at + ROW_BYTES; i < end; i += SUCCESSOR_BYTES) {
      const token = view.getInt32(i, true)
      this.#checkToken(token, row)
      if (tokens.has(token)) throw broken(KIND, `pair ${row} names token ${token} twice`)
      tokens.add(token)
      const weight = view.getFloat32(i + 4, true)
      if (!(weight >= 0 && weight <= last)) throw broken(KIND, `weights of pair ${row} do not fall from 1`)
      last = weight
      sum += weight
    }
    if (!(Math.abs(sum - 1) < 1e-3)) throw broken(KIND, `weights of pair ${row} add up to ${sum}`)
    return end
  }

  #checkToken(token: number, row: number): void {
    if (token >= 0 && token < this.#vocabulary) return
    throw broken(KIND, `pair ${row} speaks of token ${token} of ${this.#vocabulary}`)
  }

  #class(rank: number): number {
    return Math.min(rank, RANKS - 1) + (this.#seen >= WELL_KNOWN ? RANKS : 0)
  }

  /**
   * Finds what may follow a pair. Where both tables know it, each counts by what it has seen, as far as weights remember:
   * the prompt is not drowned by what was learned in all the time before.
   */
  #look(a: number, b: number): void {
    const passing = this.#passing.find(a, b)
    const lasting = this.#lasting.find(a, b)
    const passingSeen = passing < 0 ? 0 : this.#passing.seen[passing]
    const lastingSeen = lasting < 0 ? 0 : this.#lasting.seen[lasting]
    this.#count = 0
    this.#seen = passingSeen + lastingSeen
    if (this.#seen === 0) return
    const heard = Math.min(MEMORY, passingSeen)
    const share = heard / (heard + Math.min(MEMORY, lastingSeen))
    if (passing >= 0) this.#merge(this.#passing, passing, share)
    if (lasting >= 0) this.#merge(this.#lasting, lasting, 1 - share)
    this.#count = Math.min(this.#count, MOST_SUCCESSORS)
  }

  /** Adds a row's successors to those that were found, and keeps the order. */
  #merge({ counts, ids, weights }: TrigramTable, row: number, share: number): void {
    const base = row * MOST_SUCCESSORS
    const known = this.#count
    for (let i = base; i < base + counts[row]; i++) {
      let at = 0
      if (known > 0) while (at < this.#count && this.#ids[at] !== ids[i]) at++
      else at = this.#count
      let weight = weights[i] * share
      if (at === this.#count) this.#count++
      else weight += this.#weights[at]
      for (; at > 0 && this.#weights[at - 1] < weight; at--) {
        this.#ids[at] = this.#ids[at - 1]
        this.#weights[at] = this.#weights[at - 1]
      }
      this.#ids[at] = ids[i]
      this.#weights[at] = weight
    }
  }
}

/**
 * Which rows to take: those that were seen most often, and of equal ones the last.
 * @returns whether to take a row; to be asked once for each, in their order
 */
function mostSeen(seen: Uint16Array, most: number): (row: number) => boolean {
  if (seen.length <= most) return () => true
  const sorted = seen.slice().sort()
  const least = sorted[seen.length - most]
  const wanted = most - (seen.length - 1 - sorted.lastIndexOf(least))
  let passed = sorted.lastIndexOf(least) - sorted.indexOf(least) + 1 - wanted
  return (row) => seen[row] > least || (seen[row] === least && passed-- <= 0)
}
