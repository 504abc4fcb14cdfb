/** What a disk and an operating system do while a model is read: said with the file's name, or survived. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { ModelFront } from '../../src/engine/front.ts'
import { AbortError, type CoppiceError, type LoadOptions, load } from '../../src/index.ts'
import { findAccess, summariseAccess } from '../../src/memory/packed-reader.ts'
import { directIoAvailable } from '../../src/runtime/files.ts'
import { packModel } from '../../src/weights/pack.ts'
import { coppice } from '../cli/cli-process.ts'
import { TARGET } from '../e2e/models.ts'
import { FailingMount } from './failing-mount.ts'
import { rejection, within } from './failures.ts'
import { openInline, scratch } from './harness.ts'

const PROMPT = { tokens: [5, 6, 7, 8] }
const CALL = { temperature: 0, maxTokens: 6, ignoreEos: true }
const LONG = { ...CALL, maxTokens: 100 }
const LAYER = 'layer-00005.safetensors'
/** A read that hangs must not keep a caller for longer, however busy the machine. */
const soon = <T>(promise: Promise<T>, what: string): Promise<T> => within(15_000, promise, what)

const test = suite('faults while reading')
const packed = join(scratch, 'packed')
packModel(TARGET, packed, { weights: 'q8', onProgress: () => {}, isAborted: () => false })
const reference = openInline(packed)
const expected = reference.generate(PROMPT, CALL).tokens
const memory = reference.plan.smallestBudgetBytes
const dataOffset: number = JSON.parse(readFileSync(join(packed, 'coppice.json'), 'utf8')).layers[5].dataOffset

const opened = await FailingMount.open(packed)
const add = typeof opened === 'string' ? test.skip : test
if (typeof opened === 'string') console.log(`SKIP faults while reading: ${opened}`)
const mount = opened as FailingMount

test.after.each(() => {
  if (typeof opened !== 'string') mount.set(undefined)
})
test.after(() => {
  if (typeof opened !== 'string') mount.unmount()
})

const open = async (options: LoadOptions = {}): Promise<ModelFront> =>
  (await load(mount.directory, { context: 128, threads: 1, memory, ...options })) as ModelFront

async function withModel(use: (model: ModelFront) => Promise<void>, options: LoadOptions = {}): Promise<void> {
  const model = await open(options)
  try {
    await use(model)
  } finally {
    await model.close()
  }
}

async function assertWorks(model: ModelFront): Promise<void> {
  assert.equal((await model.complete(PROMPT, CALL)).tokens, expected)
}

async function assertLoadsAgain(): Promise<void> {
  mount.set(undefined)
  await withModel(assertWorks)
}

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))

const WAYS: [string, LoadOptions][] = [
  ['streamed', {}],
  ['resident', { memory: '1GB' }],
]

for (const [way, options] of WAYS) {
  for (const code of ['EIO', 'ENOMEM', 'EACCES', 'ESTALE'] as const) {
    add(`${way}: ${code} is told with file, group and answer; the next call reads again`, () =>
      withModel(async (model) => {
        mount.set({ file: LAYER, from: dataOffset, kind: 'error', code })
        for (let call = 0; call < 2; call++) {
          const error = (await soon(rejection(model.complete(PROMPT, CALL)), 'failing')) as CoppiceError
          assert.is(error.code, 'FILE_SYSTEM', error.message)
          assert.match(error.message, join(mount.directory, LAYER))
          assert.match(error.message, new RegExp(`answered ${code}.*attention of layer-00005`))
        }
        mount.set(undefined)
        await assertWorks(model)
      }, options),
    )
  }

  add(`${way}: short reads are read on`, () =>
    withModel(async (model) => {
      mount.set({ file: 'layer', kind: 'short' })
      await assertWorks(model)
    }, options),
  )

  add(`${way}: a file that ends early is told with file and group; the next call reads again`, () =>
    withModel(async (model) => {
      mount.set({ file: LAYER, from: dataOffset, kind: 'end' })
      const error = (await soon(rejection(model.complete(PROMPT, CALL)), 'failing')) as CoppiceError
      assert.is(error.code, 'CORRUPT_FILE')
      assert.match(error.message, new RegExp(`${LAYER} ended at byte ${dataOffset} while attention of ${LAYER}`))
      mount.set(undefined)
      await assertWorks(model)
    }, options),
  )
}

add('a failure in the middle of a text keeps what was written, and the model writes the same text afterwards', () =>
  withModel(async (model) => {
    const pieces: number[] = []
    const error = await rejection(
      (async () => {
        for await (const piece of model.generate(PROMPT, LONG)) {
          if (pieces.push(piece.token) === 3) mount.set({ file: LAYER, kind: 'error', code: 'EIO' })
        }
      })(),
    )
    assert.is((error as CoppiceError).code, 'FILE_SYSTEM')
    mount.set(undefined)
    const { tokens } = await model.complete(PROMPT, LONG)
    assert.equal(tokens.slice(0, pieces.length), pieces)
    assert.ok(pieces.length < tokens.length)
  }),
)

add('the embedding and the final norm fail with the name of their file', async () => {
  mount.set({ file: 'edges', from: dataOffset, kind: 'error', code: 'EIO' })
  const error = (await rejection(open())) as CoppiceError
  assert.is(error.code, 'FILE_SYSTEM', error.message)
  assert.match(error.message, /edges\.safetensors/)
  await assertLoadsAgain()
})

add("io 'direct' reads past the page cache, and the plan says so", () =>
  withModel(
    async (model) => {
      if (!directIoAvailable) return
      assert.is(model.plan.io, 'direct')
      mount.clearLog()
      await assertWorks(model)
      const reads = mount.reads.filter(({ file }) => file.startsWith('layer'))
      assert.ok(reads.length > 0 && reads.every(({ direct }) => direct))
    },
    { io: 'direct' },
  ),
)

add("io 'direct' refuses a file system that opens files for direct reads and then does not read", async () => {
  mount.set({ file: '', kind: 'refuse direct' })
  const error = (await rejection(open({ io: 'direct' }))) as CoppiceError
  assert.is(error.code, 'FILE_SYSTEM')
  assert.match(error.message, mount.directory)
  assert.match(error.message, /EINVAL.*'buffered'/)
  await assertLoadsAgain()
})

add("io 'direct' does not become buffered when direct reads begin to fail", () =>
  withModel(
    async (model) => {
      mount.set({ file: LAYER, kind: 'refuse direct' })
      const error = (await rejection(model.complete(PROMPT, CALL))) as CoppiceError
      assert.is(error.code, 'FILE_SYSTEM')
      assert.match(error.message, new RegExp(`${LAYER}.*EINVAL`))
      mount.set(undefined)
      await assertWorks(model)
    },
    { io: 'direct' },
  ),
)

add("io 'auto' reads a large model direct only where that works", () => {
  if (!directIoAvailable) return
  const access = (io: 'auto' | 'direct') => findAccess([join(mount.directory, LAYER), join(packed, LAYER)], io)
  const there = summariseAccess(findAccess([join(packed, LAYER)], 'auto'), 'auto')
  assert.is(summariseAccess(access('auto'), 'auto'), there === 'direct' ? 'direct' : 'mixed')
  mount.set({ file: '', kind: 'refuse direct' })
  assert.is(summariseAccess(access('auto'), 'auto'), there === 'direct' ? 'mixed' : 'buffered')
  assert.throws(() => access('direct'), /FILE_SYSTEM|not possible/)
})

add('a read that hangs does not hold an abort up, and the model goes on once it is over', () =>
  withModel(async (model) => {
    const controller = new AbortController()
    mount.set({ file: LAYER, kind: 'hang' })
    const call = rejection(model.complete(PROMPT, { ...CALL, signal: controller.signal }))
    await sleep(300)
    controller.abort()
    const error = await soon(call, 'aborting')
    assert.instance(error, AbortError)
    assert.ok((error as AbortError).partial, 'the engine itself ended the wait')
    const next = model.complete(PROMPT, CALL)
    await sleep(100)
    mount.set(undefined)
    assert.equal((await soon(next, 'the next call')).tokens, expected)
  }),
)

add('a read of the engine thread that hangs does not hold an abort up for long', () =>
  withModel(
    async (model) => {
      assert.is(model.plan.loaders, 0)
      const controller = new AbortController()
      mount.set({ file: LAYER, kind: 'hang' })
      const call = rejection(model.complete(PROMPT, { ...CALL, signal: controller.signal }))
      await sleep(300)
      controller.abort()
      assert.instance(await soon(call, 'aborting'), AbortError)
      const waiting = model.complete(PROMPT, CALL)
      await sleep(100)
      mount.set(undefined)
      assert.equal((await soon(waiting, 'the next call')).tokens, expected)
    },
    { memory: '1GB' },
  ),
)

add('a load that hangs can be aborted', async () => {
  const controller = new AbortController()
  mount.set({ file: LAYER, kind: 'hang' })
  const loading = rejection(open({ signal: controller.signal }))
  await sleep(1000)
  controller.abort()
  assert.instance(await soon(loading, 'aborting'), AbortError)
  await assertLoadsAgain()
})

add('leaving a loop whose next read hangs does not take long', () =>
  withModel(async (model) => {
    for await (const _ of model.generate(PROMPT, LONG)) {
      mount.set({ file: LAYER, kind: 'hang' })
      await sleep(200)
      break
    }
    mount.set(undefined)
    await assertWorks(model)
  }),
)

add('a model whose read hangs says so when it is closed, and a new load works', async () => {
  const model = await open()
  mount.set({ file: LAYER, kind: 'hang' })
  const call = rejection(model.complete(PROMPT, CALL))
  await sleep(300)
  const closed = soon(
    model.close().then(
      () => undefined,
      (error: CoppiceError) => error,
    ),
    'closing',
  )
  assert.is(((await soon(call, 'ending the call')) as CoppiceError).code, 'CLOSED')
  const error = await closed
  mount.set(undefined)
  assert.is(error?.code, 'WORKER_FAILED')
  assert.match(error!.message, /did not end: loader/)
  assert.is(((await rejection(model.complete(PROMPT))) as CoppiceError).code, 'CLOSED')
  await assertLoadsAgain()
})

add('when a call ends, loaders end with the read that is under way', () =>
  withModel(async (model) => {
    await assertWorks(model)
    mount.set({ file: '', kind: 'slow', ms: 60 })
    await model.complete(PROMPT, { ...CALL, maxTokens: 1 })
    const before = mount.reads.length
    await sleep(800)
    assert.ok(mount.reads.length - before <= model.plan.loaders, `${mount.reads.length - before} reads more`)
    mount.set(undefined)
    await assertWorks(model)
  }),
)

add('the command says which file could not be read, with exit code 1', async () => {
  mount.set({ file: LAYER, from: dataOffset, kind: 'error', code: 'EIO' })
  const args = ['--ctx-size', '128', '--threads', '1', '--memory', String(memory), '-n', '4']
  const { code, stderr } = await coppice(['run', ...args, mount.directory, 'The old house'])
  assert.is(code, 1)
  assert.match(stderr, /layer-00005\.safetensors could not be read: the system answered EIO.*\[FILE_SYSTEM\]/)
  const verified = await coppice(['verify', mount.directory])
  assert.is(verified.code, 1)
  assert.match(verified.stderr, /layer-00005\.safetensors.*EIO.*\[FILE_SYSTEM\]/)
})

test.run()
