import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { emptyStats, type SpeculationStatistics, type Stats } from '../../src/generate/statistics.ts'
import { verdictOn } from '../../src/generate/verdict.ts'

interface Figures {
  readonly passes?: number
  /** Passes without guesses. */
  readonly plain?: number
  readonly nodesPerPass?: number
  readonly tokensPerPass?: number
  readonly drafting?: number
  readonly speculation: Partial<SpeculationStatistics>
}

/** 100 passes in 10 seconds. */
function stats({
  passes = 100,
  plain = 0,
  nodesPerPass = 48,
  tokensPerPass = 3.9,
  drafting = 0,
  speculation,
}: Figures) {
  const made: Stats = {
    ...emptyStats(0),
    passes,
    tokens: passes * tokensPerPass,
    tokensPerPass,
    nodesPerPass,
    depths: [plain, passes - plain],
    acceptedHistogram: [0, 0],
    speculation: { streams: false, declined: 0, ...speculation },
  }
  made.acceptedHistogram = [passes - passes * (tokensPerPass - 1), passes * (tokensPerPass - 1)]
  made.seconds.total = 11
  made.seconds.prefill = 1
  made.seconds.draft = drafting + 1
  made.seconds.draftHidden = 1
  return made
}

const KNOWN = { plainSecondsPerPass: 0.1, draftedSecondsPerPass: 0.16, speedUp: 2.44 }

const test = suite('verdicts on guessing')

test('nodes that cost nothing beside the disk hide under it', () => {
  const speculation = { streams: true, plainSecondsPerPass: 2, draftedSecondsPerPass: 2.1, speedUp: 3.4 }
  assert.is(
    verdictOn(stats({ speculation })),
    'streaming: 48 nodes hide under the disk, 3.9 tokens per pass, about 3.4x plain',
  )
  assert.is(
    verdictOn(stats({ speculation, nodesPerPass: 1 })),
    'streaming: 1 node hides under the disk, 3.9 tokens per pass, about 3.4x plain',
  )
})

test('what was measured is not called an estimate', () => {
  assert.match(verdictOn(stats({ speculation: KNOWN }), 2.1)!, /per pass, 2\.1x plain$/)
})

test('nodes that do cost something are told with it, streaming or not', () => {
  const cost = 'a pass with 16 nodes takes about 1.6x a plain one, 3.9 tokens per pass, about 2.4x plain'
  assert.is(verdictOn(stats({ nodesPerPass: 16, speculation: KNOWN })), `resident: ${cost}`)
  assert.is(verdictOn(stats({ nodesPerPass: 16, speculation: { ...KNOWN, streams: true } })), `streaming: ${cost}`)
})

test('trees that pay now and then are told with their share of the passes', () => {
  assert.match(
    verdictOn(stats({ plain: 40, nodesPerPass: 3, speculation: KNOWN }))!,
    'a pass with 5 nodes in 60 % of the passes takes about 1.6x',
  )
})

test('drafting that takes much of the time is named, the hidden part of it is not', () => {
  assert.match(verdictOn(stats({ drafting: 3, speculation: KNOWN }))!, ', 30 % of the time drafting, about 2.4x plain')
  assert.not.match(verdictOn(stats({ drafting: 1, speculation: KNOWN }))!, 'drafting')
})

test('guessing that makes a text slower says so', () => {
  const speculation = { ...KNOWN, draftedSecondsPerPass: 0.7, speedUp: 0.4 }
  assert.match(verdictOn(stats({ speculation }))!, /about 0\.40x plain: plain decoding is faster$/)
})

test('nothing is made up about plain passes that nobody has seen', () => {
  assert.is(
    verdictOn(stats({ nodesPerPass: 16, speculation: { draftedSecondsPerPass: 0.3 } })),
    'resident: 16 nodes, 3.9 tokens per pass; what a plain pass takes is not known yet',
  )
})

test('a planner that rests says why', () => {
  const figures = { plain: 80, nodesPerPass: 1.6, tokensPerPass: 1.12 }
  const speculation = { plainSecondsPerPass: 0.1, draftedSecondsPerPass: 0.31, declined: 78, speedUp: 0.93 }
  assert.is(
    verdictOn(stats({ ...figures, speculation })),
    'guessing does not pay here: a pass of 9 rows takes about 3.1x one of 1 and brings 1.6 tokens; plain decoding',
  )
  assert.match(
    verdictOn(stats({ ...figures, speculation: { ...speculation, declinedSpeedUp: 0.47 } }))!,
    /brings 1\.6 tokens, with drafting that is about 0\.47x plain; plain decoding$/,
  )
  assert.match(
    verdictOn(stats({ ...figures, speculation }), 0.98)!,
    /; plain decoding in most passes, 0\.98x plain with all trials$/,
  )
})

test('a planner that rests is not quoted against figures that say otherwise', () => {
  const figures = { plain: 80, nodesPerPass: 1.6, tokensPerPass: 1.5 }
  const speculation = { plainSecondsPerPass: 0.1, draftedSecondsPerPass: 0.12, declined: 78, speedUp: 0.9 }
  assert.is(
    verdictOn(stats({ ...figures, speculation }), 1.33),
    'resident: a pass with 8 nodes in 20 % of the passes takes about 1.2x a plain one, 1.5 tokens per pass, 1.3x plain',
  )
})

test('a text that was all plain by earlier experience says so without figures of its own', () => {
  const speculation = { declined: 100, plainSecondsPerPass: 0.1, speedUp: 1 }
  assert.is(
    verdictOn(stats({ plain: 100, nodesPerPass: 0, tokensPerPass: 1, speculation })),
    'guessing does not pay here; plain decoding',
  )
})

test('a text too short for a guess has none', () => {
  const speculation = { streams: true }
  assert.is(
    verdictOn(stats({ passes: 2, plain: 2, nodesPerPass: 0, tokensPerPass: 1, speculation })),
    'streaming: nothing was guessed in 2 passes',
  )
})

test('without a drafter or a pass there is no verdict', () => {
  assert.is(verdictOn(emptyStats(0)), undefined)
  assert.is(verdictOn(stats({ passes: 0, speculation: KNOWN })), undefined)
})

test.run()
