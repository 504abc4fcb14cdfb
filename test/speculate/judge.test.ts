/** What several opinions of one guess make of its chance. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { Calibration } from '../../src/speculate/calibration.ts'
import { CandidateTree } from '../../src/speculate/candidate-tree.ts'
import { learnFrom, MixingJudge, TAKEN_AS_THEY_ARE } from '../../src/speculate/judge.ts'
import { ROOT } from '../../src/speculate/token-tree.ts'

const MODEL = 1
const FIRST = 4
const SECOND = 8
const SOURCES = [MODEL, FIRST, SECOND]

const open = (model = MODEL) => {
  const calibrations = SOURCES.map(() => new Calibration(8))
  const grown = new CandidateTree(40, SOURCES)
  grown.reset(0)
  return { calibrations, grown, judge: new MixingJudge(calibrations, model) }
}

type Opened = ReturnType<typeof open>

/** Guesses of single tokens after the root, by source. */
function offer({ grown, judge }: Opened, ...offers: [source: number, token: number, promised: number][]): void {
  for (const [source, token, promised] of offers) {
    grown.offer(ROOT, source, { ids: [token], promised: [promised], count: 1 })
  }
  grown.settle(judge)
}

/** The same guesses over and over, which come true in one share of the cases. */
function teach(opened: Opened, offers: [number, number, number][], share: number, times: number): void {
  for (let i = 0; i < times; i++) {
    opened.grown.reset(0)
    offer(opened, ...offers)
    const isRight = Math.floor((i + 1) * share) > Math.floor(i * share)
    for (const child of opened.grown.tree.children(ROOT)) opened.judge.observe(opened.grown, child, isRight)
  }
}

const test = suite('judge')

test('one source alone is what its calibration says, whatever the others are', () => {
  const opened = open()
  for (let i = 0; i < 300; i++) opened.calibrations[1].observe(0, 0.6, i % 5 === 0)
  offer(opened, [1, 7, 0.6])
  const { grown, judge, calibrations } = opened
  assert.is(judge.chance(grown, 1), calibrations[1].chance(0, 0.6))
  assert.ok(judge.chance(grown, 1) < 0.25)
})

test('a second opinion raises a chance to begin with', () => {
  const alone = open()
  offer(alone, [0, 7, 0.5])
  const both = open()
  offer(both, [0, 7, 0.5], [1, 7, 0.5])
  assert.is(both.grown.size, 1, 'one node')
  assert.ok(both.judge.chance(both.grown, 1) > alone.judge.chance(alone.grown, 1))
})

for (const share of [0.1, 0.9]) {
  test(`opinions that agree are worth what became of them: ${share}`, () => {
    const opened = open()
    teach(
      opened,
      [
        [0, 7, 0.5],
        [1, 7, 0.3],
        [2, 7, 0.4],
      ],
      share,
      600,
    )
    const chance = opened.judge.chance(opened.grown, 1)
    assert.ok(Math.abs(chance - share) < 0.06, `${chance}`)
  })
}

test('the silence of a model that looked behind the node counts against a guess, and that of others does not', () => {
  const silent = open()
  offer(silent, [1, 7, 0.5], [0, 8, 0.5])
  const heard = open(0)
  offer(heard, [1, 7, 0.5], [0, 8, 0.5])
  const child = silent.grown.tree.child(ROOT, 7)
  assert.ok(silent.judge.chance(silent.grown, child) < 0.3 * heard.judge.chance(heard.grown, child))
  assert.is(heard.judge.chance(heard.grown, child), 0.5)
})

test('a model that speaks later changes the order of what was there', () => {
  const opened = open()
  offer(opened, [1, 7, 0.6], [2, 8, 0.5])
  assert.is(opened.grown.tree.token[opened.grown.order[0]], 7)
  offer(opened, [0, 8, 0.9])
  assert.is(opened.grown.size, 2)
  assert.is(opened.grown.tree.token[opened.grown.order[0]], 8)
})

test('a source that does not pay on this text fades out, and comes back when it does', () => {
  const opened = open()
  const guess: [number, number, number][] = [[2, 7, 0.9]]
  const chance = (): number => opened.judge.chance(opened.grown, 1)
  teach(opened, guess, 0, 400)
  const faded = chance()
  assert.ok(faded < 0.05, `${faded}`)
  teach(opened, guess, 0.8, 600)
  assert.ok(chance() > 0.5, `${chance()}`)
})

test('every guess on the way of the target is learnt from, also beside it, and none elsewhere', () => {
  const { grown } = open()
  const seen: [number, boolean][] = []
  const judge = {
    chance: () => 0.5,
    observe: (_: CandidateTree, node: number, accepted: boolean) => void seen.push([grown.tree.token[node], accepted]),
  }
  grown.offer(ROOT, 0, { ids: [1, 2], promised: [0.6, 0.3], count: 2 })
  grown.offer(1, 0, { ids: [3, 4], promised: [0.6, 0.3], count: 2 })
  grown.offer(2, 0, { ids: [5], promised: [0.6], count: 1 })
  grown.settle(judge)
  assert.is(learnFrom([1, 4, 9], grown, judge), -1, 'nothing was looked up behind 4')
  assert.equal(
    seen.sort(([a], [b]) => a - b),
    [
      [1, true],
      [2, false],
      [3, false],
      [4, true],
    ],
  )
  assert.is(learnFrom([2, 5], grown, judge), 5)
})

test('as they are, the largest of several probabilities counts', () => {
  const { grown } = open()
  grown.offer(ROOT, 0, { ids: [7], promised: [0.2], count: 1 })
  grown.offer(ROOT, 2, { ids: [7], promised: [0.4], count: 1 })
  assert.is(TAKEN_AS_THEY_ARE.chance(grown, 1), 0.4)
})

test.run()
