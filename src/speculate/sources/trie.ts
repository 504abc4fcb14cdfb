/**
 * Guesses from what was read and written before (Lookahead, Zhao et al., arXiv 2312.12728): every run of some twelve
 * tokens is a branch of a trie whose nodes count how often they came by, and what follows the end of the text is
 * looked up below the longest of its suffixes that the trie knows. Counts of the prompt and of outputs are apart:
 * those of the prompt weigh more while its request lasts, and are gone after it.
 */
import type { Context, TextSoFar } from '../context.ts'
import type { Budget } from '../drafter.ts'
import type { TableBytes } from './growth.ts'
import { type Guesses, type GuessTree, MOST_GUESSES, type Path, SHOWN, type Source } from './source.ts'
import { branchesBytes, OpenBranches } from './trie-branches.ts'
import { loadTrie, saveTrie, type TrieShape } from './trie-saved.ts'
import { Frontier, MOST_SIBLINGS, RANKING_BYTES, Ranking, Selection, selectionBytes } from './trie-selection.ts'
import { BranchTrie, trieBytes } from './trie-table.ts'

/**
 * How `propose` spends its nodes: on the most frequent nodes, whose branches share their beginnings ('tree'); on the
 * same branches, each paid for in full ('parallel'); on the most frequent branch alone ('single').
 */
export type TrieMode = 'tree' | 'parallel' | 'single'

export const TRIE_MODES = ['tree', 'parallel', 'single'] as const satisfies readonly TrieMode[]

export interface TrieOptions {
  /** Tokens of a branch, at least 2. Default 12. */
  readonly branchLength?: number
  /** What a count in the prompt is worth in counts of outputs. Default 2; the public code ranks as if it were 9999. */
  readonly promptWeight?: number
  /** Most nodes, some 36 bytes each. Default `TRIE_NODES`, 262144; of a model as many as its memory allows, up to that. */
  readonly capacity?: number
  /** What is left of a count when it fades for want of room, between 0 and 0.9. Default 0.5. */
  readonly decay?: number
  /** Default 'tree'. */
  readonly mode?: TrieMode
  /** Tokens that the target knows: no other is loaded. Default 2^31. */
  readonly vocabulary?: number
  /** Nodes found after which `propose` asks no shorter suffix. Default `branchLength`; for a single branch half of it. */
  readonly enough?: number
}

export const TRIE_NODES = 1 << 18
const BRANCH_LENGTH = 12

/** @param nodes of the largest tree that it proposes; 0 where it is only asked for successors */
export function trieSourceBytes(
  nodes: number,
  { capacity = TRIE_NODES, branchLength = BRANCH_LENGTH }: TrieOptions = {},
): TableBytes {
  const [trie, selection] = [trieBytes(capacity), selectionBytes(nodes)]
  return {
    held: trie.held + selection.held + besidesBytes(branchLength),
    moving: Math.max(trie.moving, selection.moving),
  }
}

const besidesBytes = (branchLength: number): number => RANKING_BYTES + 2 * branchesBytes(branchLength)

/** Class of a guess by the tokens that matched before it. */
const CLASS_BY_LENGTH = [0, 0, 1, 2, 3, 4, 4, 5, 5, 6, 6, 7]

/** Share of a proposal that goes by the counts of outputs alone, as in the public code: no prompt crowds them out. */
const OUTPUT_SHARE = 0.5

export class TrieSource implements Source {
  readonly name = 'trie'
  readonly topTokens = 0
  readonly #branchLength: number
  readonly #shape: TrieShape
  readonly #promptWeight: number
  readonly #mode: TrieMode
  readonly #enough: number
  #trie: BranchTrie
  /** The text that is being written. */
  #text: OpenBranches
  /** One that is read beside it. */
  #beside: OpenBranches
  readonly #ranked: Ranking
  readonly #frontier = new Frontier()
  readonly #selection = new Selection()

  /** @throws Error when an option makes no sense */
  constructor(options: TrieOptions = {}) {
    const {
      branchLength = BRANCH_LENGTH,
      promptWeight = 2,
      capacity = TRIE_NODES,
      decay = 0.5,
      mode = 'tree',
    } = options
    if (!(branchLength >= 2)) throw new Error(`branches need at least 2 tokens, not ${branchLength}`)
    if (!(promptWeight > 0)) throw new Error(`the weight of the prompt is above 0, not ${promptWeight}`)
    if (!(capacity >= 8 * branchLength)) {
      throw new Error(
        `a trie needs at least ${8 * branchLength} nodes, not ${capacity}, for branches of ${branchLength}`,
      )
    }
    if (!(decay > 0 && decay <= 0.9)) throw new Error(`decay is above 0 and at most 0.9, not ${decay}`)
    this.#branchLength = branchLength
    this.#shape = { branchLength, vocabulary: options.vocabulary ?? 2 ** 31 }
    this.#promptWeight = promptWeight
    this.#mode = mode
    this.#enough = options.enough ?? (mode === 'single' ? branchLength >> 1 : branchLength)
    this.#trie = new BranchTrie(capacity, decay)
    this.#text = new OpenBranches(this.#trie, branchLength)
    this.#beside = new OpenBranches(this.#trie, branchLength)
    this.#ranked = new Ranking(promptWeight)
  }

  /** Nodes of the trie, without its root. */
  get entries(): number {
    return this.#trie.count
  }

  get heldBytes(): number {
    const selecting = this.#frontier.heldBytes + this.#selection.heldBytes
    return this.#trie.heldBytes + selecting + besidesBytes(this.#branchLength)
  }

  begin({ tokens, promptLength }: Context): void {
    this.end()
    for (let i = 0; i < promptLength; i++) this.#text.append(tokens[i], 'prompt')
  }

  read(_before: TextSoFar, tokens: readonly number[]): void {
    for (const token of tokens) this.#text.append(token, 'output')
  }

  warm(tokens: ArrayLike<number>): void {
    for (let i = 0; i < tokens.length; i++) this.#beside.append(tokens[i], 'output')
    this.#beside.close()
  }

  /** What began in the prompt goes with it. */
  end(): void {
    this.#text.close()
    this.#trie.forgetPrompt()
  }

  successors({ tokens, length }: Path, guesses: Guesses): void {
    const trie = this.#trie
    const ranked = this.#ranked
    let seen = 0
    // What the longer suffixes leave to the shorter ones: once more than their guesses were seen, something else comes.
    let left = 1
    for (let matched = Math.min(length, this.#branchLength - 1); matched > 0; matched--) {
      const node = trie.find(tokens, SHOWN - matched, SHOWN)
      if (node === 0) continue
      const times = trie.prompt[node] + trie.output[node]
      // Every place where the longer suffix stood is one of this suffix, too: without others there is nothing new.
      if (times <= seen) continue
      seen = times
      if (trie.first[node] === 0) continue
      ranked.read(trie, node)
      for (let rank = 0; rank < ranked.count; rank++) {
        const child = ranked.nodes[rank]
        const id = trie.token[child]
        if (!holds(guesses, id)) guesses.add(id, left * ranked.promised(child), classOf(matched))
      }
      if (guesses.count === MOST_GUESSES) break
      left *= ranked.unseen
    }
    sort(guesses)
  }

  propose(context: Context, tree: GuessTree, budget: Budget): void {
    const { tokens, length } = context
    const selection = this.#selection
    selection.reset(budget.nodes)
    if (budget.nodes <= 0) return
    for (let matched = Math.min(length, this.#branchLength - 1); matched > 0; matched--) {
      const node = this.#trie.find(tokens, length - matched, length)
      if (node === 0) continue
      if (this.#mode === 'single') this.#selectBranch(node, matched, budget)
      else this.#select(node, matched, budget)
      if (selection.count >= Math.min(this.#enough, budget.nodes)) break
    }
    if (this.#mode === 'parallel') selection.copyBranches(tree, budget.nodes)
    else selection.copy(tree)
  }

  /** What outputs left in the trie; of the prompt under way there is nothing in it. */
  save(): Uint8Array {
    return saveTrie(this.#trie, this.#shape)
  }

  load(bytes: Uint8Array): void {
    const trie = new BranchTrie(this.#trie.capacity, this.#trie.decay)
    loadTrie(trie, bytes, this.#shape)
    this.#trie = trie
    this.#text = new OpenBranches(trie, this.#branchLength)
    this.#beside = new OpenBranches(trie, this.#branchLength)
  }

  release(): void {
    this.#trie.release()
  }

  /** The most frequent nodes below a match: first by outputs, for their share of what is left, then by all counts. */
  #select(match: number, matched: number, budget: Budget): void {
    const { count } = this.#selection
    const share = Math.floor((budget.nodes - count) * OUTPUT_SHARE)
    this.#selectBy(match, matched, budget.depth, count + share, 0)
    this.#selectBy(match, matched, budget.depth, budget.nodes, this.#promptWeight)
  }

  /** @param limit nodes of the selection in the end */
  #selectBy(match: number, matched: number, depth: number, limit: number, promptWeight: number): void {
    const trie = this.#trie
    const frontier = this.#frontier
    const selection = this.#selection
    frontier.reset()
    let node = match
    let at = 0
    let level = 1
    for (;;) {
      if (level <= depth) {
        this.#ranked.read(trie, node)
        let looked = 0
        for (let child = trie.first[node]; child !== 0 && looked < MOST_SIBLINGS; child = trie.next[child], looked++) {
          const weight = trie.prompt[child] * promptWeight + trie.output[child]
          if (weight > 0) frontier.push(weight, level, child, at, this.#ranked.promised(child))
        }
      }
      if (selection.count >= limit || !frontier.pop()) return
      node = frontier.node
      level = frontier.level
      at = selection.find(frontier.parent, trie.token[node])
      if (at === 0) {
        at = selection.add(frontier.parent, trie.token[node], frontier.promised, classOf(matched + level - 1))
      }
      level++
    }
  }

  /** The most frequent child, its most frequent child, and so on, if that is longer than what was selected before. */
  #selectBranch(match: number, matched: number, budget: Budget): void {
    const trie = this.#trie
    const ranked = this.#ranked
    const selection = this.#selection
    const most = Math.min(budget.nodes, budget.depth)
    const branch: number[] = []
    const promised: number[] = []
    for (let node = match; trie.first[node] !== 0 && branch.length < most; ) {
      ranked.read(trie, node)
      node = ranked.nodes[0]
      branch.push(node)
      promised.push(ranked.promised(node))
    }
    if (branch.length <= selection.count) return
    selection.reset(budget.nodes)
    let at = 0
    for (const [i, node] of branch.entries()) {
      at = selection.add(at, trie.token[node], promised[i], classOf(matched + i))
    }
  }
}

const classOf = (matched: number): number => CLASS_BY_LENGTH[Math.min(matched, CLASS_BY_LENGTH.length - 1)]

function holds({ ids, count }: Guesses, id: number): boolean {
  for (let i = 0; i < count; i++) if (ids[i] === id) return true
  return false
}

/** By falling promise; equal ones stay in their order. */
function sort({ ids, promised, classes, count }: Guesses): void {
  for (let i = 1; i < count; i++) {
    for (let j = i; j > 0 && promised[j] > promised[j - 1]; j--) {
      swap(ids, j)
      swap(promised, j)
      swap(classes, j)
    }
  }
}

function swap(list: Int32Array | Float64Array | Uint8Array, j: number): void {
  const value = list[j]
  list[j] = list[j - 1]
  list[j - 1] = value
}
