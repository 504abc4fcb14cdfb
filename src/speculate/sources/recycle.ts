/**
 * Token Recycling (arXiv 2408.08696): for every token of the vocabulary, what the target last held likeliest after it.
 * The target ranks its next tokens at every node that it verifies, also at those that it rejects; here nothing of
 * that is thrown away.
 *
 * What is kept are the target's own second choices, not the text: it stays from one text to the next, as the paper's
 * hot start does (section 3.1). Beyond the paper, the target's probabilities of them are kept, too: a token that left
 * no choice last time is a better guess than the first of many, and at a temperature it is known how far noise reaches.
 */
import { release } from '../../runtime/platform.ts'
import type { Context } from '../context.ts'
import type { Budget } from '../drafter.ts'
import { ROOT } from '../token-tree.ts'
import type { TopTokens, Verification } from '../verify.ts'
import { broken, HEAD_BYTES, type Kind, readHead, startSaving } from './saved.ts'
import { type Guesses, type GuessTree, type Path, SHOWN, type Source } from './source.ts'

/** Next tokens per token, as in the paper (section 4.1). */
const RANKS = 8

/** How often each rank is right, about, as published and measured: which places of the shape a smaller budget takes. */
const USUAL = [0.5, 0.12, 0.06, 0.04, 0.03, 0.02, 0.015, 0.012]

/** Probabilities are kept as 16 times their negative logarithm, in a byte. */
const STEPS_PER_NAT = 16
const LEVELS = 256

/**
 * The published tree of 80 nodes (appendix 8.1; "2.2.2" in github Luowaterbi/TokenRecycling): children per node, layer
 * by layer, in the order of the nodes above; the children of a node are its first ranks. Nodes at a layer's end
 * without children are not listed.
 */
const LAYERS: readonly (readonly number[])[] = [
  [8],
  [8, 4, 3, 2, 1, 1, 1, 1],
  [8, 3, 2, 1, 1, 1, 1, 1, 2, 1, 0, 0, 1, 0, 0, 1, 0, 1, 1],
  [5, 2, 1, 1, 1, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 1, 1],
  [3, 1, 1, 0, 0, 1, 0, 0, 0, 0, 1, 0, 1],
  [2, 0, 0, 1],
]

/** A place of the shape. Place 0 is the root; place p stands at `PLACES[p - 1]`. */
interface Place {
  readonly parent: number
  readonly rank: number
  readonly depth: number
  /** Product of what the ranks on the way to it promise. */
  readonly merit: number
}

/** By falling merit, so that a smaller budget takes the first places; parents come before their children. */
export const PLACES: readonly Place[] = placesByMerit()

/** Of what is saved: token, next tokens, and their probabilities. */
const ROW_BYTES = 4 * (1 + RANKS) + RANKS
const KIND: Kind = { name: 'table of recycled tokens', mark: 'copR', version: 2 }

/** Bytes that a source holds for each token: next tokens, their probabilities, and two marks. */
const TOKEN_BYTES = 4 * RANKS + RANKS + 2

/** Bytes that a source holds. */
export const recycleBytes = (vocabulary: number): number =>
  TOKEN_BYTES * vocabulary + 8 * (PLACES.length + 1) + 8 * (2 * LEVELS + RANKS)

export class RecycleSource implements Source {
  readonly name = 'recycle'
  readonly topTokens = RANKS
  readonly #vocabulary: number
  /** [vocabulary][RANKS], likeliest first; -1 where nothing is known. */
  readonly #next: Int32Array
  /** [vocabulary][RANKS]: the target's probability of each, see `STEPS_PER_NAT`. */
  readonly #levels: Uint8Array
  /** Probability by level. */
  readonly #probability = Float64Array.from({ length: LEVELS }, (_, level) => Math.exp(-level / STEPS_PER_NAT))
  /**
   * By how many levels a token is below the likeliest one: how likely it is, as a share of that one, at the temperature
   * of the text; at temperature 0 as at 1, and calibrated later.
   */
  readonly #weight = this.#probability.slice()
  /** Of the row that was read last: what each of its tokens promises. */
  readonly #promised = new Float64Array(RANKS)
  /** By token: whether its row may be saved. Tokens of a prompt are guessed, too, and what is saved must not tell them. */
  readonly #lasting: Uint8Array
  /** By token: whether it is in the prompt of the text under way. */
  readonly #inPrompt: Uint8Array
  /** By place of the shape: the node of the tree that holds it, -1 for none. */
  readonly #nodes = new Int32Array(PLACES.length + 1)
  /** By place of the shape. */
  readonly #tokens = new Int32Array(PLACES.length + 1)

  /** @param vocabulary tokens that the target knows; see `recycleBytes` */
  constructor(vocabulary: number) {
    this.#vocabulary = vocabulary
    this.#next = new Int32Array(vocabulary * RANKS).fill(-1)
    this.#levels = new Uint8Array(vocabulary * RANKS)
    this.#lasting = new Uint8Array(vocabulary)
    this.#inPrompt = new Uint8Array(vocabulary)
  }

  get heldBytes(): number {
    return recycleBytes(this.#vocabulary)
  }

  get entries(): number {
    return this.#lastingTokens().length
  }

  begin({ tokens, promptLength }: Context, temperature: number): void {
    this.end()
    const scale = temperature > 0 ? 1 / temperature : 1
    for (let level = 0; level < LEVELS; level++) this.#weight[level] = Math.exp((-level / STEPS_PER_NAT) * scale)
    for (let i = 0; i < promptLength; i++) this.#inPrompt[tokens[i]] = 1
  }

  end(): void {
    this.#inPrompt.fill(0)
  }

  successors({ tokens, length }: Path, guesses: Guesses): void {
    if (length === 0) return
    const row = tokens[SHOWN - 1] * RANKS
    const count = this.#readRow(row)
    for (let rank = 0; rank < count; rank++) guesses.add(this.#next[row + rank], this.#promised[rank], rank)
  }

  /** The published shape, as far as its tokens are known; a place whose token is unknown leaves its node to the next one. */
  propose(context: Context, tree: GuessTree, budget: Budget): void {
    this.#nodes.fill(-1)
    this.#nodes[0] = ROOT
    this.#tokens[0] = context.root
    let left = budget.nodes
    for (let place = 1; place <= PLACES.length && left > 0; place++) {
      const { parent, rank, depth } = PLACES[place - 1]
      if (depth > budget.depth || this.#nodes[parent] < 0) continue
      const row = this.#tokens[parent] * RANKS
      if (rank >= this.#readRow(row)) continue
      const id = this.#next[row + rank]
      this.#tokens[place] = id
      this.#nodes[place] = tree.add(this.#nodes[parent], id, this.#promised[rank], rank)
      left--
    }
  }

  /**
   * The paper leaves it to chance what is kept of a token that stands at several nodes (section 3.3). Here a later
   * node's wins over an earlier one's, and an accepted node's over a rejected one's, whose text came to nothing.
   */
  learn({ length, promptLength }: Context, { tree, path }: Verification, top: TopTokens | undefined): void {
    if (top === undefined) return
    for (let node = 1; node < tree.count; node++) this.#keep(tree.token[node], top, node, false)
    this.#keep(tree.token[ROOT], top, ROOT, length > promptLength)
    for (const node of path) this.#keep(tree.token[node], top, node, true)
  }

  /** Rows of tokens that were written or are of no prompt, each the token and what the target held likeliest after it. */
  save(): Uint8Array {
    const known = this.#lastingTokens()
    const view = startSaving(KIND, this.#vocabulary, known.length, known.length * ROW_BYTES)
    for (const [i, token] of known.entries()) {
      const at = HEAD_BYTES + i * ROW_BYTES
      view.setInt32(at, token, true)
      for (let rank = 0; rank < RANKS; rank++) {
        view.setInt32(at + 4 + 4 * rank, this.#next[token * RANKS + rank], true)
        view.setUint8(at + 4 + 4 * RANKS + rank, this.#levels[token * RANKS + rank])
      }
    }
    return new Uint8Array(view.buffer)
  }

  load(bytes: Uint8Array): void {
    const { view, rows } = readHead(KIND, this.#vocabulary, bytes)
    const expected = HEAD_BYTES + rows * ROW_BYTES
    if (bytes.length !== expected) throw broken(KIND, `${rows} rows take ${expected} bytes, and it has ${bytes.length}`)
    const isToken = (id: number): boolean => id >= 0 && id < this.#vocabulary
    for (let row = 0; row < rows; row++) {
      const at = HEAD_BYTES + row * ROW_BYTES
      const token = view.getInt32(at, true)
      if (!isToken(token)) throw broken(KIND, `row ${row} is for token ${token} of ${this.#vocabulary}`)
      let ended = false
      let before = 0
      for (let rank = 0; rank < RANKS; rank++) {
        const id = view.getInt32(at + 4 + 4 * rank, true)
        const level = view.getUint8(at + 4 + 4 * RANKS + rank)
        if (id !== -1 && (ended || !isToken(id))) throw broken(KIND, `row ${row} has ${id} at rank ${rank}`)
        ended = id === -1
        if (!ended && level < before) throw broken(KIND, `row ${row} is likelier at rank ${rank} than before it`)
        before = level
      }
    }
    this.#next.fill(-1)
    this.#lasting.fill(0)
    for (let row = 0; row < rows; row++) {
      const at = HEAD_BYTES + row * ROW_BYTES
      const token = view.getInt32(at, true)
      const first = token * RANKS
      this.#lasting[token] = 1
      for (let rank = 0; rank < RANKS; rank++) {
        this.#next[first + rank] = view.getInt32(at + 4 + 4 * rank, true)
        this.#levels[first + rank] = view.getUint8(at + 4 + 4 * RANKS + rank)
      }
    }
  }

  release(): void {
    for (const table of [this.#next, this.#levels, this.#lasting, this.#inPrompt]) release(table)
  }

  /** Tokens whose rows may be saved. */
  #lastingTokens(): number[] {
    const known: number[] = []
    for (let token = 0; token < this.#vocabulary; token++) if (this.#lasting[token] === 1) known.push(token)
    return known
  }

  /** @param isOutput whether it is the text that stands there, written here */
  #keep(token: number, { k, ids, logProbs }: TopTokens, node: number, isOutput: boolean): void {
    const row = token * RANKS
    this.#lasting[token] = isOutput || this.#inPrompt[token] === 0 ? 1 : 0
    for (let rank = 0; rank < RANKS; rank++) {
      this.#next[row + rank] = rank < k ? ids[node * k + rank] : -1
      this.#levels[row + rank] = rank < k ? levelOf(logProbs[node * k + rank]) : 0
    }
  }

  /** Puts into `#promised` how likely the tokens of a row are. @returns how many there are */
  #readRow(row: number): number {
    const promised = this.#promised
    let count = 0
    let known = 0
    let total = 0
    let probability = 1
    for (; count < RANKS && this.#next[row + count] >= 0; count++) {
      probability = this.#probability[this.#levels[row + count]]
      known += probability
      promised[count] = this.#weight[this.#levels[row + count] - this.#levels[row]]
      total += promised[count]
    }
    if (count === 0) return 0
    // The rest counts as tokens that are each as likely as the last one that is known.
    total += (Math.max(0, 1 - known) / probability) * promised[count - 1]
    for (let rank = 0; rank < count; rank++) promised[rank] /= total
    return count
  }
}

const levelOf = (logProb: number): number => Math.min(LEVELS - 1, Math.max(0, Math.round(-logProb * STEPS_PER_NAT)))

function placesByMerit(): Place[] {
  const all: Place[] = []
  let above: readonly number[] = [-1]
  for (const [layer, counts] of LAYERS.entries()) {
    const below: number[] = []
    for (const [i, count] of counts.entries()) {
      const parent = above[i]
      const merit = parent < 0 ? 1 : all[parent].merit
      for (let rank = 0; rank < count; rank++) {
        below.push(all.length)
        all.push({ parent, rank, depth: layer + 1, merit: merit * USUAL[rank] })
      }
    }
    above = below
  }
  // Equal merits stay in the paper's order: sorting is stable.
  const order = all.map((_, i) => i).sort((a, b) => all[b].merit - all[a].merit)
  const place = new Map(order.map((i, p) => [i, p + 1]))
  return order.map((i) => ({ ...all[i], parent: place.get(all[i].parent) ?? ROOT }))
}
