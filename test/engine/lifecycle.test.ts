/** Loading a model and closing it: what is refused, what is reported, what ends. */
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { Crew } from '../../src/engine/crew.ts'
import type { EngineMessage } from '../../src/engine/protocol.ts'
import { CoppiceError, type LoadOptions, load } from '../../src/index.ts'
import { Control } from '../../src/tensor/control.ts'
import { fixtures } from '../paths.ts'
import { codeOf, rejection } from './failures.ts'
import { scratch } from './harness.ts'
import { freshCheckpoint, GREEDY, LONG, open, PROMPT } from './open-model.ts'

const closing = suite('closing')

closing('closing ends a running call, and calls that wait', async () => {
  const model = await open()
  const running = rejection(model.complete(PROMPT, LONG))
  const waiting = rejection(model.complete(PROMPT, GREEDY))
  const pieces = model.generate(PROMPT, LONG)
  const asked = rejection(pieces.next())
  await new Promise((resolve) => setTimeout(resolve, 50))
  await model.close()
  for (const error of [await running, await waiting, await asked]) {
    assert.is((error as CoppiceError).code, 'CLOSED', String(error))
  }
})

closing('a loop over a model that is closed meanwhile ends with CLOSED', async () => {
  const model = await open()
  let closed: Promise<void> | undefined
  const error = await rejection(
    (async () => {
      for await (const _ of model.generate(PROMPT, LONG)) closed ??= model.close()
    })(),
  )
  await closed
  assert.is((error as CoppiceError).code, 'CLOSED', String(error))
})

closing('a closed model refuses every call, and closing again is harmless', async () => {
  const model = await open()
  await Promise.all([model.close(), model.close()])
  await model.close()
  await model[Symbol.asyncDispose]()
  assert.is(await codeOf(model.complete(PROMPT)), 'CLOSED')
  assert.is(await codeOf(model.generate(PROMPT).next()), 'CLOSED')
  assert.is(await codeOf(model.logits({ tokens: [1] })), 'CLOSED')
})

closing('every close waits until the threads are gone', async () => {
  const model = await open()
  const { crew } = model as unknown as { crew: { members: { worker: { onExit(listener: () => void): void } }[] } }
  let gone = 0
  for (const { worker } of crew.members) worker.onExit(() => gone++)
  const threads = crew.members.length
  void model.close()
  await model.close()
  assert.is(gone, threads)
})

closing('await using closes at the end of the block', async () => {
  const model = await open()
  await model[Symbol.asyncDispose]()
  assert.is(await codeOf(model.complete(PROMPT)), 'CLOSED')
})

closing.run()

const loading = suite('loading')

loading('options that make no sense are refused by name', async () => {
  const bad: Record<string, unknown>[] = [
    { nodes: -1 },
    { nodes: 1.5 },
    { nodes: 5000 },
    { threads: 0 },
    { threads: 1.5 },
    { context: 1 },
    { context: 4000 },
    { memory: 'plenty' },
    { memory: 0 },
    { memory: Number.NaN },
    { weights: 'q5' },
    { io: 'fast' },
    { draft: 'none', nodes: 4 },
    { drafters: ['tree', 'chain'] },
    { drafters: ['oracle'] },
    { draft: 'self:much' },
    { pacing: 'slow' },
    { draft: 7 },
    { sharpening: 0 },
    { sharpening: -1 },
    { sharpening: Number.NaN },
    { sharpening: 'much' },
  ]
  for (const options of bad) {
    const error = await rejection(open(options as LoadOptions))
    assert.ok(error instanceof CoppiceError, `${JSON.stringify(options)}: ${error.stack}`)
    assert.is(error.code, 'INVALID_OPTION', `${JSON.stringify(options)}: ${error.message}`)
  }
})

loading('threads of a load that fails leave by themselves, whatever they still wait for', async () => {
  const control = new Control()
  const data = { model: join(scratch, 'no-such-model'), options: {}, control: control.buffer, memoryLimit: undefined }
  const crew = new Crew(control, data, 3)
  const codes: number[] = []
  for (const { worker } of crew.members) worker.onExit((code) => codes.push(code))
  const message = await new Promise<EngineMessage>((resolve) => {
    crew.onMessage = resolve
  })
  assert.is(message.type, 'failed')
  await crew.dismiss()
  // A thread that had to be stopped ends with 1.
  assert.equal(codes, [0, 0, 0])
})

loading('a path without a model is named', async () => {
  const missing = join(scratch, 'no-such-model')
  const error = await rejection(load(missing))
  assert.is((error as CoppiceError).code, 'MODEL_NOT_FOUND')
  assert.match(error.message, missing)
})

loading('a draft with another vocabulary is refused', async () => {
  assert.is(await codeOf(open({ draft: join(fixtures, 'llama') })), 'INCOMPATIBLE_DRAFT')
})

loading('a model without a tokenizer takes and gives tokens, and says what text needs', async () => {
  const model = await load(join(fixtures, 'llama'), { weights: 'f32', threads: 1 })
  try {
    assert.is(model.tokenizer, undefined)
    const { tokens, text } = await model.complete({ tokens: [1, 2, 3] }, GREEDY)
    assert.ok(tokens.length > 0)
    assert.is(text, '')
    assert.is(await codeOf(model.complete('text')), 'NO_TOKENIZER')
    assert.is(await codeOf(model.complete([{ role: 'user', content: 'hi' }])), 'NO_TOKENIZER')
    assert.is(await codeOf(model.complete({ tokens: [1] }, { stop: 'x' })), 'NO_TOKENIZER')
  } finally {
    await model.close()
  }
})

loading('progress names its phases and ends where it should', async () => {
  const last = new Map<string, { done: number; total: number }>()
  const source = freshCheckpoint('progress-source')
  const model = await load(source, {
    weights: 'q8',
    context: 256,
    threads: 1,
    onProgress: ({ phase, done, total }) => {
      assert.ok(done <= total)
      last.set(phase, { done, total })
    },
  })
  await model.complete({ tokens: Array(200).fill(300) }, { maxTokens: 1 })
  await model.close()
  assert.equal([...last.keys()], ['pack', 'load', 'prefill'])
  for (const [phase, { done, total }] of last) assert.is(done, total, phase)
  assert.equal(last.get('prefill'), { done: 199, total: 199 })
})

loading.run()
