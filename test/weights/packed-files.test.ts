/** What the files of a packed model look like to others. */
import { readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { checksum } from '../../src/tensor/checksum.ts'
import { groupBytes, KINDS } from '../../src/tensor/layout.ts'
import type { PackedFile } from '../../src/weights/manifest.ts'
import { packModel } from '../../src/weights/pack.ts'
import { openSafetensors } from '../../src/weights/safetensors.ts'
import { fixtures, root } from '../paths.ts'
import { readPlain, withDirectory } from './checkpoints.ts'

const test = suite('packed files')

test('every packed file is a sound safetensors file, aligned for direct reads', () => {
  withDirectory((directory) => {
    for (const kind of KINDS) {
      const output = join(directory, kind)
      const { manifest } = packModel(join(fixtures, 'qwen2'), output, { weights: kind })
      for (const file of [...manifest.layers, manifest.edges]) {
        const path = join(output, file.name)
        openSafetensors(path).close()
        assert.is(statSync(path).size, file.bytes)
        assert.is(file.bytes % 4096, 0)
        assert.is(file.dataOffset % 4096, 0)
        const raw = readFileSync(path)
        assert.is(8 + Number(raw.readBigUint64LE(0)), file.dataOffset)
        assert.is(checksum(new Uint8Array(raw.subarray(0, file.dataOffset))), file.headerChecksum)
        const { tensors, metadata } = readPlain(path)
        let offset = 0
        for (const tensor of file.tensors) {
          assert.is(tensor.offset, offset)
          assert.is(tensor.offset % 64, 0)
          assert.is(tensors.get(tensor.name)!.data.length, tensor.bytes)
          assert.ok(metadata[tensor.name].startsWith(tensor.kind))
          offset += tensor.bytes
        }
        for (const [name, { dtype, data }] of tensors) {
          if (name === '__pad') assert.ok(dtype === 'U8' && data.every((byte) => byte === 0))
        }
        checkSegments(file, raw)
      }
    }
  })
})

function checkSegments(file: PackedFile, raw: Uint8Array): void {
  for (const { name, offset, bytes, chunkBytes, checksums } of file.segments) {
    const sums: number[] = []
    for (let at = 0; at < bytes; at += chunkBytes) {
      const from = file.dataOffset + offset + at
      sums.push(checksum(raw.slice(from, from + Math.min(chunkBytes, bytes - at))))
    }
    assert.equal(checksums, sums, `${file.name} ${name}`)
  }
}

test('a layer has a segment per group, which together span its data; each matrix of the edges has one in whole groups', () => {
  withDirectory((directory) => {
    const { manifest } = packModel(join(root, 'models', 'target'), join(directory, 'out'), { weights: 'f32' })
    for (const { segments, bytes, dataOffset, tensors } of manifest.layers) {
      const start = (name: string): number => tensors.find((tensor) => tensor.name === name)!.offset
      const [gateUp, down] = [start('mlp_norm'), start('down')]
      assert.equal(
        segments.map(({ name, offset, bytes, chunkBytes }) => [name, offset, bytes, chunkBytes]),
        [
          ['attention', 0, gateUp, 1 << 20],
          ['gate_up', gateUp, down - gateUp, 1 << 20],
          ['down', down, bytes - dataOffset - down, 1 << 20],
        ],
      )
    }
    const { segments, tensors } = manifest.edges
    assert.equal(
      segments.map(({ name }) => name),
      ['vectors', 'embedding'],
    )
    const embedding = tensors.find(({ name }) => name === 'embedding')!
    assert.equal([embedding.rows, embedding.columns, embedding.parts], [4096, 256, [4096]])
    assert.is(segments[1].bytes, (4096 / 8) * groupBytes('f32', 256))
    assert.is(segments[1].chunkBytes % groupBytes('f32', 256), 0)
    assert.is(segments[1].chunkBytes, 1 << 20)
    assert.is(segments[1].checksums.length, 4)
    assert.equal(
      manifest.copies.map(({ name }) => name),
      ['tokenizer.json', 'tokenizer_config.json', 'generation_config.json'],
    )
    for (const { name } of manifest.copies) {
      assert.equal(readFileSync(join(directory, 'out', name)), readFileSync(join(root, 'models', 'target', name)))
    }
  })
})

test.run()
