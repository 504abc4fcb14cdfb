import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { isLoop, LOOP_SHARE, repeatedShare } from '../../bench/loops.ts'

const test = suite('loops')

const counting = (count: number): number[] => Array.from({ length: count }, (_, i) => i)

test('what never repeats eight tokens in a row has no repeated share', () => {
  assert.is(repeatedShare(counting(100)), 0)
  assert.is(repeatedShare([...counting(7), ...counting(7)]), 0)
})

test('of a text said twice, all 8-grams within the second time are repeated', () => {
  // 33 of 40 tokens begin an 8-gram, and the last 13 of these lie in the second half.
  assert.is(repeatedShare([...counting(20), ...counting(20)]), 13 / 33)
})

test('one token over and over is repeated but for the first time', () => {
  assert.is(repeatedShare(new Array(17).fill(5)), 9 / 10)
})

test('tokens are not confused with others that are spelled alike', () => {
  const a = [1, 23, 4, 5, 6, 7, 8, 9]
  const b = [12, 3, 4, 5, 6, 7, 8, 9]
  assert.is(repeatedShare([...a, 100, ...b]), 0)
})

test('an output shorter than eight tokens repeats nothing', () => {
  assert.is(repeatedShare([]), 0)
  assert.is(repeatedShare([1, 1, 1, 1, 1, 1, 1]), 0)
})

test('a loop is an output above the stated share', () => {
  assert.is(LOOP_SHARE, 0.3)
  assert.is(isLoop([...counting(20), ...counting(20)]), true)
  assert.is(isLoop([...counting(30), ...counting(15)]), false)
})

test.run()
