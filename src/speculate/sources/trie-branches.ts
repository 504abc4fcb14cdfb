/** How texts come into the trie. */
import type { BranchTrie, Cursors } from './trie-table.ts'

/** Bytes of the cursors in a text. */
export const branchesBytes = (branchLength: number): number => (4 + 4 + 8) * branchLength

/**
 * A text while it is read: every token begins a branch, and goes on with those that are not full. Each open branch has
 * a cursor at its last node, so a token costs one step per branch, as if whole branches were counted, but is known
 * at once.
 */
export class OpenBranches implements Cursors {
  readonly #trie: BranchTrie
  readonly #branchLength: number
  /** The last tokens of the text, of which branch b has those from b on: the oldest branch comes first. */
  readonly #tokens: Int32Array
  /** Where the branches end; 0: at the root, also when the node was dropped. */
  readonly #nodes: Int32Array
  /** What a count of the branch is still worth: a branch that was counted in part fades with what was counted. */
  readonly #weights: Float64Array
  #count = 0
  /** How many of them, the first ones, began in the prompt. */
  #ofPrompt = 0

  constructor(trie: BranchTrie, branchLength: number) {
    this.#trie = trie
    this.#branchLength = branchLength
    this.#tokens = new Int32Array(branchLength)
    this.#nodes = new Int32Array(branchLength)
    this.#weights = new Float64Array(branchLength)
    trie.cursors.push(this)
  }

  /** @param kind of the token: a branch is counted as what its first token is */
  append(token: number, kind: 'prompt' | 'output'): void {
    const newest = this.#count++
    this.#tokens[newest] = token
    this.#nodes[newest] = 0
    this.#weights[newest] = 1
    if (kind === 'prompt') this.#ofPrompt++
    for (let branch = 0; branch <= newest; branch++) this.#extend(branch)
    if (this.#count < this.#branchLength) return
    for (const list of [this.#tokens, this.#nodes, this.#weights]) list.copyWithin(0, 1)
    this.#count--
    if (this.#ofPrompt > 0) this.#ofPrompt--
  }

  /** The text is over. */
  close(): void {
    this.#count = 0
    this.#ofPrompt = 0
  }

  moved(to: (node: number) => number): void {
    for (let branch = 0; branch < this.#count; branch++) this.#nodes[branch] = to(this.#nodes[branch])
  }

  faded(decay: number, fadesPrompt: boolean): void {
    for (let branch = fadesPrompt ? 0 : this.#ofPrompt; branch < this.#count; branch++) this.#weights[branch] *= decay
  }

  /** Counts the newest token for a branch; also those before it whose nodes were dropped. */
  #extend(branch: number): void {
    const trie = this.#trie
    const newest = this.#count - 1
    trie.reserve(this.#nodes[branch] === 0 ? this.#count - branch : 1)
    const kind = branch < this.#ofPrompt ? 'prompt' : 'output'
    let node = this.#nodes[branch]
    for (let i = node === 0 ? branch : newest; i <= newest; i++) {
      node = trie.visit(node, this.#tokens[i], kind, this.#weights[branch], i === newest)
    }
    this.#nodes[branch] = node
  }
}
