/** What a draft guesses is what the naive ranking of its whole vocabulary says, with and without the sampler's noise. */
import * as fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { assemble } from '../../src/engine/assemble.ts'
import { prepare } from '../../src/engine/prepare.ts'
import { Sampler } from '../../src/generate/sampler.ts'
import { LoadBoard } from '../../src/memory/load-board.ts'
import { Timeline } from '../../src/memory/timeline.ts'
import type { Transformer } from '../../src/model/transformer.ts'
import { BRANCHING, ChildRanking, type RankingRule } from '../../src/speculate/child-ranking.ts'
import { Control } from '../../src/tensor/control.ts'
import { compileKernels } from '../../src/tensor/kernel-modules.ts'
import { DRAFT } from '../e2e/models.ts'
import { createMemories } from '../engine/harness.ts'

const TEXT = [477, 673, 896, 1233, 365, 262, 995, 282, 262, 288, 1531, 44, 283, 34, 73, 400, 360, 1602, 316, 455]
/** Probabilities of the draft are computed in f32. */
const ROUNDING = 1e-5
/** Tokens that are ranked by their logits before noise is added; others enter by their noise alone. */
const CANDIDATES = 64

/** The embedded draft, with the logits of all positions of the text. */
const draft: Transformer = (() => {
  const control = new Control()
  const prepared = prepare(
    DRAFT,
    { weights: 'f32', context: 64, threads: 1 },
    { onProgress: () => {}, isAborted: () => false },
  )
  const { target } = assemble({
    preparation: { ...prepared, loaders: 0 },
    memories: createMemories(prepared.plan),
    control,
    board: new LoadBoard(prepared.board, control),
    timeline: new Timeline(0),
    kernels: compileKernels('simd128'),
    onProgress: () => {},
  })
  target.batch.clear()
  TEXT.forEach((token, position) => {
    target.batch.addPrefixRow(token, position)
  })
  target.forward()
  return target
})()
const { vocabulary } = draft.config

/** Rows of the text in portions that the head takes; `use` gets the place in the head's output. */
function forEachPosition(use: (row: number, position: number, logits: Float32Array) => void): void {
  for (let start = 0; start < TEXT.length; start += draft.headRows) {
    const rows = TEXT.map((_, i) => i).slice(start, start + draft.headRows)
    draft.head(rows)
    rows.forEach((position, row) => {
      use(row, position + 1, draft.logitsView(row).slice())
    })
  }
}

interface Guess {
  readonly id: number
  readonly promised: number
}

function guesses(ranking: ChildRanking, row: number, position: number): Guess[] {
  const count = ranking.rank(row, position)
  return Array.from({ length: count }, (_, i) => ({ id: ranking.ids[i], promised: ranking.promised[i] }))
}

/** Softmax of all sums to a power, the largest first, ties by token. */
function naive(sums: Float64Array, sharpening: number): Guess[] {
  const top = sums.reduce((a, b) => Math.max(a, b))
  const total = sums.reduce((a, b) => a + Math.exp((b - top) * sharpening), 0)
  return [...sums.keys()]
    .sort((a, b) => sums[b] - sums[a] || a - b)
    .map((id) => ({ id, promised: Math.exp((sums[id] - top) * sharpening) / total }))
}

function opened(rule: RankingRule, tokens: number = vocabulary, branching: number = BRANCHING): ChildRanking {
  const ranking = new ChildRanking(draft, tokens, branching)
  ranking.rule = rule
  return ranking
}

const samplerOf = (temperature: number, seed: number): Sampler => new Sampler({ temperature, seed }, vocabulary)

function coupled(temperature: number, seed: number, sharpening = 2): RankingRule {
  return { temperature, sharpening, noise: samplerOf(temperature, seed).noise }
}

function noisySums(logits: Float32Array, position: number, { temperature, noise }: RankingRule): Float64Array {
  return Float64Array.from(logits, (logit, id) => logit / temperature + noise!.gumbel(position, id))
}

const test = suite('ranking of children')

test('uncoupled guesses are the likeliest tokens with the softmax of sharpened logits', () => {
  for (const sharpening of [0.7, 1, 2, 3]) {
    const ranking = opened({ temperature: 0, sharpening })
    forEachPosition((row, position, logits) => {
      const expected = naive(Float64Array.from(logits), sharpening).slice(0, BRANCHING)
      const actual = guesses(ranking, row, position)
      assert.equal(
        actual.map(({ id }) => id),
        expected.map(({ id }) => id),
      )
      actual.forEach(({ promised }, i) => {
        assert.ok(Math.abs(promised - expected[i].promised) < ROUNDING, `${promised} is not ${expected[i].promised}`)
      })
    })
  }
})

test('coupled guesses are the largest sums of logit / temperature and noise', () => {
  let asked = 0
  let missed = 0
  for (const temperature of [0.7, 1, 1.5]) {
    for (const seed of [1, 2, 3]) {
      const rule = coupled(temperature, seed)
      const ranking = opened(rule)
      forEachPosition((row, position, logits) => {
        const expected = naive(noisySums(logits, position, rule), 2).slice(0, BRANCHING)
        const ids = guesses(ranking, row, position).map(({ id }) => id)
        assert.is(ids.length, BRANCHING)
        const edge = [...logits].sort((a, b) => b - a)[CANDIDATES - 1]
        asked += BRANCHING
        for (const { id } of expected) {
          if (ids.includes(id)) continue
          // Only what neither its logit nor its noise puts among the candidates may be missing.
          missed++
          const noise = rule.noise!.gumbel(position, id)
          assert.ok(logits[id] < edge && noise < Math.log(vocabulary / CANDIDATES), `${id} is missing`)
        }
        // Those that are there are in the right order.
        const order = expected.map(({ id }) => id).filter((id) => ids.includes(id))
        assert.equal(ids.slice(0, order.length), order)
      })
    }
  }
  assert.ok(missed <= 0.01 * asked, `${missed} of ${asked} guesses are not the best ones`)
})

test('coupled probabilities are the softmax of the sharpened sums of all candidates', () => {
  const { NEGATIVE_INFINITY } = Number
  for (const sharpening of [1, 2]) {
    const rule = coupled(0.8, 4, sharpening)
    const ranking = opened(rule)
    let captured = 0
    forEachPosition((row, position, logits) => {
      const sums = noisySums(logits, position, rule)
      const all = new Map(naive(sums, sharpening).map(({ id, promised }) => [id, promised]))
      const edge = [...logits].sort((a, b) => b - a)[CANDIDATES - 1]
      sums.forEach((_, id) => {
        const noise = rule.noise!.gumbel(position, id)
        if (logits[id] < edge && noise < Math.log(vocabulary / CANDIDATES)) sums[id] = NEGATIVE_INFINITY
      })
      const expected = naive(sums, sharpening)
      const actual = guesses(ranking, row, position)
      actual.forEach(({ id, promised }, i) => {
        assert.is(id, expected[i].id)
        assert.ok(Math.abs(promised - expected[i].promised) < ROUNDING)
      })
      for (const { id } of expected.slice(0, 2 * CANDIDATES)) captured += all.get(id)!
    })
    assert.ok(captured > 0.9 * TEXT.length, `candidates hold ${captured / TEXT.length} of what there is`)
  }
})

test('a draft that is the target guesses the very token that the sampler draws', () => {
  let draws = 0
  for (const temperature of [0.3, 0.7, 1]) {
    let likeliest = 0
    for (let seed = 0; seed < 15; seed++) {
      const sampler = samplerOf(temperature, seed)
      const ranking = opened({ temperature, sharpening: 2, noise: sampler.noise })
      const tokens = Int32Array.from(TEXT)
      forEachPosition((row, position, logits) => {
        const drawn = sampler.sample(logits, position, tokens, position, 0)
        assert.is(guesses(ranking, row, position)[0].id, drawn, `seed ${seed}, position ${position}`)
        draws++
        if (drawn === naive(Float64Array.from(logits), 1)[0].id) likeliest++
      })
    }
    const all = 15 * TEXT.length
    assert.ok(likeliest < 0.95 * all, 'nothing is tested where the sampler takes the likeliest token anyhow')
  }
  assert.is(draws, 3 * 15 * TEXT.length)
})

test('noise that is kept is of this text and this position', () => {
  const kept = opened(coupled(1, 1))
  draft.head([5])
  for (const seed of [1, 2, 1]) {
    kept.rule = coupled(1, seed)
    const fresh = (position: number): Guess[] => guesses(opened(coupled(1, seed)), 0, position)
    // More positions than are kept; then those that the next seed begins with.
    for (let position = 6; position < 86; position++) assert.equal(guesses(kept, 0, position), fresh(position))
    for (let position = 6; position < 26; position++) assert.equal(guesses(kept, 0, position), fresh(position))
  }
  assert.not.equal(guesses(kept, 0, 6), guesses(kept, 0, 7))
  assert.not.equal(guesses(kept, 0, 6), guesses(opened(coupled(1, 2)), 0, 6))
})

test('no token beyond the common vocabulary is guessed, and probabilities are of the common ones', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: vocabulary }),
      fc.nat(TEXT.length - 1),
      fc.constantFrom(undefined, 0.7, 1.2),
      (tokens, position, temperature) => {
        const rule = temperature === undefined ? { temperature: 0, sharpening: 1 } : coupled(temperature, 3)
        draft.head([position])
        const logits = draft.logitsView(0).slice(0, tokens)
        const sums = rule.noise === undefined ? Float64Array.from(logits) : noisySums(logits, position + 1, rule)
        const expected = naive(sums, rule.sharpening)
        const actual = guesses(opened(rule, tokens), 0, position + 1)
        assert.is(actual.length, Math.min(tokens, BRANCHING))
        assert.ok(actual.every(({ id }) => id < tokens))
        assert.is(new Set(actual.map(({ id }) => id)).size, actual.length)
        assert.is(actual[0].id, expected[0].id)
        assert.ok(actual[0].promised > expected[0].promised - ROUNDING && actual[0].promised <= 1 + ROUNDING)
      },
    ),
    { numRuns: 60, seed: 1 },
  )
})

test('a chain asks for one guess: the first of those that a tree gets', () => {
  for (const rule of [{ temperature: 0, sharpening: 1 }, coupled(0.8, 7)]) {
    const all = opened(rule)
    const one = opened(rule, vocabulary, 1)
    forEachPosition((row, position) => {
      const [best] = guesses(all, row, position)
      const alone = guesses(one, row, position)
      assert.is(alone.length, 1)
      assert.is(alone[0].id, best.id)
      assert.ok(Math.abs(alone[0].promised - best.promised) < ROUNDING)
    })
  }
})

test.run()
