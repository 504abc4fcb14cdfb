import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { fillRopeTables, ropeFrequencies } from '../../src/model/rope.ts'
import { readHfConfig } from '../../src/weights/hf-config.ts'
import type { ModelConfig, RopeScaling } from '../../src/weights/model-config.ts'
import { fixtures } from '../paths.ts'

const plain = readHfConfig(join(fixtures, 'llama'))

const withRope = (headSize: number, theta: number, scaling: RopeScaling): ModelConfig => ({
  ...plain,
  headSize,
  rope: { ...plain.rope, theta, scaling },
})

const near = (actual: number, expected: number, what: string): void =>
  assert.ok(
    Math.abs(actual - expected) <= 1e-12 * Math.max(1, Math.abs(expected)),
    `${what}: ${actual}, not ${expected}`,
  )

const test = suite('rotary positions')

test('frequencies fall from 1 by powers of theta', () => {
  for (const [headSize, theta] of [
    [8, 10_000],
    [64, 10_000],
    [128, 500_000],
  ]) {
    const frequencies = ropeFrequencies(withRope(headSize, theta, { type: 'none' }))
    assert.is(frequencies.length, headSize / 2)
    assert.is(frequencies[0], 1)
    frequencies.forEach((f, i) => {
      near(f, theta ** ((-2 * i) / headSize), `${headSize} ${i}`)
    })
  }
})

test('linear scaling divides every frequency', () => {
  const scaled = ropeFrequencies(withRope(16, 10_000, { type: 'linear', factor: 4 }))
  ropeFrequencies(withRope(16, 10_000, { type: 'none' })).forEach((f, i) => {
    near(scaled[i], f / 4, `${i}`)
  })
})

test('llama3 scaling keeps short waves, stretches long ones, and meets both in between', () => {
  const scaling = {
    type: 'llama3',
    factor: 8,
    lowFrequencyFactor: 1,
    highFrequencyFactor: 4,
    originalPositions: 8192,
  } as const
  const before = ropeFrequencies(withRope(128, 500_000, { type: 'none' }))
  const after = ropeFrequencies(withRope(128, 500_000, scaling))
  const seen = { kept: 0, between: 0, stretched: 0 }
  before.forEach((f, i) => {
    const wave = (2 * Math.PI) / f
    if (wave < 8192 / 4) {
      assert.is(after[i], f)
      seen.kept++
    } else if (wave > 8192) {
      near(after[i], f / 8, `${i}`)
      seen.stretched++
    } else {
      assert.ok(after[i] < f && after[i] > f / 8)
      const share = (8192 / wave - 1) / 3
      near(after[i], ((1 - share) * f) / 8 + share * f, `${i}`)
      seen.between++
    }
    if (i > 0) assert.ok(after[i] < after[i - 1], 'the order of the frequencies stays')
  })
  assert.ok(seen.kept > 0 && seen.between > 0 && seen.stretched > 0)
})

test('tables hold cosine and sine of position times frequency, per row', () => {
  const frequencies = ropeFrequencies(withRope(16, 10_000, { type: 'none' }))
  const positions = Int32Array.of(0, 1, 5, 4095, 100_000)
  const cosines = new Float32Array(5 * 8)
  const sines = new Float32Array(5 * 8)
  fillRopeTables(frequencies, positions, 5, cosines, sines)
  positions.forEach((position, row) => {
    frequencies.forEach((f, i) => {
      const at = row * 8 + i
      assert.ok(Math.abs(cosines[at] - Math.cos(position * f)) < 1e-7, `cos ${position} ${i}`)
      assert.ok(Math.abs(sines[at] - Math.sin(position * f)) < 1e-7, `sin ${position} ${i}`)
    })
  })
})

test('rows beyond the count are left alone', () => {
  const frequencies = ropeFrequencies(withRope(8, 10_000, { type: 'none' }))
  const cosines = new Float32Array(8).fill(9)
  fillRopeTables(frequencies, Int32Array.of(3, 3), 1, cosines, new Float32Array(8))
  assert.equal([...cosines.subarray(4)], [9, 9, 9, 9])
})

test.run()
