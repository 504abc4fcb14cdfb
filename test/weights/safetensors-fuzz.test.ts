import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { CoppiceError } from '../../src/errors.ts'
import { openSafetensors, SafetensorsWriter } from '../../src/weights/safetensors.ts'
import { type Dtype, headerLength, parseHeader, tensorBytes } from '../../src/weights/safetensors-header.ts'
import { fixtures } from '../paths.ts'
import { rawFile, withDirectory } from './checkpoints.ts'

const test = suite('safetensors of any kind')
const llama = join(fixtures, 'llama')

const DTYPES: readonly Dtype[] = ['U8', 'I16', 'F16', 'BF16', 'F32', 'F64']

test('any set of tensors survives writing and reading', () => {
  const shape = fc.array(fc.integer({ min: 0, max: 5 }), { maxLength: 3 })
  const names = fc.uniqueArray(
    fc.string({ unit: 'grapheme', maxLength: 12 }).filter((name) => name !== '__metadata__'),
    { maxLength: 6 },
  )
  const alignment = fc.constantFrom(1, 8, 64, 4096)
  const tensor = fc.record({ dtype: fc.constantFrom(...DTYPES), shape, seed: fc.nat(255) })
  const metadata = fc.dictionary(fc.string(), fc.string(), { maxKeys: 3 })
  withDirectory((directory) => {
    const path = join(directory, 'x.safetensors')
    fc.assert(
      fc.property(
        names,
        fc.array(tensor, { minLength: 6, maxLength: 6 }),
        metadata,
        alignment,
        (names, specs, metadata, alignment) => {
          const tensors = names.map((name, i) => ({ name, dtype: specs[i].dtype, shape: specs[i].shape }))
          const data = tensors.map(({ dtype, shape }, i) =>
            new Uint8Array(tensorBytes(dtype, shape)!).fill(specs[i].seed),
          )
          const writer = new SafetensorsWriter(path, tensors, { metadata, alignment })
          for (const bytes of data) writer.write(bytes)
          writer.commit()
          const file = openSafetensors(path)
          assert.is(file.tensors.size, tensors.length)
          tensors.forEach(({ name, dtype, shape }, i) => {
            assert.equal([file.info(name).dtype, file.info(name).shape], [dtype, shape])
            assert.equal(file.readBytes(name), data[i])
          })
          assert.equal(new Map(Object.entries(metadata)), file.metadata)
          file.close()
        },
      ),
      { numRuns: 100 },
    )
  })
})

/** Reads a file in memory as `openSafetensors` does. */
function parse(file: Uint8Array): void {
  const length = headerLength(file.subarray(0, 8), file.length, 'x')
  parseHeader(file.subarray(8, 8 + length), file.length - 8 - length, 'x')
}

/** True when it was read or refused with a code; anything else is thrown. */
function isReadOrRefused(file: Uint8Array): boolean {
  try {
    parse(file)
    return true
  } catch (error) {
    if (error instanceof CoppiceError) return error.code === 'CORRUPT_FILE' || error.code === 'UNSUPPORTED_FORMAT'
    throw error
  }
}

test('whatever bytes a file has, it is read or refused with a code', () => {
  const bytes = fc.uint8Array({ maxLength: 200 })
  const json = fc.json({ maxDepth: 4 }).map((text) => rawFile(text, new Uint8Array(16)))
  const oddNumber = fc.oneof(fc.integer(), fc.double(), fc.constantFrom(-1, 0, 8, 2 ** 53, 2 ** 64, 1e308))
  const odd = fc.oneof(oddNumber, fc.string(), fc.constant(null), fc.array(oddNumber, { maxLength: 3 }))
  const entry = fc.record(
    {
      dtype: fc.oneof(fc.constantFrom('F32', 'U8', 'BF16', 'F4', '__proto__'), odd),
      shape: fc.oneof(fc.array(fc.integer({ min: 0, max: 4 }), { maxLength: 3 }), odd),
      data_offsets: fc.oneof(fc.tuple(fc.nat(16), fc.nat(16)), odd),
    },
    { requiredKeys: [] },
  )
  const names = fc.oneof(fc.constantFrom('a', 'b', '__metadata__', '__proto__', 'constructor'), fc.string())
  const structured = fc
    .tuple(fc.array(fc.tuple(names, fc.oneof(entry, odd)), { maxLength: 4 }), fc.nat(32))
    .map(([fields, bytes]) => {
      const text = fields.map(([name, value]) => `${JSON.stringify(name)}:${JSON.stringify(value) ?? 'null'}`).join(',')
      return rawFile(`{${text}}`, new Uint8Array(bytes))
    })
  fc.assert(fc.property(fc.oneof(bytes, json, structured), isReadOrRefused), { numRuns: 3000 })
})

test('a good file that was damaged anywhere in its header is read or refused with a code', () => {
  const good = readFileSync(join(llama, 'model.safetensors'))
  const headerEnd = 8 + Number(good.readBigUint64LE(0))
  const damage = fc.array(fc.tuple(fc.nat(headerEnd - 1), fc.nat(255)), { minLength: 1, maxLength: 3 })
  fc.assert(
    fc.property(damage, fc.option(fc.nat(headerEnd + 100)), (changes, end) => {
      const file = new Uint8Array(good)
      for (const [at, value] of changes) file[at] = value
      return isReadOrRefused(end === null ? file : file.subarray(0, end))
    }),
    { numRuns: 500 },
  )
})

test.run()
