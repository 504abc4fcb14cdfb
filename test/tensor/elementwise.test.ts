import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { paddedInner } from '../../src/tensor/layout.ts'
import * as operations from '../../src/tensor/operations.ts'
import { KIND_CODE, Operation, RmsNormWord, RotateAndStoreWord, SiluGateWord } from '../../src/tensor/operations.ts'
import { quantisedBytes } from '../../src/tensor/operators.ts'
import { root } from '../paths.ts'
import { type Bench, firstDifference, randomFloats, randomNumbers } from './harness.ts'
import { quantiseVector } from './twins/attention.ts'
import { rmsNorm, rope, siluGate } from './twins/elementwise.ts'
import { quantise } from './twins/gemm.ts'
import { operandBytes } from './twins/operand.ts'
import { everyVariant } from './variants.ts'

const test = suite('elementwise')
let bench: Bench
const testEach = everyVariant(test, (next) => {
  bench = next
})

const shape = fc.record({
  rows: fc.integer({ min: 1, max: 7 }),
  n: fc.integer({ min: 1, max: 150 }),
  parts: fc.integer({ min: 1, max: 4 }),
  extra: fc.integer({ min: 0, max: 40 }),
  seed: fc.integer(),
})

/** Where rows of n go: f32 with a stride of the padded width and `extra` more, or integers. */
function placeTarget(rows: number, n: number, extra: number) {
  const width = paddedInner(n) + extra
  return { width, floats: bench.floats(rows * width).fill(7), quantised: bench.bytes(quantisedBytes(rows, n)) }
}
type Target = ReturnType<typeof placeTarget>

/** Weights that the integers are meant for. */
const KIND = 'q4'

const addresses = ({ width, quantised }: Target) => ({
  targetStride: width * 4,
  values: quantised.byteOffset,
  kind: KIND_CODE[KIND],
})

/** Rows [rows x n] without gaps, as f32 rows: zeros up to the padded width, and nothing touched behind it. */
function assertFloats({ width, floats }: Target, rows: number, n: number, expected: Float32Array): void {
  const all = new Float32Array(floats.length).fill(7)
  for (let row = 0; row < rows; row++) {
    all.fill(0, row * width, row * width + paddedInner(n))
    all.set(expected.subarray(row * n, (row + 1) * n), row * width)
  }
  assert.is(firstDifference(floats, all), -1)
}

/** Rows [rows x n] without gaps, as the integers that quantising them afterwards would have given. */
function assertIntegers({ quantised }: Target, rows: number, n: number, expected: Float32Array): void {
  const padded = paddedInner(n)
  const bytes = operandBytes(quantise(expected, rows, n, padded), rows, padded, KIND, bench.variant)
  assert.equal(quantised.slice(0, bytes.length), bytes)
}

test('the kernels name the words of a record as TypeScript does', () => {
  const snake = (name: string): string => name.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()
  const expected = new Map<string, number>()
  for (const [name, code] of Object.entries(Operation)) expected.set(`OP_${snake(name)}`, code)
  for (const [name, code] of Object.entries(operations.KIND_CODE)) expected.set(`KIND_${name.toUpperCase()}`, code)
  for (const [table, words] of Object.entries(operations)) {
    if (!table.endsWith('Word')) continue
    const prefix = snake(table.slice(0, -4)).slice(1)
    for (const [name, index] of Object.entries(words)) expected.set(`${prefix}_${snake(name)}`, index as number)
  }
  for (const [name, code] of Object.entries(operations.ATTENTION_PHASE)) expected.set(`PHASE_${snake(name)}`, code)
  const source = readFileSync(join(root, 'kernels', 'record.ts'), 'utf8')
  const actual = [...source.matchAll(/^export const (\w+): i32 = (\d+)$/gm)].map(([, name, value]) => [name, +value])
  assert.ok(actual.length > 80)
  assert.equal([...actual].sort(), [...expected].map(([name, value]) => [name, value]).sort())
})

testEach('RMS norm of chosen rows equals its twin, as f32 and as integers', () => {
  fc.assert(
    fc.property(shape, fc.boolean(), ({ rows, n, parts, extra, seed }, chosen) => {
      bench.reset()
      const width = n + extra
      const source = bench.floats(randomFloats(8 * width, seed))
      const weight = bench.floats(randomFloats(n, seed + 1))
      const next = randomNumbers(seed)
      const sourceRows = bench.integers(Array.from({ length: rows }, (_, i) => (chosen ? Math.floor(next() * 8) : i)))
      const target = placeTarget(rows, n, extra)
      const words = {
        rows,
        columns: n,
        source: source.byteOffset,
        sourceStride: width * 4,
        sourceRows: chosen ? sourceRows.byteOffset : 0,
        weight: weight.byteOffset,
        epsilon: 1e-5,
        target: target.floats.byteOffset,
        ...addresses(target),
      }
      const expected = new Float32Array(rows * n)
      sourceRows.forEach((at, row) => {
        expected.set(rmsNorm(source.subarray(at * width, at * width + n), weight, 1e-5), row * n)
      })
      bench.run(Operation.rmsNorm, RmsNormWord, words, parts, ['epsilon'])
      assertFloats(target, rows, n, expected)
      bench.run(Operation.rmsNorm, RmsNormWord, { ...words, target: 0 }, parts, ['epsilon'])
      assertIntegers(target, rows, n, expected)
    }),
  )
})

testEach('NaN in a row that is normed and quantised stays in its blocks and traps nothing', () => {
  bench.reset()
  const source = bench.floats(64).fill(1)
  source[40] = Number.NaN
  const weight = bench.floats(64).fill(1)
  const target = placeTarget(1, 64, 0)
  const words = {
    rows: 1,
    columns: 64,
    source: source.byteOffset,
    sourceStride: 256,
    sourceRows: 0,
    weight: weight.byteOffset,
    epsilon: 1e-5,
    target: 0,
    ...addresses(target),
  }
  bench.run(Operation.rmsNorm, RmsNormWord, words, 1, ['epsilon'])
  const zeros = { values: new Int8Array(64), scales: new Float32Array(2).fill(Number.NaN), sums: new Int32Array(2) }
  const bytes = operandBytes(zeros, 1, 64, KIND, bench.variant)
  const actual = target.quantised.slice(0, bytes.length)
  // A NaN's sign and payload are the processor's own.
  const bytesPerBlock = bytes.length / 2
  for (const scale of [bytesPerBlock - 8, 2 * bytesPerBlock - 8]) {
    assert.ok(Number.isNaN(new DataView(actual.buffer).getFloat32(scale, true)))
    actual.set(bytes.subarray(scale, scale + 4), scale)
  }
  assert.equal(actual, bytes)
})

testEach('SiLU gates equal their twin, as f32 and as integers, and touch nothing behind the row', () => {
  fc.assert(
    fc.property(shape, ({ rows, n, parts, extra, seed }) => {
      bench.reset()
      const width = 2 * n + extra
      const source = bench.floats(randomFloats(rows * width, seed, 30))
      const original = source.slice()
      const target = placeTarget(rows, n, extra)
      const words = {
        rows,
        columns: n,
        source: source.byteOffset,
        sourceStride: width * 4,
        upOffset: (n + extra) * 4,
        target: target.floats.byteOffset,
        ...addresses(target),
      }
      const expected = new Float32Array(rows * n)
      for (let row = 0; row < rows; row++) {
        const gate = source.slice(row * width, row * width + n)
        const up = source.subarray(row * width + n + extra, (row + 1) * width)
        expected.set(siluGate(gate, up), row * n)
      }
      bench.run(Operation.siluGate, SiluGateWord, words, parts)
      assertFloats(target, rows, n, expected)
      assert.is(firstDifference(source, original), -1)
      bench.run(Operation.siluGate, SiluGateWord, { ...words, target: 0 }, parts)
      assertIntegers(target, rows, n, expected)
      // Only the gate's own place was used on the way.
      for (let row = 0; row < rows; row++) {
        const [from, to] = [row * width + n, (row + 1) * width]
        assert.is(firstDifference(source.subarray(from, to), original.subarray(from, to)), -1)
      }
    }),
  )
})

testEach(
  'heads are normed and rotated in their first 2 * half dimensions; keys and values land in the slot of their row',
  () => {
    const headShape = fc.record({
      heads: fc.integer({ min: 1, max: 5 }),
      kvHeads: fc.integer({ min: 1, max: 4 }),
      half: fc.integer({ min: 1, max: 33 }),
      qNorm: fc.boolean(),
      kNorm: fc.boolean(),
    })
    fc.assert(
      fc.property(shape, headShape, ({ rows, parts, extra, seed }, { heads, kvHeads, half, qNorm, kNorm }) => {
        bench.reset()
        const headSize = 2 * half + (extra % 5)
        const slotCount = 12
        const next = randomNumbers(seed)
        const slots = bench.integers(
          Array.from({ length: slotCount }, (_, i) => [next(), i])
            .sort((a, b) => a[0] - b[0])
            .slice(0, rows)
            .map(([, i]) => i),
        )
        const width = (heads + 2 * kvHeads) * headSize + extra
        const x = bench.floats(randomFloats(rows * width, seed + 1))
        const original = x.slice()
        const kAt = heads * headSize
        const vAt = kAt + kvHeads * headSize
        const angles = randomFloats(rows * half, seed + 2)
        const cosines = bench.floats(angles.map(Math.cos))
        const sines = bench.floats(angles.map(Math.sin))
        const qWeight = bench.floats(randomFloats(headSize, seed + 3))
        const kWeight = bench.floats(randomFloats(headSize, seed + 4))
        const keys = bench.floats(kvHeads * slotCount * headSize).fill(7)
        const values = bench.floats(kvHeads * slotCount * headSize).fill(7)
        const words = {
          rows,
          heads,
          kvHeads,
          headSize,
          half,
          q: x.byteOffset,
          k: x.byteOffset + kAt * 4,
          v: x.byteOffset + vAt * 4,
          stride: width * 4,
          qNorm: qNorm ? qWeight.byteOffset : 0,
          kNorm: kNorm ? kWeight.byteOffset : 0,
          epsilon: 1e-5,
          cosines: cosines.byteOffset,
          sines: sines.byteOffset,
          keys: keys.byteOffset,
          values: values.byteOffset,
          headStride: slotCount * headSize * 4,
          slots: slots.byteOffset,
          scalesOffset: 0,
        }
        bench.run(Operation.rotateAndStore, RotateAndStoreWord, words, parts, ['epsilon'])

        const expectedKeys = new Float32Array(keys.length).fill(7)
        const expectedValues = expectedKeys.slice()
        for (let row = 0; row < rows; row++) {
          const rotated = (at: number, weight: Float32Array | undefined): Float32Array => {
            const head = original.slice(row * width + at, row * width + at + headSize)
            const normed = weight === undefined ? head : rmsNorm(head, weight, 1e-5)
            rope(normed, half, cosines.subarray(row * half), sines.subarray(row * half))
            return normed
          }
          for (let head = 0; head < heads; head++) {
            const q = rotated(head * headSize, qNorm ? qWeight : undefined)
            const from = row * width + head * headSize
            assert.is(firstDifference(x.subarray(from, from + headSize), q), -1)
          }
          for (let head = 0; head < kvHeads; head++) {
            const to = (head * slotCount + slots[row]) * headSize
            const from = row * width + vAt + head * headSize
            expectedKeys.set(rotated(kAt + head * headSize, kNorm ? kWeight : undefined), to)
            expectedValues.set(original.subarray(from, from + headSize), to)
          }
          const behind = [row * width + vAt, (row + 1) * width] as const
          assert.is(firstDifference(x.subarray(...behind), original.subarray(...behind)), -1)
        }
        assert.is(firstDifference(keys, expectedKeys), -1)
        assert.is(firstDifference(values, expectedValues), -1)
      }),
    )
  },
)

testEach('a q8 cache holds keys and values as integers with a scale per head and slot', () => {
  fc.assert(
    fc.property(shape, ({ rows, extra, parts, n, seed }) => {
      bench.reset()
      const kvHeads = 1 + (extra % 4)
      const headSize = 4 + 4 * n
      const vectorBytes = Math.ceil(headSize / 8) * 8
      const slotCount = rows + 2
      const slots = bench.integers(Array.from({ length: rows }, (_, row) => slotCount - 1 - row))
      const width = 2 * kvHeads * headSize
      const source = bench.floats(randomFloats(rows * width, seed))
      // All zeros, and too small for 127 / amax.
      source.fill(0, 0, headSize)
      source.fill(1e-38, kvHeads * headSize, (kvHeads + 1) * headSize)
      const headStride = slotCount * (vectorBytes + 4)
      const scalesOffset = slotCount * vectorBytes
      const caches = [bench.bytes(kvHeads * headStride).fill(7), bench.bytes(kvHeads * headStride).fill(7)]
      const words = {
        rows,
        heads: 0,
        kvHeads,
        headSize,
        half: 0,
        q: 0,
        k: source.byteOffset,
        v: source.byteOffset + kvHeads * headSize * 4,
        stride: width * 4,
        qNorm: 0,
        kNorm: 0,
        epsilon: 0,
        cosines: 0,
        sines: 0,
        keys: caches[0].byteOffset,
        values: caches[1].byteOffset,
        headStride,
        slots: slots.byteOffset,
        scalesOffset,
      }
      bench.run(Operation.rotateAndStore, RotateAndStoreWord, words, parts, ['epsilon'])
      caches.forEach((cache, which) => {
        const expected = new Uint8Array(cache.length).fill(7)
        const view = new DataView(expected.buffer)
        for (let row = 0; row < rows; row++) {
          for (let head = 0; head < kvHeads; head++) {
            const from = row * width + (which * kvHeads + head) * headSize
            const { values, scale } = quantiseVector(source.slice(from, from + headSize), 127)
            const at = head * headStride + slots[row] * vectorBytes
            expected.fill(0, at, at + vectorBytes)
            values.forEach((value, d) => void view.setInt8(at + d, value))
            view.setFloat32(head * headStride + scalesOffset + slots[row] * 4, scale, true)
          }
        }
        assert.equal(cache.slice(), expected)
      })
    }),
  )
})

test.run()
