import fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { MOST_SUCCESSORS, TrigramTable, trigramBytes } from '../../../src/speculate/sources/trigram-table.ts'

const test = suite('trigram table')

const trigram = fc.tuple(fc.nat(4), fc.nat(4), fc.nat(3))

function weightsOf(table: TrigramTable, a: number, b: number): Map<number, number> {
  const row = table.find(a, b)
  if (row < 0) return new Map()
  const base = row * MOST_SUCCESSORS
  return new Map(Array.from({ length: table.counts[row] }, (_, i) => [table.ids[base + i], table.weights[base + i]]))
}

test('weights are the shares of what was observed, by falling weight', () => {
  fc.assert(
    fc.property(fc.array(trigram, { maxLength: 26 }), (list) => {
      const table = new TrigramTable(25)
      for (const [a, b, token] of list) table.observe(a, b, token)
      for (let a = 0; a < 5; a++) {
        for (let b = 0; b < 5; b++) {
          const after = list.filter(([x, y]) => x === a && y === b).map(([, , token]) => token)
          const weights = weightsOf(table, a, b)
          assert.equal(new Set(weights.keys()), new Set(after))
          for (const [token, weight] of weights) {
            const share = after.filter((one) => one === token).length / after.length
            assert.ok(Math.abs(weight - share) < 1e-5, `${weight} for ${share}`)
          }
          assert.equal(
            [...weights.values()],
            [...weights.values()].sort((x, y) => y - x),
          )
        }
      }
    }),
  )
})

test('a pair that is well known changes by 0.04 per observation', () => {
  const table = new TrigramTable(4)
  for (let i = 0; i < 100; i++) table.observe(1, 2, 3)
  table.observe(1, 2, 4)
  assert.ok(Math.abs(weightsOf(table, 1, 2).get(4)! - 0.04 / 1.04) < 1e-6)
})

test('a thirteenth successor takes the weakest one’s place', () => {
  const table = new TrigramTable(4)
  for (let token = 0; token < 12; token++)
    for (let i = 0; i < 2; i++) if (token !== 5 || i === 0) table.observe(1, 2, token)
  table.observe(1, 2, 50)
  const weights = weightsOf(table, 1, 2)
  assert.is(weights.size, 12)
  assert.ok(weights.has(50))
  assert.not(weights.has(5))
  assert.ok(Math.abs([...weights.values()].reduce((a, b) => a + b) - 1) < 1e-5)
})

test('every row is found by its pair, whatever was replaced before', () => {
  fc.assert(
    fc.property(fc.array(trigram, { maxLength: 80 }), fc.integer({ min: 1, max: 9 }), (list, capacity) => {
      const table = new TrigramTable(capacity)
      const said = new Map<string, Set<number>>()
      for (const [a, b, token] of list) {
        table.observe(a, b, token)
        const pair = `${a} ${b}`
        said.set(pair, (said.get(pair) ?? new Set()).add(token))
        assert.ok(weightsOf(table, a, b).has(token))
        for (let row = 0; row < table.size; row++) assert.is(table.find(table.first[row], table.second[row]), row)
      }
      assert.is(table.size, Math.min(capacity, said.size))
      const found = [...said].filter(([pair, tokens]) => {
        const [a, b] = pair.split(' ').map(Number)
        const weights = weightsOf(table, a, b)
        for (const token of weights.keys()) assert.ok(tokens.has(token))
        return weights.size > 0
      })
      assert.is(found.length, table.size)
    }),
  )
})

test('a pair that is used stays, those that are not go', () => {
  const table = new TrigramTable(16)
  table.observe(1, 2, 3)
  for (let i = 0; i < 500; i++) {
    table.observe(10 + i, 7, 0)
    assert.ok(table.find(1, 2) >= 0)
  }
  for (let i = 0; i < 500; i++) table.observe(10 + i, 8, 0)
  assert.is(table.find(1, 2), -1)
  assert.is(table.size, 16)
})

/** All that is known of the rows, in their order. */
const contentOf = ({ size, first, second, seen, counts, ids, weights }: TrigramTable) => [
  ...[first, second, seen, counts].map((table) => [...table.subarray(0, size)]),
  ...[ids, weights].map((table) => [...table.subarray(0, size * MOST_SUCCESSORS)]),
]

test('a table that grows knows what one knows that has its whole length from the beginning', () => {
  const capacity = 5000
  const whole = new TrigramTable(capacity)
  const early = whole.heldBytes
  for (let i = 0; i < capacity; i++) whole.observe(i, i, i)
  assert.is(whole.heldBytes, trigramBytes(capacity).held)
  assert.ok(early < whole.heldBytes / 4, `${early} bytes before there is a pair`)
  whole.clear()
  assert.is(whole.size, 0)
  const growing = new TrigramTable(capacity)
  let state = 7
  const next = (below: number): number => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0
    return (state >>> 8) % below
  }
  for (let i = 0; i < 30_000; i++) {
    // Some pairs come again and again, and more than the capacity come at all.
    const [a, b, token] = [next(i % 3 === 0 ? 40 : 200), next(100), next(30)]
    for (const table of [whole, growing]) table.observe(a, b, token)
    if (i % 7 === 0) for (const table of [whole, growing]) table.find(a, b)
    if (i % 997 === 0) assert.equal(contentOf(growing), contentOf(whole))
  }
  assert.is(growing.size, capacity)
  assert.equal(contentOf(growing), contentOf(whole))
  for (let a = 0; a < 200; a++) for (let b = 0; b < 100; b++) assert.is(growing.find(a, b), whole.find(a, b))
})

test('nothing is left when it is cleared', () => {
  const table = new TrigramTable(4)
  for (let i = 0; i < 9; i++) table.observe(i, i + 1, i + 2)
  table.clear()
  assert.is(table.size, 0)
  for (let i = 0; i < 9; i++) assert.is(table.find(i, i + 1), -1)
  for (const array of [table.first, table.second, table.seen, table.counts, table.ids, table.weights]) {
    assert.ok(array.every((value) => value === 0))
  }
})

test.run()
