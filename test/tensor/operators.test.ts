import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { MAXIMUM_STEPS } from '../../src/tensor/compute.ts'
import { quantisedBytes } from '../../src/tensor/operators.ts'
import { Rows } from '../../src/tensor/rows.ts'
import { firstDifference, randomFloats, soleOperators } from './harness.ts'
import { rmsNorm } from './twins/elementwise.ts'

const test = suite('operators')
const COLUMNS = 64

test('steps are executed in the order in which they were added, also when they do not fit in one job', () => {
  const { operators, arena } = soleOperators()
  const vector = (): number => arena.allocate('vector', COLUMNS * 4)
  const quantised = arena.allocate('quantised', quantisedBytes(1, COLUMNS))
  const row = (): Rows => new Rows(vector(), COLUMNS * 4, COLUMNS)
  const [a, b] = [row(), row()]
  const weight = vector()
  arena.f32(weight, COLUMNS).set(randomFloats(COLUMNS, 2))
  let expected = randomFloats(COLUMNS, 1)
  arena.f32(a.pointer, COLUMNS).set(expected)
  for (let step = 0; step < 2 * MAXIMUM_STEPS + 4; step += 2) {
    operators.rmsNorm(a, 1, weight, 1e-5, 'f32', { rows: b, quantised })
    operators.rmsNorm(b, 1, weight, 1e-5, 'f32', { rows: a, quantised })
    expected = rmsNorm(rmsNorm(expected, arena.f32(weight, COLUMNS), 1e-5), arena.f32(weight, COLUMNS), 1e-5)
  }
  operators.run()
  assert.is(firstDifference(arena.f32(a.pointer, COLUMNS), expected), -1)
  // Nothing is left over that would run again.
  operators.run()
  assert.is(firstDifference(arena.f32(a.pointer, COLUMNS), expected), -1)
})

test.run()
