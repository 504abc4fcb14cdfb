/**
 * Random numbers that are a pure function of (seed, position, token): whoever asks, in whatever
 * order, for a tree node or in plain decoding, gets the same bits.
 *
 * Threefry-2x32 with 20 rounds: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as
 * 1, 2, 3" (SC 2011).
 */
import { log } from '../tensor/math.ts'

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

export class Noise {
  readonly #key0: number
  readonly #key1: number
  readonly #words = new Int32Array(2)

  /** @param seed a safe integer; its two's complement 64 bits are the key */
  constructor(seed: number) {
    this.#key0 = seed | 0
    this.#key1 = Math.floor(seed / 4294967296) | 0
  }

  /** Uniform in (0, 1), ends excluded: 53 random bits, and 2^-54 where all of them are zero. */
  uniform(position: number, token: number): number {
    threefry(this.#key0, this.#key1, position, token, this.#words)
    return this.#fraction()
  }

  /**
   * Standard Gumbel noise -log(-log u).
   * @param least a caller that has no use for noise below this gets -Infinity where the bits of u
   *   show it without a logarithm; noise at or above `least` is always exact
   */
  gumbel(position: number, token: number, least = -Infinity): number {
    if (least > LARGEST_NOISE) return -Infinity
    threefry(this.#key0, this.#key1, position, token, this.#words)
    if (BOUND[Math.clz32(~this.#words[0])] < least) return -Infinity
    return -log(-log(this.#fraction()))
  }

  #fraction(): number {
    const bits = (this.#words[0] >>> 0) * 2097152 + (this.#words[1] >>> 11)
    return (bits === 0 ? 0.5 : bits) / 9007199254740992
  }
}
