/** A trie of outputs in bytes: the head of all saved tables, then numbers in LEB128, mostly one byte each. */
import { broken, HEAD_BYTES, type Kind, readHead, startSaving } from './saved.ts'
import type { BranchTrie } from './trie-table.ts'

const KIND: Kind = { name: 'trie', mark: 'copB', version: 2 }

/** Counts are saved in sixteenths: what has faded further is next to be dropped. */
const SAVED_COUNT = 16

/** Of a node in bytes: distance to the parent, token and count. */
const MOST_NODE_BYTES = 15
const LEAST_NODE_BYTES = 3

/** What a saved trie and the one that takes it must have in common. */
export interface TrieShape {
  /** Tokens of a branch. */
  readonly branchLength: number
  /** Tokens that there are. */
  readonly vocabulary: number
}

/**
 * The length of a branch, then the nodes that outputs left, in the order of their numbers; each as the distance to its
 * parent, token and output count.
 */
export function saveTrie(trie: BranchTrie, { branchLength, vocabulary }: TrieShape): Uint8Array {
  const { count, output, parent, token } = trie
  const to = new Int32Array(count + 1)
  let saved = 0
  for (let node = 1; node <= count; node++) if (output[node] > 0) to[node] = ++saved
  const view = startSaving(KIND, vocabulary, saved, MOST_NODE_BYTES * (saved + 1))
  const out = new Writer(view)
  out.number(branchLength)
  for (let node = 1; node <= count; node++) {
    if (to[node] === 0) continue
    out.number(to[node] - to[parent[node]])
    out.number(token[node])
    out.number(Math.max(1, Math.round(output[node] * SAVED_COUNT)))
  }
  return out.bytes()
}

/**
 * Fills an empty trie with what was saved.
 * @throws CoppiceError CORRUPT_FILE when the bytes are not what `saveTrie` makes of such a trie
 */
export function loadTrie(trie: BranchTrie, bytes: Uint8Array, { branchLength, vocabulary }: TrieShape): void {
  const { view, rows: count } = readHead(KIND, vocabulary, bytes)
  const input = new Reader(view)
  const length = input.number()
  if (length !== branchLength) {
    throw broken(KIND, `it has branches of ${length} tokens; asked for were ${branchLength}`)
  }
  if (count > trie.capacity) throw broken(KIND, `it has ${count} nodes; there is room for ${trie.capacity}`)
  // No long table for a short file.
  if (count * LEAST_NODE_BYTES > bytes.length) throw broken(KIND, `it is cut off: it should have ${count} nodes`)
  const depth = new Int32Array(count + 1)
  for (let node = 1; node <= count; node++) {
    const parent = node - input.number()
    const token = input.number()
    const output = input.number() / SAVED_COUNT
    if (!(parent >= 0 && parent < node)) throw broken(KIND, `node ${node} has no parent`)
    depth[node] = depth[parent] + 1
    if (depth[node] > branchLength) throw broken(KIND, `a branch is longer than ${branchLength} tokens`)
    if (token >= vocabulary) throw broken(KIND, `node ${node} has a token that is none: ${token}`)
    if (!(output > 0) || (parent > 0 && Math.fround(output) > trie.output[parent])) {
      throw broken(KIND, `node ${node} has a count that cannot be: ${output}`)
    }
    if (trie.child(parent, token) !== 0) throw broken(KIND, `node ${node} is there twice`)
    trie.add(parent, token)
    trie.output[node] = output
  }
  if (!input.isAtEnd) throw broken(KIND, 'it is followed by something else')
}

/** Numbers below 2^32 in LEB128: seven bits a byte, the lowest first. */
class Writer {
  readonly #bytes: Uint8Array
  #length = HEAD_BYTES

  /** @param view with room for all numbers behind the head */
  constructor(view: DataView) {
    this.#bytes = new Uint8Array(view.buffer)
  }

  number(value: number): void {
    let rest = value
    for (; rest > 127; rest >>>= 7) this.#bytes[this.#length++] = (rest & 127) | 128
    this.#bytes[this.#length++] = rest
  }

  /** The head and all numbers. */
  bytes(): Uint8Array {
    return this.#bytes.slice(0, this.#length)
  }
}

class Reader {
  readonly #view: DataView
  #at = HEAD_BYTES

  constructor(view: DataView) {
    this.#view = view
  }

  get isAtEnd(): boolean {
    return this.#at === this.#view.byteLength
  }

  number(): number {
    let value = 0
    for (let scale = 1; scale < 2 ** 35; scale *= 128) {
      if (this.isAtEnd) throw broken(KIND, 'it is cut off')
      const byte = this.#view.getUint8(this.#at++)
      value += (byte & 127) * scale
      if (byte < 128) return value
    }
    throw broken(KIND, 'it has a number that is too long')
  }
}
