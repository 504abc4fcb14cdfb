/** Whether a draft model could pay at all is judged by what passes took, side by side, and not for ever. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { Calibration } from '../../src/speculate/calibration.ts'
import { PassCosts } from '../../src/speculate/pass-costs.ts'
import { Planner } from '../../src/speculate/planner.ts'
import { mayPay } from '../../src/speculate/prospects.ts'

const NODES = 63
const ROWS = 8
const RANKS = 8
const ASKED = { nodes: NODES, unread: 0, passes: 64, least: 1.03 }

interface Machine {
  /** Seconds of passes over one row, over two and so on. */
  readonly passes: readonly number[]
  /** Of draft passes; 0: there was none. */
  readonly draft: number
  /** Of reading a token into the draft. */
  readonly read: number
}

const DEAR: Machine = { passes: [1, 1.5], draft: 0.5, read: 0.1 }

function seen({ passes, draft, read }: Machine): PassCosts {
  const costs = new PassCosts(NODES + 1, ROWS)
  for (let i = 0; i < 6; i++) {
    for (const [more, seconds] of passes.entries()) costs.observePass(1 + more, seconds, seconds)
    if (draft > 0) costs.observeDraft(1, draft)
    costs.observeRead(10, 10 * read)
  }
  return costs
}

const test = suite('prospects')

test('a draft may pay unless passes and reading are known to take too long for any', () => {
  const cheap = { ...DEAR, draft: 0.2 }
  for (const [what, machine, asked, expected] of [
    // 1.8 tokens in 2 plain passes, 2.44 in 3.
    ['a dear draft', DEAR, {}, false],
    // 1.8 tokens in 1.7 plain passes are 3 % more than would do, in 64 passes what reading 18 tokens takes.
    ['a cheap one', cheap, {}, true],
    ['after a short prompt', cheap, { unread: 15 }, true],
    ['after a longer one', cheap, { unread: 24 }, false],
    ['after a longer one with many passes to come', cheap, { unread: 24, passes: 96 }, true],
    ['cheap rows', { ...DEAR, passes: [1, 1.1] }, {}, true],
    // 1.8 tokens in 1.8 plain passes.
    ['rather cheap rows, a tree of one', { ...DEAR, passes: [1, 1.35], draft: 0.45 }, { nodes: 1 }, false],
    ['a draft that never ran', { ...DEAR, draft: 0 }, {}, true],
    ['plain passes that were never seen', { ...DEAR, passes: [] }, {}, true],
    ['larger passes that were never seen', { ...DEAR, passes: [1] }, {}, true],
  ] as const) {
    assert.is(mayPay(seen(machine), { ...ASKED, ...asked }), expected, what)
  }
})

test('a machine that is faster since the draft was seen is no reason to try it, and none to leave it', () => {
  for (const [draft, expected] of [
    [0.5, false],
    [0.2, true],
  ] as const) {
    const costs = seen({ ...DEAR, draft })
    for (const pace of [0.25, 4]) {
      for (let i = 0; i < 200; i++) {
        for (const [more, seconds] of DEAR.passes.entries()) costs.observePass(1 + more, pace * seconds, pace * seconds)
      }
      assert.is(mayPay(costs, ASKED), expected, `a draft of ${draft}, passes of ${pace}`)
    }
  }
})

test('a few draft passes, as of a text of two tokens that had to read the weights, are held against nobody', () => {
  const costs = seen({ ...DEAR, draft: 0 })
  for (let drafts = 1; drafts <= 6; drafts++) {
    costs.observeDraft(1, 0.5)
    assert.is(mayPay(costs, ASKED), drafts < 6, `${drafts} draft passes`)
  }
})

test('what a draft took is held against it for 2,048 passes', () => {
  const costs = seen(DEAR)
  for (let pass = 0; pass <= 2048; pass++) {
    assert.is(mayPay(costs, ASKED), false, `pass ${pass}`)
    costs.observePass(1, 1, 1)
  }
  assert.is(mayPay(costs, ASKED), true)
  costs.observeDraft(1, 0.5)
  assert.is(mayPay(costs, ASKED), false, 'it is seen anew')
})

test('a draft model that could not pay on this machine is first tried when rests are as long as they get', () => {
  const longest = 24 + 48 + 96 + 192 + 384
  for (const [what, draft, rows, compute, passes] of [
    // In memory the first pass is plain.
    ['a dear draft', 0.5, ROWS, 1, 1 + longest],
    ['a cheap draft', 0.2, ROWS, 1, 1],
    ['a dear draft at the disk', 0.5, ROWS, 0.1, 0],
    ['look-ups', 0.5, 0, 1, 1],
  ] as const) {
    const costs = new PassCosts(NODES + 1, ROWS)
    for (let i = 0; i < 6; i++) {
      for (const [more, seconds] of [1, 1.5].entries()) costs.observePass(1 + more, compute * seconds, seconds)
      costs.observeDraft(1, draft)
    }
    const planner = new Planner(costs, new Calibration(RANKS), NODES, rows)
    planner.startText()
    let waited = 0
    while (waited <= 2 * longest && !planner.shouldDraft(0)) waited++
    assert.is(waited, passes, what)
  }
})

test('whoever has tried goes by how that went, whatever the machine lets hope', () => {
  const costs = new PassCosts(NODES + 1, ROWS)
  for (let i = 0; i < 4; i++) {
    for (const [more, seconds] of [1, 1.5].entries()) costs.observePass(1 + more, seconds, seconds)
  }
  const planner = new Planner(costs, new Calibration(RANKS), NODES, ROWS)
  planner.startText()
  let drafted = 0
  for (let pass = 0; pass < 40 && drafted < 6; pass++) {
    if (!planner.shouldDraft(0)) continue
    costs.observeDraft(1, 0.5)
    planner.observe({ nodes: 1, tokens: 1.5, draftSeconds: 0.5, passSeconds: 1.5 })
    drafted++
  }
  let rested = 0
  for (let pass = 0; pass < 40 && !planner.shouldDraft(0); pass++) if (!planner.needsPlain) rested++
  assert.equal([drafted, rested], [6, 24])
})

test.run()
