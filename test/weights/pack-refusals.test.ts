import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { KINDS, type Kind } from '../../src/tensor/layout.ts'
import { packModel } from '../../src/weights/pack.ts'
import { fixtures } from '../paths.ts'
import { copyCheckpoint, expectFailure, f32Bytes, f32Values, type PlainTensor, withDirectory } from './checkpoints.ts'

const test = suite('pack: what it refuses')
const fixture = (name: string): string => join(fixtures, name)

test('a tied head may be stored under either name, or twice if it is the same', () => {
  withDirectory((directory) => {
    const embedding = 'model.embed_tokens.weight'
    const pack = (name: string, change: (tensors: Map<string, PlainTensor>) => void) => () =>
      packModel(copyCheckpoint(fixture('llama'), join(directory, name), change), join(directory, `${name}-out`))
    const expected = pack('own', () => {})().manifest
    const renamed = pack('head-only', (tensors) => {
      tensors.set('lm_head.weight', tensors.get(embedding)!)
      tensors.delete(embedding)
    })().manifest
    assert.equal(renamed.edges, expected.edges)
    const twice = pack('twice', (tensors) => tensors.set('lm_head.weight', tensors.get(embedding)!))().manifest
    assert.equal(twice.edges, expected.edges)
    const different = pack('different', (tensors) => {
      const { dtype, shape, data } = tensors.get(embedding)!
      const other = data.slice()
      other[64 * 4 * 3] ^= 1
      tensors.set('lm_head.weight', { dtype, shape, data: other })
    })
    expectFailure(different, 'CORRUPT_FILE', 'tie_word_embeddings', 'lm_head.weight', 'row 3')
    const neither = pack('neither', (tensors) => tensors.delete(embedding))
    expectFailure(neither, 'CORRUPT_FILE', embedding)
  })
})

test('tensors and config must describe the same model', () => {
  withDirectory((directory) => {
    let count = 0
    const pack =
      (family: string, change: (tensors: Map<string, PlainTensor>, config: Record<string, unknown>) => void) => () => {
        const source = copyCheckpoint(fixture(family), join(directory, `source-${count}`), change)
        const output = join(directory, `out-${count++}`)
        try {
          packModel(source, output)
        } finally {
          assert.not(existsSync(output), 'nothing is written for a checkpoint that cannot be packed')
        }
      }
    const q = 'model.layers.0.self_attn.q_proj.weight'
    expectFailure(
      pack('llama', (tensors) => tensors.delete(q)),
      'CORRUPT_FILE',
      q,
    )
    expectFailure(
      pack('llama', (_, config) => Object.assign(config, { tie_word_embeddings: false })),
      'CORRUPT_FILE',
      'lm_head.weight',
      'tie_word_embeddings true',
    )
    expectFailure(
      pack('llama', (_, config) => Object.assign(config, { intermediate_size: 161 })),
      'CORRUPT_FILE',
      'mlp.gate_proj.weight',
      '[161,64]',
      '[160,64]',
    )
    expectFailure(
      pack('llama', (_, config) => Object.assign(config, { num_hidden_layers: 2 })),
      'UNSUPPORTED_ARCHITECTURE',
      'model.layers.2.',
      'and 5 more',
    )
    expectFailure(
      pack('llama', (_, config) => Object.assign(config, { attention_bias: true })),
      'CORRUPT_FILE',
      'q_proj.bias',
    )
    const stranger = { dtype: 'F32', shape: [1], data: new Uint8Array(4) }
    expectFailure(
      pack('llama', (tensors) => tensors.set('model.layers.0.self_attn.sinks', stranger)),
      'UNSUPPORTED_ARCHITECTURE',
      'sinks',
    )
    expectFailure(
      pack('qwen2', (_, config) =>
        Object.assign(config, { model_type: 'llama', max_window_layers: null, sliding_window: null }),
      ),
      'UNSUPPORTED_ARCHITECTURE',
      'q_proj.bias',
    )
    expectFailure(
      pack('llama', (tensors) => {
        const { shape, data } = tensors.get(q)!
        tensors.set(q, { dtype: 'I8', shape, data: data.slice(0, data.length / 4) })
      }),
      'UNSUPPORTED_FORMAT',
      q,
      'I8',
    )
  })
})

test('buffers that follow from the config are passed over', () => {
  withDirectory((directory) => {
    const source = copyCheckpoint(fixture('llama'), join(directory, 'source'), (tensors) => {
      const buffer = { dtype: 'F64', shape: [8], data: new Uint8Array(64) }
      tensors.set('model.layers.0.self_attn.rotary_emb.inv_freq', buffer)
      tensors.set('model.rotary_emb.inv_freq', buffer)
    })
    packModel(source, join(directory, 'out'))
  })
})

test('weights that are not finite, or too large to be quantised, are refused by tensor and element', () => {
  withDirectory((directory) => {
    const name = 'model.layers.1.mlp.up_proj.weight'
    const make = (value: number, tensor = name): string =>
      copyCheckpoint(fixture('llama'), join(directory, `${tensor}-${value}`), (tensors) => {
        const plain = tensors.get(tensor)!
        const values = f32Values(plain)
        values[60] = value
        tensors.set(tensor, { ...plain, data: f32Bytes(values) })
      })
    let count = 0
    const pack = (source: string, weights: Kind) => () =>
      packModel(source, join(directory, `out-${count++}`), { weights })
    for (const value of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
      for (const kind of KINDS)
        expectFailure(pack(make(value), kind), 'CORRUPT_FILE', name, 'element 60', String(value))
    }
    expectFailure(pack(make(Number.NaN, 'model.norm.weight'), 'q4'), 'CORRUPT_FILE', 'model.norm.weight', 'element 60')
    expectFailure(pack(make(1e6), 'q8'), 'CORRUPT_FILE', name, '1000000', 'f32')
    pack(make(1e6), 'f32')()
    // 65504 is the largest f16; what is nearer to it than to the next power of two is rounded to it.
    for (const kind of ['f16', 'q4a'] as const) {
      pack(make(65519), kind)()
      pack(make(-65519), kind)()
      for (const value of [65520, -65520]) expectFailure(pack(make(value), kind), 'CORRUPT_FILE', name, kind, '65520')
    }
  })
})

test('an output directory that holds anything else is refused and left alone', () => {
  withDirectory((directory) => {
    const source = fixture('llama')
    const output = join(directory, 'out')
    mkdirSync(output)
    writeFileSync(join(output, 'thesis.txt'), 'x')
    expectFailure(() => packModel(source, output), 'INVALID_OPTION', output, 'thesis.txt')
    assert.equal(readdirSync(output), ['thesis.txt'])
    rmSync(join(output, 'thesis.txt'))
    writeFileSync(join(output, 'tokenizer.json'), '{}')
    expectFailure(() => packModel(source, output), 'INVALID_OPTION', 'tokenizer.json')
    expectFailure(() => packModel(source, join(output, 'tokenizer.json')), 'INVALID_OPTION', 'not a directory')
    rmSync(join(output, 'tokenizer.json'))
    packModel(source, output)
    expectFailure(() => packModel(source, output), 'INVALID_OPTION', 'already holds a packed model')
    const copy = copyCheckpoint(source, join(directory, 'copy'))
    expectFailure(() => packModel(copy, copy), 'INVALID_OPTION', 'config.json')
  })
})

test('a disk that is too small is refused with the numbers, before anything is packed', () => {
  withDirectory((directory) => {
    const output = join(directory, 'out')
    const pack = (free: number) => packModel(fixture('llama'), output, { weights: 'f32', freeBytes: () => free })
    expectFailure(() => pack(1000), 'FILE_SYSTEM', '1000 are free', /needs \d{6} bytes/)
    assert.equal(readdirSync(output), ['coppice.partial.json'])
    pack(1e6)
  })
})

test.run()
