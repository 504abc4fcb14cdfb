/** What passes are said to cost, from those that were made. No clock: figures are given. */
import * as fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { PassCosts } from '../../src/speculate/pass-costs.ts'

const ROWS = 64
const DRAFT_ROWS = 8

/** A resident target: as a whole a pass takes what it computes. */
function resident(seen: readonly (readonly [rows: number, seconds: number])[]): PassCosts {
  const costs = new PassCosts(ROWS, DRAFT_ROWS)
  for (const [rows, seconds] of seen) costs.observePass(rows, seconds, seconds)
  return costs
}

function assertNear(actual: number, expected: number, what = ''): void {
  assert.ok(
    Math.abs(actual - expected) <= 1e-9 * Math.max(1, Math.abs(expected)),
    `${what} ${actual} is not ${expected}`,
  )
}

const times = <T>(count: number, value: T): T[] => Array.from({ length: count }, () => value)

const test = suite('pass costs')

test('nothing is known before the first pass', () => {
  const costs = new PassCosts(ROWS, DRAFT_ROWS)
  for (const rows of [1, 2, ROWS]) assert.is(costs.pass(rows), 0)
  assert.is(costs.draftPass(1), 0)
  assert.is(costs.hasSeen(1), false)
})

test('a size that was seen costs what it took, another one not necessarily', () => {
  const costs = resident([
    [1, 2],
    [9, 3],
  ])
  assert.is(costs.pass(1), 2)
  assert.is(costs.pass(9), 3)
  assert.ok(costs.hasSeen(1) && costs.hasSeen(9))
  assert.not(costs.hasSeen(2))
})

test('between two sizes costs lie on a straight line', () => {
  const costs = resident([
    [1, 2],
    [9, 4],
    [17, 12],
  ])
  assertNear(costs.pass(5), 3)
  assertNear(costs.pass(8), 3.75)
  assertNear(costs.pass(13), 8)
})

test('beyond the largest size costs lie on the line from the smallest to it', () => {
  const costs = resident([
    [1, 2],
    [5, 7],
    [9, 4],
  ])
  assertNear(costs.pass(17), 6)
  assertNear(costs.pass(64), 4 + 0.25 * 55)
})

test('larger passes are never expected to be cheaper than the largest that was seen', () => {
  const costs = resident([
    [1, 5],
    [8, 3],
  ])
  for (let rows = 9; rows <= ROWS; rows++) assertNear(costs.pass(rows), 3)
})

test('from a single size others follow with a quarter more per row of one row’s cost', () => {
  const upwards = resident([[1, 4]])
  assertNear(upwards.pass(2), 5)
  assertNear(upwards.pass(9), 12)
  const downwards = resident([[9, 12]])
  assertNear(downwards.pass(1), 4)
  assertNear(downwards.pass(17), 20)
})

test('with any figures of passes, estimates are positive and lie between those of the neighbouring sizes', () => {
  const figures = fc.uniqueArray(
    fc.tuple(fc.integer({ min: 1, max: ROWS }), fc.double({ min: 1e-4, max: 10, noNaN: true })),
    { minLength: 2, maxLength: 12, selector: ([rows]) => rows },
  )
  fc.assert(
    fc.property(figures, (seen) => {
      const costs = resident(seen)
      const known = [...seen].sort(([a], [b]) => a - b)
      for (let rows = 1; rows <= ROWS; rows++) {
        const cost = costs.pass(rows)
        assert.ok(cost > 0, `${rows} rows cost ${cost}`)
        const below = known.findLast(([at]) => at <= rows)
        const above = known.find(([at]) => at >= rows)
        if (below === undefined || above === undefined) continue
        const slack = 1e-9
        assert.ok(cost >= Math.min(below[1], above[1]) - slack && cost <= Math.max(below[1], above[1]) + slack)
      }
    }),
  )
})

test('steps of a staircase are known as soon as both their ends were seen', () => {
  const stairs = (rows: number): number => Math.ceil(rows / 8)
  const costs = resident([1, 8, 9, 16, 17].map((rows) => [rows, stairs(rows)] as const))
  for (let rows = 1; rows <= 17; rows++) assertNear(costs.pass(rows), stairs(rows), `${rows} rows:`)
})

test('a first figure that is slow counts for nothing once there is a second one', () => {
  const costs = resident([[4, 50]])
  assert.is(costs.pass(4), 50)
  costs.observePass(4, 1, 1)
  assert.is(costs.pass(4), 1)
})

test('what passes of one size take now is a hint of what others would take', () => {
  const seen = [...times(20, [1, 1] as const), ...times(20, [4, 2] as const)]
  const before = resident(seen)
  assert.ok(before.pass(1) === 1 && before.pass(4) === 2)
  const faster = resident([...seen, ...times(30, [4, 1] as const)])
  assert.ok(faster.pass(4) < 1.1, `${faster.pass(4)}`)
  assert.ok(faster.pass(1) > 0.45 && faster.pass(1) < 0.7, `${faster.pass(1)}`)
  // What comes first is often slow, and a hint of nothing.
  assert.is(resident([...times(20, [1, 1] as const), [9, 50], [9, 40]]).pass(1), 1)
})

test('a pass that waits for the disk is a hint of nothing that passes in memory take', () => {
  const costs = new PassCosts(ROWS, DRAFT_ROWS)
  for (let i = 0; i < 20; i++) costs.observePass(8, 1, 1)
  for (let i = 0; i < 20; i++) costs.observePass(1, 0.5, i < 10 ? 20 : 10)
  assert.is(costs.pass(8), 1)
})

test('what passes compute is no hint of what others wait for the disk', () => {
  const costs = new PassCosts(ROWS, DRAFT_ROWS)
  for (let i = 0; i < 20; i++) costs.observePass(1, 0.5, 20)
  for (let i = 0; i < 20; i++) costs.observePass(40, i < 10 ? 22 : 44, i < 10 ? 22 : 44)
  assert.ok(costs.pass(40) > 24, `${costs.pass(40)}`)
  assertNear(costs.pass(1), 20)
})

test('a disturbed pass is taken for one and a half times the mean at the most', () => {
  const calm = times(50, [4, 1] as const)
  const disturbed = resident([...calm, [4, 1000]])
  const longer = resident([...calm, [4, 1.5]])
  assertNear(disturbed.pass(4), longer.pass(4))
  assert.ok(disturbed.pass(4) < 1.2)
})

test('costs that change for good are followed, up and down', () => {
  const costs = resident(times(200, [4, 1] as const))
  for (let i = 0; i < 40; i++) costs.observePass(4, 3, 3)
  assert.ok(Math.abs(costs.pass(4) - 3) < 0.05, `${costs.pass(4)}`)
  for (let i = 0; i < 40; i++) costs.observePass(4, 0.5, 0.5)
  assert.ok(Math.abs(costs.pass(4) - 0.5) < 0.05, `${costs.pass(4)}`)
})

test('noise averages out', () => {
  const costs = new PassCosts(ROWS, DRAFT_ROWS)
  for (let i = 0; i < 400; i++) costs.observePass(4, 1, 1 + 0.2 * Math.sin(i * 2.4))
  assert.ok(Math.abs(costs.pass(4) - 1) < 0.06, `${costs.pass(4)}`)
})

test('passes that wait for the disk cost the same whatever their size, until computing takes longer', () => {
  const costs = new PassCosts(ROWS, DRAFT_ROWS)
  // A row computes for half a second, the disk takes ten.
  for (const rows of [1, 5, 9]) costs.observePass(rows, 0.5 * rows, 10)
  for (let rows = 1; rows <= 20; rows++) assertNear(costs.pass(rows), 10, `${rows} rows:`)
  assertNear(costs.pass(40), 20)
  assertNear(costs.pass(64), 32)
})

test('passes that read what later ones find in memory tell of computing alone', () => {
  const costs = new PassCosts(ROWS, DRAFT_ROWS)
  costs.observePass(1, 1, 10)
  costs.observePass(33, 33)
  assert.not(costs.hasSeen(33))
  assertNear(costs.pass(33), 33)
  assertNear(costs.pass(9), 10)
  assertNear(costs.pass(21), 21)
})

test('while something else is done before a pass, the disk reads on, as far as there is room', () => {
  const costs = new PassCosts(ROWS, DRAFT_ROWS, 0.1)
  for (let i = 0; i < 3; i++) costs.observePass(1, 0.1, 1)
  for (const ahead of [0.02, 0.04, 0.04]) costs.observePass(16, 0.5, 1 - ahead, ahead)
  for (let i = 0; i < 3; i++) costs.observePass(32, 1.2, 1.2, 0.3)
  assertNear(costs.pass(1), 1)
  assertNear(costs.pass(16), 1, 'what was read ahead is part of it')
  assertNear(costs.pass(1, 0.05), 0.95)
  assertNear(costs.pass(16, 0.05), 0.95)
  assertNear(costs.pass(16, 0.5), 0.9, 'there is no room for more')
  assertNear(costs.pass(32, 0.5), 1.2, 'what computes all the time gains nothing')
})

test('a resident target has no disk to wait for', () => {
  const costs = resident([
    [32, 40],
    [16, 20],
  ])
  // Were the disk taken to be the reason for what large passes took, small ones would cost as much.
  assertNear(costs.pass(8), 20 * (2.75 / 4.75))
})

test('a disk that gets faster is followed by passes of sizes that are not seen again', () => {
  const costs = new PassCosts(ROWS, DRAFT_ROWS)
  for (let i = 0; i < 10; i++) costs.observePass(1, 0.5, 10)
  for (let i = 0; i < 60; i++) costs.observePass(2, 0.6, 4)
  assert.ok(Math.abs(costs.pass(3) - 4) < 0.1, `${costs.pass(3)}`)
})

test('a prompt says what layers take, and a pass what comes behind them', () => {
  const costs = new PassCosts(ROWS, DRAFT_ROWS)
  // Layers take a second and half of one more per row, the head a tenth per row.
  const layers = (rows: number): number => 0.5 + 0.5 * rows
  for (const rows of [64, 40]) costs.observePrompt(rows, layers(rows), layers(rows))
  assert.not(costs.hasSeen(40))
  assertNear(costs.pass(40), layers(40))
  for (const rows of [1, 1, 5, 5]) {
    const whole = layers(rows) + 0.1 * rows
    costs.observePass(rows, whole, whole, 0, 0.1 * rows)
  }
  assertNear(costs.pass(40), layers(40) + 4)
  assertNear(costs.pass(64), layers(64) + 6.4)
  assertNear(costs.pass(20), layers(20) + 2)
  assert.not(costs.isSure(40))
  // Nor does a prompt of few tokens, which takes less than passes, speak against plain ones.
  for (let i = 0; i < 9; i++) costs.observePrompt(2, 0.9 * costs.pass(1), 0.9 * costs.pass(1))
  assert.not(costs.isPlainDoubtful)
  // Both parts of what plain passes take are forgotten, and follow from those of the next size: here half of it.
  const next = new PassCosts(ROWS, DRAFT_ROWS)
  for (const rows of [1, 5]) next.observePass(rows, 2 * rows, 2 * rows, 0, rows)
  next.forgetPlain()
  assertNear(next.pass(1), 5)
})

test('a prompt that waits for the disk says how long the disk takes', () => {
  const costs = new PassCosts(ROWS, DRAFT_ROWS)
  costs.observePrompt(64, 6.4, 12)
  costs.observePrompt(8, 0.8, 10)
  assert.ok(costs.areDiskBound)
  assertNear(costs.pass(2), 10)
  // One that read what stays in memory does not.
  costs.observePrompt(8, 0.8)
  assertNear(costs.pass(2), 10)
})

test('plain passes are bound by the disk when they take as long as it, whatever larger ones compute', () => {
  const costs = new PassCosts(ROWS, DRAFT_ROWS)
  assert.not(costs.areDiskBound)
  for (let i = 0; i < 4; i++) costs.observePass(1, 0.5, 10)
  assert.ok(costs.areDiskBound)
  // What computes for as long as the disk takes does not wait for it.
  for (let i = 0; i < 200; i++) costs.observePass(16, 8, i % 2 === 0 ? 9.8 : 8.2)
  for (let i = 0; i < 200; i++) costs.observePass(40, 20, 20)
  assert.ok(costs.areDiskBound)
})

test('one that had to wait once is not bound by the disk for good, nor are the others', () => {
  const costs = new PassCosts(ROWS, DRAFT_ROWS)
  for (let i = 0; i < 50; i++) {
    costs.observePass(1, 1, i % 10 === 4 ? 2 : 1.2)
    if (i % 10 !== 4) assert.not(costs.areDiskBound, `pass ${i}`)
  }
  assert.not(resident([[1, 2]]).areDiskBound)
})

test('draft passes have costs of their own', () => {
  const costs = new PassCosts(ROWS, DRAFT_ROWS)
  costs.observePass(1, 9, 9)
  assert.is(costs.draftPass(1), 0)
  costs.observeDraft(1, 1)
  costs.observeDraft(5, 2)
  assert.is(costs.draftPass(1), 1)
  assertNear(costs.draftPass(3), 1.5)
  assertNear(costs.draftPass(8), 2.75)
  assert.is(costs.pass(1), 9)
})

test('plain passes that seem to take longer than larger ones are doubtful, but for noise', () => {
  const costs = new PassCosts(ROWS, DRAFT_ROWS)
  for (let i = 0; i < 3; i++) costs.observePass(1, 1, 1)
  assert.not(costs.isPlainDoubtful)
  for (let i = 0; i < 3; i++) costs.observePass(2, 0.8, 0.8)
  assert.not(costs.isPlainDoubtful, 'few passes say little')
  costs.observePass(2, 0.8, 0.8)
  assert.ok(costs.isPlainDoubtful)
  for (let i = 0; i < 6; i++) costs.observePass(1, 0.7, 0.7)
  assert.not(costs.isPlainDoubtful)
  const plain = costs.pass(1)
  for (let i = 0; i < 9; i++) costs.observePass(5, 0.95 * plain, 0.95 * plain)
  assert.not(costs.isPlainDoubtful)
})

test('reading costs by the token, and nothing before it was seen', () => {
  const costs = new PassCosts(ROWS, DRAFT_ROWS)
  assert.is(costs.read(100), 0)
  costs.observeRead(50, 1)
  assertNear(costs.read(100), 2)
  // The second is the better one; a hitch then counts for little.
  costs.observeRead(10, 0.1)
  assertNear(costs.read(100), 1)
  costs.observeRead(1, 5)
  assert.ok(costs.read(100) < 1.6, `${costs.read(100)}`)
})

test('estimates that were asked for are made anew after another pass', () => {
  const costs = resident([[1, 1]])
  assertNear(costs.pass(5), 2)
  costs.observePass(9, 9, 9)
  assertNear(costs.pass(5), 5)
})

test.run()
