import fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { checksum } from '../../src/tensor/checksum.ts'
import { Bench, randomNumbers } from './harness.ts'

const test = suite('checksum')
const bench = new Bench()

function randomBytes(length: number, seed: number): Uint8Array {
  const next = randomNumbers(seed)
  return Uint8Array.from({ length }, () => next() * 256)
}

const words = fc.integer({ min: 0, max: 200 })

test('the kernel and the TypeScript version agree on any whole number of words', () => {
  fc.assert(
    fc.property(words, fc.integer(), (length, seed) => {
      bench.reset()
      const source = randomBytes(length * 4, seed)
      const placed = bench.bytes(length * 4)
      placed.set(source)
      assert.is(bench.kernels.checksum(placed.byteOffset, length * 4) >>> 0, checksum(source))
    }),
  )
})

test('the number does not depend on where the bytes lie', () => {
  const source = randomBytes(512, 1)
  const shifted = new Uint8Array(515)
  shifted.set(source, 3)
  assert.is(checksum(shifted.subarray(3)), checksum(source))
})

test('known answers: packed files carry these numbers', () => {
  assert.is(checksum(new Uint8Array(0)), KNOWN.empty)
  assert.is(checksum(new Uint8Array(4)), KNOWN.fourZeros)
  assert.is(checksum(Uint8Array.from({ length: 1000 }, (_, i) => (i * 7) & 255)), KNOWN.thousand)
})

const KNOWN = { empty: 1983504014, fourZeros: 3235646178, thousand: 617359126 }

test('every single flipped bit changes it', () => {
  const bytes = randomBytes(64 * 5 + 12, 2)
  const before = checksum(bytes)
  for (let bit = 0; bit < bytes.length * 8; bit++) {
    bytes[bit >> 3] ^= 1 << (bit & 7)
    assert.is.not(checksum(bytes), before, `bit ${bit}`)
    bytes[bit >> 3] ^= 1 << (bit & 7)
  }
})

test('every pair of swapped words changes it', () => {
  const bytes = randomBytes(64 * 3 + 8, 3)
  const list = new Int32Array(bytes.buffer)
  const before = checksum(bytes)
  for (let i = 0; i < list.length; i++) {
    for (let j = 0; j < i; j++) {
      ;[list[i], list[j]] = [list[j], list[i]]
      assert.is.not(checksum(bytes), before, `words ${i} and ${j}`)
      ;[list[i], list[j]] = [list[j], list[i]]
    }
  }
})

test('zeroed stretches and lost or added zeros change it', () => {
  const bytes = randomBytes(4096, 4)
  const seen = new Set([checksum(bytes)])
  for (const [from, to] of [
    [0, 4],
    [64, 128],
    [4092, 4096],
    [0, 4096],
    [2048, 4096],
  ]) {
    seen.add(checksum(bytes.slice().fill(0, from, to)))
  }
  assert.is(seen.size, 6)
  const lengths = new Set(Array.from({ length: 100 }, (_, words) => checksum(new Uint8Array(words * 4))))
  assert.is(lengths.size, 100)
})

test.run()
