import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { emptyStats, type Stats, sumOfStats, tokensPerSecond } from '../../src/generate/statistics.ts'

const test = suite('sums of statistics')

function call(part: Partial<Stats>): Stats {
  const stats = { ...emptyStats(100), ...part }
  return { ...stats, tokensPerPass: stats.tokens / stats.passes, seconds: { ...stats.seconds, total: 3, prefill: 1 } }
}

const LONG = call({
  passes: 10,
  tokens: 40,
  nodesPerPass: 8,
  acceptedHistogram: [2, 0, 0, 0, 8],
  depths: [1, 0, 9],
  perDrafter: { tree: { proposed: 80, accepted: 30, ranks: [{ seen: 40, accepted: 30 }] } },
  speculation: { streams: true, declined: 1, plainSecondsPerPass: 1, declinedSpeedUp: 0.5 },
})
const SHORT = call({
  passes: 2,
  tokens: 2,
  nodesPerPass: 2,
  acceptedHistogram: [2],
  depths: [0, 2],
  perDrafter: {
    tree: {
      proposed: 4,
      accepted: 0,
      ranks: [
        { seen: 2, accepted: 0 },
        { seen: 2, accepted: 0 },
      ],
    },
  },
  speculation: { streams: true, declined: 2, plainSecondsPerPass: 0.5 },
  verdict: 'of this call alone',
})

test('counts add up, means weigh passes', () => {
  const sum = sumOfStats([LONG, SHORT])
  assert.is(sum.passes, 12)
  assert.is(sum.tokensPerPass, 42 / 12)
  assert.is(sum.nodesPerPass, 84 / 12)
  assert.equal(sum.acceptedHistogram, [4, 0, 0, 0, 8])
  assert.equal(sum.depths, [1, 2, 9])
  const ranks = [
    { seen: 42, accepted: 30 },
    { seen: 2, accepted: 0 },
  ]
  assert.equal(sum.perDrafter, { tree: { proposed: 84, accepted: 30, ranks } })
  assert.is(sum.seconds.total, 6)
  assert.is(tokensPerSecond(sum), 42 / 4)
  assert.is(sum.peakMemory, 100)
})

test('the latest estimates count, and the verdict on one call is not that on all', () => {
  const sum = sumOfStats([LONG, SHORT])
  assert.equal(sum.speculation, {
    streams: true,
    declined: 3,
    plainSecondsPerPass: 0.5,
    declinedSpeedUp: 0.5,
    speedUp: (42 / 4) * 0.5,
  })
  assert.not('verdict' in sum)
})

test('calls are left as they were', () => {
  const before = structuredClone(LONG)
  sumOfStats([LONG, SHORT, LONG])
  assert.equal(LONG, before)
})

test('of no calls the sum is empty', () => {
  assert.equal(sumOfStats([]), emptyStats(0))
})

test.run()
