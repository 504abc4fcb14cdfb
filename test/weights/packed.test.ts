import {
  appendFileSync,
  copyFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { CoppiceError } from '../../src/errors.ts'
import type { Manifest } from '../../src/weights/manifest.ts'
import { formatManifest, parseManifest } from '../../src/weights/manifest-json.ts'
import { packModel } from '../../src/weights/pack.ts'
import { openPacked, type VerifyProgress, verifyPacked } from '../../src/weights/packed.ts'
import { root } from '../paths.ts'
import { expectFailure, withDirectory } from './checkpoints.ts'

const test = suite('packed')
const source = join(root, 'models', 'draft')

/** Runs `use` with a packed model of its own. */
function withPacked(use: (directory: string, manifest: Manifest) => void): void {
  withDirectory((parent) => {
    const { directory, manifest } = packModel(source, join(parent, 'packed'), { weights: 'q8' })
    use(directory, manifest)
  })
}

/** Changes one byte. */
function flip(path: string, at: number): void {
  const bytes = readFileSync(path)
  bytes[at] ^= 0x10
  writeFileSync(path, bytes)
}

const problemsOf = (directory: string): [string, string][] =>
  verifyPacked(directory).problems.map(({ file, problem }) => [file, problem])

test('an undamaged directory opens and verifies', () => {
  withPacked((directory, manifest) => {
    assert.equal(openPacked(directory), { directory, manifest })
    const seen: VerifyProgress[] = []
    const report = verifyPacked(directory, {
      onProgress: (progress) => {
        seen.push(progress)
      },
    })
    assert.equal(report.problems, [])
    assert.is(report.files, readdirSync(directory).length - 1)
    const sizes = readdirSync(directory).filter((name) => name !== 'coppice.json')
    assert.is(
      report.bytes,
      sizes.reduce((sum, name) => sum + statSync(join(directory, name)).size, 0),
    )
    assert.is(seen[seen.length - 1].done, report.bytes)
    assert.ok(seen.every(({ total }) => total === report.bytes))
  })
})

test('a file that is missing, empty, cut short or too long is reported by name', () => {
  const names = ['layer-00001.safetensors', 'edges.safetensors', 'tokenizer.json']
  const damages: [(path: string) => void, string][] = [
    [(path) => rmSync(path), 'is missing'],
    [(path) => truncateSync(path, 0), 'has 0'],
    [(path) => truncateSync(path, statSync(path).size - 1), 'should have'],
    [(path) => appendFileSync(path, 'x'), 'should have'],
    [
      (path) => {
        rmSync(path)
        mkdirSync(path)
      },
      'is a directory',
    ],
  ]
  for (const name of names) {
    for (const [damage, problem] of damages) {
      withPacked((directory) => {
        damage(join(directory, name))
        expectFailure(
          () => openPacked(directory),
          'CORRUPT_FILE',
          join(directory, name),
          problem,
          'pack the model again',
        )
        const [[file, found], ...others] = problemsOf(directory)
        assert.equal([file, others], [name, []])
        assert.ok(found.includes(problem), found)
      })
    }
  }
})

test('a changed bit in a header is found when the directory is opened', () => {
  withPacked((directory, manifest) => {
    const file = manifest.layers[1]
    flip(join(directory, file.name), file.dataOffset - 1)
    expectFailure(() => openPacked(directory), 'CORRUPT_FILE', file.name, 'header', 'expected', 'found')
    const [[name, problem]] = problemsOf(directory)
    assert.is(name, file.name)
    assert.ok(problem.includes('header') && problem.includes('SHA-256'), problem)
  })
})

test('a changed bit anywhere is found by verifying, with the file and the place', () => {
  withPacked((directory, manifest) => {
    const [layer] = manifest.layers
    flip(join(directory, layer.name), layer.dataOffset + 4000)
    const { edges } = manifest
    const embedding = edges.segments.find(({ name }) => name === 'embedding')!
    flip(join(directory, edges.name), edges.dataOffset + embedding.offset + embedding.bytes - 1)
    flip(join(directory, 'tokenizer.json'), 70)
    openPacked(directory)
    const problems = new Map(problemsOf(directory))
    assert.equal([...problems.keys()], [layer.name, edges.name, 'tokenizer.json'])
    const end = layer.dataOffset + Math.min(1 << 20, layer.segments[0].bytes)
    const expected = `has damage between bytes ${layer.dataOffset} and ${end} (attention)`
    assert.ok(problems.get(layer.name)!.startsWith(expected), problems.get(layer.name))
    assert.ok(problems.get(edges.name)!.includes('(embedding)'))
    assert.ok(problems.get('tokenizer.json')!.startsWith('has the SHA-256'))
  })
})

test('bytes between the checksummed segments are covered by the file’s SHA-256', () => {
  withPacked((directory, manifest) => {
    const { edges } = manifest
    const last = edges.segments[edges.segments.length - 1]
    const end = edges.dataOffset + last.offset + last.bytes
    if (end === edges.bytes) return
    flip(join(directory, edges.name), edges.bytes - 1)
    const [[name, problem]] = problemsOf(directory)
    assert.equal([name, problem.startsWith('has the SHA-256')], [edges.name, true])
  })
})

test('verifying can be aborted', () => {
  withPacked((directory) => {
    expectFailure(() => verifyPacked(directory, { isAborted: () => true }), 'ABORTED')
  })
})

test('a directory without a manifest is not a packed model', () => {
  withDirectory((directory) => {
    expectFailure(() => openPacked(directory), 'MODEL_NOT_FOUND', directory, 'coppice.json')
    mkdirSync(join(directory, 'coppice.json'))
    expectFailure(() => openPacked(directory), 'CORRUPT_FILE', 'coppice.json', 'directory')
  })
})

test('a manifest that is cut short or changed is refused', () => {
  withPacked((directory, manifest) => {
    const path = join(directory, 'coppice.json')
    const text = readFileSync(path, 'utf8')
    const open = (changed: string) => () => {
      writeFileSync(path, changed)
      openPacked(directory)
    }
    expectFailure(open(''), 'CORRUPT_FILE', path, 'JSON')
    expectFailure(open(text.slice(0, -20)), 'CORRUPT_FILE', path, 'JSON')
    expectFailure(open(text.replace('"theta":10000', '"theta":10001')), 'CORRUPT_FILE', path, 'digest')
    expectFailure(open(text.replace('{', '{"format":"coppice",')), 'CORRUPT_FILE', '"format" twice')
    expectFailure(open('{"format":"other"}'), 'CORRUPT_FILE', 'format', '"other"')
    expectFailure(open('{"format":"coppice","version":3}'), 'UNSUPPORTED_FORMAT', 'version 3', 'reads version 2')
    open(JSON.stringify(JSON.parse(text), undefined, 2))()
    assert.equal(parseManifest(text, path), manifest)
  })
})

type Json = null | boolean | number | string | Json[] | { [key: string]: Json }

/** A manifest as someone might forge it: changed, and with the digest that fits. */
function forge(manifest: Manifest, change: (manifest: { [key: string]: Json }) => void): string {
  const copy = JSON.parse(JSON.stringify(manifest))
  change(copy)
  return formatManifest(copy)
}

/** Replaces what lies at a path of keys. @returns false when the path leads nowhere */
function replaceAt(root: unknown, path: readonly (string | number)[], value: unknown): boolean {
  let place = root
  for (const key of path.slice(0, -1)) {
    if (typeof place !== 'object' || place === null) return false
    place = (place as Record<string | number, unknown>)[key]
  }
  if (typeof place !== 'object' || place === null) return false
  ;(place as Record<string | number, unknown>)[path[path.length - 1]] = value
  return true
}

test('a forged manifest is refused by the entry that is wrong', () => {
  withPacked((_, manifest) => {
    const refused = (path: (string | number)[], value: unknown, ...parts: string[]): void => {
      const text = forge(manifest, (copy) => {
        assert.ok(replaceAt(copy, path, value), path.join('.'))
      })
      expectFailure(() => parseManifest(text, 'coppice.json'), 'CORRUPT_FILE', 'coppice.json', ...parts)
    }
    refused(['config'], null, 'config')
    refused(['config', 'family'], 'gemma', 'config', 'family')
    refused(['config', 'layers'], 3, 'config')
    refused(['config', 'layers'], 2 ** 40, 'layers')
    refused(['config', 'hidden'], -128, 'hidden')
    refused(['config', 'hidden'], '128', 'hidden')
    refused(['config', 'heads'], 3, 'heads', 'multiple')
    refused(['config', 'windows'], [0], 'windows')
    refused(['config', 'eosTokens'], [4096], 'eosTokens')
    refused(['config', 'rope', 'scaling'], { type: 'yarn' }, 'rope.scaling.type')
    refused(['config', 'rope', 'theta'], null, 'theta')
    refused(['config', 'intermediate'], 385, 'parameters')
    refused(['quantisation', 'layers'], 'q5', 'quantisation.layers')
    refused(['quantisation', 'layers'], 'q4', 'layer-00000.safetensors')
    refused(['parameters'], 1, 'parameters')
    refused(['source'], 'x', 'source')
    refused(['layers', 1], null, 'layer-00001.safetensors')
    for (const name of ['../../etc/passwd', '/etc/passwd', 'layer-00000.safetensors', 'edges.safetensors', '']) {
      refused(['layers', 1, 'name'], name, 'layer-00001.safetensors', 'name')
    }
    refused(['layers', 0, 'dataOffset'], 4095, 'dataOffset', '4096')
    refused(['layers', 0, 'dataOffset'], 0, 'dataOffset')
    refused(['layers', 0, 'dataOffset'], 8192, 'bytes')
    refused(['layers', 0, 'bytes'], 4096, 'bytes')
    refused(['layers', 0, 'sha256'], 'x', 'sha256')
    refused(['layers', 0, 'headerChecksum'], 2 ** 32, 'headerChecksum')
    refused(['layers', 0, 'tensors', 1, 'offset'], 1 << 30, 'tensor qkv', 'offset')
    refused(['layers', 0, 'tensors', 1, 'rows'], 1 << 30, 'tensor qkv', 'rows')
    refused(['layers', 0, 'tensors', 1, 'parts'], [256], 'tensor qkv', 'parts')
    refused(['layers', 0, 'tensors', 1, 'kind'], 'f32', 'tensor qkv', 'kind')
    refused(['layers', 0, 'tensors'], [], 'number of tensors')
    refused(['layers', 0, 'segments', 0, 'bytes'], 1 << 30, 'segment attention', 'bytes')
    refused(['layers', 0, 'segments', 0, 'chunkBytes'], 1, 'segment attention', 'chunkBytes')
    refused(['layers', 0, 'segments', 0, 'checksums'], [], 'number of checksums')
    refused(['layers', 0, 'segments', 0, 'checksums'], [-1], 'checksums')
    refused(['edges', 'segments', 1, 'offset'], -4096, 'segment embedding', 'offset')
    refused(['edges', 'tensors', 0, 'name'], 'x', 'final_norm')
    refused(['copies'], [{ name: '../x', bytes: 1, sha256: 'a'.repeat(64) }], '../x')
    refused(['copies'], [{ name: 'coppice.json', bytes: 1, sha256: 'a'.repeat(64) }], 'coppice.json')
    refused(['copies'], {}, 'copies')
  })
})

test('whatever a forged manifest holds, it is read or refused with a code', () => {
  withPacked((_, manifest) => {
    const paths: (string | number)[][] = []
    const collect = (value: unknown, path: (string | number)[]): void => {
      if (path.length > 0) paths.push(path)
      if (typeof value !== 'object' || value === null) return
      for (const [key, item] of Object.entries(value))
        collect(item, [...path, Array.isArray(value) ? Number(key) : key])
    }
    collect({ ...manifest, layers: manifest.layers.slice(0, 1) }, [])
    const value = fc.oneof(fc.jsonValue({ maxDepth: 2 }), fc.integer(), fc.constantFrom(2 ** 53, 1e308, -0, 1e15))
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.constantFrom(...paths), value), { minLength: 1, maxLength: 3 }), (changes) => {
        const text = forge(manifest, (copy) => {
          // An earlier change may have taken away what a later one is about.
          for (const [path, replacement] of changes) replaceAt(copy, path, replacement)
        })
        try {
          parseManifest(text, 'coppice.json')
          return true
        } catch (error) {
          if (error instanceof CoppiceError) return ['CORRUPT_FILE', 'UNSUPPORTED_FORMAT'].includes(error.code)
          throw error
        }
      }),
      { numRuns: 1000 },
    )
  })
})

test('files of another packed model are noticed', () => {
  withPacked((directory) => {
    withDirectory((parent) => {
      const other = packModel(source, join(parent, 'other'), { weights: 'q4' })
      copyFileSync(join(other.directory, 'layer-00000.safetensors'), join(directory, 'layer-00000.safetensors'))
      expectFailure(() => openPacked(directory), 'CORRUPT_FILE', 'layer-00000.safetensors')
    })
  })
})

test.run()
