import {
  copyFileSync,
  cpSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { Kind } from '../../src/tensor/layout.ts'
import { packModel } from '../../src/weights/pack.ts'
import { resolveModel } from '../../src/weights/resolve.ts'
import { fixtures, root } from '../paths.ts'
import { copyCheckpoint, expectFailure, shardCheckpoint, shardName, withDirectory } from './checkpoints.ts'

const test = suite('resolve')
const llama = join(fixtures, 'llama')

/** Runs `use` with a cache of its own, and a directory for models. */
function withCache(use: (directory: string, cache: string) => void): void {
  withDirectory((parent) => {
    const before = process.env.COPPICE_CACHE
    process.env.COPPICE_CACHE = join(parent, 'cache')
    mkdirSync(join(parent, 'models'))
    try {
      use(join(parent, 'models'), join(parent, 'cache'))
    } finally {
      if (before === undefined) delete process.env.COPPICE_CACHE
      else process.env.COPPICE_CACHE = before
    }
  })
}

/** Counts the steps of packing that resolving takes. */
function stepsOf(path: string, weights: 'auto' | Kind = 'auto'): number {
  let steps = 0
  resolveModel(path, { weights, onProgress: () => steps++ })
  return steps
}

test('a packed directory is opened as it is', () => {
  withCache((directory, cache) => {
    const packed = packModel(llama, join(directory, 'packed'), { weights: 'q8' })
    for (const path of ['', 'coppice.json', 'layer-00000.safetensors']) {
      assert.equal(resolveModel(join(packed.directory, path)), packed)
    }
    assert.equal(resolveModel(packed.directory, { weights: 'q8' }), packed)
    expectFailure(
      () => resolveModel(packed.directory, { weights: 'f32' }),
      'INVALID_OPTION',
      'q8',
      'f32',
      packed.directory,
    )
    assert.throws(() => readdirSync(cache), /ENOENT/)
  })
})

test('a checkpoint is packed into the cache on first use and found there again', () => {
  withCache((_, cache) => {
    const { directory, manifest } = resolveModel(llama)
    assert.ok(directory.startsWith(join(cache, 'packed', 'llama-f32-')))
    assert.match(directory, /-[0-9a-f]{12}$/)
    assert.is(manifest.quantisation.layers, 'f32')
    assert.is(stepsOf(llama), 0)
    assert.is(stepsOf(llama, 'f32'), 0)
    assert.is(resolveModel(join(llama, 'model.safetensors')).directory, directory)
    assert.ok(stepsOf(llama, 'q4') > 0)
    assert.is(stepsOf(llama, 'q4'), 0)
    assert.is(readdirSync(join(cache, 'packed')).length, 2)
  })
})

test('a checkpoint that changed is packed again', () => {
  withCache((directory) => {
    const source = copyCheckpoint(llama, join(directory, 'model'))
    const first = resolveModel(source).directory
    const path = join(source, 'model.safetensors')
    const later = statSync(path).mtimeMs / 1000 + 10
    utimesSync(path, later, later)
    const second = resolveModel(source).directory
    assert.is.not(second, first)
    writeFileSync(join(source, 'tokenizer.json'), '{}')
    const third = resolveModel(source)
    assert.is.not(third.directory, second)
    assert.equal(
      third.manifest.copies.map(({ name }) => name),
      ['tokenizer.json'],
    )
  })
})

test('an unfinished copy in the cache is finished', () => {
  withCache((_, cache) => {
    let current = ''
    const abort = () =>
      resolveModel(llama, {
        onProgress: ({ file, done }) => {
          if (done > 0) current = file
        },
        isAborted: () => current === 'layer-00001.safetensors',
      })
    expectFailure(abort, 'ABORTED')
    const [name] = readdirSync(join(cache, 'packed'))
    const unfinished = join(cache, 'packed', name)
    assert.ok(readdirSync(unfinished).includes('layer-00000.safetensors'))
    expectFailure(
      () => resolveModel(unfinished),
      'CORRUPT_FILE',
      'coppice.partial.json',
      'pack the model into it again',
    )
    const inode = statSync(join(unfinished, 'layer-00000.safetensors')).ino
    assert.is(resolveModel(llama).directory, unfinished)
    assert.is(statSync(join(unfinished, 'layer-00000.safetensors')).ino, inode)
  })
})

test('a damaged copy in the cache is reported by file, with what to do', () => {
  withCache(() => {
    const { directory } = resolveModel(llama)
    const path = join(directory, 'layer-00002.safetensors')
    writeFileSync(path, readFileSync(path).subarray(0, 9000))
    expectFailure(() => resolveModel(llama), 'CORRUPT_FILE', path, llama, `Remove ${directory}`)
    rmSync(directory, { recursive: true })
    resolveModel(llama)
  })
})

test('one shard stands for its checkpoint', () => {
  withCache((directory) => {
    const source = copyCheckpoint(llama, join(directory, 'model'))
    shardCheckpoint(source, 2)
    const expected = resolveModel(source)
    assert.equal(resolveModel(join(source, shardName(2, 2))), expected)
    assert.equal(resolveModel(join(source, 'model.safetensors.index.json')), expected)
  })
})

test('what cannot be loaded is refused with what was looked for', () => {
  withCache((directory) => {
    const at = (name: string): string => join(directory, name)
    expectFailure(() => resolveModel(at('none')), 'MODEL_NOT_FOUND', at('none'))
    expectFailure(() => resolveModel(directory), 'MODEL_NOT_FOUND', 'coppice.json', 'config.json', 'model.safetensors')
    writeFileSync(at('model.gguf'), 'GGUF')
    expectFailure(() => resolveModel(at('model.gguf')), 'UNSUPPORTED_FORMAT', 'GGUF')
    expectFailure(() => resolveModel(directory), 'UNSUPPORTED_FORMAT', at('model.gguf'))
    rmSync(at('model.gguf'))
    writeFileSync(at('pytorch_model.bin'), '')
    expectFailure(() => resolveModel(directory), 'UNSUPPORTED_FORMAT', 'pytorch_model.bin', 'safetensors')
    writeFileSync(at('lonely.safetensors'), '')
    expectFailure(() => resolveModel(at('lonely.safetensors')), 'UNSUPPORTED_FORMAT', 'lonely.safetensors', 'directory')
    copyFileSync(join(llama, 'config.json'), at('config.json'))
    expectFailure(() => resolveModel(directory), 'UNSUPPORTED_FORMAT', 'pytorch_model.bin')
    expectFailure(() => resolveModel(llama, { weights: 'int4' as Kind }), 'INVALID_OPTION', 'int4')
  })
})

test('a checkpoint that cannot be packed leaves nothing in the cache', () => {
  withCache((directory, cache) => {
    const source = copyCheckpoint(llama, join(directory, 'model'), (_, config) => {
      config.rope_scaling = { type: 'yarn', factor: 2 }
    })
    expectFailure(() => resolveModel(source), 'UNSUPPORTED_ARCHITECTURE', 'yarn')
    assert.throws(() => readdirSync(cache), /ENOENT/)
  })
})

test('names in the cache are plain, whatever the directory is called', () => {
  withCache((directory, cache) => {
    const source = join(directory, 'a model: with "odd" name')
    cpSync(join(root, 'models', 'draft'), source, { recursive: true })
    resolveModel(source)
    assert.match(readdirSync(join(cache, 'packed'))[0], /^[A-Za-z0-9._-]+$/)
  })
})

test.run()
