import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { CoppiceError } from '../../src/errors.ts'
import { parseHfConfig, readHfConfig } from '../../src/weights/hf-config.ts'
import type { ModelConfig } from '../../src/weights/model-config.ts'
import { fixtures } from '../paths.ts'
import { expectFailure, withDirectory } from './checkpoints.ts'

const test = suite('hf-config')

/** A small config; `fields` are added, and those that are `undefined` are absent. */
const config = (model_type: string, fields: Record<string, unknown> = {}): ModelConfig => {
  const base = { model_type, hidden_size: 64, num_attention_heads: 4, num_hidden_layers: 4, vocab_size: 100 }
  return parseHfConfig({ ...base, num_key_value_heads: 2, ...fields }, 'config.json')
}

const refused = (model_type: string, fields: Record<string, unknown>, ...parts: string[]): void =>
  expectFailure(() => config(model_type, fields), 'UNSUPPORTED_ARCHITECTURE', 'config.json', ...parts)

const malformed = (model_type: string, fields: Record<string, unknown>, ...parts: string[]): void =>
  expectFailure(() => config(model_type, fields), 'CORRUPT_FILE', 'config.json', ...parts)

test('the fixtures of four families are read as they are meant', () => {
  assert.equal(readHfConfig(join(fixtures, 'llama')), {
    family: 'llama',
    vocabulary: 384,
    hidden: 64,
    layers: 3,
    heads: 4,
    kvHeads: 2,
    headSize: 16,
    intermediate: 160,
    activation: 'silu',
    normEpsilon: 1e-5,
    positions: 512,
    rope: { theta: 10_000, scaling: { type: 'none' } },
    windows: [0, 0, 0],
    tiedHead: true,
    qkvBias: false,
    outputBias: false,
    mlpBias: false,
    qkNorm: false,
    bosToken: 1,
    eosTokens: [2],
  })
  const llama3 = readHfConfig(join(fixtures, 'llama-3-rope'))
  assert.equal(llama3.rope, {
    theta: 500_000,
    scaling: { type: 'llama3', factor: 8, lowFrequencyFactor: 1, highFrequencyFactor: 4, originalPositions: 64 },
  })
  assert.equal(llama3.eosTokens, [2, 5])
  assert.is(llama3.tiedHead, false)
  const mistral = readHfConfig(join(fixtures, 'mistral-swa'))
  assert.equal(mistral.windows, [8, 8])
  assert.is(mistral.headSize, 32)
  const qwen2 = readHfConfig(join(fixtures, 'qwen2'))
  assert.equal([qwen2.qkvBias, qwen2.outputBias, qwen2.qkNorm], [true, false, false])
  assert.equal(qwen2.windows, [0, 0, 0])
  const qwen3 = readHfConfig(join(fixtures, 'qwen3'))
  assert.equal([qwen3.qkvBias, qwen3.outputBias, qwen3.qkNorm], [false, false, true])
  assert.is(qwen3.headSize, 32)
})

test('an absent field stands for what its family says', () => {
  const llama = parseHfConfig({ model_type: 'llama' }, 'config.json')
  assert.equal(
    [llama.vocabulary, llama.hidden, llama.intermediate, llama.layers, llama.heads, llama.kvHeads, llama.headSize],
    [32_000, 4096, 11_008, 32, 32, 32, 128],
  )
  assert.equal([llama.positions, llama.normEpsilon, llama.rope.theta, llama.tiedHead], [2048, 1e-6, 10_000, false])
  assert.equal([llama.bosToken, llama.eosTokens], [1, [2]])
  const mistral = parseHfConfig({ model_type: 'mistral' }, 'config.json')
  assert.equal([mistral.kvHeads, mistral.intermediate, mistral.positions], [8, 14_336, 131_072])
  assert.equal(mistral.windows, new Array(32).fill(4096))
  const qwen2 = parseHfConfig({ model_type: 'qwen2' }, 'config.json')
  assert.equal([qwen2.vocabulary, qwen2.kvHeads, qwen2.headSize, qwen2.positions], [151_936, 32, 128, 32_768])
  assert.equal([qwen2.bosToken, qwen2.eosTokens, qwen2.windows[31]], [undefined, [], 0])
  const qwen3 = parseHfConfig({ model_type: 'qwen3', hidden_size: 1024 }, 'config.json')
  assert.equal([qwen3.headSize, qwen3.kvHeads, qwen3.qkNorm, qwen3.qkvBias], [128, 32, true, false])
})

test('a null number of key-value heads means as many as there are heads', () => {
  for (const family of ['llama', 'mistral', 'qwen2', 'qwen3']) {
    assert.is(config(family, { num_key_value_heads: null }).kvHeads, 4, family)
  }
})

test('the head size need not be hidden / heads', () => {
  for (const family of ['llama', 'mistral', 'qwen2', 'qwen3']) {
    assert.is(config(family, { head_dim: 24 }).headSize, 24, family)
  }
  assert.is(config('llama').headSize, 16)
  assert.is(config('qwen2', { head_dim: null }).headSize, 16)
  assert.is(config('qwen3').headSize, 128)
})

test('biases follow each family’s own rule', () => {
  const biases = ({ qkvBias, outputBias, mlpBias }: ModelConfig): boolean[] => [qkvBias, outputBias, mlpBias]
  assert.equal(biases(config('llama', { attention_bias: true, mlp_bias: false })), [true, true, false])
  assert.equal(biases(config('llama', { attention_bias: false, mlp_bias: true })), [false, false, true])
  assert.equal(biases(config('qwen2', { attention_bias: false })), [true, false, false])
  assert.equal(biases(config('qwen3', { attention_bias: true })), [true, true, false])
  assert.equal(biases(config('mistral', { attention_bias: false })), [false, false, false])
  refused('mistral', { attention_bias: true }, 'attention_bias', 'true')
  refused('qwen2', { mlp_bias: true }, 'mlp_bias')
  refused('qwen3', { mlp_bias: true }, 'mlp_bias')
})

test('both spellings of RoPE mean the same', () => {
  const none = { theta: 1e6, scaling: { type: 'none' } }
  assert.equal(config('qwen3', { rope_theta: 1e6 }).rope, none)
  assert.equal(config('qwen3', { rope_theta: 1e6, rope_scaling: null }).rope, none)
  assert.equal(config('qwen3', { rope_theta: 1e6, rope_scaling: { type: 'default' } }).rope, none)
  assert.equal(config('qwen3', { rope_parameters: { rope_theta: 1e6, rope_type: 'default' } }).rope, none)
  assert.equal(config('qwen3', { rope_theta: 1e6, rope_parameters: { rope_type: 'default' } }).rope, none)
  assert.equal(config('llama', { rope_parameters: {} }).rope.theta, 10_000)
  assert.equal(config('llama', { rope_parameters: { rope_type: null, rope_theta: null } }).rope.theta, 10_000)

  const linear = { theta: 10_000, scaling: { type: 'linear', factor: 2.5 } }
  assert.equal(config('llama', { rope_scaling: { type: 'linear', factor: 2.5 } }).rope, linear)
  assert.equal(config('llama', { rope_scaling: { rope_type: 'linear', type: 'linear', factor: 2.5 } }).rope, linear)
  const parameters = { rope_type: 'linear', factor: 2.5, rope_theta: 10_000, partial_rotary_factor: 1 }
  assert.equal(config('llama', { rope_parameters: parameters }).rope, linear)
  assert.equal(
    config('llama', { rope_parameters: parameters, rope_scaling: { type: 'linear', factor: 2.5 } }).rope,
    linear,
  )

  const llama3 = { rope_type: 'llama3', factor: 8, low_freq_factor: 1, high_freq_factor: 4 }
  const scaling = { type: 'llama3', factor: 8, lowFrequencyFactor: 1, highFrequencyFactor: 4, originalPositions: 2048 }
  const inside = { ...llama3, original_max_position_embeddings: 2048 }
  assert.equal(config('llama', { rope_scaling: inside }).rope.scaling, scaling)
  assert.equal(config('llama', { rope_parameters: { ...inside, rope_theta: 5e5 } }).rope, { theta: 5e5, scaling })
  const outside = { rope_scaling: llama3, original_max_position_embeddings: 2048, max_position_embeddings: 8192 }
  assert.equal(config('llama', outside).rope.scaling, scaling)
  assert.equal(config('llama', { rope_scaling: llama3, max_position_embeddings: 2048 }).rope.scaling, scaling)
})

test('RoPE per kind of layer is accepted when the kinds in use agree', () => {
  const own = (theta: number) => ({ rope_type: 'default', rope_theta: theta })
  const both = { full_attention: own(1e4), sliding_attention: own(1e5) }
  assert.is(config('qwen2', { rope_parameters: both }).rope.theta, 1e4)
  assert.is(config('mistral', { rope_parameters: both, sliding_window: 8 }).rope.theta, 1e5)
  const mixed = { use_sliding_window: true, sliding_window: 8, max_window_layers: 2 }
  refused('qwen2', { ...mixed, rope_parameters: both }, 'rope_parameters', 'same RoPE in all layers')
  const same = { full_attention: own(1e4), sliding_attention: own(1e4) }
  assert.is(config('qwen2', { ...mixed, rope_parameters: same }).rope.theta, 1e4)
  refused('llama', { rope_parameters: { sliding_attention: own(1e4) } }, 'rope_parameters', 'full_attention')
})

test('RoPE that cannot be run is refused by name', () => {
  for (const type of ['dynamic', 'yarn', 'longrope', 'su', 'mrope', 'proportional']) {
    refused('llama', { rope_scaling: { type, factor: 2 } }, 'rope_scaling: type', type, 'default, linear, llama3')
    refused('qwen3', { rope_parameters: { rope_type: type, factor: 2 } }, 'rope_parameters: rope_type', type)
  }
  refused('llama', { partial_rotary_factor: 0.5 }, 'partial_rotary_factor', '0.5')
  refused('llama', { rope_parameters: { partial_rotary_factor: 0.25 } }, 'partial_rotary_factor', '0.25')
  refused('qwen2', { rope_scaling: { type: 'default', mrope_section: [16, 24, 24] } }, 'mrope_section', '[16,24,24]')
  refused('llama', { rope_scaling: { type: 'linear', factor: 2, attention_factor: 0.9 } }, 'attention_factor')
  refused('llama', { rope_scaling: { type: 'default', factor: 4 } }, 'factor', '4')
  assert.equal(config('llama', { rope_scaling: { type: 'default', factor: 1 } }).rope.scaling, { type: 'none' })
})

test('RoPE fields that contradict each other are refused', () => {
  refused('llama', { rope_theta: 1e4, rope_parameters: { rope_theta: 1e6 } }, 'rope_theta', '1000000')
  refused('llama', { rope_scaling: { type: 'linear', rope_type: 'default', factor: 2 } }, 'type', 'rope_type')
  const linear = { type: 'linear', factor: 2 }
  refused(
    'llama',
    { rope_scaling: linear, rope_parameters: { rope_type: 'default' } },
    'rope_scaling',
    'rope_parameters',
  )
  const llama3 = { rope_type: 'llama3', factor: 8, low_freq_factor: 1, high_freq_factor: 4 }
  const inside = { ...llama3, original_max_position_embeddings: 64 }
  refused('llama', { rope_scaling: inside, original_max_position_embeddings: 65 }, 'original_max_position_embeddings')
})

test('RoPE fields that are not what they should be are malformed', () => {
  malformed('llama', { rope_theta: 0 }, 'rope_theta', 'positive')
  malformed('llama', { rope_theta: '10000' }, 'rope_theta')
  malformed('llama', { rope_scaling: 'linear' }, 'rope_scaling', 'object')
  malformed('llama', { rope_scaling: { type: 'linear' } }, 'factor', 'linear')
  malformed('llama', { rope_scaling: { type: 'linear', factor: -1 } }, 'factor')
  malformed('llama', { rope_scaling: { type: 7 } }, 'type')
  const llama3 = { rope_type: 'llama3', factor: 8, low_freq_factor: 4, high_freq_factor: 4 }
  malformed('llama', { rope_scaling: llama3 }, 'low_freq_factor')
  malformed('llama', { rope_scaling: { rope_type: 'llama3', factor: 8, high_freq_factor: 4 } }, 'low_freq_factor')
})

test('sliding windows are in use where each family says', () => {
  assert.equal(config('mistral', { sliding_window: null }).windows, [0, 0, 0, 0])
  assert.equal(config('mistral', { sliding_window: 16 }).windows, [16, 16, 16, 16])
  assert.equal(config('mistral').windows, [4096, 4096, 4096, 4096])
  const window = { use_sliding_window: true, sliding_window: 16, max_window_layers: 3 }
  for (const family of ['qwen2', 'qwen3']) {
    assert.equal(config(family, window).windows, [0, 0, 0, 16])
    assert.equal(config(family, { ...window, max_window_layers: 0 }).windows, [16, 16, 16, 16])
    assert.equal(config(family, { ...window, use_sliding_window: false }).windows, [0, 0, 0, 0])
    assert.equal(config(family, { ...window, sliding_window: null }).windows, [0, 0, 0, 0])
    const layer_types = ['sliding_attention', 'full_attention', 'full_attention', 'sliding_attention']
    assert.equal(config(family, { ...window, layer_types }).windows, [16, 0, 0, 16])
    refused(family, { layer_types }, 'layer_types', 'no sliding window')
  }
  const full = new Array(4).fill('full_attention')
  assert.equal(config('llama', { layer_types: full }).windows, [0, 0, 0, 0])
  assert.equal(config('llama', { sliding_window: 16, use_sliding_window: false }).windows, [0, 0, 0, 0])
})

test('windows that a family does not have, or that contradict each other, are refused', () => {
  refused('llama', { sliding_window: 16 }, 'sliding_window', '16', 'null')
  refused('llama', { use_sliding_window: true, sliding_window: 16 }, 'sliding_window')
  const sliding = new Array(4).fill('sliding_attention')
  refused('llama', { layer_types: sliding }, 'layer_types')
  refused('mistral', { layer_types: sliding, sliding_window: null }, 'layer_types')
  refused('mistral', { layer_types: [...sliding.slice(1), 'full_attention'] }, 'layer_types')
  refused('mistral', { sliding_window: 16, use_sliding_window: false }, 'use_sliding_window')
  refused('qwen3', { layer_types: ['full_attention', 'linear_attention', 'x', 'y'] }, 'layer_types', 'linear_attention')
  malformed('qwen3', { layer_types: ['full_attention'] }, 'layer_types', '4 layers')
  malformed('qwen2', { use_sliding_window: true, sliding_window: 0 }, 'sliding_window')
  malformed('qwen2', { use_sliding_window: true, max_window_layers: -1 }, 'max_window_layers')
  malformed('mistral', { sliding_window: '16' }, 'sliding_window')
})

test('a family that is not known is refused, with those that are', () => {
  for (const type of ['gemma2', 'mixtral', 'phi3', 'LLAMA', '', null, undefined, 7]) {
    refused(type as string, {}, 'model_type', 'llama, mistral, qwen2, qwen3')
  }
})

test('a field that changes the result and is not supported is refused with its value', () => {
  refused('llama', { hidden_act: 'gelu' }, 'hidden_act', '"gelu"', 'silu')
  refused('llama', { quantization_config: { quant_method: 'gptq' } }, 'quantization_config', 'gptq')
  refused('llama', { auto_map: { AutoModelForCausalLM: 'modeling.X' } }, 'auto_map', 'Python')
  for (const [name, value] of Object.entries({
    attn_logit_softcapping: 50,
    final_logit_softcapping: 30,
    num_local_experts: 8,
    residual_multiplier: 0.5,
    embedding_multiplier: 12,
    logits_scaling: 8,
    use_qk_norm: true,
    rope_interleaved: true,
    no_rope_layers: [1, 0],
    is_encoder_decoder: true,
    add_cross_attention: true,
    per_layer_config: { 1: { head_dim: 32 } },
    a_field_of_the_future: 'on',
    mlp_bias_scale: 0,
  })) {
    refused('llama', { [name]: value }, name, JSON.stringify(value))
    refused('qwen3', { [name]: value }, name)
  }
})

test('fields that say nothing about logits, or that are switched off, pass', () => {
  const harmless = {
    _name_or_path: 'x/y',
    architectures: ['SomethingForCausalLM'],
    torch_dtype: 'bfloat16',
    dtype: 'float16',
    transformers_version: '5.0.0',
    use_cache: false,
    pretraining_tp: 4,
    initializer_range: 0.02,
    attention_dropout: 0.1,
    embd_pdrop: 0.1,
    hidden_dropout: 0.1,
    pad_token_id: -1,
    temperature: 0.6,
    max_length: 4096,
    quantization_config: null,
    auto_map: {},
    hidden_act: 'swish',
    rope_interleaved: false,
    use_mrope: false,
    attn_logit_softcapping: null,
    no_rope_layers: [],
    a_field_of_the_future: null,
    '': '',
    partial_rotary_factor: 1,
  }
  for (const family of ['llama', 'mistral', 'qwen2', 'qwen3']) assert.equal(config(family, harmless), config(family))
})

test('numbers that no model can have are malformed', () => {
  for (const name of ['hidden_size', 'num_hidden_layers', 'num_attention_heads', 'vocab_size', 'intermediate_size']) {
    for (const value of [0, -1, 1.5, '64', true, [], {}, 2 ** 60]) malformed('llama', { [name]: value }, name)
  }
  malformed('llama', { num_key_value_heads: 3 }, 'num_key_value_heads', 'multiple')
  malformed('llama', { num_key_value_heads: 8 }, 'num_key_value_heads', 'multiple')
  for (const odd of [7, 18]) malformed('llama', { head_dim: odd }, 'head_dim', 'multiple of 4', String(odd))
  malformed('llama', { hidden_size: 66 }, 'head_dim', '66', '4')
  malformed('llama', { rms_norm_eps: 0 }, 'rms_norm_eps')
  malformed('llama', { rms_norm_eps: '1e-5' }, 'rms_norm_eps')
  malformed('llama', { tie_word_embeddings: 'yes' }, 'tie_word_embeddings')
  malformed('llama', { attention_bias: 1 }, 'attention_bias')
  malformed('llama', { max_position_embeddings: 0 }, 'max_position_embeddings')
})

test('token ids come from generation_config.json, else from config.json, else from the family', () => {
  withDirectory((directory) => {
    const write = (own: object, generation?: object): ModelConfig => {
      const base = { model_type: 'llama', vocab_size: 100, num_hidden_layers: 1 }
      const sub = join(directory, String(Math.floor(performance.now() * 1e6)))
      mkdirSync(sub)
      writeFileSync(join(sub, 'config.json'), JSON.stringify({ ...base, ...own }))
      if (generation !== undefined) writeFileSync(join(sub, 'generation_config.json'), JSON.stringify(generation))
      return readHfConfig(sub)
    }
    const ids = ({ bosToken, eosTokens }: ModelConfig) => [bosToken, eosTokens]
    assert.equal(ids(write({})), [1, [2]])
    assert.equal(ids(write({ bos_token_id: null, eos_token_id: null })), [undefined, []])
    assert.equal(ids(write({ bos_token_id: 3, eos_token_id: [4, 5, 4] })), [3, [4, 5]])
    assert.equal(ids(write({ bos_token_id: 3, eos_token_id: 4 }, { eos_token_id: [6, 7] })), [3, [6, 7]])
    assert.equal(ids(write({ eos_token_id: 4 }, { bos_token_id: 9, eos_token_id: null, temperature: 2 })), [9, [4]])
    expectFailure(() => write({ eos_token_id: 100 }), 'CORRUPT_FILE', 'eos_token_id', '100')
    expectFailure(() => write({ eos_token_id: -1 }), 'CORRUPT_FILE', 'eos_token_id', '-1')
    expectFailure(() => write({}, { eos_token_id: '2' }), 'CORRUPT_FILE', 'generation_config.json', 'eos_token_id')
  })
})

test('a config file that cannot be read is named', () => {
  withDirectory((directory) => {
    const path = join(directory, 'config.json')
    const read = (text: string | Uint8Array) => () => {
      writeFileSync(path, text)
      readHfConfig(directory)
    }
    expectFailure(() => readHfConfig(directory), 'MODEL_NOT_FOUND', path)
    expectFailure(read(''), 'CORRUPT_FILE', path, 'JSON')
    expectFailure(read('{"model_type": "llama",}'), 'CORRUPT_FILE', path, 'JSON')
    expectFailure(read('[]'), 'CORRUPT_FILE', path, 'object')
    expectFailure(read('{"hidden_size":1,"hidden_size":2}'), 'CORRUPT_FILE', path, '"hidden_size" twice')
    expectFailure(read(Uint8Array.of(0x7b, 0xff)), 'CORRUPT_FILE', path, 'UTF-8')
    copyFileSync(join(fixtures, 'llama', 'config.json'), path)
    writeFileSync(join(directory, 'generation_config.json'), '{')
    expectFailure(() => readHfConfig(directory), 'CORRUPT_FILE', 'generation_config.json')
  })
})

test('whatever a config holds, it is read or refused with a code', () => {
  const names = fc.constantFrom(
    'hidden_size',
    'num_hidden_layers',
    'num_key_value_heads',
    'head_dim',
    'rope_theta',
    'rope_scaling',
    'rope_parameters',
    'layer_types',
    'sliding_window',
    'use_sliding_window',
    'max_window_layers',
    'eos_token_id',
    'tie_word_embeddings',
    '__proto__',
    'constructor',
  )
  const rope = fc.record(
    { rope_type: fc.constantFrom('default', 'linear', 'llama3'), factor: fc.jsonValue(), rope_theta: fc.jsonValue() },
    { requiredKeys: [] },
  )
  const value = fc.oneof(fc.jsonValue({ maxDepth: 2 }), rope, fc.integer(), fc.constantFrom(1e15, 4096, true, null))
  const family = fc.constantFrom('llama', 'mistral', 'qwen2', 'qwen3')
  fc.assert(
    fc.property(family, fc.array(fc.tuple(names, value), { maxLength: 6 }), (model_type, fields) => {
      const object = JSON.parse(JSON.stringify(Object.fromEntries([...fields, ['model_type', model_type]])))
      try {
        const { windows, layers } = parseHfConfig(object, 'config.json')
        return windows.length === layers
      } catch (error) {
        if (error instanceof CoppiceError) return ['CORRUPT_FILE', 'UNSUPPORTED_ARCHITECTURE'].includes(error.code)
        throw error
      }
    }),
    { numRuns: 2000 },
  )
})

test.run()
