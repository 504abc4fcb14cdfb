/** The main loop's bookkeeping: what it counts, what it asks of a drafter, and where it stops. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { CoppiceError } from '../../src/errors.ts'
import { type DecodedToken, type DecodeRequest, Decoder } from '../../src/generate/decode.ts'
import { Sampler } from '../../src/generate/sampler.ts'
import { DEFAULT_SAMPLING } from '../../src/generate/sampling-options.ts'
import { emptyStats } from '../../src/generate/statistics.ts'
import type { Context } from '../../src/speculate/context.ts'
import type { Budget, Drafter } from '../../src/speculate/drafter.ts'
import { PassCosts } from '../../src/speculate/pass-costs.ts'
import type { TokenTree } from '../../src/speculate/token-tree.ts'
import type { Verification } from '../../src/speculate/verify.ts'
import { openSmallTarget } from './small-target.ts'

const NODES = 6
const CONTEXT = 80
const { target, store, timeline, control } = openSmallTarget(CONTEXT)
const { vocabulary } = target.config
const PROMPT = [3, 1, 4, 1, 5]

/** A drafter that knows the text, tells part of it, and adds guesses that are wrong. */
class Oracle implements Drafter {
  readonly name = 'tree'
  readonly calls: string[] = []
  readonly budgets: Budget[] = []
  readonly #text: readonly number[]
  readonly #right: number

  /** @param right tokens of the text to guess right in each pass */
  constructor(text: readonly number[], right: number) {
    this.#text = text
    this.#right = right
  }

  propose(context: Context, tree: TokenTree, budget: Budget): void {
    this.calls.push('propose')
    this.budgets.push(budget)
    const at = context.length - PROMPT.length
    let node = 0
    for (let i = 0; i < Math.min(this.#right, budget.nodes) && at + i < this.#text.length; i++) {
      const wrong = (this.#text[at + i] + 1) % vocabulary
      if (tree.size < budget.nodes - this.#right) tree.add(node, wrong, -9, 1)
      node = tree.add(node, this.#text[at + i], -i, 1)
    }
  }

  observe({ tokens }: Verification): void {
    this.calls.push(`observe ${tokens.length}`)
  }
}

interface Run {
  readonly tokens: DecodedToken[]
  readonly passes: number[]
  readonly end: string
  readonly stats: ReturnType<typeof emptyStats>
}

function run(
  drafter: Drafter | undefined,
  request: Partial<DecodeRequest> = {},
  costs = new PassCosts(target.batch.capacity, 1),
): Run {
  const decoder = new Decoder({
    target,
    drafter,
    nodes: drafter === undefined ? 0 : NODES,
    depth: 24,
    disk: store,
    timeline,
    costs,
    pipeline: true,
    isWarm: () => true,
    expectHead: (follows) => {
      store.headFollows = follows
    },
  })
  const tokens: DecodedToken[] = []
  const passes: number[] = []
  const stats = emptyStats(0)
  const end = decoder.run(
    {
      prompt: PROMPT,
      sampler: new Sampler(DEFAULT_SAMPLING, vocabulary),
      maxTokens: 30,
      isEnd: () => false,
      emit: (token) => {
        tokens.push(token)
        return true
      },
      afterPass: () => void passes.push(tokens.length),
      logprobs: false,
      onPrefill: () => {},
      ...request,
    },
    stats,
  )
  return { tokens, passes, end, stats }
}

const ids = ({ tokens }: Run): number[] => tokens.map(({ token }) => token)
const plain = run(undefined)
const text = ids(plain)

const test = suite('decoding')

test('plain decoding takes one pass per token and drafts nothing', () => {
  assert.is(plain.stats.passes, 30)
  assert.is(plain.stats.tokensPerPass, 1)
  assert.equal(plain.stats.acceptedHistogram, [30])
  assert.equal(plain.stats.depths, [30])
  assert.is(plain.stats.nodesPerPass, 0)
  assert.equal(plain.stats.perDrafter, {})
  assert.ok(plain.tokens.every(({ drafted }) => !drafted))
  assert.equal(
    plain.passes,
    Array.from({ length: 30 }, (_, i) => i + 1),
  )
})

for (const right of [1, 2, 3, 6]) {
  test(`a drafter that is right ${right} times saves that many passes, and changes no token`, () => {
    const drafted = run(new Oracle(text, right))
    assert.equal(ids(drafted), text)
    const { stats } = drafted
    assert.is(stats.passes, Math.ceil(30 / (right + 1)))
    assert.is(stats.tokens, 30)
    assert.is(
      stats.acceptedHistogram.reduce((a, b) => a + b, 0),
      stats.passes,
    )
    const accepted = stats.acceptedHistogram.reduce((sum, count, k) => sum + count * k, 0)
    assert.is(stats.perDrafter.tree.accepted, accepted)
    assert.is(drafted.tokens.filter((token) => token.drafted).length, accepted)
    assert.ok(stats.perDrafter.tree.proposed >= accepted)
    assert.is(
      stats.perDrafter.tree.ranks.reduce((sum, rank) => sum + rank.accepted, 0),
      accepted,
    )
    assert.is(stats.nodesPerPass, stats.perDrafter.tree.proposed / stats.passes)
    assert.is(
      stats.depths.reduce((a, b) => a + b, 0),
      stats.passes,
    )
  })
}

test('a drafter that is always wrong costs nothing but its guesses', () => {
  const wrong = text.map((token) => (token + 7) % vocabulary)
  const drafted = run(new Oracle(wrong, 3))
  assert.equal(ids(drafted), text)
  assert.is(drafted.stats.perDrafter.tree.accepted, 0)
  assert.is(drafted.stats.passes, 30)
})

/** Two guesses at every node of a chain: the right one with a score of its own. */
class Ranked implements Drafter {
  readonly name = 'tree'
  readonly #scores: readonly number[]

  constructor(scores: readonly number[]) {
    this.#scores = scores
  }

  propose(context: Context, tree: TokenTree): void {
    const at = context.length - PROMPT.length
    let node = 0
    for (const [i, score] of this.#scores.entries()) {
      const token = text[at + i]
      if (token === undefined) return
      tree.add(node, (token + 1) % vocabulary, -i - 5, 1)
      node = tree.add(node, token, -i - score, 1)
    }
  }

  observe(): void {}
}

test('guesses are counted by rank where the target came to, and trees by depth', () => {
  // The likelier one first, then last: whichever was added first.
  const { stats } = run(new Ranked([4, 6]), { maxTokens: 9 })
  assert.is(stats.passes, 3)
  assert.equal(stats.perDrafter.tree.ranks, [
    { seen: 6, accepted: 3 },
    { seen: 6, accepted: 3 },
  ])
  assert.equal(stats.depths, [0, 0, 3])
  assert.is(stats.nodesPerPass, 4)
})

test('nodes beyond the last token of the text are not counted by rank', () => {
  const { stats } = run(new Ranked([4, 4, 4]), { emit: ({ token }) => token !== text[0] })
  assert.equal(stats.perDrafter.tree.ranks, [
    { seen: 3, accepted: 3 },
    { seen: 3, accepted: 0 },
  ])
  const cut = run(new Ranked([4, 4, 4]), { maxTokens: 2 })
  assert.equal(cut.stats.perDrafter.tree, {
    proposed: 6,
    accepted: 2,
    ranks: [
      { seen: 2, accepted: 2 },
      { seen: 2, accepted: 0 },
    ],
  })
})

test('a drafter may abstain', () => {
  const drafted = run(new Oracle([], 3))
  assert.equal(ids(drafted), text)
  assert.equal(drafted.stats.perDrafter, {})
})

test('the drafter is asked in every pass, and told what became of it', () => {
  const drafter = new Oracle(text, 2)
  run(drafter, { maxTokens: 9 })
  assert.equal(drafter.calls, ['propose', 'observe 3', 'propose', 'observe 3', 'propose', 'observe 3'])
})

test('of a pass in which the text ends, only what is part of the text is told', () => {
  const drafter = new Oracle(text, 3)
  run(drafter, { emit: ({ token }) => token !== text[1] })
  assert.equal(drafter.calls, ['propose', `observe ${1 + text.indexOf(text[1])}`])
})

test('when one token is missing the drafter gets no budget: the target says it in any case', () => {
  const drafter = new Oracle(text, 2)
  run(drafter, { maxTokens: 7 })
  assert.equal(
    drafter.budgets.map(({ nodes }) => nodes),
    [NODES, NODES, 0],
  )
})

test('tokens are handed out in order, pass by pass, each once', () => {
  const { passes, tokens } = run(new Oracle(text, 3), { maxTokens: 10 })
  assert.equal(passes, [4, 8, 10])
  assert.equal(
    tokens.map(({ drafted }) => drafted),
    [true, true, true, false, true, true, true, false, true, true],
  )
})

test('a text ends where the emitter says so, inside an accepted path too', () => {
  for (let length = 1; length <= 12; length++) {
    const seen: number[] = []
    const { end, stats } = run(new Oracle(text, 3), {
      emit: ({ token }) => seen.push(token) < length,
    })
    assert.is(end, 'stop')
    assert.equal(seen, text.slice(0, length))
    assert.is(stats.tokens, length)
  }
})

test('an end token ends the text, is emitted as such, and nothing after it is', () => {
  const end = text[5]
  const first = text.indexOf(end)
  const drafted = run(new Oracle(text, 4), { isEnd: (token) => token === end })
  assert.is(drafted.end, 'stop')
  assert.equal(ids(drafted), text.slice(0, first + 1))
  assert.ok(drafted.tokens.at(-1)!.isEnd)
})

test('without a limit the text fills the context exactly', () => {
  for (const drafter of [undefined, new Oracle(text, 3)]) {
    const { end, tokens } = run(drafter, { maxTokens: undefined })
    assert.is(end, 'context')
    assert.is(tokens.length, CONTEXT - PROMPT.length)
  }
})

test('a long prompt is read in passes, and progress tells how far', () => {
  const seen: [number, number][] = []
  const prompt = Array.from({ length: 75 }, (_, i) => i % vocabulary)
  run(undefined, { prompt, maxTokens: 1, onPrefill: (done, total) => void seen.push([done, total]) })
  assert.ok(seen.length > 1)
  assert.equal(seen.at(-1), [74, 74])
})

test('prompts that cannot be are refused before any pass', () => {
  const codeOf = (request: Partial<DecodeRequest>): string => {
    try {
      run(undefined, request)
    } catch (error) {
      if (error instanceof CoppiceError) return error.code
      throw error
    }
    return 'nothing was thrown'
  }
  assert.is(codeOf({ prompt: [] }), 'INVALID_INPUT')
  assert.is(codeOf({ prompt: [vocabulary] }), 'INVALID_INPUT')
  assert.is(codeOf({ prompt: Array(CONTEXT).fill(1), maxTokens: undefined }), 'CONTEXT_OVERFLOW')
  assert.is(codeOf({ maxTokens: CONTEXT }), 'CONTEXT_OVERFLOW')
  assert.is(codeOf({ replay: [] }), 'INVALID_INPUT')
  assert.is(codeOf({ replay: [1, -1] }), 'INVALID_INPUT')
  assert.is(codeOf({ replay: [1.5] }), 'INVALID_INPUT')
  assert.is(codeOf({ replay: [vocabulary] }), 'INVALID_INPUT')
  assert.is(codeOf({ replay: Array(CONTEXT).fill(1), maxTokens: undefined }), 'CONTEXT_OVERFLOW')
})

/** Nothing that this model would write. */
const RECORDED = text.map((token, i) => (token + 2 + (i % 5)) % vocabulary)

test('a replay takes the recorded tokens, pass by pass, and ends after them', () => {
  const { tokens, end, stats } = run(undefined, { replay: RECORDED.slice(0, 12), maxTokens: undefined })
  assert.equal(
    tokens.map(({ token }) => token),
    RECORDED.slice(0, 12),
  )
  assert.is(end, 'length')
  assert.is(stats.passes, 12)
})

test('a drafter that knows the recorded text saves passes, one that knows the model’s own does not', () => {
  const request = { replay: RECORDED.slice(0, 12) }
  const knowing = run(new Oracle(RECORDED, 3), request)
  assert.equal(ids(knowing), request.replay)
  assert.is(knowing.stats.passes, 3)
  assert.equal(knowing.passes, [4, 8, 12])
  assert.is(run(new Oracle(text, 3), request).stats.passes, 12)
})

test('guesses beyond the recorded text change nothing', () => {
  const { tokens, stats } = run(new Ranked([4, 4, 4]), { replay: text.slice(0, 2) })
  assert.equal(
    tokens.map(({ token }) => token),
    text.slice(0, 2),
  )
  assert.is(stats.tokens, 2)
})

test('a replay is cut by maxTokens and by end tokens, as any text', () => {
  const request = { replay: RECORDED.slice(0, 12) }
  assert.equal(ids(run(new Oracle(RECORDED, 3), { ...request, maxTokens: 5 })), RECORDED.slice(0, 5))
  const ended = run(undefined, { ...request, isEnd: (token) => token === RECORDED[7] })
  assert.is(ended.end, 'stop')
  assert.equal(ids(ended), RECORDED.slice(0, RECORDED.indexOf(RECORDED[7]) + 1))
})

test('what passes take is told with what comes behind the layers', () => {
  const costs = new PassCosts(target.batch.capacity, 1)
  const heard: number[][] = []
  costs.observePass = (rows, compute, _whole, _ahead, head = 0) => void heard.push([rows, compute, head])
  const { stats } = run(new Oracle(text, 2), {}, costs)
  assert.is(heard.length, stats.passes)
  assert.ok(heard.some(([rows]) => rows > 2))
  for (const [, compute, head] of heard) assert.ok(head > 0 && head < compute, `${head} of ${compute} s`)
})

test('an abort in the middle leaves true statistics and a decoder that can go on', () => {
  let emitted = 0
  const stats: Run['stats'][] = []
  assert.throws(() => {
    const decoder = new Decoder({
      target,
      drafter: undefined,
      nodes: 0,
      depth: 24,
      disk: store,
      timeline,
      costs: new PassCosts(target.batch.capacity, 1),
      pipeline: true,
      isWarm: () => true,
      expectHead: () => {},
    })
    stats.push(emptyStats(0))
    decoder.run(
      {
        prompt: PROMPT,
        sampler: new Sampler(DEFAULT_SAMPLING, vocabulary),
        maxTokens: 30,
        isEnd: () => false,
        emit: () => {
          if (++emitted === 5) control.requestAbort()
          return true
        },
        afterPass: () => {},
        logprobs: false,
        onPrefill: () => {},
      },
      stats[0],
    )
  }, /aborted/)
  control.clearAbort()
  store.releaseAll()
  assert.is(stats[0].tokens, 5)
  assert.is(stats[0].passes, 5)
  assert.ok(stats[0].seconds.total > 0)
  assert.equal(ids(run(undefined)), text)
})

test.run()
