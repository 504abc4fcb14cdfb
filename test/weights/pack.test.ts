import { existsSync, mkdirSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { floatToHalf } from '../../src/tensor/half.ts'
import { groupBytes, KINDS, type Kind, paddedOutputs, TILE, unpackRow } from '../../src/tensor/layout.ts'
import type { Manifest, PackedFile, PackedTensor } from '../../src/weights/manifest.ts'
import { type PackProgress, packModel } from '../../src/weights/pack.ts'
import { openPacked } from '../../src/weights/packed.ts'
import { fixtures, root } from '../paths.ts'
import {
  asF16,
  copyCheckpoint,
  expectFailure,
  f32Bytes,
  f32Values,
  filesOf,
  type PlainTensor,
  readPlain,
  shardCheckpoint,
  withDirectory,
} from './checkpoints.ts'

const test = suite('pack')
const FAMILIES = ['llama', 'llama-3-rope', 'mistral-swa', 'qwen2', 'qwen3']
const fixture = (name: string): string => join(fixtures, name)

/** Packed tensors under the names of the checkpoint, dequantised: the inverse of packing, part by part. */
function unpack(directory: string, manifest: Manifest): Map<string, Float32Array> {
  const values = new Map<string, Float32Array>()
  const read = (file: PackedFile, sources: (name: string) => string[]): void => {
    const { tensors } = readPlain(join(directory, file.name))
    for (const tensor of file.tensors) {
      const { data } = tensors.get(tensor.name)!
      sources(tensor.name).forEach((source, part) => {
        values.set(source, unpackPart(tensor, data, part))
      })
    }
  }
  manifest.layers.forEach((file, layer) => {
    read(file, (name) => SOURCES[name].map((source) => `model.layers.${layer}.${source}`))
  })
  read(manifest.edges, (name) => SOURCES[name])
  return values
}

const attention = (suffix: string): string[] => ['q', 'k', 'v'].map((part) => `self_attn.${part}_proj.${suffix}`)

const SOURCES: Readonly<Record<string, string[]>> = {
  attention_norm: ['input_layernorm.weight'],
  qkv: attention('weight'),
  qkv_bias: attention('bias'),
  q_norm: ['self_attn.q_norm.weight'],
  k_norm: ['self_attn.k_norm.weight'],
  attention_output: ['self_attn.o_proj.weight'],
  attention_output_bias: ['self_attn.o_proj.bias'],
  mlp_norm: ['post_attention_layernorm.weight'],
  gate_up: ['mlp.gate_proj.weight', 'mlp.up_proj.weight'],
  gate_up_bias: ['mlp.gate_proj.bias', 'mlp.up_proj.bias'],
  down: ['mlp.down_proj.weight'],
  down_bias: ['mlp.down_proj.bias'],
  final_norm: ['model.norm.weight'],
  embedding: ['model.embed_tokens.weight'],
  head: ['lm_head.weight'],
}

function unpackPart({ kind, columns, parts }: PackedTensor, data: Uint8Array, part: number): Float32Array {
  const first = parts.slice(0, part).reduce((sum, rows) => sum + paddedOutputs(rows), 0)
  if (kind === 'vector') return new Float32Array(data.slice().buffer).slice(first, first + parts[part])
  const out = new Float32Array(parts[part] * columns)
  for (let row = 0; row < parts[part]; row++) {
    const group = Math.floor((first + row) / TILE) * groupBytes(kind, columns)
    unpackRow(kind, columns, data, group, row % TILE, out, row * columns)
  }
  return out
}

/** Largest error that one weight may have, relative to the largest of its row. */
const TOLERANCE: Readonly<Record<Kind, number>> = { f32: 0, f16: 2 ** -11, q8: 1 / 200, q4a: 1 / 6, q4: 1 / 6 }

for (const family of FAMILIES) {
  test(`${family}: every tensor of the checkpoint is in the packed files, in every kind`, () => {
    withDirectory((directory) => {
      const { tensors } = readPlain(join(fixture(family), 'model.safetensors'))
      for (const kind of KINDS) {
        const output = join(directory, kind)
        const { manifest } = packModel(fixture(family), output, { weights: kind })
        assert.equal(openPacked(output).manifest, manifest)
        assert.equal(manifest.quantisation, { layers: kind, edges: kind === 'f32' || kind === 'f16' ? kind : 'q8' })
        const unpacked = unpack(output, manifest)
        assert.equal([...unpacked.keys()].sort(), [...tensors.keys()].sort())
        let parameters = 0
        for (const [name, plain] of tensors) {
          compare(name, unpacked.get(name)!, plain, plain.shape.length === 1 ? 0 : TOLERANCE[kind])
          parameters += plain.data.length / 4
        }
        assert.is(manifest.parameters, parameters)
      }
    })
  })
}

function compare(name: string, found: Float32Array, plain: PlainTensor, tolerance: number): void {
  const expected = f32Values(plain)
  assert.is(found.length, expected.length, name)
  const columns = plain.shape[plain.shape.length - 1]
  for (let row = 0; row < expected.length; row += columns) {
    const values = expected.subarray(row, row + columns)
    const limit = tolerance * values.reduce((most, value) => Math.max(most, Math.abs(value)), 0)
    for (let i = 0; i < columns; i++) {
      if (!(Math.abs(found[row + i] - values[i]) <= limit)) {
        assert.unreachable(`${name}: ${found[row + i]} for ${values[i]} in row ${row / columns}`)
      }
    }
  }
}

test('tensors of a layer come in the order of the forward pass, fused parts padded to 8 rows', () => {
  withDirectory((directory) => {
    // 3 heads of 4: neither q (12) nor k and v (4 each) fill groups of 8.
    const source = tinyCheckpoint(join(directory, 'source'))
    const { manifest } = packModel(source, join(directory, 'out'), { weights: 'f32' })
    assert.equal(
      manifest.layers[0].tensors.map(({ name, rows, columns, parts }) => [name, rows, columns, parts]),
      [
        ['attention_norm', 10, 1, [10]],
        ['qkv', 16 + 8 + 8, 10, [12, 4, 4]],
        ['qkv_bias', 16 + 8 + 8, 1, [12, 4, 4]],
        ['attention_output', 10, 12, [10]],
        ['attention_output_bias', 16, 1, [10]],
        ['mlp_norm', 10, 1, [10]],
        ['gate_up', 16 + 16, 10, [12, 12]],
        ['gate_up_bias', 16 + 16, 1, [12, 12]],
        ['down', 10, 12, [10]],
        ['down_bias', 16, 1, [10]],
      ],
    )
    const { tensors } = readPlain(join(source, 'model.safetensors'))
    const unpacked = unpack(join(directory, 'out'), manifest)
    for (const [name, plain] of tensors) assert.equal(unpacked.get(name), f32Values(plain), name)
    // Between the parts of a bias lie zeros.
    const bias = f32Values(readPlain(join(directory, 'out', 'layer-00000.safetensors')).tensors.get('qkv_bias')!)
    assert.equal([...bias.subarray(12, 16), ...bias.subarray(20, 24), ...bias.subarray(28)], new Array(12).fill(0))
    assert.is(manifest.edges.tensors.find(({ name }) => name === 'head')!.rows, 11)
  })
})

/** A llama with odd sizes and all biases. */
function tinyCheckpoint(directory: string, change: (tensors: Map<string, PlainTensor>) => void = () => {}): string {
  return copyCheckpoint(fixture('llama'), directory, (tensors, config) => {
    tensors.clear()
    Object.assign(config, {
      hidden_size: 10,
      intermediate_size: 12,
      num_attention_heads: 3,
      num_key_value_heads: 1,
      head_dim: 4,
      num_hidden_layers: 2,
      vocab_size: 11,
      tie_word_embeddings: false,
      attention_bias: true,
      mlp_bias: true,
    })
    let seed = 1
    const add = (name: string, ...shape: number[]): void => {
      const data = new Float32Array(shape.reduce((a, b) => a * b))
      for (let i = 0; i < data.length; i++) {
        seed = (seed * 48_271) % 2_147_483_647
        data[i] = seed / 2_147_483_647 - 0.5
      }
      tensors.set(name, { dtype: 'F32', shape, data: f32Bytes(data) })
    }
    add('model.embed_tokens.weight', 11, 10)
    add('lm_head.weight', 11, 10)
    add('model.norm.weight', 10)
    for (const layer of [0, 1]) {
      const base = `model.layers.${layer}.`
      const linear = (name: string, rows: number, columns: number): void => {
        add(`${base}${name}.weight`, rows, columns)
        add(`${base}${name}.bias`, rows)
      }
      add(`${base}input_layernorm.weight`, 10)
      add(`${base}post_attention_layernorm.weight`, 10)
      linear('self_attn.q_proj', 12, 10)
      linear('self_attn.k_proj', 4, 10)
      linear('self_attn.v_proj', 4, 10)
      linear('self_attn.o_proj', 10, 12)
      linear('mlp.gate_proj', 12, 10)
      linear('mlp.up_proj', 12, 10)
      linear('mlp.down_proj', 10, 12)
    }
    change(tensors)
  })
}

test('the same checkpoint gives the same bytes, sharded or not, with or without the prefix "model."', () => {
  withDirectory((directory) => {
    const make = (name: string, change?: (tensors: Map<string, PlainTensor>) => void): string =>
      copyCheckpoint(fixture('qwen2'), join(directory, name, 'model'), change)
    const plain = make('plain')
    const sharded = make('sharded')
    shardCheckpoint(sharded, 4)
    const bare = make('bare', (tensors) => {
      for (const [name, tensor] of [...tensors]) {
        tensors.delete(name)
        tensors.set(name.replace('model.', ''), tensor)
      }
    })
    const outputs = [plain, sharded, bare, plain].map((source, i) => {
      const output = join(directory, `out-${i}`)
      packModel(source, output, { weights: 'q8' })
      return filesOf(output)
    })
    for (const output of outputs.slice(1)) assert.equal(output, outputs[0])
  })
})

test('f16 keeps every bit of an F16 checkpoint, and rounds others to the nearest half', () => {
  withDirectory((directory) => {
    const halves = copyCheckpoint(fixture('qwen3'), join(directory, 'halves'), (tensors) => {
      for (const [name, tensor] of tensors) tensors.set(name, asF16(tensor))
    })
    const expected = new Map(
      [...readPlain(join(halves, 'model.safetensors')).tensors].map(([name, t]) => [name, halvesOf(t)]),
    )
    for (const source of [halves, fixture('qwen3')]) {
      const output = join(directory, source === halves ? 'exact' : 'rounded')
      const { manifest } = packModel(source, output, { weights: 'f16' })
      for (const [name, values] of unpack(output, manifest)) {
        // Vectors stay f32.
        if (source !== halves && name.includes('norm')) continue
        assert.equal(Uint16Array.from(values, floatToHalf), expected.get(name), name)
      }
    }
  })
})

const halvesOf = ({ data }: PlainTensor): Uint16Array => new Uint16Array(data.slice().buffer)

test('the revision names the weights: the same for every kind, another when a weight changes', () => {
  withDirectory((directory) => {
    const revision = (source: string, weights: Kind, output: string): string =>
      packModel(source, join(directory, output), { weights }).manifest.source.revision
    const first = revision(fixture('llama'), 'f32', 'a')
    assert.match(first, /^sha256:[0-9a-f]{64}$/)
    assert.is(revision(fixture('llama'), 'q4', 'b'), first)
    const other = copyCheckpoint(fixture('llama'), join(directory, 'source'), (tensors) => {
      tensors.get('model.layers.2.mlp.down_proj.weight')!.data[100] ^= 1
    })
    assert.is.not(revision(other, 'f32', 'c'), first)
  })
})

test('a model from the hub’s cache is named after its repository', () => {
  if (process.platform === 'win32') return
  withDirectory((directory) => {
    const snapshots = join(directory, 'models--owner--some-name', 'snapshots')
    mkdirSync(snapshots, { recursive: true })
    symlinkSync(fixture('llama'), join(snapshots, 'c0ffee'), 'dir')
    const { manifest } = packModel(join(snapshots, 'c0ffee'), join(directory, 'out'))
    assert.is(manifest.source.name, 'owner/some-name')
    assert.is(packModel(fixture('llama'), join(directory, 'out-2')).manifest.source.name, 'llama')
  })
})

test("'auto' keeps small models in f32, and an unknown kind is refused", () => {
  withDirectory((directory) => {
    assert.is(packModel(fixture('llama'), join(directory, 'a')).manifest.quantisation.layers, 'f32')
    const pack = () => packModel(fixture('llama'), join(directory, 'b'), { weights: 'q5' as Kind })
    expectFailure(pack, 'INVALID_OPTION', 'q5', 'f32, f16, q8, q4a, q4')
    assert.not(existsSync(join(directory, 'b')))
  })
})

test('F16 and BF16 checkpoints are packed from their exact values', () => {
  withDirectory((directory) => {
    for (const [dtype, shift] of [
      ['BF16', 16],
      ['F16', 0],
    ] as const) {
      const source = tinyCheckpoint(join(directory, dtype), (tensors) => {
        for (const [name, { shape, data }] of tensors) {
          const words = new Uint32Array(data.slice().buffer)
          // For F16: some numbers between 1 and 2; for BF16: the upper halves.
          const halves = Uint16Array.from(words, (word) => (shift === 16 ? word >>> 16 : 0x3c00 | (word & 1023)))
          tensors.set(name, { dtype, shape, data: new Uint8Array(halves.buffer) })
        }
      })
      const { manifest, directory: output } = packModel(source, join(directory, `${dtype}-out`), { weights: 'f32' })
      const unpacked = unpack(output, manifest)
      for (const [name, { data }] of readPlain(join(source, 'model.safetensors')).tensors) {
        const halves = new Uint16Array(data.slice().buffer)
        const widened = new Float32Array(Uint32Array.from(halves, (half) => half << 16).buffer)
        const expected = shift === 16 ? widened : Float32Array.from(halves, (half) => 1 + (half & 1023) / 1024)
        assert.equal(unpacked.get(name), expected, name)
      }
    }
  })
})

test('progress counts the bytes of all files up to their total', () => {
  withDirectory((directory) => {
    const seen: PackProgress[] = []
    packModel(join(root, 'models', 'target'), join(directory, 'out'), {
      weights: 'f32',
      onProgress: (progress) => {
        seen.push(progress)
      },
    })
    const { total } = seen[0]
    assert.ok(seen.length >= 8 + 1 + total / (1 << 21))
    let before = 0
    for (const { phase, done, total: same } of seen) {
      assert.is(phase, 'pack')
      assert.is(same, total)
      assert.ok(done >= before && done <= total)
      before = done
    }
    assert.is(before, total)
    assert.is(new Set(seen.map(({ file }) => file)).size, 9)
  })
})

test.run()
