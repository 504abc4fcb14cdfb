/**
 * The vocabulary of a tokenizer.json in typed arrays that all threads of a process share: some 20 bytes per token,
 * where objects and strings take ten times as many, in every thread.
 */

/** What a table is made of; the arrays lie in shared memory, so a copy of this object is the same table. */
export interface TokenTableData {
  /** The tokens as the vocabulary spells them, in UTF-8. */
  readonly bytes: Uint8Array
  /** By id, the first byte of the token. */
  readonly starts: Uint32Array
  /** By id, two more than its last byte; 0: there is none with this id. */
  readonly limits: Uint32Array
  /** Ids by the hash of their bytes, open addressing, -1: empty. */
  readonly index: Int32Array
}

const LARGEST_ID = 0xffffff

/** A token may begin with U+FEFF, or be nothing else. */
const decoder = new TextDecoder('utf-8', { ignoreBOM: true })
const quoted = (bytes: Uint8Array): string => JSON.stringify(decoder.decode(bytes))

/** Slots of an open hash table. A power of two, at least half of them empty. */
export const hashSlots = (entries: number): number => 2 ** Math.ceil(Math.log2(Math.max(8, 2 * entries)))

export class TokenTable {
  readonly data: TokenTableData
  readonly #encoder = new TextEncoder()
  #scratch = new Uint8Array(256)

  constructor(data: TokenTableData) {
    this.data = data
  }

  /** One more than the largest id. */
  get size(): number {
    return this.data.starts.length
  }

  /** Bytes of memory. */
  get byteLength(): number {
    const { bytes, starts, limits, index } = this.data
    return bytes.byteLength + starts.byteLength + limits.byteLength + index.byteLength
  }

  text(id: number): string | undefined {
    const { bytes, starts, limits } = this.data
    if (!(id >= 0 && id < limits.length) || limits[id] === 0) return undefined
    // A copy, because decoders refuse shared memory.
    return decoder.decode(bytes.slice(starts[id], limits[id] - 1))
  }

  /** The id of a token, -1 when there is none. */
  idOf(text: string): number {
    if (3 * text.length > this.#scratch.length) this.#scratch = new Uint8Array(6 * text.length)
    const { written } = this.#encoder.encodeInto(text, this.#scratch)
    return this.find(this.#scratch, 0, written)
  }

  /** The id of the token with the bytes `[from, to)` of `text`, -1 when there is none. */
  find(text: Uint8Array, from: number, to: number): number {
    return this.data.index[slotOf(this.data, text, from, to)]
  }
}

/** The slot where the token is, or where it would have to be put. */
function slotOf({ index, bytes, starts, limits }: TokenTableData, text: Uint8Array, from: number, to: number): number {
  const mask = index.length - 1
  for (let slot = hash(text, from, to) & mask; ; slot = (slot + 1) & mask) {
    const id = index[slot]
    if (id < 0) return slot
    const start = starts[id]
    if (limits[id] - 1 - start !== to - from) continue
    let i = from
    while (i < to && text[i] === bytes[start + i - from]) i++
    if (i === to) return slot
  }
}

/** FNV-1a, with the high bits mixed into the low ones, which alone choose the slot. */
function hash(text: Uint8Array, from: number, to: number): number {
  let value = 0x811c9dc5
  for (let i = from; i < to; i++) value = Math.imul(value ^ text[i], 0x01000193)
  return value ^ (value >>> 15)
}

/** Thrown for entries that make no sense; the caller knows the file's name. */
export class BadEntry extends Error {}

export class TokenTableBuilder {
  readonly #bytes: Uint8Array
  #used = 0
  #starts: Uint32Array
  #limits: Uint32Array
  #size = 0

  /** @param bytes of the file: tokens have no more; memory is taken for those that come */
  constructor(bytes: number) {
    this.#bytes = new Uint8Array(new SharedArrayBuffer(bytes))
    const tokens = Math.ceil(bytes / LEAST_ENTRY_BYTES)
    this.#starts = new Uint32Array(new SharedArrayBuffer(4 * tokens))
    this.#limits = new Uint32Array(new SharedArrayBuffer(4 * tokens))
  }

  /**
   * Adds the token that stands in the first `length` bytes of `text`.
   * @throws BadEntry when the id is no id, or taken
   */
  add(text: Uint8Array, length: number, id: number): void {
    // The bound keeps a damaged id from making tables of a billion entries.
    if (!Number.isInteger(id) || id < 0 || id > LARGEST_ID) {
      throw new BadEntry(
        `gives token ${quoted(text.subarray(0, length))} the id ${JSON.stringify(id)}; expected an integer from 0 to ${LARGEST_ID}`,
      )
    }
    if (id >= this.#limits.length) {
      this.#starts = enlarged(this.#starts, 2 * id)
      this.#limits = enlarged(this.#limits, 2 * id)
    }
    if (this.#limits[id] !== 0) {
      const other = quoted(this.#bytes.slice(this.#starts[id], this.#limits[id] - 1))
      throw new BadEntry(`gives the id ${id} to two tokens, ${other} and ${quoted(text.subarray(0, length))}`)
    }
    this.#starts[id] = this.#used
    // Most are so short that a loop is faster than making a view of them.
    for (let i = 0; i < length; i++) this.#bytes[this.#used++] = text[i]
    this.#limits[id] = this.#used + 1
    this.#size = Math.max(this.#size, id + 1)
  }

  finish(): TokenTable {
    const data: TokenTableData = {
      bytes: this.#bytes.subarray(0, this.#used),
      starts: this.#starts.subarray(0, this.#size),
      limits: this.#limits.subarray(0, this.#size),
      index: sharedWords(hashSlots(this.#size)).fill(-1),
    }
    const { bytes, starts, limits, index } = data
    for (let id = 0; id < this.#size; id++) {
      if (limits[id] !== 0) index[slotOf(data, bytes, starts[id], limits[id] - 1)] = id
    }
    return new TokenTable(data)
  }
}

/** Of a token with its id in JSON, or of a merge: `"":0,` and `" ",`. */
export const LEAST_ENTRY_BYTES = 4

/** Only ids with large gaps need more than the bytes of a file allow for. */
function enlarged(from: Uint32Array, entries: number): Uint32Array {
  const to = new Uint32Array(new SharedArrayBuffer(4 * entries))
  to.set(from)
  return to
}

/** Zeros. Systems give memory to the pages that are written to, so a generous length costs nothing. */
export const sharedWords = (length: number): Int32Array => new Int32Array(new SharedArrayBuffer(4 * length))
