/** A thread that is taken away fails the call; nothing hangs, and a new load works. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { CrewMember } from '../../src/engine/crew.ts'
import type { ModelFront } from '../../src/engine/front.ts'
import { type Completion, CoppiceError, load } from '../../src/index.ts'
import { DRAFT, TARGET } from '../e2e/models.ts'
import { rejection, within } from './failures.ts'
import './harness.ts'

/** What a call may take to fail: a tenth of it is meant, but the machine may be busy. */
const soon = <T>(promise: Promise<T>, what: string): Promise<T> => within(5000, promise, what)
const PROMPT = 'The old house stood at the end of the lane, and'
const LONG = { temperature: 0, maxTokens: 900, ignoreEos: true }

const test = suite('loss of a worker')
const options = { weights: 'q8', draft: DRAFT, nodes: 8, context: 1000, threads: 2 } as const
let memory = 0
let expected: Completion

test.before(async () => {
  const model = await load(TARGET, options)
  memory = model.plan.smallestBudgetBytes
  expected = await model.complete(PROMPT, { temperature: 0, maxTokens: 8 })
  await model.close()
})

/** A model that streams, so that there is one thread of every role. */
const open = async (): Promise<ModelFront> => (await load(TARGET, { ...options, memory })) as ModelFront

function member(model: ModelFront, role: CrewMember['role']): CrewMember {
  const found = model.crew.members.find((m) => m.role === role)
  if (found === undefined) throw new Error(`this model has no ${role} thread`)
  return found
}

async function assertLoadsAgain(): Promise<void> {
  const model = await open()
  const { tokens } = await model.complete(PROMPT, { temperature: 0, maxTokens: 8 })
  await model.close()
  assert.equal(tokens, expected.tokens)
}

for (const role of ['engine', 'compute', 'loader'] as const) {
  test(`the ${role} thread ends in the middle of a call`, async () => {
    const model = await open()
    const pieces = model.generate(PROMPT, LONG)
    await pieces.next()
    const waiting = rejection(model.complete(PROMPT))
    const lost = member(model, role).worker.terminate()
    const error = await soon(
      rejection(
        (async () => {
          for (;;) if ((await pieces.next()).done) return 'the call finished'
        })(),
      ),
      'failing the call',
    )
    assert.instance(error, CoppiceError)
    assert.is((error as CoppiceError).code, 'WORKER_FAILED')
    assert.is(((await soon(waiting, 'failing the next call')) as CoppiceError).code, 'WORKER_FAILED')
    await lost
    const later = await soon(rejection(model.complete(PROMPT)), 'failing a later call')
    assert.is((later as CoppiceError).code, 'WORKER_FAILED')
    await soon(model.close(), 'closing')
    await assertLoadsAgain()
  })

  test(`the ${role} thread ends while the model idles`, async () => {
    const model = await open()
    await member(model, role).worker.terminate()
    const error = await soon(rejection(model.complete(PROMPT)), 'failing the call')
    assert.is((error as CoppiceError).code, 'WORKER_FAILED')
    await soon(model.close(), 'closing')
    await assertLoadsAgain()
  })

  test(`the ${role} thread ends between two calls, at once before the second`, async () => {
    const model = await open()
    await model.complete(PROMPT, { temperature: 0, maxTokens: 2 })
    const lost = member(model, role).worker.terminate()
    const error = await soon(rejection(model.complete(PROMPT, LONG)), 'failing the call')
    assert.is((error as CoppiceError).code, 'WORKER_FAILED')
    await lost
    await soon(model.close(), 'closing')
  })
}

test('the message says which thread it was or what to do', async () => {
  const model = await open()
  await member(model, 'loader').worker.terminate()
  const error = await soon(rejection(model.complete(PROMPT)), 'failing the call')
  assert.match(error.message, /thread/)
  assert.match(error.message, /load it again/)
  await model.close()
})

test.run()
