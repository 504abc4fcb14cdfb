/**
 * The checksum of a chunk of packed data: fast enough to run at the disk's speed, strong against the
 * damage that disks and interrupted copies do. It is no defence against forgery; sha256 is kept
 * beside it. The kernel of the same name computes the same number.
 */

/** Primes of xxHash's published specification; the rounds are xxHash32's, sixteen lanes wide. */
const PRIME_1 = 0x9e3779b1
const PRIME_2 = 0x85ebca77
const PRIME_3 = 0xc2b2ae3d

const LANES = 16

const rotate = (x: number, bits: number): number => (x << bits) | (x >>> (32 - bits))

/**
 * @param bytes length a multiple of 4
 * @returns u32
 */
export function checksum(bytes: Uint8Array): number {
  const words = wordsOf(bytes)
  const lanes = new Int32Array(LANES)
  for (let lane = 0; lane < LANES; lane++) lanes[lane] = Math.imul(PRIME_3, lane + 1)
  const whole = words.length - (words.length % LANES)
  for (let i = 0; i < whole; i += LANES) {
    for (let lane = 0; lane < LANES; lane++) {
      lanes[lane] = Math.imul(rotate(lanes[lane] + Math.imul(words[i + lane], PRIME_2), 13), PRIME_1)
    }
  }
  let hash = Math.imul(bytes.length, PRIME_1)
  for (let lane = 0; lane < LANES; lane++) hash = fold(hash, lanes[lane])
  for (let i = whole; i < words.length; i++) hash = fold(hash, words[i])
  hash = Math.imul(hash ^ (hash >>> 15), PRIME_2)
  hash = Math.imul(hash ^ (hash >>> 13), PRIME_3)
  return (hash ^ (hash >>> 16)) >>> 0
}

const fold = (hash: number, word: number): number =>
  Math.imul(rotate((hash + Math.imul(word, PRIME_3)) | 0, 17), PRIME_1)

function wordsOf(bytes: Uint8Array): Int32Array {
  if (bytes.byteOffset % 4 === 0) return new Int32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4)
  return new Int32Array(bytes.slice().buffer)
}
