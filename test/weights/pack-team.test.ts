/** Packing and checking on several threads: the same bytes, the same problems, and nobody left behind. */
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { packModel } from '../../src/weights/pack.ts'
import { openPacked, verifyPacked } from '../../src/weights/packed.ts'
import { usefulHelpers } from '../../src/weights/team.ts'
import { root } from '../paths.ts'
import { copyCheckpoint, expectFailure, filesOf, withDirectory } from './checkpoints.ts'

const test = suite('pack: several threads')
const target = join(root, 'models', 'target')
const sleeper = new Int32Array(new SharedArrayBuffer(4))

const safetensorsIn = (directory: string): string[] =>
  existsSync(directory) ? readdirSync(directory).filter((name) => name.endsWith('.safetensors')) : []

/** Stands still until it is so: what the other threads do meanwhile is up to them. */
function waitUntil(what: () => boolean): void {
  const begun = performance.now()
  while (!what()) {
    if (performance.now() - begun > 60_000) throw new Error('the helpers did not do their part')
    Atomics.wait(sleeper, 0, 0, 5)
  }
}

test('files that helpers pack are the same, and their progress counts', () => {
  withDirectory((directory) => {
    const alone = packModel(target, join(directory, 'alone'), { weights: 'q8' })
    const output = join(directory, 'together')
    const files = safetensorsIn(alone.directory).length
    let last = { done: 0, total: 0 }
    packModel(target, output, {
      weights: 'q8',
      helpers: 2,
      onProgress: (progress) => {
        assert.ok(progress.done >= last.done)
        // All but the one that this thread has begun.
        if (last.done === 0 && progress.done > 0) waitUntil(() => safetensorsIn(output).length === files - 1)
        last = progress
      },
    })
    assert.equal(filesOf(output), filesOf(alone.directory))
    assert.is(last.done, last.total)
    openPacked(output)
  })
})

test('an attempt that is aborted stops its helpers, and the next one goes on with what they finished', () => {
  withDirectory((directory) => {
    const output = join(directory, 'out')
    let begun = false
    const abort = () =>
      packModel(target, output, {
        weights: 'f32',
        helpers: 1,
        onProgress: ({ done }) => {
          begun = done > 0
        },
        isAborted: () => {
          if (begun) waitUntil(() => safetensorsIn(output).length > 0)
          return begun
        },
      })
    expectFailure(abort, 'ABORTED')
    const left = readdirSync(output)
    assert.ok(left.includes('coppice.partial.json'))
    assert.equal(
      left.filter((name) => name.endsWith('.tmp') || name === 'coppice.lock'),
      [],
    )
    packModel(target, output, { weights: 'f32' })
    assert.equal(
      filesOf(output),
      filesOf(packModel(target, join(directory, 'undisturbed'), { weights: 'f32' }).directory),
    )
  })
})

test('what is wrong with a file is told, whichever thread meets it', () => {
  withDirectory((directory) => {
    const source = copyCheckpoint(target, join(directory, 'source'), (tensors) => {
      // Everywhere but in the file that this thread begins with, which is the largest or the one after it.
      for (const [name, { data }] of tensors) {
        if (/layers\.[1-9]\d*\.mlp\.down/.test(name)) data.fill(255, 0, 4)
      }
    })
    const output = join(directory, 'out')
    const pack = () => packModel(source, output, { weights: 'q8', helpers: 2 })
    expectFailure(pack, 'CORRUPT_FILE', 'down_proj.weight', 'NaN')
    assert.not(existsSync(join(output, 'coppice.json')))
    assert.equal(
      readdirSync(output).filter((name) => name.endsWith('.tmp')),
      [],
    )
  })
})

test('checking on several threads finds the same problems in the same order', () => {
  withDirectory((directory) => {
    const { directory: packed } = packModel(target, join(directory, 'packed'), { weights: 'q8' })
    for (const name of safetensorsIn(packed).slice(0, 3)) {
      const bytes = readFileSync(join(packed, name))
      bytes[bytes.length >> 1] ^= 1
      writeFileSync(join(packed, name), bytes)
    }
    const expected = verifyPacked(packed)
    assert.is(expected.problems.length, 3)
    let last = { done: 0, total: 0 }
    const onProgress = (progress: typeof last): void => {
      last = progress
    }
    assert.equal(verifyPacked(packed, { helpers: 2, onProgress }), expected)
    assert.is(last.done, last.total)
  })
})

test('small models, and buffers that would take too much memory, are left to one thread', () => {
  assert.is(usefulHelpers(10, 1e6, 1e6), 0)
  assert.is(usefulHelpers(1, 1e9, 1e6), 0)
  assert.is(usefulHelpers(10, 1e9, 1e9), 0)
  assert.ok(usefulHelpers(100, 1e12, 1e6) <= 3)
})

test.run()
