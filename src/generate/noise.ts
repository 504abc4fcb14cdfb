/**
 * Random numbers that are a pure function of (seed, position, token): whoever asks, in whatever
 * order, for a tree node or in plain decoding, gets the same bits.
 *
 * Threefry-2x32 with 20 rounds: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as
 * 1, 2, 3" (SC 2011).
 */
import { exp, log } from '../tensor/math.ts'

const KEY_PARITY = 0x1bd11bda

const rotate = (x: number, bits: number): number => (x << bits) | (x >>> (32 - bits))

/**
 * Encrypts the counter (two 32-bit words) under the key (two 32-bit words).
 * @param out receives the two words of the result
 */
export function threefry(key0: number, key1: number, counter0: number, counter1: number, out: Int32Array): void {
  const key2 = KEY_PARITY ^ key0 ^ key1
  let x = (counter0 + key0) | 0
  let y = (counter1 + key1) | 0
  // Five times four rounds; the two sets of rotations alternate, and a key schedule word follows each set.
  for (let group = 0; ; group++) {
    x = (x + y) | 0
    y = rotate(y, 13) ^ x
    x = (x + y) | 0
    y = rotate(y, 15) ^ x
    x = (x + y) | 0
    y = rotate(y, 26) ^ x
    x = (x + y) | 0
    y = rotate(y, 6) ^ x
    if (group === 2) break
    x = (x + (group === 0 ? key1 : key0)) | 0
    y = (y + (group === 0 ? key2 : key1) + 2 * group + 1) | 0
    x = (x + y) | 0
    y = rotate(y, 17) ^ x
    x = (x + y) | 0
    y = rotate(y, 29) ^ x
    x = (x + y) | 0
    y = rotate(y, 16) ^ x
    x = (x + y) | 0
    y = rotate(y, 24) ^ x
    x = (x + (group === 0 ? key2 : key1)) | 0
    y = (y + (group === 0 ? key0 : key2) + 2 * group + 2) | 0
  }
  out[0] = (x + key2) | 0
  out[1] = (y + key0 + 5) | 0
}

/** No noise exceeds this: -log(-log u) for the greatest u below 1 is 53 ln 2. */
export const LARGEST_NOISE = 36.737

/**
 * By the number of leading one bits of u: what the noise is surely below. With n leading ones
 * 1 - u > 2^-(n+1), and -log u >= 1 - u, so -log(-log u) < (n + 1) ln 2. The small addend is far
 * more than the rounding of the logarithms and of the caller's subtraction.
 */
const BOUND = Float64Array.from({ length: 33 }, (_, ones) =>
  ones === 32 ? LARGEST_NOISE : (ones + 1) * Math.LN2 + 1e-6,
)

/** Of so many tokens at each position, about, the noise is known without being asked for: it is the largest. */
const OUTLIERS = 64
/** Positions whose outliers are kept: those of a tree, and some before. */
const KEPT_POSITIONS = 64

/** Tokens by ascending id, and their noise. */
export interface Outliers {
  readonly tokens: Int32Array
  readonly noise: Float64Array
}

/** Finds random words that are large: as `Operators.outliers`, which takes a fourth to a ninth of the time of the one below. */
export type OutlierScan = (
  key: readonly [number, number],
  position: number,
  vocabulary: number,
  least: number,
  take: (token: number, word0: number, word1: number) => void,
) => void

/** The same without kernels. */
export const scanInTurn: OutlierScan = ([key0, key1], position, vocabulary, least, take) => {
  const words = new Int32Array(2)
  for (let token = 0; token < vocabulary; token++) {
    threefry(key0, key1, position, token, words)
    if (words[0] >>> 0 >= least) take(token, words[0], words[1])
  }
}

export class Noise {
  /** No token has noise of this or more at a position but its outliers. */
  readonly edge: number
  readonly #key0: number
  readonly #key1: number
  readonly #vocabulary: number
  readonly #scan: OutlierScan
  /** By position, those that were asked for last. */
  readonly #outliers = new Map<number, Outliers>()
  readonly #words = new Int32Array(2)

  /**
   * @param seed a safe integer; its two's complement 64 bits are the key
   * @param vocabulary tokens among which `outliers` looks
   */
  constructor(seed: number, vocabulary = 0, scan = scanInTurn) {
    this.#key0 = seed | 0
    this.#key1 = Math.floor(seed / 4294967296) | 0
    this.#vocabulary = vocabulary
    this.#scan = scan
    // Noise exceeds x with a probability of about e^-x.
    this.edge = log(Math.max(1, vocabulary / OUTLIERS))
  }

  /** The tokens with noise of `edge` or more at a position. */
  outliers(position: number): Outliers {
    let found = this.#outliers.get(position)
    if (found !== undefined) return found
    const tokens: number[] = []
    const noise: number[] = []
    // u = exp(-exp(-noise)); less than its first word by one, for what is rounded away.
    const least = Math.max(0, Math.floor(exp(-exp(-this.edge)) * 4294967296) - 1)
    this.#scan([this.#key0, this.#key1], position, this.#vocabulary, least, (token, word0, word1) => {
      const value = -log(-log(fraction(word0, word1)))
      if (value < this.edge) return
      tokens.push(token)
      noise.push(value)
    })
    found = { tokens: Int32Array.from(tokens), noise: Float64Array.from(noise) }
    if (this.#outliers.size >= KEPT_POSITIONS) this.#outliers.delete(this.#outliers.keys().next().value!)
    this.#outliers.set(position, found)
    return found
  }

  /** Uniform in (0, 1), ends excluded: 53 random bits, and 2^-54 where all of them are zero. */
  uniform(position: number, token: number): number {
    const words = this.#words
    threefry(this.#key0, this.#key1, position, token, words)
    return fraction(words[0], words[1])
  }

  /**
   * Standard Gumbel noise -log(-log u).
   * @param least a caller that has no use for noise below this gets -Infinity where the bits of u
   *   show it without a logarithm; noise at or above `least` is always exact
   */
  gumbel(position: number, token: number, least = -Infinity): number {
    if (least > LARGEST_NOISE) return -Infinity
    const words = this.#words
    threefry(this.#key0, this.#key1, position, token, words)
    if (BOUND[Math.clz32(~words[0])] < least) return -Infinity
    return -log(-log(fraction(words[0], words[1])))
  }
}

/** In (0, 1). */
function fraction(word0: number, word1: number): number {
  const bits = (word0 >>> 0) * 2097152 + (word1 >>> 11)
  return (bits === 0 ? 0.5 : bits) / 9007199254740992
}
