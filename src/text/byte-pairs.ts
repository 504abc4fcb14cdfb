/**
 * Byte pair encoding (Sennrich et al., arXiv 1508.07909) on typed arrays: the part of a tokenizer that the library
 * keeps in a quarter of a million strings and lists. Tests compare it with the library's.
 */
import { putCodePoint } from './json-scanner.ts'
import { BadEntry, hashSlots, sharedWords, type TokenTable } from './token-table.ts'

/** Merges by rank, in shared memory. */
export interface MergeData {
  /** Of each merge the left token, the right one, and what they become. */
  readonly words: Int32Array
  /** Ranks by the hash of left and right, open addressing, -1: empty. */
  readonly index: Int32Array
}

const WORDS = 3

/** The slot where a pair is, or where it would have to be put. */
function slotOf({ words, index }: MergeData, left: number, right: number): number {
  const mask = index.length - 1
  const mixed = Math.imul(Math.imul(left, 0x9e3779b1) ^ right, 0x85ebca6b)
  for (let slot = (mixed ^ (mixed >>> 15)) & mask; ; slot = (slot + 1) & mask) {
    const rank = index[slot]
    if (rank < 0 || (words[WORDS * rank] === left && words[WORDS * rank + 1] === right)) return slot
  }
}

/** Merges while they are read, when it is not known yet whether they can be used from typed arrays. */
export class MergeList {
  length = 0
  readonly #words: Int32Array

  /** @param most merges that there can be; memory is taken for those that come */
  constructor(most: number) {
    this.#words = sharedWords(WORDS * most)
  }

  /** @param merged -1: it is no token */
  add(left: number, right: number, merged: number): void {
    const at = WORDS * this.length++
    this.#words[at] = left
    this.#words[at + 1] = right
    this.#words[at + 2] = merged
  }

  /** Left and right by rank. */
  pairs(): [number, number][] {
    return Array.from({ length: this.length }, (_, rank) => [this.#words[WORDS * rank], this.#words[WORDS * rank + 1]])
  }

  /** @throws BadEntry when a merge makes what is no token */
  finish(tokens: TokenTable): MergeData {
    const words = this.#words.subarray(0, WORDS * this.length)
    const data = { words, index: sharedWords(hashSlots(this.length)).fill(-1) }
    for (let at = 0; at < words.length; at += WORDS) {
      if (words[at + 2] < 0) {
        const [left, right] = [words[at], words[at + 1]].map((id) => JSON.stringify(tokens.text(id)))
        throw new BadEntry(`merges ${left} and ${right} into what is no token of its vocabulary`)
      }
      // Of two merges of the same pair the last one counts, as in the library.
      data.index[slotOf(data, words[at], words[at + 1])] = at / WORDS
    }
    return data
  }
}

/** What a vocabulary answers to the library, which looks tokens up in a Map and puts added ones into it. */
class TokenIds extends Map<string, number> {
  readonly #tokens: TokenTable

  constructor(tokens: TokenTable) {
    super()
    this.#tokens = tokens
  }

  override get(text: string): number | undefined {
    const added = super.get(text)
    if (added !== undefined) return added
    const id = this.#tokens.idOf(text)
    return id < 0 ? undefined : id
  }

  override has(text: string): boolean {
    return this.get(text) !== undefined
  }
}

/** Queue entries are rank * POSITIONS + position: the lowest rank comes first, and of equal ones the leftmost. */
const POSITIONS = 2 ** 29

/** Symbols that are no token are -1 - their code point. */
const unknownSymbol = (codePoint: number): number => -1 - codePoint

export class BytePairs {
  /** Tokens to ids, as the library looks them up. */
  readonly ids: Map<string, number>
  readonly unknownToken: string | undefined
  readonly #tokens: TokenTable
  readonly #merges: MergeData
  readonly #ignoresMerges: boolean
  readonly #bytesForUnknown: boolean
  readonly #fusesUnknown: boolean
  readonly #character = new Uint8Array(4)
  /** The symbols of a word, linked: a merge takes its right one out. */
  #symbols = new Int32Array(64)
  #next = new Int32Array(64)
  #previous = new Int32Array(64)
  /** Of the pair that begins at a symbol; -1: it does not merge, or is gone. */
  #ranks = new Int32Array(64)
  readonly #queue: number[] = []

  /** @param config `model` of tokenizer.json */
  constructor(config: Readonly<Record<string, unknown>>, tokens: TokenTable, merges: MergeData) {
    this.ids = new TokenIds(tokens)
    this.unknownToken = typeof config.unk_token === 'string' ? config.unk_token : undefined
    this.#tokens = tokens
    this.#merges = merges
    this.#ignoresMerges = config.ignore_merges === true
    this.#bytesForUnknown = config.byte_fallback === true
    this.#fusesUnknown = config.fuse_unk === true
  }

  /** The tokens of words, as the vocabulary spells them. */
  encode(words: readonly string[]): string[] {
    const output: string[] = []
    for (const word of words) {
      if (this.#ignoresMerges && this.ids.has(word)) this.#put(word, output)
      else this.#encodeWord(word, output)
    }
    return output
  }

  #encodeWord(word: string, output: string[]): void {
    const count = this.#split(word)
    if (count === 0) return
    for (let at = 0; at < count - 1; at++) this.#offer(at)
    for (let key = this.#dequeue(); key !== undefined; key = this.#dequeue()) {
      const at = key % POSITIONS
      const rank = (key - at) / POSITIONS
      // An entry is of no use once one of its two symbols took part in another merge.
      if (this.#ranks[at] === rank) this.#merge(at, rank)
    }
    for (let at = 0; at >= 0; at = this.#next[at]) this.#write(this.#symbols[at], output)
  }

  /** Cuts a word into characters. @returns how many */
  #split(word: string): number {
    if (word.length > this.#symbols.length) {
      const size = 2 * word.length
      this.#symbols = new Int32Array(size)
      this.#next = new Int32Array(size)
      this.#previous = new Int32Array(size)
      this.#ranks = new Int32Array(size)
    }
    let count = 0
    for (let i = 0; i < word.length; count++) {
      const code = word.codePointAt(i)!
      i += code > 0xffff ? 2 : 1
      const id = this.#tokens.find(this.#character, 0, putCodePoint(code, this.#character, 0))
      this.#symbols[count] = id < 0 ? unknownSymbol(code) : id
      this.#previous[count] = count - 1
      this.#next[count] = count + 1
      this.#ranks[count] = -1
    }
    if (count > 0) this.#next[count - 1] = -1
    return count
  }

  /** Puts the pair that begins at a symbol into the queue, if it merges. */
  #offer(at: number): void {
    const left = this.#symbols[at]
    const right = this.#next[at] < 0 ? -1 : this.#symbols[this.#next[at]]
    const rank = left < 0 || right < 0 ? -1 : this.#merges.index[slotOf(this.#merges, left, right)]
    this.#ranks[at] = rank
    if (rank >= 0) this.#enqueue(rank * POSITIONS + at)
  }

  #merge(at: number, rank: number): void {
    const right = this.#next[at]
    const after = this.#next[right]
    this.#symbols[at] = this.#merges.words[WORDS * rank + 2]
    this.#ranks[right] = -1
    this.#next[at] = after
    if (after >= 0) this.#previous[after] = at
    this.#offer(at)
    if (this.#previous[at] >= 0) this.#offer(this.#previous[at])
  }

  #write(symbol: number, output: string[]): void {
    if (symbol >= 0) {
      this.#put(this.#tokens.text(symbol)!, output)
      return
    }
    if (this.#bytesForUnknown) {
      const bytes = [...new TextEncoder().encode(String.fromCodePoint(-1 - symbol))].map(
        (byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`,
      )
      if (bytes.every((token) => this.ids.has(token))) {
        output.push(...bytes)
        return
      }
    }
    if (this.unknownToken !== undefined) this.#put(this.unknownToken, output)
  }

  #put(token: string, output: string[]): void {
    if (this.#fusesUnknown && token === this.unknownToken && output.at(-1) === token) return
    output.push(token)
  }

  #enqueue(key: number): void {
    const queue = this.#queue
    let at = queue.length
    queue.push(key)
    while (at > 0) {
      const parent = (at - 1) >> 1
      if (queue[parent] <= key) break
      queue[at] = queue[parent]
      at = parent
    }
    queue[at] = key
  }

  #dequeue(): number | undefined {
    const queue = this.#queue
    const first = queue[0]
    const last = queue.pop()
    if (last === undefined || queue.length === 0) return last
    let at = 0
    for (;;) {
      let child = 2 * at + 1
      if (child >= queue.length) break
      if (child + 1 < queue.length && queue[child + 1] < queue[child]) child++
      if (queue[child] >= last) break
      queue[at] = queue[child]
      at = child
    }
    queue[at] = last
    return first
  }
}
