/**
 * Which of the kernel modules compute right on this engine and processor, and how fast. Relaxed SIMD
 * leaves results of some inputs open, engines have had bugs in it (Node 20, behind its flag: the baseline
 * compiler doubles the sums of `i32x4.relaxed_dot_i8x16_i7x16_add_s`, the optimising one does not), and
 * whether it is faster depends on the processor. So neither a version nor `WebAssembly.validate` decides,
 * but products with known answers, all of which must be right, however often they are repeated.
 *
 * They are repeated until both compilers of the engine have had their turn. A function is compiled again for
 * speed once it has run long enough: in the background, one by one, tiles that few products use last. With 21 tiles
 * per module, the last one was optimised after (V8's --trace-wasm-compilation-times; in Bun, when rounds stopped
 * becoming faster; EPYC of Zen 3, two busy cores)
 *
 *     Node 20.20    23 rounds, half of them after 3      Deno 2.9    40 rounds, half of them after 8
 *     Node 24.21    78 rounds, half of them after 8      Bun 1.4     40 rounds
 *
 * (In Node 24 all but one after 38: the tile of one row and one group lies inside the function that chooses tiles. Its
 * figures are of an EPYC of Zen 4, with the products of few rows three times in a round; the others' are of one time.)
 * Engines do not tell, so a module counts as tested through after `LEAST_ROUNDS` right rounds, when in addition
 * its last rounds are no faster than those before. One that has not come so far within `LIMIT_MS` is not trusted:
 * its optimised code may still come, and nobody has seen its results. More tiles need more rounds: measure again.
 */
import { now } from '../runtime/platform.ts'
import { Arena, createMemory } from './arena.ts'
import { instantiateKernels, KERNEL_VARIANTS, type Kernels, type KernelVariant } from './kernels.ts'
import { BLOCK, groupBytes, type Kind, packGroup, TILE } from './layout.ts'
import { GemmWord, KIND_CODE, Operation, QuantiseWord, RECORD_BYTES } from './operations.ts'
import { quantisedBytes } from './operators.ts'

/** Kinds whose products the variants compute in different ways. */
export type IntegerKind = Exclude<Kind, 'f32' | 'f16'>

export const INTEGER_KINDS: readonly IntegerKind[] = ['q8', 'q4a', 'q4']

/** Every tile by itself (1 to 5), and rows that are cut into two tiles, equal and not. */
export const TEST_ROWS: readonly number[] = [1, 2, 3, 4, 5, 6, 7, 8, 9]

/** Five groups: tiles of several groups side by side, and one that is left over. */
const GROUPS = 5
export const TEST_OUTPUTS = GROUPS * TILE

/** Blocks of the one group that is packed, each with a pattern of its own; the last one is not whole. */
const PATTERNS = 7
const PACKED_COLUMNS = PATTERNS * BLOCK - 6

/** A group of the matrix is the packed one this often: long enough to time, and an odd number of blocks. */
const REPEATS = 5

/** Columns of the products. */
export const TEST_COLUMNS = REPEATS * PATTERNS * BLOCK

/** Checksums of the products' bits, by rows as in TEST_ROWS; computed by the scalar twins of the tests. */
export const KNOWN_ANSWERS: Readonly<Record<IntegerKind, readonly number[]>> = {
  q8: [0x026a0cb4, 0xeb090ea2, 0xbdde4aa5, 0x15e80b7b, 0xede71b0c, 0xfd9e0a73, 0x535ddaab, 0xe40701f1, 0x2e5c08e5],
  q4a: [0xb74bcd56, 0xfbd077d9, 0x0c893f95, 0xb17086c2, 0xa49733ae, 0x90dfc04e, 0xd74a15ba, 0x390177de, 0x53f64c0c],
  q4: [0xea7f6040, 0x303f70e9, 0x8c2a8890, 0xf032db3d, 0x81413593, 0x9720531d, 0x23ed64a7, 0xdcb2fd68, 0x954a239c],
}

/**
 * How often a round computes the products of one and two rows, whose tiles have less work than others: once per round
 * as these, the last one would be optimised after 123 rounds in Node 24.
 */
const FEW_ROWS = 2
const FEW_ROWS_REPEATS = 3

/** Nearly twice as many as the slowest engine needed (above). */
const LEAST_ROUNDS = 150
/** Rounds that are compared with as many before them; the fastest of them counts. */
const WINDOW = 10
/** Noise is less than this, and optimised code faster by more. */
const SAME_SPEED = 0.95
const LIMIT_MS = 1500

/** Rounds of timing, and the rows that are timed: single tokens, and a small tree. */
const TIMED_ROUNDS = 24
/** Calls that are timed together: one takes a few microseconds. */
const CALLS_TIMED = 4
const TIMED_ROWS: readonly number[] = [1, 8]

/** 'unproven': right so far, but the optimising compiler had not done its part in time. */
export type Verdict =
  | { readonly result: 'passed' /** Time of products, `simd128` being 1. */; readonly time: number }
  | { readonly result: 'wrong' | 'unproven' | 'unsupported' }

export type SelfTestReport = Readonly<Record<KernelVariant, Verdict>>

/** One group of weights [TILE x PACKED_COLUMNS]: the extremes of both kinds, all their steps, and constants. */
function testWeights(): Float32Array {
  const weights = new Float32Array(TILE * PACKED_COLUMNS)
  for (let n = 0; n < TILE; n++) {
    for (let k = 0; k < PACKED_COLUMNS; k++) {
      const isFirst = k % BLOCK === 0
      // Multiples of 1/8 from -1 to 7/8 are the sixteen nibbles; of 1/127, the int8.
      const nibble = isFirst ? -1 : ((k + n) & 15) / 8 - 1
      const byte = (half: number): number => (isFirst ? 1 : (((2 * n + half) * 31 + (k % BLOCK)) % 255) / 127 - 1)
      const patterns = [isFirst ? -1 : 7 / 8, -1, nibble, byte(0), k & 1 ? 1 : -1, byte(1), nibble]
      weights[n * PACKED_COLUMNS + k] = patterns[(n + Math.floor(k / BLOCK)) % PATTERNS] * (0.25 + (n & 3))
    }
  }
  return weights
}

/** Activations: all at one extreme, all at the other, both in turn, and all between. */
export function testActivations(rows: number): Float32Array {
  const activations = new Float32Array(rows * TEST_COLUMNS)
  for (let m = 0; m < rows; m++) {
    for (let k = 0; k < TEST_COLUMNS; k++) {
      const value = [1, -1, k & 1 ? -1 : 1, k % BLOCK === 0 ? 1 : ((m * 11 + k * 37) % 255) / 127 - 1]
      activations[m * TEST_COLUMNS + k] = value[(m + Math.floor(k / BLOCK)) & 3] * (1 + (m & 3))
    }
  }
  return activations
}

/**
 * The weights of a kind: [TEST_OUTPUTS x TEST_COLUMNS]. Packing takes longer than all else here, so one group
 * is packed, and group g begins with its block g.
 */
export function packTestWeights(kind: IntegerKind): Uint8Array {
  const group = new Uint8Array(groupBytes(kind, PACKED_COLUMNS))
  packGroup(kind, PACKED_COLUMNS, testWeights(), 0, TILE, group, 0)
  const blockBytes = group.length / PATTERNS
  const packed = new Uint8Array(GROUPS * REPEATS * group.length)
  for (let g = 0; g < GROUPS; g++) {
    for (let block = 0; block < REPEATS * PATTERNS; block++) {
      const from = ((g + block) % PATTERNS) * blockBytes
      packed.set(group.subarray(from, from + blockBytes), (g * REPEATS * PATTERNS + block) * blockBytes)
    }
  }
  return packed
}

interface Case {
  readonly rows: number
  readonly sideBySide: boolean
  readonly quantise: number
  readonly gemm: number
  readonly answer: number
}

/** The products, laid out once in a memory that all modules under test share. */
export class TestProducts {
  readonly memory: WebAssembly.Memory = createMemory(MEMORY_BYTES)
  readonly #cases: readonly Case[]
  /** What a round computes. */
  readonly #round: readonly Case[]
  readonly #y: Uint8Array

  constructor() {
    const arena = new Arena(this.memory)
    const most = Math.max(...TEST_ROWS)
    const source = arena.allocate('activations', most * TEST_COLUMNS * 4)
    arena.f32(source, most * TEST_COLUMNS).set(testActivations(most))
    const x = arena.allocate('quantised', quantisedBytes(most, TEST_COLUMNS))
    const y = arena.allocate('products', most * TEST_OUTPUTS * 4)
    this.#y = arena.u8(y, most * TEST_OUTPUTS * 4)
    const record = (operation: number, table: Readonly<Record<string, number>>, words: Record<string, number>) => {
      const pointer = arena.allocate('record', RECORD_BYTES)
      const target = arena.i32(pointer, RECORD_BYTES / 4)
      target[0] = operation
      for (const [name, value] of Object.entries(words)) target[table[name]] = value
      return pointer
    }
    const quantiseRecord = (kind: IntegerKind, rows: number): number => {
      const words: Record<keyof typeof QuantiseWord, number> = {
        rows,
        columns: TEST_COLUMNS,
        source,
        sourceStride: TEST_COLUMNS * 4,
        values: x,
        kind: KIND_CODE[kind],
      }
      return record(Operation.quantise, QuantiseWord, words)
    }
    const gemmRecord = (kind: IntegerKind, rows: number, weights: number, sideBySide: boolean): number => {
      const words: Record<keyof typeof GemmWord, number> = {
        kind: KIND_CODE[kind],
        rows,
        outputs: TEST_OUTPUTS,
        columns: TEST_COLUMNS,
        x,
        xStride: 0,
        weights,
        y,
        yStride: TEST_OUTPUTS * 4,
        bias: 0,
        accumulate: 0,
        sideBySide: sideBySide ? 1 : 0,
      }
      return record(Operation.gemm, GemmWord, words)
    }
    this.#cases = INTEGER_KINDS.flatMap((kind) => {
      const packed = packTestWeights(kind)
      const weights = arena.allocate('weights', packed.length)
      arena.u8(weights, packed.length).set(packed)
      return TEST_ROWS.flatMap((rows, i) => {
        const quantise = quantiseRecord(kind, rows)
        return (rows <= FEW_ROWS ? [false, true] : [false]).map((sideBySide) => ({
          rows,
          sideBySide,
          quantise,
          gemm: gemmRecord(kind, rows, weights, sideBySide),
          answer: KNOWN_ANSWERS[kind][i],
        }))
      })
    })
    this.#round = this.#cases.flatMap((test) => Array<Case>(test.rows <= FEW_ROWS ? FEW_ROWS_REPEATS : 1).fill(test))
  }

  /** Computes every product. @returns whether all answers are the known ones */
  areRight(kernels: Kernels): boolean {
    return withoutTraps(() => this.#round.every((test) => this.#isRight(kernels, test))) === true
  }

  /** Milliseconds of each timed product, in a fixed order. @returns `undefined` when an answer was wrong */
  time(kernels: Kernels, clock: () => number): readonly number[] | undefined {
    return withoutTraps(() => {
      const times: number[] = []
      for (const test of this.#cases.filter((test) => TIMED_ROWS.includes(test.rows) && !test.sideBySide)) {
        if (!this.#isRight(kernels, test)) return undefined
        const begun = clock()
        for (let call = 0; call < CALLS_TIMED; call++) kernels.run(test.gemm, 0, 1)
        times.push(clock() - begun)
      }
      return times
    })
  }

  #isRight(kernels: Kernels, test: Case): boolean {
    const bytes = test.rows * TEST_OUTPUTS * 4
    // What another module has left there would pass for an answer.
    this.#y.fill(0xff)
    kernels.run(test.quantise, 0, 1)
    kernels.run(test.gemm, 0, 1)
    return kernels.checksum(this.#y.byteOffset, bytes) >>> 0 === test.answer
  }
}

/** What `use` returns; `undefined` when it ends in a trap, which is no answer either. */
function withoutTraps<T>(use: () => T): T | undefined {
  try {
    return use()
  } catch (error) {
    if (error instanceof WebAssembly.RuntimeError) return undefined
    throw error
  }
}

const MEMORY_BYTES = 512 * 1024

/** One module on its way through the test. */
class Contestant {
  readonly variant: KernelVariant
  readonly kernels: Kernels
  right = true
  /** Milliseconds of every round. */
  readonly #rounds: number[] = []
  #times: readonly number[] = []

  constructor(variant: KernelVariant, kernels: Kernels) {
    this.variant = variant
    this.kernels = kernels
  }

  /** Baseline and optimised code have both given right answers. */
  get proven(): boolean {
    if (!this.right || this.#rounds.length < LEAST_ROUNDS) return false
    const before = Math.min(...this.#rounds.slice(-2 * WINDOW, -WINDOW))
    return Math.min(...this.#rounds.slice(-WINDOW)) > before * SAME_SPEED
  }

  round(products: TestProducts, clock: () => number): void {
    const begun = clock()
    this.right = products.areRight(this.kernels)
    this.#rounds.push(clock() - begun)
  }

  /** Plain SIMD needs no proof, only optimised code in the products that are timed. */
  warmUp(products: TestProducts, clock: () => number): void {
    if (this.#rounds.length === 0) this.round(products, clock)
    else this.right = products.time(this.kernels, clock) !== undefined
  }

  takeTime(products: TestProducts, clock: () => number): void {
    const times = products.time(this.kernels, clock)
    if (times === undefined) this.right = false
    else this.#times = times.map((ms, i) => Math.min(ms, this.#times[i] ?? ms))
  }

  /** Geometric mean of the products' times over another's. */
  timeOver(other: Contestant): number {
    const logarithms = this.#times.map((ms, i) => Math.log(ms / other.#times[i]))
    return Math.exp(logarithms.reduce((sum, value) => sum + value, 0) / logarithms.length)
  }
}

/**
 * @param instantiate kernels of a variant on a memory; `undefined` when the engine cannot compile them
 * @param clock milliseconds
 */
export function selfTest(
  instantiate: (variant: KernelVariant, memory: WebAssembly.Memory) => Kernels | undefined,
  clock: () => number = now,
): SelfTestReport {
  const products = new TestProducts()
  const contestants = KERNEL_VARIANTS.flatMap((variant) => {
    const kernels = instantiate(variant, products.memory)
    return kernels === undefined ? [] : [new Contestant(variant, kernels)]
  })
  const others = contestants.filter(({ variant }) => variant !== 'simd128')
  const baseline = contestants.find(({ variant }) => variant === 'simd128')
  baseline?.warmUp(products, clock)
  const begun = clock()
  // In turn, so that one module is computed with while another is compiled.
  for (let left = others; left.length > 0 && clock() - begun < LIMIT_MS; ) {
    for (const contestant of left) contestant.round(products, clock)
    baseline?.warmUp(products, clock)
    left = left.filter(({ right, proven }) => right && !proven)
  }
  const timed = others.length === 0 ? [] : contestants.filter(({ right }) => right)
  for (let round = 0; round < TIMED_ROUNDS; round++) {
    for (const contestant of timed) contestant.takeTime(products, clock)
  }
  const verdict = (variant: KernelVariant): Verdict => {
    const contestant = contestants.find((other) => other.variant === variant)
    if (contestant === undefined) return { result: 'unsupported' }
    if (!contestant.right) return { result: 'wrong' }
    // Plain SIMD is as well defined as the rest of WebAssembly: slow compilation is no reason to doubt it.
    if (!contestant.proven && variant !== 'simd128') return { result: 'unproven' }
    return {
      result: 'passed',
      time: baseline === undefined || variant === 'simd128' ? 1 : contestant.timeOver(baseline),
    }
  }
  return {
    simd128: verdict('simd128'),
    'relaxed-i16': verdict('relaxed-i16'),
    'relaxed-i32': verdict('relaxed-i32'),
  }
}

/** One round of the known answers, for a module whose origin is not ours. */
export function answersAreRight(module: WebAssembly.Module): boolean {
  const products = new TestProducts()
  return products.areRight(instantiateKernels(products.memory, module))
}
