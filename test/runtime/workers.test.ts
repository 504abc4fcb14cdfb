import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { createLine, spawnWorker, type Transferable, type WorkerHandle } from '../../src/runtime/workers.ts'
import { selfCommand } from './self-command.ts'
import type { ChildData } from './workers-child.ts'

const test = suite('workers')

interface Watched {
  readonly worker: WorkerHandle
  readonly errors: Error[]
  readonly exited: Promise<number>
  /** The messages in order, each once. */
  next(): Promise<unknown>
}

function start(data: ChildData, transfer: Transferable[] = []): Watched {
  const worker = spawnWorker(new URL('./workers-child.js', import.meta.url), data, { name: 'test', transfer })
  const errors: Error[] = []
  const messages: unknown[] = []
  let wake = (): void => {}
  worker.onMessage((message) => {
    messages.push(message)
    wake()
  })
  worker.onError((error) => void errors.push(error))
  const exited = new Promise<number>((resolve) => worker.onExit(resolve))
  const next = async (): Promise<unknown> => {
    while (messages.length === 0) {
      await new Promise<void>((resolve) => {
        wake = resolve
      })
    }
    return messages.shift()
  }
  return { worker, errors, exited, next }
}

const sharedWords = (): Int32Array => new Int32Array(new SharedArrayBuffer(8))

test('messages go both ways, in order, also those sent before the worker runs', async () => {
  const { worker, next } = start({ behaviour: 'echo' })
  worker.post('first')
  worker.post({ rows: new Float32Array([1, 2]) })
  assert.equal(await next(), { echo: 'first' })
  assert.equal(await next(), { echo: { rows: new Float32Array([1, 2]) } })
  await worker.terminate()
})

test('a transferred buffer is handed over, not copied', async () => {
  const { worker, next } = start({ behaviour: 'echo' })
  const buffer = new ArrayBuffer(16)
  worker.post(buffer, [buffer])
  assert.is(buffer.byteLength, 0)
  assert.is(((await next()) as { echo: ArrayBuffer }).echo.byteLength, 16)
  await worker.terminate()
})

test('a message arrives although its sender then never returns to its event loop', async () => {
  const { worker, next, exited } = start({ behaviour: 'wait', words: sharedWords() })
  assert.is(await next(), 'waiting')
  await worker.terminate()
  assert.is(await exited, 1)
})

for (const behaviour of ['wait', 'spin'] as const) {
  test(`terminate ends a worker that would ${behaviour} for ever, and its exit is reported`, async () => {
    const { worker, next, exited, errors } = start({ behaviour, words: sharedWords() })
    await next()
    await worker.terminate()
    assert.is(await exited, 1)
    assert.equal(errors, [])
  })
}

test('terminate lets a worker that is told to stop leave by itself', async () => {
  const words = sharedWords()
  const { worker, next, exited } = start({ behaviour: 'wait', words })
  assert.is(await next(), 'waiting')
  Atomics.store(words, 0, 1)
  Atomics.notify(words, 1)
  await worker.terminate(60_000)
  assert.is(await next(), 'done')
  assert.is(await exited, 0)
})

test('terminate stops a worker that lets its grace pass', async () => {
  const { worker, next, exited } = start({ behaviour: 'wait', words: sharedWords() })
  await next()
  await worker.terminate(30)
  assert.is(await exited, 1)
})

test('terminate may be called twice and after the end', async () => {
  const { worker } = start({ behaviour: 'echo' })
  await Promise.all([worker.terminate(), worker.terminate(10)])
  await worker.terminate()
})

test('a worker that throws reports the error, then its exit', async () => {
  const { errors, exited } = start({ behaviour: 'throw' })
  assert.is(await exited, 1)
  assert.is(errors.length, 1)
  assert.is(errors[0].name, 'RangeError')
  assert.is(errors[0].message, 'thrown on purpose')
})

test('a promise that a worker leaves rejected is an error of the worker', async () => {
  const { errors, exited } = start({ behaviour: 'reject' })
  assert.is(await exited, 1)
  assert.equal(
    errors.map((error) => error.message),
    ['rejected on purpose'],
  )
})

test('a worker without a module reports an error and an exit', async () => {
  const worker = spawnWorker(new URL('./no-such-worker.js', import.meta.url), undefined, { name: 'test' })
  const error = new Promise<Error>((resolve) => worker.onError(resolve))
  const exited = new Promise<number>((resolve) => worker.onExit(resolve))
  assert.match((await error).message, /no-such-worker/)
  assert.is.not(await exited, 0)
})

test('a worker that leaves has sent its last words', async () => {
  const { next, exited, errors } = start({ behaviour: 'leave' })
  assert.is(await exited, 0)
  assert.is(await next(), 'last words')
  assert.equal(errors, [])
})

test('a worker reads a file straight into a shared WASM memory', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'coppice-test-'))
  try {
    const file = join(directory, 'bytes')
    writeFileSync(
      file,
      Uint8Array.from({ length: 5000 }, (_, i) => i % 251),
    )
    const memory = new WebAssembly.Memory({ initial: 2, maximum: 2, shared: true })
    const { next, exited } = start({ behaviour: 'read', memory, file })
    assert.is(await next(), 4096)
    assert.equal(
      [...new Uint8Array(memory.buffer, 65536, 4096)],
      Array.from({ length: 4096 }, (_, i) => (i + 1) % 251),
    )
    await exited
  } finally {
    rmSync(directory, { recursive: true })
  }
})

test('a line carries a memory between two workers past the thread that made the line', async () => {
  const [here, there] = createLine()
  const maker = start({ behaviour: 'make memory', line: here }, [here])
  const taker = start({ behaviour: 'take memory', line: there }, [there])
  assert.is(await maker.next(), 'made')
  assert.is(await taker.next(), 42)
  // The line is closed after its one message, so nothing keeps the receiver.
  assert.is(await taker.exited, 0)
  maker.worker.post('leave')
  assert.is(await maker.exited, 0)
})

test('an unreferenced worker does not keep the process, a referenced one does until it ends', () => {
  const script = fileURLToPath(new URL('./workers-program.js', import.meta.url))
  const run = (mode: string) => {
    const [binary, ...args] = selfCommand(script, mode)
    const { status, stdout } = spawnSync(binary, args, { encoding: 'utf8', timeout: 60_000 })
    return { status, stdout: stdout.trim() }
  }
  assert.equal(run('unreferenced'), { status: 0, stdout: 'running' })
  assert.equal(run('referenced'), { status: 0, stdout: 'running\nended' })
})

test.run()
