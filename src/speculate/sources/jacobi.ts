/**
 * Lookahead Decoding (arXiv 2402.02057): n-grams that come about when the target is shown wrong guesses about the
 * tokens to come. Every pass takes a step of the Jacobi iteration on a window of guesses beside the tree; what a column
 * of the window went through is an n-gram that the target made, and goes into a pool; n-grams of the pool that begin
 * with the last token are guesses that may be accepted.
 *
 * The window is a tree. Level 0 is a chain of `window` nodes that begins at the root, and below each of its nodes
 * hangs a column with the guesses of levels 1 to `ngram` - 2, which stand one, two ... positions further on; the target's
 * token after the lowest one is the column's next guess:
 *
 *     level 0   root - a1 - a2 - a3
 *     level 1   b0     b1   b2   b3      b0 below the root, b1 below a1, ...
 *     level 2   c0     c1   c2   c3      c0 below b0, ...
 */
import type { Context } from '../context.ts'
import type { Budget } from '../drafter.ts'
import { ROOT, type TokenTree } from '../token-tree.ts'
import type { TopTokens, Verification } from '../verify.ts'
import { NgramPool, poolBytes } from './ngram-pool.ts'
import { CLASSES, type Guesses, type GuessTree, type Path, SHOWN, type Source } from './source.ts'

/** What a guess of the window promises: it is there to be stepped, and is right by accident. */
const WINDOW_PROMISE = 0.02
/** Class of the window's guesses; those of the pool have what matched, less one. */
const WINDOW_CLASS = CLASSES - 1

/** What the newest n-gram promises of which so many tokens match; older ones half of it, and so on. */
const PROMISED = [0.3, 0.5, 0.65, 0.75, 0.8, 0.85, 0.9]
const promise = (matched: number, older: number): number =>
  PROMISED[Math.min(matched, PROMISED.length) - 1] * 0.5 ** older
const classOf = (matched: number): number => Math.min(matched, WINDOW_CLASS) - 1

/**
 * Sizes as the authors advise for a 7B model (minimal.py of github hao-ai-lab/LookaheadDecoding): 27 nodes of window,
 * 28 of n-grams.
 */
export interface JacobiOptions {
  /** Columns of the window, the paper's W: 7. */
  readonly window?: number
  /** Tokens of an n-gram, the paper's N, at least 2: 5. */
  readonly ngram?: number
  /** N-grams that are kept for a first token, and guesses from them at a time, the paper's G: 7. */
  readonly guesses?: number
  /** First tokens for which n-grams are kept: 2,048. */
  readonly keys?: number
}

/** What stands for what is not given. */
const sizesOf = ({ window = 7, ngram = 5, guesses = 7, keys = 2_048 }: JacobiOptions): Required<JacobiOptions> => ({
  window,
  ngram,
  guesses,
  keys,
})

/** Bytes of all tables. */
export function jacobiBytes(options: JacobiOptions = {}): number {
  const { window, ngram, guesses, keys } = sizesOf(options)
  return poolBytes(ngram, guesses, keys) + 4 * (ngram * (window + ngram - 2) + ngram)
}

export class JacobiSource implements Source {
  readonly name = 'jacobi'
  readonly #heldBytes: number
  readonly #ngram: number
  readonly #pool: NgramPool
  /** Columns that there is room for: there are more than the window's until all levels are known. */
  readonly #stride: number
  /** [levels][stride]. At level 0, column 0 is the root's and stays unused. */
  readonly #guesses: Int32Array
  /** The target's token after the end of each column, -1 where it is not known. */
  readonly #outputs: Int32Array
  /** N-gram under construction. */
  readonly #scratch: Int32Array
  /** Columns; 0 between texts. */
  #columns = 0
  /** The lowest level that is known. */
  #lowest = 0
  /** Tokens of the text that were taken as guesses. */
  #taken = 0
  /** Whether the window is in the tree of the pass that is under way: without it nothing is learnt. */
  #isShown = false

  constructor(options: JacobiOptions = {}) {
    const { window, ngram, guesses, keys } = sizesOf(options)
    this.#heldBytes = jacobiBytes(options)
    this.#ngram = ngram
    this.#pool = new NgramPool(ngram, guesses, keys)
    this.#stride = window + ngram - 2
    this.#guesses = new Int32Array((ngram - 1) * this.#stride)
    this.#outputs = new Int32Array(this.#stride)
    this.#scratch = new Int32Array(ngram)
  }

  get topTokens(): number {
    return this.#isShown ? 1 : 0
  }

  get heldBytes(): number {
    return this.#heldBytes
  }

  /** Some of them may be the same as others. */
  get windowNodes(): number {
    return Math.max(0, this.#columns * (this.#lowest + 1) - 1)
  }

  /** Level 0 begins with tokens of the prompt, as in the published code; the others come about one by one. */
  begin(context: Context): void {
    this.end()
    if (context.length === 0) return
    this.#columns = this.#stride
    for (let column = 1; column < this.#columns; column++) this.#guesses[column] = this.#anyToken(context)
  }

  end(): void {
    this.#pool.clear()
    this.#guesses.fill(0)
    this.#outputs.fill(0)
    this.#scratch.fill(0)
    this.#columns = 0
    this.#lowest = 0
    this.#taken = 0
    this.#isShown = false
  }

  /** N-grams that begin as the path ends, those first of which most is matched, then the newer ones. */
  successors({ tokens, length }: Path, guesses: Guesses): void {
    const pool = this.#pool
    for (let matched = Math.min(length, this.#ngram - 1); matched > 0; matched--) {
      const begin = SHOWN - matched
      const slot = pool.find(tokens[begin])
      if (slot < 0) continue
      for (let i = 0; i < pool.counts[slot]; i++) {
        if (!pool.startsWith(slot, i, tokens, begin + 1, matched - 1)) continue
        const id = pool.at(slot, i, matched - 1)
        if (isAmong(id, guesses)) continue
        guesses.add(id, promise(matched, guesses.count), classOf(matched))
      }
    }
  }

  /** The paper's verification branch, then the window; the window gets what it needs, up to half the budget. */
  propose(context: Context, tree: GuessTree, { nodes, depth }: Budget): void {
    const reserved = Math.min(this.windowNodes, nodes >> 1)
    const used = this.#addBranches(context.root, tree, nodes - reserved, depth)
    this.#addWindow(tree, nodes - used, depth)
  }

  window(tree: GuessTree, { nodes, depth }: Budget): void {
    this.#addWindow(tree, nodes, depth)
  }

  /**
   * A step of every column that was in the tree to its end; the others stay as they are. The window moves on by one
   * position per pass, as in the published code: when more than one token is accepted, its guesses stand nearer to the
   * root than where they were made.
   */
  learn(context: Context, { tree }: Verification, top: TopTokens | undefined): void {
    this.#isShown = false
    if (top === undefined || this.#columns === 0 || !this.#readOutputs(tree, top)) return
    if (this.#lowest < this.#ngram - 2) this.#addLevel(context)
    else this.#step(context.root)
  }

  /** @returns nodes that were used, at the most */
  #addBranches(root: number, tree: GuessTree, nodes: number, depth: number): number {
    const pool = this.#pool
    const slot = pool.find(root)
    if (slot < 0) return 0
    let used = 0
    for (let i = 0; i < pool.counts[slot]; i++) {
      let node: number = ROOT
      for (let j = 0; j < Math.min(depth, this.#ngram - 1); j++) {
        if (used === nodes) return used
        node = tree.add(node, pool.at(slot, i, j), promise(j + 1, j === 0 ? i : 0), classOf(j + 1))
        if (node < 0) return used
        used++
      }
    }
    return used
  }

  /** Column by column, as far as there is room for whole ones. */
  #addWindow(tree: GuessTree, nodes: number, depth: number): void {
    let left = nodes
    let chain: number = ROOT
    for (let column = 0; column < this.#columns; column++) {
      const size = (column === 0 ? 0 : 1) + this.#lowest
      if (size > left || column + this.#lowest > depth) return
      left -= size
      this.#isShown ||= size > 0
      if (column > 0) chain = tree.add(chain, this.#guesses[column], WINDOW_PROMISE, WINDOW_CLASS)
      let node = chain
      for (let level = 1; level <= this.#lowest && node >= 0; level++) {
        node = tree.add(node, this.#guess(level, column), WINDOW_PROMISE, WINDOW_CLASS)
      }
      if (node < 0) return
    }
  }

  /** @returns whether any of the window's own columns made a step */
  #readOutputs(tree: TokenTree, top: TopTokens): boolean {
    let any = false
    let chain: number = ROOT
    for (let column = 0; column < this.#columns; column++) {
      if (column > 0 && chain >= 0) chain = tree.child(chain, this.#guesses[column])
      let node = chain
      for (let level = 1; level <= this.#lowest && node >= 0; level++)
        node = tree.child(node, this.#guess(level, column))
      this.#outputs[column] = node < 0 ? -1 : top.ids[node * top.k]
      if (this.#outputs[column] >= 0 && (column > 0 || this.#lowest > 0)) any = true
    }
    return any
  }

  /**
   * While levels are missing, the outputs are the next one. The first column ends at the root, which moves on: it is
   * dropped, and the second one takes its place. A column without output gets a token of the text in its place.
   */
  #addLevel(context: Context): void {
    this.#columns--
    for (let level = 0; level <= this.#lowest; level++) {
      const base = level * this.#stride
      this.#guesses.copyWithin(base, base + 1, base + 1 + this.#columns)
    }
    this.#lowest++
    for (let column = 0; column < this.#columns; column++) {
      const output = this.#outputs[column + 1]
      this.#guesses[this.#lowest * this.#stride + column] = output < 0 ? this.#anyToken(context) : output
    }
  }

  /** Every column gives an n-gram and loses its oldest guess. What was level 1 is then level 0, below the next root. */
  #step(root: number): void {
    for (let column = 0; column < this.#columns; column++) {
      const output = this.#outputs[column]
      if (output < 0) continue
      this.#scratch[0] = column === 0 ? root : this.#guesses[column]
      for (let level = 1; level <= this.#lowest; level++) this.#scratch[level] = this.#guess(level, column)
      this.#scratch[this.#ngram - 1] = output
      this.#pool.add(this.#scratch)
      for (let level = 0; level <= this.#lowest; level++) {
        this.#guesses[level * this.#stride + column] = this.#scratch[level + 1]
      }
    }
  }

  #guess(level: number, column: number): number {
    return this.#guesses[level * this.#stride + column]
  }

  /** A token of the text: not the next one each time, but always the same ones for the same text. */
  #anyToken({ tokens, length }: Context): number {
    const hash = Math.imul(++this.#taken ^ (length << 8), 0x9e3779b1)
    return tokens[((hash ^ (hash >>> 15)) >>> 0) % length]
  }
}

function isAmong(id: number, { ids, count }: Guesses): boolean {
  for (let i = 0; i < count; i++) if (ids[i] === id) return true
  return false
}
