/** A trie of outputs in bytes: the head of all saved tables, then numbers in LEB128, mostly one byte each. */
import { broken, HEAD_BYTES, type Kind, readHead, startSaving } from './saved.ts'
import type { BranchTrie } from './trie-table.ts'

const KIND: Kind = { name: 'trie', mark: 'copB', version: 2 }

/** Counts are saved in sixteenths: what has faded further is next to be dropped. */
const SAVED_COUNT = 16

/** Of a node in bytes: distance to the parent, token and count. */
const MOST_NODE_BYTES = 15
const LEAST_NODE_BYTES = 3

export interface TrieShape {
  /** Tokens of a branch at the most. */
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
 * Fills an empty trie with what was saved. Branches that are longer than its own are cut, and of more nodes than it
 * may have it takes those that count most.
 * @throws CoppiceError CORRUPT_FILE when the bytes are not what `saveTrie` makes of a trie with the vocabulary
 */
export function loadTrie(trie: BranchTrie, bytes: Uint8Array, { branchLength, vocabulary }: TrieShape): void {
  const { parent, token, output, depth } = readNodes(bytes, vocabulary)
  const count = token.length - 1
  // Where each node is in the trie; 0, the root, for those that are left out.
  const places = new Int32Array(count + 1)
  const isWanted = mostCounted(output, depth, branchLength, trie.capacity)
  for (let node = 1; node <= count; node++) {
    if (!isWanted(node)) continue
    const above = places[parent[node]]
    if (trie.child(above, token[node]) !== 0) throw broken(KIND, `node ${node} is there twice`)
    places[node] = trie.add(above, token[node])
    trie.output[places[node]] = output[node]
  }
}

/** Of node 0, which is the root, there is nothing but infinitely many outputs. */
interface SavedNodes {
  readonly parent: Int32Array
  readonly token: Int32Array
  readonly output: Float32Array
  readonly depth: Int32Array
}

function readNodes(bytes: Uint8Array, vocabulary: number): SavedNodes {
  const { view, rows: count } = readHead(KIND, vocabulary, bytes)
  const input = new Reader(view)
  const branchLength = input.number()
  // No long table for a short file.
  if (count * LEAST_NODE_BYTES > bytes.length) throw broken(KIND, `it is cut off: it should have ${count} nodes`)
  const [parent, token, depth] = Array.from({ length: 3 }, () => new Int32Array(count + 1))
  const output = new Float32Array(count + 1).fill(Number.POSITIVE_INFINITY, 0, 1)
  for (let node = 1; node <= count; node++) {
    parent[node] = node - input.number()
    const id = input.number()
    output[node] = input.number() / SAVED_COUNT
    if (!(parent[node] >= 0 && parent[node] < node)) throw broken(KIND, `node ${node} has no parent`)
    depth[node] = depth[parent[node]] + 1
    if (depth[node] > branchLength) throw broken(KIND, `a branch is longer than ${branchLength} tokens`)
    if (id >= vocabulary) throw broken(KIND, `node ${node} has a token that is none: ${id}`)
    if (!(output[node] > 0 && output[node] <= output[parent[node]])) {
      throw broken(KIND, `node ${node} has a count that cannot be: ${output[node]}`)
    }
    token[node] = id
  }
  if (!input.isAtEnd) throw broken(KIND, 'it is followed by something else')
  return { parent, token, output, depth }
}

/**
 * Which nodes to take: those that count most, and of equal ones the first. As no node counts more than its parent, and
 * parents come first, the parents of all these are among them.
 * @param deepest nodes below this depth are left out @param most nodes that may be taken
 * @returns whether to take a node; to be asked once for each, in their order
 */
function mostCounted(
  output: Float32Array,
  depth: Int32Array,
  deepest: number,
  most: number,
): (node: number) => boolean {
  const counts = output.filter((_, node) => node > 0 && depth[node] <= deepest)
  if (counts.length <= most) return (node) => depth[node] <= deepest
  counts.sort()
  const least = counts[counts.length - most]
  let equal = most - (counts.length - 1 - counts.lastIndexOf(least))
  return (node) => depth[node] <= deepest && (output[node] > least || (output[node] === least && equal-- > 0))
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
