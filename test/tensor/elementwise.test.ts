import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import * as operations from '../../src/tensor/operations.ts'
import { Operation, RmsNormWord, RopeWord, SiluGateWord, StoreKvWord } from '../../src/tensor/operations.ts'
import { root } from '../paths.ts'
import { Bench, firstDifference, randomFloats, randomNumbers } from './harness.ts'
import { quantiseVector } from './twins/attention.ts'
import { rmsNorm, rope, siluGate, sumExp } from './twins/elementwise.ts'

const test = suite('elementwise')
const bench = new Bench()

const shape = fc.record({
  rows: fc.integer({ min: 1, max: 7 }),
  n: fc.integer({ min: 1, max: 70 }),
  segments: fc.integer({ min: 1, max: 4 }),
  parts: fc.integer({ min: 1, max: 4 }),
  extra: fc.integer({ min: 0, max: 40 }),
  inPlace: fc.boolean(),
  seed: fc.integer(),
})

test('the kernels name the words of a record as TypeScript does', () => {
  const snake = (name: string): string => name.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()
  const expected = new Map<string, number>()
  const ops = { storeKeysAndValues: 'STORE_KV' } as Record<string, string>
  for (const [name, code] of Object.entries(Operation)) expected.set(`OP_${ops[name] ?? snake(name)}`, code)
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

test('RMS norm equals its twin for every segment of every row, and fills the padding', () => {
  fc.assert(
    fc.property(shape, ({ rows, n, segments, parts, extra, inPlace, seed }) => {
      bench.reset()
      const width = segments * n + extra
      const source = bench.floats(randomFloats(rows * width, seed))
      const original = source.slice()
      const weight = bench.floats(randomFloats(n, seed + 1))
      const target = inPlace ? source : bench.floats(rows * width).fill(7)
      const paddedTo = extra > 3 ? width - 2 : 0
      const words = {
        rows,
        segments,
        segmentLength: n,
        source: source.byteOffset,
        sourceStride: width * 4,
        weight: weight.byteOffset,
        target: target.byteOffset,
        targetStride: width * 4,
        paddedTo,
        epsilon: 1e-5,
      }
      bench.run(Operation.rmsNorm, RmsNormWord, words, parts, ['epsilon'])
      const expected = inPlace ? original.slice() : new Float32Array(rows * width).fill(7)
      for (let row = 0; row < rows; row++) {
        for (let s = 0; s < segments; s++) {
          const at = row * width + s * n
          expected.set(rmsNorm(original.subarray(at, at + n), weight, 1e-5), at)
        }
        if (paddedTo > 0) expected.fill(0, row * width + segments * n, row * width + paddedTo)
      }
      assert.is(firstDifference(target, expected), -1)
    }),
  )
})

test('RoPE rotates the first 2 * half dimensions of each head and leaves the others', () => {
  const heads = fc.record({ heads: fc.integer({ min: 1, max: 5 }), half: fc.integer({ min: 1, max: 33 }) })
  fc.assert(
    fc.property(shape, heads, ({ rows, parts, extra, seed }, { heads, half }) => {
      bench.reset()
      const headSize = 2 * half + (extra % 5)
      const width = heads * headSize + extra
      const x = bench.floats(randomFloats(rows * width, seed))
      const expected = x.slice()
      const angles = randomFloats(rows * half, seed + 1)
      const cosines = bench.floats(angles.map(Math.cos))
      const sines = bench.floats(angles.map(Math.sin))
      const words = {
        rows,
        heads,
        headSize,
        half,
        x: x.byteOffset,
        stride: width * 4,
        cosines: cosines.byteOffset,
        sines: sines.byteOffset,
      }
      bench.run(Operation.rope, RopeWord, words, parts)
      for (let row = 0; row < rows; row++) {
        for (let head = 0; head < heads; head++) {
          const at = row * width + head * headSize
          const tables = [cosines, sines].map((table) => table.subarray(row * half, (row + 1) * half))
          rope(expected.subarray(at, at + headSize), half, tables[0], tables[1])
        }
      }
      assert.is(firstDifference(x, expected), -1)
    }),
  )
})

test('SiLU gates equal their twin, touch nothing behind the row, and fill the padding', () => {
  fc.assert(
    fc.property(shape, ({ rows, n, parts, extra, seed }) => {
      bench.reset()
      const width = 2 * n + extra
      const source = bench.floats(randomFloats(rows * width, seed, 30))
      const targetWidth = n + extra
      const target = bench.floats(rows * targetWidth).fill(7)
      const paddedTo = extra > 3 ? targetWidth - 2 : 0
      const words = {
        rows,
        columns: n,
        source: source.byteOffset,
        sourceStride: width * 4,
        upOffset: (n + extra) * 4,
        target: target.byteOffset,
        targetStride: targetWidth * 4,
        paddedTo,
      }
      bench.run(Operation.siluGate, SiluGateWord, words, parts)
      const expected = new Float32Array(rows * targetWidth).fill(7)
      for (let row = 0; row < rows; row++) {
        const gate = source.slice(row * width, row * width + n)
        const up = source.subarray(row * width + n + extra, (row + 1) * width)
        expected.set(siluGate(gate, up), row * targetWidth)
        if (paddedTo > 0) expected.fill(0, row * targetWidth + n, row * targetWidth + paddedTo)
      }
      assert.is(firstDifference(target, expected), -1)
    }),
  )
})

test('keys and values land in the slot of their row, head by head', () => {
  fc.assert(
    fc.property(shape, ({ rows, segments: kvHeads, parts, seed }) => {
      bench.reset()
      const headSize = 8
      const slotCount = 12
      const next = randomNumbers(seed)
      const slots = bench.integers(
        Array.from({ length: slotCount }, (_, i) => [next(), i])
          .sort((a, b) => a[0] - b[0])
          .slice(0, rows)
          .map(([, i]) => i),
      )
      const width = 2 * kvHeads * headSize
      const source = bench.floats(randomFloats(rows * width, seed + 1))
      const keys = bench.floats(kvHeads * slotCount * headSize).fill(7)
      const values = bench.floats(kvHeads * slotCount * headSize).fill(7)
      const words = {
        rows,
        kvHeads,
        headSize,
        k: source.byteOffset,
        v: source.byteOffset + kvHeads * headSize * 4,
        sourceStride: width * 4,
        keys: keys.byteOffset,
        values: values.byteOffset,
        headStride: slotCount * headSize * 4,
        slots: slots.byteOffset,
        scalesOffset: 0,
      }
      bench.run(Operation.storeKeysAndValues, StoreKvWord, words, parts)
      const expectedKeys = new Float32Array(keys.length).fill(7)
      const expectedValues = expectedKeys.slice()
      for (let row = 0; row < rows; row++) {
        for (let head = 0; head < kvHeads; head++) {
          const from = row * width + head * headSize
          const to = (head * slotCount + slots[row]) * headSize
          expectedKeys.set(source.subarray(from, from + headSize), to)
          expectedValues.set(source.subarray(from + kvHeads * headSize, from + (kvHeads + 1) * headSize), to)
        }
      }
      assert.is(firstDifference(keys, expectedKeys), -1)
      assert.is(firstDifference(values, expectedValues), -1)
    }),
  )
})

test('a q8 cache holds keys and values as integers with a scale per head and slot', () => {
  fc.assert(
    fc.property(shape, ({ rows, segments: kvHeads, parts, n, seed }) => {
      bench.reset()
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
        kvHeads,
        headSize,
        k: source.byteOffset,
        v: source.byteOffset + kvHeads * headSize * 4,
        sourceStride: width * 4,
        keys: caches[0].byteOffset,
        values: caches[1].byteOffset,
        headStride,
        slots: slots.byteOffset,
        scalesOffset,
      }
      bench.run(Operation.storeKeysAndValues, StoreKvWord, words, parts)
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

test('exp is within 2 ulp of the exact value, 0 below -87 and finite above 88', () => {
  bench.reset()
  const one = bench.floats(1)
  // sumExp of one number is exp of that number.
  const exp = (x: number): number => {
    one[0] = x
    return bench.kernels.sumExp(one.byteOffset, 1, 1, 0)
  }
  let worst = 0
  for (let i = 0; i <= 200_000; i++) {
    const x = Math.fround(-87 + (i * 175) / 200_000)
    const exact = Math.exp(x)
    const ulp = 2 ** (Math.max(-126, Math.floor(Math.log2(exact))) - 23)
    worst = Math.max(worst, Math.abs(exp(x) - exact) / ulp)
  }
  assert.ok(worst <= 2, `${worst} ulp`)
  assert.is(exp(0), 1)
  assert.is(exp(-87.5), 0)
  assert.is(exp(Number.NEGATIVE_INFINITY), 0)
  assert.ok(Number.isFinite(exp(1000)))
  assert.ok(Number.isNaN(exp(Number.NaN)))
})

test('sums of exponentials equal their twin', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 300 }), fc.integer(), fc.constantFrom(1, 0.7, 1.5), (n, seed, scale) => {
      bench.reset()
      const x = bench.floats(randomFloats(n, seed, 10))
      const maximum = bench.kernels.maximum(x.byteOffset, n)
      assert.is(maximum, Math.max(...x))
      assert.is(bench.kernels.sumExp(x.byteOffset, n, scale, maximum), sumExp(x, scale, maximum))
    }),
  )
})

/** Few distinct values, so that ties are the rule; NaN among them. */
const ties = fc.array(fc.constantFrom(-1, 0, 0.5, 2, Number.NaN, Number.NEGATIVE_INFINITY), {
  minLength: 1,
  maxLength: 200,
})

test('argmax takes the lowest index of the largest value and never NaN', () => {
  fc.assert(
    fc.property(ties, (list) => {
      bench.reset()
      const x = bench.floats(list)
      const best = Math.max(...list.filter((value) => !Number.isNaN(value)), Number.NEGATIVE_INFINITY)
      assert.is(bench.kernels.argmax(x.byteOffset, list.length), Math.max(0, list.indexOf(best)))
    }),
  )
})

test('topK is a stable descending sort, cut off', () => {
  const some = fc.array(fc.float({ noNaN: true, min: -4, max: 4 }), { minLength: 1, maxLength: 300 })
  fc.assert(
    fc.property(fc.oneof(ties, some), fc.integer({ min: 1, max: 64 }), (list, k) => {
      bench.reset()
      const x = bench.floats(list)
      const ids = bench.integers(64)
      const values = bench.floats(64)
      const count = bench.kernels.topK(x.byteOffset, list.length, k, ids.byteOffset, values.byteOffset)
      const expected = Array.from(x, (value, id) => ({ value, id }))
        .filter(({ value }) => !Number.isNaN(value))
        .sort((a, b) => (a.value === b.value ? a.id - b.id : b.value > a.value ? 1 : -1))
        .slice(0, k)
      assert.is(count, expected.length)
      assert.equal(
        [...ids.subarray(0, count)],
        expected.map(({ id }) => id),
      )
      assert.equal(
        [...values.subarray(0, count)],
        expected.map(({ value }) => value),
      )
    }),
  )
})

test.run()
