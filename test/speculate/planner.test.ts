/** The planner finds the tree that pays, whatever passes cost and guesses are worth. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { Calibration } from '../../src/speculate/calibration.ts'
import { MixingJudge } from '../../src/speculate/judge.ts'
import { FixedPacing } from '../../src/speculate/pacing.ts'
import { PassCosts } from '../../src/speculate/pass-costs.ts'
import { Planner } from '../../src/speculate/planner.ts'
import { type Learner, type SimulatedCosts, type SimulatedRun, type SimulatedText, simulate } from './simulated-text.ts'

const NODES = 63
const ROWS = 8
const RANKS = 8
const PASSES = 600
const SEED = 12345

const SIZES = [0, 1, 2, 3, 5, 7, 11, 15, 23, 31, 47, 63]

/** What drafters of a fixed size learn: the same of guesses, nothing of costs. */
function fixed(nodes: number): Learner {
  const calibration = new Calibration(RANKS)
  return {
    pacing: new FixedPacing(nodes),
    judge: new MixingJudge([calibration], 1),
    observePass: () => {},
    observeDraft: () => {},
  }
}

function planned(): Learner {
  const calibration = new Calibration(RANKS)
  const costs = new PassCosts(NODES + 1, ROWS)
  return {
    pacing: new Planner(costs, calibration, NODES, ROWS),
    judge: new MixingJudge([calibration], 1),
    // The simulated disk is told as a pass that computes nothing.
    observePass: (rows, seconds) => costs.observePass(rows, seconds, seconds),
    observeDraft: (rows, seconds) => costs.observeDraft(rows, seconds),
    observeRead: (tokens, seconds) => costs.observeRead(tokens, seconds),
  }
}

const GOOD: SimulatedText = { fit: 0.7, distortion: 0.6 }
const POOR: SimulatedText = { fit: 0.35, distortion: 1.5 }
const USELESS: SimulatedText = { fit: 0.06, distortion: 1 }

const resident: SimulatedCosts = { pass: (rows) => 1 + 0.3 * (rows - 1), draft: () => 0.12, noise: 0.1 }
const stairs: SimulatedCosts = { pass: (rows) => Math.ceil(rows / 8), draft: () => 0.12, noise: 0.1 }
const streaming: SimulatedCosts = { pass: (rows) => Math.max(20, 0.8 * rows), draft: () => 0.3, noise: 0.1 }
const slowDraft: SimulatedCosts = { pass: (rows) => 1 + 0.05 * (rows - 1), draft: () => 0.9, noise: 0.1 }

/** Code that is compiled while it runs. */
const warming: SimulatedCosts = { ...resident, pace: (pass) => 1 + 3 * Math.exp(-pass / 30) }
/** A machine that others use, too. */
const shared: SimulatedCosts = { ...resident, pace: (pass) => (pass % 200 < 100 ? 1 : 1.6) }

const test = suite('planner')

const CASES: [what: string, text: SimulatedText, costs: SimulatedCosts][] = [
  ['a resident target and a good draft', GOOD, resident],
  ['a resident target and a poor draft', POOR, resident],
  ['a resident target and a useless draft', USELESS, resident],
  ['costs in stairs of eight rows and a good draft', GOOD, stairs],
  ['costs in stairs of eight rows and a poor draft', POOR, stairs],
  ['a target that streams and a good draft', GOOD, streaming],
  ['a target that streams and a poor draft', POOR, streaming],
  ['a slow draft that is good', GOOD, slowDraft],
  ['a slow draft that is poor', POOR, slowDraft],
]

/** What the planner gains of what the best fixed size does, learning included. */
function shareOfBest(
  text: SimulatedText,
  costs: SimulatedCosts,
  sizes: readonly number[],
  { seed = SEED, passes = PASSES, ...more }: Partial<SimulatedRun> = {},
): number {
  const run = (learner: Learner, nodes: number): number =>
    simulate(text, costs, learner, { ...more, nodes, rows: ROWS, passes, seed })
  return run(planned(), NODES) / Math.max(...sizes.map((nodes) => run(fixed(nodes), Math.max(1, nodes))))
}

for (const [name, text, costs] of CASES) {
  test(`${name}: at most 3 % behind the best fixed size, learning included`, () => {
    const share = shareOfBest(text, costs, SIZES)
    assert.ok(share >= 0.97, `${share} of its tokens per second`)
  })
}

for (const [name, text, costs, behind] of [
  ['code that gets faster and a good draft', GOOD, warming, 0.1],
  ['code that gets faster and a poor draft', POOR, warming, 0.05],
  ['a shared machine and a good draft', GOOD, shared, 0.05],
  ['a shared machine and a poor draft', POOR, shared, 0.03],
] as const) {
  test(`${name}: at most ${(100 * behind).toFixed(1)} % behind the best fixed size, as a mean over some texts`, () => {
    const shares = [1, 2, 3, 4, 5, 6].map((seed) => shareOfBest(text, costs, [0, 1, 2], { seed }))
    assertMean(shares, 1 - behind)
  })
}

/** In memory, where a draft reads a token in a twenty-fifth of a plain pass. */
const reading: SimulatedCosts = { ...resident, read: 0.04 }
for (const [name, text, tokens, prompt, behind] of [
  ['short texts and a good draft', GOOD, 128, 80, 0.03],
  ['short texts after longer prompts and a poor draft', POOR, 40, 150, 0.035],
  ['long texts after long prompts and a useless draft', USELESS, 500, 500, 0.035],
] as const) {
  test(`${name} that has to read all that it is to go on from: at most ${(100 * behind).toFixed(1)} % behind the best fixed size`, () => {
    const run = { passes: 2000, texts: { tokens, prompt } }
    const shares = [1, 2].map((seed) => shareOfBest(text, reading, [0, 1, 2], { ...run, seed }))
    assertMean(shares, 1 - behind)
  })
}

function assertMean(shares: readonly number[], least: number): void {
  const mean = shares.reduce((a, b) => a + b) / shares.length
  assert.ok(mean >= least, `${mean} of its tokens per second`)
}

/** A planner that has drafted for so many passes, all of which gained so much; reading a token takes a tenth of one. */
function experienced(passes: number, speedUp: number): Planner {
  const costs = new PassCosts(NODES + 1, ROWS)
  for (let i = 0; i < 4; i++) for (const rows of [1, 9]) costs.observePass(rows, 1, 1)
  costs.observeRead(10, 1)
  const planner = new Planner(costs, new Calibration(RANKS), NODES, ROWS)
  planner.startText()
  for (let pass = 0; pass < passes; pass++) {
    if (planner.shouldDraft()) planner.observe({ nodes: 8, tokens: speedUp, draftSeconds: 0, passSeconds: 1 })
    else planner.observe({ nodes: 0, tokens: 1, draftSeconds: 0, passSeconds: 1 })
  }
  return planner
}

/** @returns how many passes a planner rests for that has just begun to */
function restOf(planner: Planner): number {
  for (let passes = 1; ; passes++) if (planner.shouldDraft()) return passes
}

test('a text is read when that should be worth while, by what drafting gains and how long texts are', () => {
  for (const [speedUp, unread, worth] of [
    [1.5, 200, true],
    [1.05, 200, false],
    [1.05, 10, true],
    [1.5, 500, false],
  ] as const) {
    const planner = experienced(64, speedUp)
    planner.startText()
    assert.is(planner.shouldDraft(unread), worth, `${unread} tokens at ${speedUp}`)
  }
})

test('in memory a gain of 1 % is none with a draft model, and one without; at the disk it always is', () => {
  for (const [rows, compute, goesOn] of [
    [ROWS, 1, false],
    [0, 1, true],
    [ROWS, 0.1, true],
  ] as const) {
    const costs = new PassCosts(NODES + 1, ROWS)
    for (let i = 0; i < 4; i++) for (const size of [1, 9]) costs.observePass(size, compute, 1)
    const planner = new Planner(costs, new Calibration(RANKS), NODES, rows)
    for (let pass = 0; pass < 24; pass++) {
      const nodes = planner.shouldDraft() ? 8 : 0
      planner.observe({ nodes, tokens: nodes === 0 ? 1 : 1.01, draftSeconds: 0, passSeconds: 1 })
    }
    assert.is(planner.declined === 0, goesOn, `${rows} rows, computing for ${compute} of a pass`)
  }
})

test('what was read already is no reason to end, and none to go on', () => {
  const planner = experienced(64, 1.05)
  planner.startText()
  assert.ok(planner.shouldDraft(10))
  planner.observe({ nodes: 8, tokens: 1.05, draftSeconds: 0, passSeconds: 1 })
  assert.ok(planner.shouldDraft(0))
})

test('at the disk a trial that failed is soon repeated, whatever had to be read', () => {
  const costs = new PassCosts(NODES + 1, ROWS)
  for (let i = 0; i < 4; i++) for (const rows of [1, 9]) costs.observePass(rows, 0.1, 1)
  costs.observeRead(10, 1)
  const planner = new Planner(costs, new Calibration(RANKS), NODES, ROWS)
  for (let pass = 0; planner.shouldDraft(pass === 0 ? 50 : 0); pass++) {
    planner.observe({ nodes: 8, tokens: 0.5, draftSeconds: 0, passSeconds: 1 })
  }
  assert.is(restOf(planner), 3)
})

test('the more had to be read for a trial that failed, the longer is the rest', () => {
  for (const [unread, rest] of [
    [0, 24],
    [10, 200],
    [1000, 3072],
  ]) {
    const planner = experienced(0, 1)
    // The first pass is plain.
    for (let pass = 0; planner.shouldDraft(pass < 2 ? unread : 0) || planner.needsPlain; pass++) {
      planner.observe({ nodes: planner.needsPlain ? 0 : 8, tokens: 0.5, draftSeconds: 0, passSeconds: 1 })
    }
    assert.is(restOf(planner), rest, `${unread} tokens`)
  }
})

test('a trial ends the sooner the less it gains, and a later one sooner than the first', () => {
  for (const [speedUp, first, later] of [
    [0.7, 6, 2],
    [0.85, 6, 4],
    [0.9, 8, 8],
    [0.96, 24, 24],
  ]) {
    const planner = experienced(0, 1)
    let drafted = 0
    const trial = (): void => {
      while (planner.shouldDraft(drafted === 0 ? 60 : 0) || planner.needsPlain) {
        const nodes = planner.needsPlain ? 0 : 8
        if (nodes > 0) drafted++
        planner.observe({ nodes, tokens: nodes > 0 ? speedUp : 1, draftSeconds: 0, passSeconds: 1 })
      }
    }
    trial()
    assert.is(drafted, first, `${speedUp} times plain, the first trial`)
    while (!planner.shouldDraft()) {
      // It rests.
    }
    drafted = 1
    planner.observe({ nodes: 8, tokens: speedUp, draftSeconds: 0, passSeconds: 1 })
    planner.shouldDraft(60)
    trial()
    assert.is(drafted, later, `${speedUp} times plain`)
  }
})

test('passes without guesses that would not pay are counted, with what guessing brought when it was tried', () => {
  const run = (text: SimulatedText, costs: SimulatedCosts): Planner => {
    const learner = planned()
    simulate(text, costs, learner, { nodes: NODES, rows: ROWS, passes: PASSES, seed: SEED })
    return learner.pacing as Planner
  }
  const useless = run(USELESS, slowDraft)
  assert.ok(useless.declined > PASSES / 2 && useless.declined < PASSES, `${useless.declined} of ${PASSES}`)
  assert.ok(useless.declinedSpeedUp! > 0 && useless.declinedSpeedUp! < 1)
  const good = run(GOOD, streaming)
  assert.is(good.declined, 0)
  assert.is(good.declinedSpeedUp, undefined)
})

test('when plain passes seem to take longer than drafted ones, some are made to see', () => {
  const costs = new PassCosts(NODES + 1, ROWS)
  for (let i = 0; i < 3; i++) costs.observePass(1, 4, 4)
  const planner = new Planner(costs, new Calibration(RANKS), NODES, ROWS)
  const plain: number[] = []
  for (let pass = 0; pass < 180; pass++) {
    const nodes = planner.shouldDraft() ? 1 : 0
    if (nodes === 0) plain.push(pass)
    const seconds = 1 + 0.2 * nodes
    costs.observePass(nodes + 1, seconds, seconds)
    planner.observe({ nodes, tokens: 1 + nodes, draftSeconds: 0, passSeconds: seconds })
  }
  assert.ok(plain.length > 3 && plain.length < 8, `${plain.length} plain passes`)
  assert.ok(costs.pass(1) < costs.pass(2))
})

/** A planner that has just found that guessing does not pay; passes of two rows take 1.1 times one of one. */
function resting(): Planner {
  const costs = new PassCosts(NODES + 1, ROWS)
  for (let i = 0; i < 4; i++) {
    costs.observePass(1, 1, 1)
    costs.observePass(2, 1.1, 1.1)
    costs.observePass(9, 3, 3)
  }
  const planner = new Planner(costs, new Calibration(RANKS), NODES, ROWS)
  for (let pass = 0; pass < 6; pass++) {
    planner.shouldDraft()
    planner.observe({ nodes: 8, tokens: 1, draftSeconds: 0.1, passSeconds: 3 })
  }
  return planner
}

test('a rest ends early when guesses would have been right time after time', () => {
  const planner = resting()
  let passes = 0
  for (; !planner.shouldDraft(); passes++) planner.watch(0.9, true)
  assert.ok(passes >= 2 && passes <= 6, `${passes} passes`)
})

for (const [what, chance, isRight] of [
  ['that are wrong', 0.9, () => false],
  ['that are right now and then', 0.6, (pass: number) => pass % 4 === 0],
  ['that nobody would have made', 0.05, () => true],
] as const) {
  test(`guesses ${what} let the planner rest`, () => {
    const planner = resting()
    let passes = 0
    for (; !planner.shouldDraft(); passes++) planner.watch(chance, isRight(passes))
    assert.is(passes, 24)
  })
}

/** @returns how many of 400 passes are drafted for, and how many are plain, beside others that gain so many tokens */
function besideOthers(tokensWithout: number, passSeconds: (rows: number) => [compute: number, whole: number]) {
  const costs = new PassCosts(NODES + 1, ROWS)
  for (let i = 0; i < 4; i++) for (const rows of [1, 9]) costs.observePass(rows, ...passSeconds(rows))
  const planner = new Planner(costs, new Calibration(RANKS), NODES, ROWS, true)
  const [, whole] = passSeconds(9)
  let drafted = 0
  let plain = 0
  for (let pass = 0; pass < 400; pass++) {
    if (planner.shouldDraft()) {
      drafted++
      planner.observe({ nodes: 8, tokens: 2, draftSeconds: 0.1 * whole, passSeconds: whole })
    } else if (planner.needsPlain) {
      plain++
      planner.observe({ nodes: 0, tokens: 1, draftSeconds: 0, passSeconds: passSeconds(1)[1] })
    } else {
      planner.observeWithout({ nodes: 8, tokens: tokensWithout, draftSeconds: 0.01 * whole, passSeconds: whole })
    }
  }
  assert.is(planner.declined, 0)
  return { drafted, plain }
}

const inMemory = (rows: number): [number, number] => [1 + (rows - 1) / 16, 1 + (rows - 1) / 16]
const atDisk = (rows: number): [number, number] => [0.1 + rows / 100, 20]

test('passes are left to others who gain more, even where drafting pays', () => {
  const { drafted, plain } = besideOthers(3, inMemory)
  assert.ok(drafted > 20 && drafted < 100, `${drafted} drafted`)
  assert.is(plain, 3)
})

test('others who gain less get few passes', () => {
  const { drafted } = besideOthers(1.5, inMemory)
  assert.ok(drafted > 350, `${drafted} drafted`)
})

for (const [what, pass, least] of [
  [
    'where a node costs 0.3 plain passes, chances count from half of that on',
    (rows: number) => 1 + 0.3 * (rows - 1),
    0.15,
  ],
  ['where some nodes come at no cost, every chance counts', (rows: number) => Math.ceil(rows / 8), 0],
  ['where nodes hide under the disk, every chance counts', (rows: number) => Math.max(20, rows), 0],
  ['where a node costs more than a plain pass, chances count from half on', (rows: number) => rows ** 2, 0.5],
] as const) {
  test(what, () => {
    const costs = new PassCosts(NODES + 1, ROWS)
    const planner = new Planner(costs, new Calibration(RANKS), NODES, 0)
    assert.is(planner.leastChance, 0)
    for (let n = 0; n < 3; n++) {
      for (let rows = 1; rows <= NODES + 1; rows++) costs.observePass(rows, pass(rows), pass(rows))
    }
    // What is known is believed for some passes.
    assert.is(planner.leastChance, 0)
    for (let n = 0; n < 16; n++) planner.shouldDraft()
    assert.ok(Math.abs(planner.leastChance - least) < 0.02, `${planner.leastChance}`)
  })
}

test('at the disk, passes that pay are not left to others', () => {
  const { drafted, plain } = besideOthers(3, atDisk)
  assert.is(drafted, 400 - plain)
})

test.run()
