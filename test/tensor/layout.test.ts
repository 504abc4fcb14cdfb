import fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { bfloatsToFloats, floatToHalf, halfToFloat, halvesToFloats } from '../../src/tensor/half.ts'
import {
  BLOCK,
  groupBytes,
  KINDS,
  type Kind,
  matrixBytes,
  packGroup,
  paddedInner,
  paddedOutputs,
  TILE,
  unpackGroup,
  unpackRow,
} from '../../src/tensor/layout.ts'
import { firstDifference, randomFloats } from './harness.ts'

const test = suite('layout')

const group = fc.record({
  rows: fc.integer({ min: 1, max: 8 }),
  columns: fc.integer({ min: 1, max: 100 }),
  seed: fc.integer(),
})

/** Packs and unpacks: [8 x columns]. */
function roundTrip(kind: Kind, source: Float32Array, rows: number, columns: number): Float32Array {
  const packed = new Uint8Array(groupBytes(kind, columns))
  packGroup(kind, columns, source, 0, rows, packed, 0)
  const target = new Float32Array(TILE * columns)
  unpackGroup(kind, columns, packed, 0, target)
  return target
}

/** Calls back for every block of every row. */
function forBlocks(rows: number, columns: number, visit: (from: number, to: number) => void): void {
  for (let r = 0; r < rows; r++) {
    for (let k = 0; k < columns; k += BLOCK) visit(r * columns + k, r * columns + Math.min(k + BLOCK, columns))
  }
}

const largest = (values: Float32Array): number => values.reduce((a, b) => Math.max(a, Math.abs(b)), 0)

test('sizes: whole blocks and whole groups', () => {
  assert.is(paddedInner(1), 32)
  assert.is(paddedInner(64), 64)
  assert.is(paddedOutputs(9), 16)
  assert.is(groupBytes('f32', 33), 64 * 32)
  assert.is(groupBytes('q8', 33), 2 * 272)
  assert.is(groupBytes('q4', 33), 2 * 144)
  assert.is(groupBytes('q4a', 33), 2 * 160)
  assert.is(groupBytes('f16', 33), 64 * 16)
  assert.is(matrixBytes('q4', 9, 64), 2 * 2 * 144)
})

test('f32 comes back unchanged', () => {
  fc.assert(
    fc.property(group, ({ rows, columns, seed }) => {
      const source = randomFloats(rows * columns, seed)
      const expected = new Float32Array(TILE * columns)
      expected.set(source)
      assert.is(firstDifference(roundTrip('f32', source, rows, columns), expected), -1)
    }),
  )
})

test('f16 takes the nearest binary16 value, and keeps those that are one', () => {
  fc.assert(
    fc.property(group, ({ rows, columns, seed }) => {
      const source = randomFloats(rows * columns, seed)
      const expected = new Float32Array(TILE * columns)
      source.forEach((value, i) => {
        expected[i] = halfToFloat(floatToHalf(value))
      })
      const result = roundTrip('f16', source, rows, columns)
      assert.is(firstDifference(result, expected), -1)
      source.forEach((value, i) => {
        assert.ok(Math.abs(result[i] - value) <= Math.max(Math.abs(value) * 2 ** -11, 2 ** -25))
      })
      assert.is(firstDifference(roundTrip('f16', result, TILE, columns), expected), -1)
    }),
  )
})

test('q8 is within half a step; a step is the largest magnitude of the block over 127', () => {
  // Tiny steps are multiples of 2^-24 (subnormal binary16), so the largest values may be clipped by 127 half units.
  const clipped = 128 * 2 ** -25
  fc.assert(
    fc.property(group, ({ rows, columns, seed }) => {
      const source = randomFloats(rows * columns, seed, 0.1)
      const result = roundTrip('q8', source, rows, columns)
      forBlocks(rows, columns, (from, to) => {
        const step = (largest(source.subarray(from, to)) / 127) * (1 + 2 ** -10)
        for (let i = from; i < to; i++) {
          assert.ok(Math.abs(result[i] - source[i]) <= step / 2 + clipped, `${source[i]} ${result[i]}`)
        }
      })
      assert.ok(result.subarray(rows * columns).every((value) => value === 0))
    }),
  )
})

test('q4 loses no more than the plain signed-maximum rule, squared over the block', () => {
  fc.assert(
    fc.property(group, ({ rows, columns, seed }) => {
      const source = randomFloats(rows * columns, seed, 0.1)
      const result = roundTrip('q4', source, rows, columns)
      forBlocks(rows, columns, (from, to) => {
        const block = source.subarray(from, to)
        const extreme = block.reduce((a, b) => (Math.abs(b) > Math.abs(a) ? b : a), 0)
        const scale = halfToFloat(floatToHalf(extreme / -8))
        const plain = block.reduce((sum, w) => {
          const q = scale === 0 ? 0 : Math.max(-8, Math.min(7, Math.round(w / scale)))
          return sum + (w - q * scale) ** 2
        }, 0)
        const actual = block.reduce((sum, w, i) => sum + (w - result[from + i]) ** 2, 0)
        // Both scales are rounded to binary16, which may favour the plain one by a little.
        assert.ok(actual <= plain * (1 + 2 ** -10) + 1e-20, `${actual} ${plain}`)
      })
      assert.ok(result.subarray(rows * columns).every((value) => value === 0))
    }),
  )
})

test('q4 chooses scales well: the error of random blocks is well below that of the plain signed-maximum rule', () => {
  // Without the outliers: a block that has one is all about that one.
  const source = randomFloats(8 * 4096, 5).map((w) => (Math.abs(w) > 1.5 ? w / 20 : w))
  const result = roundTrip('q4', source, 8, 4096)
  let error = 0
  let plainError = 0
  forBlocks(8, 4096, (from, to) => {
    const extreme = source.subarray(from, to).reduce((a, b) => (Math.abs(b) > Math.abs(a) ? b : a), 0)
    const scale = halfToFloat(floatToHalf(extreme / -8))
    for (let i = from; i < to; i++) {
      const q = Math.max(-8, Math.min(7, Math.round(source[i] / scale)))
      plainError += (source[i] - q * scale) ** 2
      error += (source[i] - result[i]) ** 2
    }
  })
  assert.ok(error < 0.885 * plainError, `${error} and ${plainError}`)
})

test('q4 keeps what it can represent: multiples of a scale from -8 to 7', () => {
  const source = Float32Array.from({ length: 64 }, (_, i) => ((i % 16) - 8) * 0.25)
  assert.is(firstDifference(roundTrip('q4', source, 1, 64).subarray(0, 64), source), -1)
})

/** The squared error of a block whose scale and minimum map its range to 0..15. */
function plainAffineError(block: Float32Array): number {
  const low = block.reduce((a, b) => Math.min(a, b))
  const high = block.reduce((a, b) => Math.max(a, b))
  const scale = halfToFloat(floatToHalf((high - low) / 15))
  const minimum = halfToFloat(floatToHalf(low))
  return block.reduce((sum, w) => {
    const q = scale === 0 ? 0 : Math.max(0, Math.min(15, Math.round((w - minimum) / scale)))
    return sum + (w - (q * scale + minimum)) ** 2
  }, 0)
}

test('q4a loses hardly ever more than the plain rule of minimum and range, and never much more', () => {
  let worse = 0
  let blocks = 0
  fc.assert(
    fc.property(group, fc.constantFrom(0, 1, -40), ({ rows, columns, seed }, offset) => {
      const source = randomFloats(rows * columns, seed).map((w) => w + offset)
      const result = roundTrip('q4a', source, rows, columns)
      forBlocks(rows, columns, (from, to) => {
        const plain = plainAffineError(source.subarray(from, to))
        const actual = source.subarray(from, to).reduce((sum, w, i) => sum + (w - result[from + i]) ** 2, 0)
        // A minimum is rounded to binary16, which may favour the plain one by up to half a unit per weight.
        const unit = 2 ** -11 * (Math.abs(offset) + 3)
        assert.ok(actual <= plain * 1.02 + (to - from) * unit ** 2, `${actual} ${plain}`)
        // Far from zero, chance decides: rounding the minimum costs more than all else.
        if (offset === -40) return
        blocks++
        if (actual > plain) worse++
      })
      assert.ok(result.subarray(rows * columns).every((value) => value === 0))
    }),
  )
  assert.ok(worse < blocks / 20, `${worse} of ${blocks}`)
})

test('q4a chooses scales and minimums well: random blocks lose far less than by the plain rule, and than in q4', () => {
  const source = randomFloats(8 * 4096, 5).map((w) => (Math.abs(w) > 1.5 ? w / 20 : w))
  let plain = 0
  const errors = { q4a: 0, q4: 0 }
  forBlocks(8, 4096, (from, to) => {
    plain += plainAffineError(source.subarray(from, to))
  })
  for (const kind of ['q4a', 'q4'] as const) {
    const result = roundTrip(kind, source, 8, 4096)
    source.forEach((w, i) => {
      errors[kind] += (w - result[i]) ** 2
    })
  }
  assert.ok(errors.q4a < 0.9 * plain, `${errors.q4a} and ${plain}`)
  assert.ok(errors.q4a < 0.9 * errors.q4, `${errors.q4a} and ${errors.q4}`)
})

test('q4a keeps what it can represent: 16 equal steps from any minimum, and blocks of one value', () => {
  for (const minimum of [0, -2, 1000]) {
    const source = Float32Array.from({ length: 64 }, (_, i) => minimum + (i % 16) * 0.25)
    assert.is(firstDifference(roundTrip('q4a', source, 1, 64).subarray(0, 64), source), -1)
  }
  const constant = new Float32Array(40).fill(-0.375)
  assert.is(firstDifference(roundTrip('q4a', constant, 1, 40).subarray(0, 40), constant), -1)
})

test('q4a copes with the largest and the smallest weights', () => {
  for (const size of [65504, 2 ** -14, 2 ** -24, 1e-30]) {
    const source = randomFloats(64, 3).map((w) => Math.max(-1, Math.min(1, w)) * size)
    const result = roundTrip('q4a', source, 1, 64)
    const step = Math.max((2 * size) / 15, 2 ** -24)
    source.forEach((w, i) => {
      assert.ok(Math.abs(result[i] - w) <= step, `${result[i]} for ${w}`)
    })
  }
})

test('padding of every kind stands for zero, so that products may run over it', () => {
  for (const kind of KINDS) {
    const columns = 33
    const packed = new Uint8Array(groupBytes(kind, columns)).fill(0xaa)
    packGroup(kind, columns, randomFloats(3 * columns, 1), 0, 3, packed, 0)
    const wide = new Float32Array(TILE * 64)
    unpackGroup(kind, 64, packed, 0, wide)
    for (let r = 0; r < TILE; r++) {
      // An absent column of q4a stands for its block's minimum: there, activations are zero.
      const present = kind === 'q4a' ? 64 : columns
      for (let k = r < 3 ? present : 0; k < 64; k++) assert.is(wide[r * 64 + k] + 0, 0, `${kind} ${r} ${k}`)
    }
  }
})

test('the bytes are where the layout says: inner runs of 4, outputs side by side', () => {
  const at = (kind: Kind, output: number, k: number): number => {
    const source = new Float32Array(TILE * 64)
    for (let i = 0; i < source.length; i++) source[i] = 0
    source[output * 64 + k] = 1
    const packed = new Uint8Array(groupBytes(kind, 64))
    packGroup(kind, 64, source, 0, TILE, packed, 0)
    const empty = new Uint8Array(groupBytes(kind, 64))
    packGroup(kind, 64, new Float32Array(TILE * 64), 0, TILE, empty, 0)
    return packed.findIndex((byte, i) => byte !== empty[i])
  }
  assert.is(at('q8', 0, 0), 0)
  assert.is(at('q8', 2, 5), 32 + 2 * 4 + 1)
  assert.is(at('q8', 7, 33), 272 + 28 + 1)
  assert.is(at('q4', 0, 0), 0)
  assert.is(at('q4', 6, 7), 16 + 2 * 4 + 3)
  assert.is(at('q4', 1, 34), 144 + 4 + 2)
  // Values other than the minimum have nibbles; the first byte that differs is the value's.
  assert.is(at('q4a', 0, 0), 0)
  assert.is(at('q4a', 6, 7), 16 + 2 * 4 + 3)
  assert.is(at('q4a', 1, 34), 160 + 4 + 2)
  assert.is(at('f16', 3, 5) >> 1, 5 * 8 + 3)
  assert.is(at('f32', 3, 5) >> 2, 5 * 8 + 3)
})

test('source and target offsets are honoured, and nothing else is written', () => {
  for (const kind of KINDS) {
    const columns = 40
    const source = randomFloats(100 + 8 * columns, 3)
    const bytes = groupBytes(kind, columns)
    const expected = new Uint8Array(bytes)
    packGroup(kind, columns, source.slice(100), 0, 8, expected, 0)
    const packed = new Uint8Array(64 + bytes + 64).fill(9)
    packGroup(kind, columns, source, 100, 8, packed, 64)
    assert.equal(packed.slice(64, 64 + bytes), expected)
    assert.ok([...packed.subarray(0, 64), ...packed.subarray(64 + bytes)].every((byte) => byte === 9))
  }
})

test('one row unpacks to the same values as the whole group', () => {
  fc.assert(
    fc.property(group, fc.constantFrom(...KINDS), ({ columns, seed }, kind) => {
      const packed = new Uint8Array(groupBytes(kind, columns) + 1)
      const source = randomFloats(8 * columns, seed)
      const aligned = new Uint8Array(groupBytes(kind, columns))
      packGroup(kind, columns, source, 0, 8, aligned, 0)
      // Bytes from a file may lie at any offset.
      packed.set(aligned, 1)
      const all = new Float32Array(8 * columns)
      unpackGroup(kind, columns, aligned, 0, all)
      const row = new Float32Array(columns + 2)
      for (let r = 0; r < 8; r++) {
        unpackRow(kind, columns, packed, 1, r, row, 2)
        assert.is(firstDifference(row.subarray(2), all.subarray(r * columns, (r + 1) * columns)), -1)
      }
    }),
  )
})

test('every binary16 value survives the way to f32 and back', () => {
  const all = Uint16Array.from({ length: 65536 }, (_, i) => i)
  const floats = new Float32Array(65536)
  halvesToFloats(all, floats)
  for (let half = 0; half < 65536; half++) {
    if ((half & 0x7fff) > 0x7c00) assert.ok(Number.isNaN(floats[half]))
    else assert.is(floatToHalf(floats[half]), half)
  }
  assert.is(halfToFloat(0x3c00), 1)
  assert.is(halfToFloat(0x0001), 2 ** -24)
  assert.is(halfToFloat(0xfbff), -65504)
})

test('f32 to binary16 takes the nearest, ties to even', () => {
  assert.is(floatToHalf(1 + 2 ** -11), 0x3c00)
  assert.is(floatToHalf(1 + 3 * 2 ** -11), 0x3c02)
  assert.is(floatToHalf(1 + 2 ** -11 + 2 ** -20), 0x3c01)
  assert.is(floatToHalf(2 ** -25), 0)
  assert.is(floatToHalf(3 * 2 ** -25), 2)
  assert.is(floatToHalf(65519), 0x7bff)
  assert.is(floatToHalf(65520), 0x7c00)
  assert.is(floatToHalf(Number.NaN) & 0x7fff, 0x7e00)
})

test('bfloat16 is the upper half of f32', () => {
  const target = new Float32Array(3)
  bfloatsToFloats(Uint16Array.of(0x3f80, 0xc000, 0x7f80), target)
  assert.equal([...target], [1, -2, Number.POSITIVE_INFINITY])
})

test.run()
