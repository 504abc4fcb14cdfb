/**
 * The randomness of sampling: a pure function of seed, position and token, so that whoever asks, in
 * whatever order, gets the same draw. Threefry-2x32 with 20 rounds (Salmon et al. 2011, "Parallel
 * random numbers: as easy as 1, 2, 3"), key = seed, counter = (position, token).
 */
import { log } from '../tensor/math.ts'

const ROTATIONS = [13, 15, 26, 6, 17, 29, 16, 24] as const
/** Threefry's key-schedule parity for 32-bit words (Skein's constant). */
const PARITY = 0x1bd11bda

const result = new Uint32Array(2)

/** Both output words; the array is overwritten by the next call. */
export function threefry2x32(key0: number, key1: number, counter0: number, counter1: number): Uint32Array {
  const key2 = PARITY ^ key0 ^ key1
  let a = (counter0 + key0) | 0
  let b = (counter1 + key1) | 0
  for (let group = 0; group < 5; group++) {
    const first = (group & 1) * 4
    for (let i = first; i < first + 4; i++) {
      a = (a + b) | 0
      const bits = ROTATIONS[i]
      b = ((b << bits) | (b >>> (32 - bits))) ^ a
    }
    const step = group + 1
    const even = step % 3
    a = (a + (even === 0 ? key0 : even === 1 ? key1 : key2)) | 0
    const odd = (step + 1) % 3
    b = (b + (odd === 0 ? key0 : odd === 1 ? key1 : key2) + step) | 0
  }
  result[0] = a
  result[1] = b
  return result
}

/** Gumbel noise never exceeds this: -ln(-ln(1 - 2^-53)), rounded up. */
export const LARGEST_NOISE = 36.75

export class Noise {
  readonly #key0: number
  readonly #key1: number

  /** @param seed integer from 0 to 2^53 - 1 */
  constructor(seed: number) {
    this.#key0 = seed >>> 0
    this.#key1 = Math.floor(seed / 2 ** 32) >>> 0
  }

  /** Uniform in (0, 1): 52 random bits, moved to the middle of their cell so that 0 and 1 do not occur. */
  uniform(position: number, token: number): number {
    const [low, high] = threefry2x32(this.#key0, this.#key1, position, token)
    return ((high >>> 6) * 67108864 + (low >>> 6) + 0.5) / 4503599627370496
  }

  /** Standard Gumbel noise: argmax(logit + noise) is a draw from softmax(logits). */
  gumbel(position: number, token: number): number {
    return -log(-log(this.uniform(position, token)))
  }
}
