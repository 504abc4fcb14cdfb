/** The kernels of packing against the TypeScript that defines their results. */
import fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { checksum } from '../../src/tensor/checksum.ts'
import { bfloatsToFloats, floatToHalf, halvesToFloats } from '../../src/tensor/half.ts'
import { groupBytes, KINDS, type Kind, packGroup, TILE } from '../../src/tensor/layout.ts'
import { ChecksumBuffer, dtypeBytes, type FloatDtype, Packer } from '../../src/tensor/packer.ts'
import { randomFloats, randomNumbers } from './harness.ts'

const test = suite('packer')
const DTYPES: readonly FloatDtype[] = ['F32', 'F16', 'BF16']
const packer = new Packer(1 << 18, 1 << 19)

/** The values as a checkpoint stores them, and as they are read from it. */
function stored(dtype: FloatDtype, values: Float32Array): { bytes: Uint8Array; floats: Float32Array } {
  if (dtype === 'F32') return { bytes: new Uint8Array(values.slice().buffer), floats: values }
  const words = new Uint32Array(values.slice().buffer)
  const halves =
    dtype === 'F16' ? Uint16Array.from(values, floatToHalf) : Uint16Array.from(words, (word) => word >>> 16)
  const floats = new Float32Array(values.length)
  if (dtype === 'F16') halvesToFloats(halves, floats)
  else bfloatsToFloats(halves, floats)
  return { bytes: new Uint8Array(halves.buffer), floats }
}

function packedByTwin(kind: Kind, columns: number, rows: number, floats: Float32Array): Uint8Array {
  const group = groupBytes(kind, columns)
  const packed = new Uint8Array(Math.ceil(rows / TILE) * group)
  for (let row = 0; row < rows; row += TILE) {
    packGroup(kind, columns, floats, row * columns, Math.min(TILE, rows - row), packed, (row / TILE) * group)
  }
  return packed
}

function comparePacked(kind: Kind, dtype: FloatDtype, columns: number, rows: number, values: Float32Array): void {
  const { bytes, floats } = stored(dtype, values)
  packer.source.fill(0xff)
  packer.target.fill(0xaa)
  packer.source.set(bytes)
  const expected = packedByTwin(kind, columns, rows, floats)
  assert.is(packer.pack(kind, dtype, columns, rows), expected.length)
  const difference = expected.findIndex((byte, i) => byte !== packer.target[i])
  assert.is(difference, -1, `${kind} of ${dtype}, ${rows} x ${columns}: byte ${difference}`)
  assert.ok(
    packer.target.subarray(expected.length, expected.length + 64).every((byte) => byte === 0xaa),
    'nothing behind the groups is written',
  )
}

function fill(values: Float32Array, make: () => number): void {
  for (let i = 0; i < values.length; i++) values[i] = make()
}

/** Weights of a block that search for a scale differently. */
const SHAPES: readonly ((values: Float32Array, next: () => number) => void)[] = [
  () => {},
  // Zeros of both signs.
  (values, next) => fill(values, () => (next() < 0.5 ? 0 : -0)),
  // Equal values, and two that are opposite.
  (values, next) =>
    fill(
      values,
      (
        (w) => () =>
          w
      )(next() - 0.5),
    ),
  (values, next) => fill(values, () => (next() < 0.5 ? 0.25 : -0.25)),
  // One alone, of either sign.
  (values, next) => {
    values.fill(0)
    values[Math.floor(next() * values.length)] = next() - 0.5
  },
  // Few levels: ties wherever something is rounded.
  (values, next) => fill(values, () => (Math.floor(next() * 31) - 15) / 16),
  // Far from zero.
  (values, next) => fill(values, () => 1000 + next()),
]

test('packs every kind from every dtype bit for bit as the twin does', () => {
  fc.assert(
    fc.property(
      fc.constantFrom(...KINDS),
      fc.constantFrom(...DTYPES),
      fc.integer({ min: 1, max: 200 }),
      fc.integer({ min: 1, max: 17 }),
      fc.integer({ min: 0, max: SHAPES.length - 1 }),
      // From subnormal halves, and what underflows them, to the largest that the kinds take.
      fc.constantFrom(-40, -30, -26, -24, -20, -15, -8, -1, 0, 8, 12),
      fc.integer(),
      (kind, dtype, columns, rows, shape, exponent, seed) => {
        const values = randomFloats(rows * columns, seed)
        SHAPES[shape](values, randomNumbers(seed))
        const scaled = values.map((w) => Math.max(-60000, Math.min(60000, w * 2 ** exponent)))
        comparePacked(kind, dtype, columns, rows, scaled)
      },
    ),
    { numRuns: 600 },
  )
})

test('packs the largest weights that f16 and its scales can hold', () => {
  for (const kind of KINDS) {
    const most = kind === 'f16' || kind === 'q4a' ? 65504 : 2 ** 18 - 1
    for (let seed = 0; seed < 20; seed++) {
      const values = randomFloats(8 * 64, seed).map((w) => (w > 0.3 ? most : w < -0.3 ? -most : w * most))
      comparePacked(kind, 'F32', 64, 8, values)
    }
  }
})

test('every half, and what lies between two, rounds as in the twin', () => {
  for (let first = 0; first < 0x7c00; first += 2048) {
    const count = Math.min(2048, 0x7c00 - first)
    const halves = Uint16Array.from({ length: count }, (_, i) => first + i)
    const floats = new Float32Array(count)
    halvesToFloats(halves, floats)
    const bits = new Uint32Array(floats.buffer)
    // The half itself, just below and above it, and the middle to the next one: 8 rows of all of them.
    for (const add of [0, 1, -1, 0xfff, 0x1000, 0x1001]) {
      const moved = new Float32Array(Uint32Array.from(bits, (word) => Math.max(0, word + add)).buffer)
      const rows = new Float32Array(8 * count)
      for (let row = 0; row < 8; row++) rows.set(row % 2 === 0 ? moved : moved.map((w) => -w), row * count)
      comparePacked(
        'f16',
        'F32',
        count,
        8,
        rows.map((w) => Math.max(-65519, Math.min(65519, w))),
      )
    }
  }
})

test('finds the first weight that is not below a limit, wherever it stands', () => {
  fc.assert(
    fc.property(
      fc.constantFrom(...DTYPES),
      fc.integer({ min: 1, max: 100 }),
      fc.nat(),
      fc.constantFrom(Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 65536, -65536, 1024),
      fc.constantFrom(Number.POSITIVE_INFINITY, 65520, 2 ** 18),
      (dtype, count, at, value, limit) => {
        const values = new Float32Array(count).fill(0.5)
        values[at % count] = value
        const { bytes, floats } = stored(dtype, values)
        packer.source.fill(0xff)
        packer.source.set(bytes)
        const index = floats.findIndex((w) => !(Math.abs(w) < limit))
        const found = packer.oversized(dtype, count, limit)
        if (index < 0) assert.is(found, undefined)
        else assert.equal(found, { index, value: floats[index] })
      },
    ),
    { numRuns: 300 },
  )
})

test('sums up the source, whose last word zeros fill, and any buffer', () => {
  const next = randomNumbers(1)
  const buffer = new ChecksumBuffer(400)
  for (let length = 0; length <= 400; length++) {
    const bytes = Uint8Array.from({ length }, () => next() * 256)
    const padded = new Uint8Array(Math.ceil(length / 4) * 4)
    padded.set(bytes)
    packer.source.fill(0xff)
    packer.source.set(bytes)
    assert.is(packer.sourceChecksum(length), checksum(padded))
    buffer.bytes.set(padded.subarray(0, 400))
    if (length % 4 === 0) assert.is(buffer.checksum(length), checksum(bytes))
  }
})

test('sizes of the dtypes', () => {
  assert.equal(DTYPES.map(dtypeBytes), [4, 2, 2])
})

test.run()
