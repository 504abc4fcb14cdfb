import * as fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { CoppiceError, type ErrorCode } from '../../src/errors.ts'
import { Noise } from '../../src/generate/noise.ts'
import { Sampler } from '../../src/generate/sampler.ts'
import { DEFAULT_SAMPLING, type SamplingOptions } from '../../src/generate/sampling-options.ts'
import { exp, log } from '../../src/tensor/math.ts'
import { soleOperators } from '../tensor/harness.ts'

const test = suite('sampler')

const none = new Int32Array(0)
const { operators } = soleOperators()

/** Draws one token without a context. */
function draw(logits: readonly number[], options: Partial<SamplingOptions>, position = 0): number {
  return new Sampler(options, logits.length).sample(Float32Array.from(logits), position, none, 0, 0)
}

function throwsCode(run: () => unknown, code: ErrorCode, message: RegExp): void {
  assert.throws(
    run,
    (error: unknown) => error instanceof CoppiceError && error.code === code && message.test(error.message),
  )
}

/** The definition, written for reading: full sorts, no short cuts. Likeliest first. */
function candidates(
  logits: readonly number[],
  tokens: readonly number[],
  promptLength: number,
  o: SamplingOptions,
): { token: number; score: number }[] {
  const values = logits.map((v) => Math.fround(v))
  const window = o.repeatWindow < 0 ? tokens : tokens.slice(Math.max(0, tokens.length - o.repeatWindow))
  const output = tokens.slice(promptLength)
  for (const token of new Set(window)) {
    values[token] = values[token] > 0 ? values[token] / o.repeatPenalty : values[token] * o.repeatPenalty
  }
  for (const token of new Set(output)) {
    values[token] -= output.filter((t) => t === token).length * o.frequencyPenalty + o.presencePenalty
  }
  for (const [token, value] of Object.entries(o.logitBias)) values[Number(token)] += value
  const top = Math.max(...values)
  if (o.temperature === 0) return [{ token: values.indexOf(top), score: 0 }]
  const score = values.map((v) => (v - top) / o.temperature)
  let kept = score.map((_, token) => token).filter((token) => score[token] >= -60)
  kept.sort((a, b) => score[b] - score[a] || a - b)
  if (o.topK > 0) kept = kept.slice(0, o.topK)
  const total = [...kept].sort((a, b) => a - b).reduce((sum, token) => sum + exp(score[token]), 0)
  if (o.topP < 1) {
    let sum = 0
    const last = kept.findIndex((token) => {
      sum += exp(score[token])
      return sum >= o.topP * total
    })
    if (last >= 0) kept = kept.slice(0, last + 1)
  }
  if (o.minP > 0) kept = kept.filter((token) => score[token] >= log(o.minP))
  return kept.map((token) => ({ token, score: score[token] }))
}

/** Gumbel-max over them. */
function reference(kept: readonly { token: number; score: number }[], position: number, seed: number): number {
  const noise = new Noise(seed)
  const marks = kept.map(({ token, score }) => ({ token, mark: score + noise.gumbel(position, token) }))
  return marks.sort((a, b) => b.mark - a.mark || a.token - b.token)[0].token
}

const logitValues = fc.oneof(
  fc.constantFrom(0, -0, 1, 1.5, -2, 3, 3, -Infinity),
  fc.float({ min: -30, max: 30, noNaN: true }),
  fc.float({ min: -1, max: 1, noNaN: true }),
)

const cases = fc
  .array(logitValues, { minLength: 1, maxLength: 120 })
  .filter((logits) => logits.some((v) => v > -Infinity))
  .chain((logits) => {
    const token = fc.nat(logits.length - 1)
    const maybe = <T>(off: T, on: fc.Arbitrary<T>): fc.Arbitrary<T> => fc.oneof(fc.constant(off), on)
    return fc.record({
      logits: fc.constant(logits),
      position: fc.nat(100_000),
      tokens: fc.array(token, { maxLength: 100 }),
      promptPart: fc.double({ min: 0, max: 1, noNaN: true }),
      options: fc.record({
        temperature: fc.constantFrom(0, 1e-30, 0.1, 0.8, 1, 2, 100),
        topK: maybe(0, fc.nat(130)),
        topP: maybe(1, fc.constantFrom(0, 0.1, 0.5, 0.9, 0.95, 0.999)),
        minP: maybe(0, fc.constantFrom(1e-9, 0.05, 0.5, 1)),
        repeatPenalty: maybe(1, fc.constantFrom(0.5, 1.1, 2)),
        repeatWindow: fc.constantFrom(-1, 0, 3, 64),
        presencePenalty: maybe(0, fc.constantFrom(-1, 0.5, 2)),
        frequencyPenalty: maybe(0, fc.constantFrom(-1, 0.25, 2)),
        logitBias: maybe({}, fc.dictionary(token.map(String), fc.constantFrom(-3, 0.5, 8), { maxKeys: 4 })),
        seed: fc.nat(),
      }),
    })
  })

test('result and distribution are the definition: penalties, bias, temperature, top-k, top-p, min-p, Gumbel-max', () => {
  fc.assert(
    fc.property(cases, ({ logits, position, tokens, promptPart, options }) => {
      const promptLength = Math.floor(promptPart * tokens.length)
      const sampler = new Sampler(options, logits.length)
      const byKernels = new Sampler(options, logits.length, operators)
      const row = Float32Array.from(logits)
      const kept = candidates(logits, tokens, promptLength, sampler.options)
      const expected = reference(kept, position, sampler.options.seed)
      const given = Int32Array.from([...tokens, 0, 0])
      assert.is(sampler.sample(row, position, given, tokens.length, promptLength), expected)
      assert.is(byKernels.sample(row, position, given, tokens.length, promptLength), expected)
      assert.equal(row, Float32Array.from(logits), 'the logits are not changed')
      assert.is(sampler.sample(row, position, given, tokens.length, promptLength), expected, 'nothing is left behind')
      const total = kept.reduce((sum, { score }) => sum + exp(score), 0)
      const probabilities = new Float64Array(logits.length)
      for (const { token, score } of kept) probabilities[token] = exp(score) / total
      const whole = sampler.distribution(row, given, tokens.length, promptLength)
      assert.equal(byKernels.distribution(row, given, tokens.length, promptLength), whole)
      whole.forEach((probability, token) => {
        assert.ok(Math.abs(probability - probabilities[token]) < 1e-12, `token ${token}: ${probability}`)
        assert.is(probability > 0, probabilities[token] > 0)
      })
    }),
    { numRuns: 3000 },
  )
})

test('the result is the definition on a large vocabulary too, whatever the filters, with kernels and without', () => {
  const noise = new Noise(77)
  const size = 5000
  for (const spread of [0.001, 1, 8]) {
    const logits = Array.from({ length: size }, (_, i) => Math.fround(spread * noise.gumbel(0, i)))
    for (const options of [{}, { topK: 40 }, { topK: 3000 }, { topP: 0.9 }, { topP: 0.999999 }, { minP: 0.01 }]) {
      for (const used of [undefined, operators]) {
        const sampler = new Sampler({ temperature: 0.8, seed: 11, ...options }, size, used)
        for (let position = 0; position < 5; position++) {
          const got = sampler.sample(Float32Array.from(logits), position, none, 0, 0)
          assert.is(got, reference(candidates(logits, [], 0, sampler.options), position, 11))
        }
      }
    }
  }
})

test('temperature 0 takes the largest logit, and of equal ones the lowest token id', () => {
  assert.is(draw([1, 5, 5, 2], {}), 1)
  assert.is(draw([-0, 0], {}), 0)
  assert.is(draw([-Infinity, -1e30], {}), 1)
  assert.is(draw([1, 5, 5, 2], { topP: 0, seed: 9, temperature: 1 }), 1, 'a nucleus of one is the same')
  assert.is(draw([1, 5, 5, 2], { topK: 1, seed: 9, temperature: 1 }), 1)
})

test('draws follow softmax(logits / temperature)', () => {
  const logits = [2, 1, 0.5, 0, -1, -2, 0.5, 1.25]
  const temperature = 0.7
  const weights = logits.map((v) => Math.exp(v / temperature))
  const total = weights.reduce((a, b) => a + b)
  const sampler = new Sampler({ temperature, seed: 2024 }, logits.length)
  const draws = 40_000
  const counts = logits.map(() => 0)
  for (let position = 0; position < draws; position++) {
    counts[sampler.sample(Float32Array.from(logits), position, none, 0, 0)]++
  }
  const chiSquare = counts.reduce((sum, n, i) => {
    const expected = (draws * weights[i]) / total
    return sum + (n - expected) ** 2 / expected
  }, 0)
  // 7 degrees of freedom: above 29.9 has a probability of 1e-4; the seed is fixed.
  assert.ok(chiSquare < 29.9, `chi-square ${chiSquare}`)
})

test('the same seed gives the same tokens, another seed other ones', () => {
  const noise = new Noise(5)
  const row = Float32Array.from({ length: 300 }, (_, i) => noise.gumbel(1, i))
  const text = (seed: number): number[] => {
    const sampler = new Sampler({ temperature: 1, seed }, row.length)
    return Array.from({ length: 30 }, (_, position) => sampler.sample(row, position, none, 0, 0))
  }
  assert.equal(text(1), text(1))
  assert.not.equal(text(1), text(2))
  assert.not.equal(text(1), text(-1))
})

test('a draw depends on position and logits alone, not on draws before it', () => {
  const row = Float32Array.from([0.1, 0.2, 0.3, 0.4])
  const sampler = new Sampler({ temperature: 1, seed: 3 }, 4)
  const forwards = [0, 1, 2, 3, 4, 5].map((p) => sampler.sample(row, p, none, 0, 0))
  const backwards = [5, 4, 3, 2, 1, 0].map((p) => sampler.sample(row, p, none, 0, 0)).reverse()
  assert.equal(forwards, backwards)
})

test('the repeat penalty looks at the last tokens of prompt and output; presence and frequency at all of the output', () => {
  const row = Float32Array.from([3, 2.9, -1, 0])
  const sample = (options: Partial<SamplingOptions>, tokens: number[], promptLength: number): number =>
    new Sampler(options, 4).sample(row, tokens.length, Int32Array.from(tokens), tokens.length, promptLength)
  assert.is(sample({ repeatPenalty: 1.2 }, [0], 1), 1, 'a token of the prompt counts')
  assert.is(sample({ repeatPenalty: 1.2, repeatWindow: 2 }, [0, 2, 3], 0), 0, 'a token before the window does not')
  assert.is(sample({ repeatPenalty: 1.2, repeatWindow: -1 }, [0, 2, 3], 0), 1)
  assert.is(sample({ presencePenalty: 0.5 }, [0], 1), 0, 'the prompt does not count')
  assert.is(sample({ presencePenalty: 0.5, repeatWindow: 1 }, [0, 2], 0), 1, 'all of the output counts')
  assert.is(sample({ frequencyPenalty: 0.06 }, [0], 0), 0)
  assert.is(sample({ frequencyPenalty: 0.06 }, [0, 0], 0), 1, 'each time counts')
})

test('a bias of -Infinity bans a token', () => {
  assert.is(draw([5, 1, 2], { logitBias: { 0: -Infinity } }), 2)
  for (let position = 0; position < 50; position++) {
    assert.is.not(draw([5, 1, 2], { logitBias: { 0: -Infinity }, temperature: 2 }, position), 0)
  }
  throwsCode(() => draw([1, 2], { logitBias: { 0: -Infinity, 1: -Infinity } }), 'INVALID_OPTION', /logitBias bans/)
})

test('the log-probability is log-softmax of the raw logits', () => {
  fc.assert(
    fc.property(fc.array(fc.float({ min: -50, max: 50, noNaN: true }), { minLength: 1, maxLength: 40 }), (logits) => {
      const sampler = new Sampler({ temperature: 0.3, topK: 1, logitBias: { 0: -9 } }, logits.length)
      const row = Float32Array.from(logits)
      let sum = 0
      for (let token = 0; token < row.length; token++) {
        const top = Math.max(...row)
        const expected = row[token] - top - Math.log(row.reduce((a, v) => a + Math.exp(v - top), 0))
        const got = sampler.logprob(row, token)
        assert.ok(Math.abs(got - expected) < 1e-12 * (1 + Math.abs(expected)))
        sum += Math.exp(got)
      }
      assert.ok(Math.abs(sum - 1) < 1e-12)
    }),
  )
  assert.is(new Sampler({}, 2).logprob(Float32Array.of(0, -Infinity), 1), -Infinity)
})

test('logits that are no numbers are a broken model, not token 0', () => {
  for (const bad of [NaN, Infinity]) {
    for (const temperature of [0, 1]) {
      throwsCode(() => draw([1, 2, bad, 3], { temperature }), 'CORRUPT_FILE', /token 2 the logit (NaN|Infinity)/)
      throwsCode(() => draw([1, 2, bad, 3], { temperature, logitBias: { 0: 1 } }), 'CORRUPT_FILE', /token 2/)
    }
    throwsCode(() => new Sampler({}, 2).logprob(Float32Array.of(0, bad), 0), 'CORRUPT_FILE', /token 1/)
  }
  throwsCode(() => draw([-Infinity, -Infinity], {}), 'CORRUPT_FILE', /-Infinity/)
})

test('options out of range are refused with their name, range and value', () => {
  const refused: [Partial<SamplingOptions>, RegExp][] = [
    [{ temperature: -1 }, /temperature must be a number from 0 to 1000, not -1/],
    [{ temperature: NaN }, /temperature .* not NaN/],
    [{ topK: 1.5 }, /topK must be an integer from 0/],
    [{ topP: 1.01 }, /topP must be a number from 0 to 1, not 1.01/],
    [{ minP: -0.1 }, /minP/],
    [{ repeatPenalty: 0 }, /repeatPenalty/],
    [{ repeatWindow: -2 }, /repeatWindow/],
    [{ presencePenalty: Infinity }, /presencePenalty/],
    [{ frequencyPenalty: 'much' as unknown as number }, /frequencyPenalty .* not "much"/],
    [{ seed: 0.5 }, /seed must be an integer/],
    [{ seed: 2 ** 53 }, /seed/],
    [{ logitBias: { 9: 1 } }, /logitBias maps token ids from 0 to 3 .* not 9 to 1/],
    [{ logitBias: { 1: Infinity } }, /logitBias/],
    [{ logitBias: { 1: NaN } }, /logitBias/],
  ]
  for (const [options, message] of refused) {
    throwsCode(() => new Sampler(options, 4), 'INVALID_OPTION', message)
  }
  assert.equal(new Sampler({}, 4).options, DEFAULT_SAMPLING)
})

test.run()
