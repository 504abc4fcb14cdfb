import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { Kind } from '../../src/tensor/layout.ts'
import { packModel } from '../../src/weights/pack.ts'
import { openPacked, verifyPacked } from '../../src/weights/packed.ts'
import { root } from '../paths.ts'
import { failureOf, filesOf, withDirectory, withDirectoryAsync } from './checkpoints.ts'

const test = suite('pack in a process that dies')
const source = join(root, 'models', 'target')
const child = fileURLToPath(new URL('./pack-child.js', import.meta.url))

interface Outcome {
  readonly signal: string | null
  readonly code: number | null
  /** What it wrote: a letter per step, see pack-child.ts. */
  readonly steps: string
  readonly stderr: string
}

interface Attempt {
  /** Where to; else into the cache. */
  readonly output?: string
  readonly cache?: string
  readonly weights?: Kind
  /** Steps (about one per MiB) after which it is killed. */
  readonly killAfter?: number | undefined
  /** The same by time. */
  readonly killAfterMs?: number | undefined
  readonly onSteps?: (steps: string, child: ChildProcess) => void
}

/** Packs in a process of its own. */
function packInChild(attempt: Attempt): Promise<Outcome> {
  const { output, cache = '', weights = 'f32', killAfter, killAfterMs, onSteps } = attempt
  return new Promise((resolve, reject) => {
    const runtimeArguments = 'Deno' in globalThis ? ['run', '--allow-all'] : []
    const to = output === undefined ? ['resolve', source, '-'] : ['pack', source, output]
    const process_ = spawn(process.execPath, [...runtimeArguments, child, ...to, weights], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, COPPICE_CACHE: cache },
    })
    let steps = ''
    let stderr = ''
    const timer = killAfterMs === undefined ? undefined : setTimeout(() => process_.kill('SIGKILL'), killAfterMs)
    process_.stdout.on('data', (bytes: Uint8Array) => {
      steps += new TextDecoder().decode(bytes)
      onSteps?.(steps, process_)
      if (killAfter !== undefined && steps.length >= killAfter) process_.kill('SIGKILL')
    })
    process_.stderr.on('data', (bytes: Uint8Array) => {
      stderr += new TextDecoder().decode(bytes)
    })
    process_.on('error', reject)
    process_.on('close', (code, signal) => {
      clearTimeout(timer)
      resolve({ code, signal, steps, stderr })
    })
  })
}

test('a kill at any moment leaves nothing that opens as a model, or the whole model; the next attempt completes it', async () => {
  await withDirectoryAsync(async (directory) => {
    const undisturbed = join(directory, 'undisturbed')
    let total = 0
    packModel(source, undisturbed, { weights: 'f32', onProgress: () => total++ })
    const manifest = readFileSync(join(undisturbed, 'coppice.json'))
    const kills = 10
    let killed = 0
    let resumed = 0
    for (let i = 0; i < kills; i++) {
      const output = join(directory, `out-${i}`)
      // Spread over the whole run, at a random place of each part of it.
      const killAfter = Math.ceil(((i + Math.random()) / kills) * total)
      const { signal, code, stderr } = await packInChild({ output, killAfter })
      if (signal === null) assert.is(code, 0, stderr)
      else killed++
      if (existsSync(join(output, 'coppice.json'))) {
        openPacked(output)
        assert.equal(verifyPacked(output).problems, [], `killed after step ${killAfter}`)
        continue
      }
      assert.is(failureOf(() => openPacked(output)).code, 'MODEL_NOT_FOUND')
      const finished = existsSync(output) ? readdirSync(output).filter((name) => name.endsWith('.safetensors')) : []
      if (finished.length > 0) resumed++
      packModel(source, output, { weights: 'f32' })
      assert.equal(verifyPacked(output).problems, [], `killed after step ${killAfter}`)
      assert.equal(readFileSync(join(output, 'coppice.json')), manifest)
      assert.equal(readdirSync(output).sort(), readdirSync(undisturbed).sort(), 'no temporary file is left')
    }
    assert.ok(killed >= kills / 2, `${killed} of ${kills} processes were killed in time`)
    assert.ok(resumed >= 2, `${resumed} attempts had finished files`)
  })
})

test('killed again and again at random moments, packing still ends with the same bytes', async () => {
  await withDirectoryAsync(async (directory) => {
    const undisturbed = join(directory, 'undisturbed')
    packModel(source, undisturbed, { weights: 'q4' })
    const expected = filesOf(undisturbed)
    const output = join(directory, 'out')
    let whole = Number.POSITIVE_INFINITY
    let killed = 0
    let finished = 0
    // The first run is never killed: it tells how long one takes.
    for (let attempt = 0; attempt < 60 && (killed < 9 || finished < 3); attempt++) {
      const begun = performance.now()
      const delay = attempt === 0 ? undefined : whole * (0.3 + 0.6 * Math.random())
      const { signal, code, stderr } = await packInChild({ output, weights: 'q4', killAfterMs: delay })
      if (signal === null) {
        assert.is(code, 0, stderr)
        whole = Math.min(whole, performance.now() - begun)
      } else killed++
      const packed = existsSync(join(output, 'coppice.json'))
      if (!packed && existsSync(output)) assert.is(failureOf(() => openPacked(output)).code, 'MODEL_NOT_FOUND')
      // Now and then the next attempt may end: it goes on where several that were killed had come to.
      if (!packed && killed % 3 === 0) packModel(source, output, { weights: 'q4' })
      else if (!packed) continue
      const found = filesOf(output)
      // A kill after the manifest leaves these for the next attempt to pack, which there will not be.
      for (const name of ['coppice.partial.json', 'coppice.lock']) found.delete(name)
      assert.equal(found, expected)
      rmSync(output, { recursive: true })
      finished++
    }
    assert.ok(killed >= 9, `${killed} processes were killed in time`)
  })
})

test('temporary files of a process that is gone are removed; those of a living one are not', () => {
  withDirectory((directory) => {
    const output = join(directory, 'out')
    const abort = () => packModel(source, output, { weights: 'f32', isAborted: () => true })
    assert.is(failureOf(abort).code, 'ABORTED')
    const name = (host: string, pid: number): string => join(output, `edges.safetensors.${host}-${pid}-0123abcd.tmp`)
    const foreign = name('ffffff', 1)
    const old = name('ffffff', 2)
    writeFileSync(foreign, 'x')
    writeFileSync(old, 'x')
    const twoDaysAgo = Date.now() / 1000 - 2 * 24 * 3600
    utimesSync(old, twoDaysAgo, twoDaysAgo)
    packModel(source, output, { weights: 'f32' })
    assert.ok(existsSync(foreign))
    assert.not(existsSync(old))
  })
})

test('of two processes that want the same model in the cache at once, one packs it and the other waits', async () => {
  await withDirectoryAsync(async (cache) => {
    let packer: ChildProcess | undefined
    let first: Promise<Outcome> | undefined
    await new Promise<void>((resolve) => {
      first = packInChild({
        cache,
        onSteps: (_, process_) => {
          // It stands still in the midst of its work until the other one is seen to wait.
          if (packer === undefined) process.kill(process_.pid!, 'SIGSTOP')
          packer = process_
          resolve()
        },
      })
    })
    // Not by its own `kill`, which Deno carries out once. It may have come to its end meanwhile.
    const wake = (): void => {
      try {
        process.kill(packer!.pid!, 'SIGCONT')
      } catch {}
    }
    const second = packInChild({
      cache,
      onSteps: (steps) => {
        if (steps.includes('w')) wake()
      },
    })
    const { steps } = await second
    wake()
    const outcomes = [await first!, await second]
    for (const { code, stderr } of outcomes) assert.is(code, 0, stderr)
    assert.match(outcomes[0].steps, /^[^w]*p/)
    assert.match(steps, /^[^p]*w[^p]*$/)
    const [name, ...others] = readdirSync(join(cache, 'packed'))
    assert.equal(others, [])
    const directory = join(cache, 'packed', name)
    openPacked(directory)
    assert.equal(verifyPacked(directory).problems, [])
  })
})

test.run()
