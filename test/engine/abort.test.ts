/** The asynchronous side: loads and calls that end early. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { ModelFront } from '../../src/engine/front.ts'
import { AbortError, type LoadOptions, load } from '../../src/index.ts'
import { codeOf, rejection } from './failures.ts'
import { freshCheckpoint, GREEDY, LONG, open, outcome, PROMPT, withModel } from './open-model.ts'

const aborting = suite('aborting')

aborting('a signal that is aborted already ends the call before it begins', () =>
  withModel(async (model) => {
    const error = await rejection(model.complete(PROMPT, { signal: AbortSignal.abort('enough') }))
    assert.instance(error, AbortError)
    assert.is((error as AbortError).partial, undefined)
    assert.is(error.cause, 'enough')
  }),
)

aborting('an abort carries what was written until then', () =>
  withModel(async (model) => {
    const whole = await model.complete(PROMPT, { ...LONG, maxTokens: 100 })
    const controller = new AbortController()
    const seen: number[] = []
    const error = await rejection(
      (async () => {
        for await (const piece of model.generate(PROMPT, { ...LONG, signal: controller.signal })) {
          seen.push(piece.token)
          if (seen.length === 4) controller.abort('enough')
        }
      })(),
    )
    assert.instance(error, AbortError)
    const { partial, cause } = error as AbortError
    assert.is(cause, 'enough')
    assert.ok(partial!.tokens.length >= 4 && partial!.tokens.length < 400, `${partial!.tokens.length} tokens`)
    const shared = Math.min(partial!.tokens.length, whole.tokens.length)
    assert.equal(partial!.tokens.slice(0, shared), whole.tokens.slice(0, shared))
    assert.equal(seen, partial!.tokens.slice(0, seen.length))
    assert.ok(partial!.stats.passes > 0)
    assert.ok(partial!.text.length > 0)
    assert.is(partial!.usage.completionTokens, partial!.tokens.length)
  }),
)

aborting('an abort while the prompt is read leaves an empty partial completion', () =>
  withModel(async (model) => {
    const controller = new AbortController()
    const tokens = Array.from({ length: 450 }, (_, i) => 300 + (i % 700))
    const call = rejection(model.complete({ tokens }, { ...LONG, maxTokens: 60, signal: controller.signal }))
    await Promise.resolve()
    controller.abort()
    const error = await call
    assert.instance(error, AbortError)
    assert.ok((error as AbortError).partial!.tokens.length < 60)
  }),
)

aborting('leaving the loop aborts, and the next call works', () =>
  withModel(async (model) => {
    const expected = await model.complete(PROMPT, GREEDY)
    for (let i = 0; i < 3; i++) {
      for await (const piece of model.generate(PROMPT, LONG)) {
        assert.is(piece.token, expected.tokens[0])
        break
      }
      assert.equal(outcome(await model.complete(PROMPT, GREEDY)), outcome(expected))
    }
  }),
)

aborting('an error thrown in the loop passes through, and the next call works', () =>
  withModel(async (model) => {
    const error = await rejection(
      (async () => {
        for await (const _ of model.generate(PROMPT, LONG)) throw new RangeError('mine')
      })(),
    )
    assert.instance(error, RangeError)
    assert.is((await model.complete(PROMPT, GREEDY)).tokens.length, 8)
  }),
)

aborting('what onProgress throws ends the load or the call, and the next call works', async () => {
  let wrong = 'pack'
  const onProgress: LoadOptions['onProgress'] = ({ phase }) => {
    if (phase === wrong) throw new RangeError(`mine while ${phase}`)
  }
  const source = freshCheckpoint('progress-source')
  const options = { weights: 'f32', context: 512, threads: 1, onProgress } as const
  assert.is((await rejection(load(source, options))).message, 'mine while pack')
  wrong = 'prefill'
  const model = await load(source, options)
  assert.is((await rejection(model.complete(PROMPT, LONG))).message, 'mine while prefill')
  wrong = ''
  assert.is((await model.complete(PROMPT, GREEDY)).tokens.length, 8)
  await model.close()
})

aborting('a generator that is never asked does nothing', () =>
  withModel(async (model) => {
    model.generate(PROMPT, LONG)
    const unused = model.generate(PROMPT, LONG)
    await unused.return(undefined as never)
    assert.is((await model.complete(PROMPT, GREEDY)).tokens.length, 8)
  }),
)

aborting('an engine that does not answer is waited for once, and no longer', () =>
  withModel(async (model) => {
    const controller = new AbortController()
    const { crew } = model as ModelFront
    crew.send = () => controller.abort()
    const { setTimeout } = globalThis
    const waits: unknown[] = []
    // Every wait is over at once.
    globalThis.setTimeout = ((run: () => void, ms: number) => {
      waits.push(ms)
      return setTimeout(run)
    }) as typeof setTimeout
    try {
      assert.instance(await rejection(model.complete(PROMPT, { ...LONG, signal: controller.signal })), AbortError)
    } finally {
      globalThis.setTimeout = setTimeout
    }
    assert.is(waits.length, 1, `${waits}`)
  }),
)

aborting('loading stops when its signal is aborted before, or while it packs', async () => {
  assert.is(await codeOf(open({ signal: AbortSignal.abort() })), 'ABORTED')
  const source = freshCheckpoint('aborted-source')
  const controller = new AbortController()
  let packed = 0
  const loading = load(source, {
    weights: 'f32',
    signal: controller.signal,
    onProgress: ({ phase }) => {
      if (phase === 'pack') packed++
      controller.abort()
    },
  })
  assert.instance(await rejection(loading), AbortError)
  assert.ok(packed > 0)
  const model = await load(source, { weights: 'f32', context: 64, threads: 1 })
  assert.is((await model.complete(PROMPT, GREEDY)).tokens.length, 8)
  await model.close()
})

aborting(
  'the first call stops when it is aborted while resident weights are read, and the next one reads on',
  async () => {
    const controller = new AbortController()
    let seen = 0
    const model = await open({
      onProgress: ({ phase }) => {
        if (phase !== 'load') return
        seen++
        controller.abort()
      },
    })
    assert.instance(await rejection(model.complete(PROMPT, { maxTokens: 4, signal: controller.signal })), AbortError)
    assert.ok(seen > 0)
    const { text } = await model.complete(PROMPT, { maxTokens: 4, temperature: 0 })
    await model.close()
    const fresh = await open({})
    assert.is(text, (await fresh.complete(PROMPT, { maxTokens: 4, temperature: 0 })).text)
    await fresh.close()
  },
)

aborting.run()
