import { existsSync, readdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { Kind } from '../../src/tensor/layout.ts'
import { packModel } from '../../src/weights/pack.ts'
import { openPacked } from '../../src/weights/packed.ts'
import { fixtures, root } from '../paths.ts'
import { copyCheckpoint, expectFailure, filesOf, type PlainTensor, withDirectory } from './checkpoints.ts'

const test = suite('pack: resuming')
const fixture = (name: string): string => join(fixtures, name)

/** Packs until `file` is begun, then gives up. */
function abortAt(file: string, source: string, output: string, weights: Kind): void {
  let current = ''
  const pack = () =>
    packModel(source, output, {
      weights,
      onProgress: (progress) => {
        if (progress.done > 0) current = progress.file
      },
      isAborted: () => current === file,
    })
  expectFailure(pack, 'ABORTED', source)
}

test('packing that was aborted goes on where it ended, and keeps only files that are as they were written', () => {
  const damages: ((path: string) => void)[] = [
    (path) => truncateSync(path, 5000),
    (path) => rmSync(path),
    (path) => {
      const bytes = readFileSync(path)
      bytes[bytes.length - 5000] ^= 1
      writeFileSync(path, bytes)
    },
  ]
  withDirectory((directory) => {
    const source = fixture('llama')
    const undisturbed = join(directory, 'undisturbed')
    packModel(source, undisturbed, { weights: 'f32' })
    damages.forEach((damage, i) => {
      const output = join(directory, `out-${i}`)
      abortAt('layer-00002.safetensors', source, output, 'f32')
      const kept = ['coppice.partial.json', 'layer-00000.safetensors', 'layer-00001.safetensors']
      assert.equal(readdirSync(output).sort(), kept)
      expectFailure(() => openPacked(output), 'MODEL_NOT_FOUND', 'coppice.json')

      const inode = statSync(join(output, 'layer-00000.safetensors')).ino
      damage(join(output, 'layer-00001.safetensors'))
      writeFileSync(join(output, 'layer-00009.safetensors'), 'of an earlier model')
      packModel(source, output, { weights: 'f32' })
      assert.is(statSync(join(output, 'layer-00000.safetensors')).ino, inode)
      assert.equal(filesOf(output), filesOf(undisturbed))
    })
  })
})

test('while finished files are compared, packing gives signs of life and can be aborted', () => {
  withDirectory((directory) => {
    const source = join(root, 'models', 'target')
    const output = join(directory, 'out')
    abortAt('edges.safetensors', source, output, 'f32')
    const first = 'layer-00000.safetensors'
    const { size } = statSync(join(output, first))
    assert.ok(size > 2 << 20)
    let asked = 0
    let current = ''
    const resume = () =>
      packModel(source, output, {
        weights: 'f32',
        onProgress: ({ file, done }) => {
          current = done === 0 ? file : ''
        },
        isAborted: () => current === first && ++asked >= size / (1 << 20),
      })
    expectFailure(resume, 'ABORTED')
    // What the caller throws is not taken for a damaged file.
    const stop = (): never => {
      throw new TypeError('enough')
    }
    const stopped = () =>
      packModel(source, output, {
        weights: 'f32',
        onProgress: ({ file }) => (file === first ? stop() : undefined),
      })
    assert.throws(stopped, /^enough$/)
  })
})

test('whoever was taken for gone does not call the model whole', () => {
  withDirectory((directory) => {
    const output = join(directory, 'out')
    const lock = join(output, 'coppice.lock')
    let taken = false
    const pack = () =>
      packModel(fixture('llama'), output, {
        onProgress: ({ done, total }) => {
          if (done < total || taken) return
          taken = true
          writeFileSync(lock, 'ffffff-1-0123abcd')
        },
      })
    expectFailure(pack, 'FILE_SYSTEM', output, 'another process', 'coppice.lock')
    assert.not(existsSync(join(output, 'coppice.json')))
    assert.is(readFileSync(lock, 'utf8'), 'ffffff-1-0123abcd')
  })
})

test('an unfinished attempt with other options or another source is started over', () => {
  withDirectory((directory) => {
    const make = (name: string, change?: (tensors: Map<string, PlainTensor>) => void): string =>
      copyCheckpoint(fixture('llama'), join(directory, name), change)
    const source = make('source')
    const changed = make('changed', (tensors) => {
      tensors.get('model.layers.0.mlp.down_proj.weight')!.data[100] ^= 1
    })
    const sources: [string, Kind][] = [
      [changed, 'f32'],
      [source, 'q8'],
      [fixture('qwen3'), 'f32'],
    ]
    const expected = packModel(source, join(directory, 'expected'), { weights: 'f32' })
    sources.forEach(([other, weights], i) => {
      const output = join(directory, `out-${i}`)
      abortAt('layer-00002.safetensors', other, output, weights)
      writeFileSync(join(output, 'tokenizer.json'), 'left over')
      packModel(source, output, { weights: 'f32' })
      assert.equal(filesOf(output), filesOf(expected.directory))
    })
  })
})

test('a source that changes while it is packed does not become a model', () => {
  withDirectory((directory) => {
    const source = copyCheckpoint(fixture('llama'), join(directory, 'source'))
    const output = join(directory, 'out')
    const pack = () =>
      packModel(source, output, {
        onProgress: ({ done, total }) => {
          if (done === total) writeFileSync(join(source, 'tokenizer.json'), '{}')
        },
      })
    expectFailure(pack, 'CORRUPT_FILE', source, 'changed')
    assert.not(existsSync(join(output, 'coppice.json')))
  })
})

test.run()
