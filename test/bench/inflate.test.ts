import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { inflate, type LargeShape, originalLayers } from '../../bench/inflation.ts'
import { readTokenizer } from '../../src/engine/tokenizer-files.ts'
import { readHfConfig } from '../../src/weights/hf-config.ts'
import { openSafetensors } from '../../src/weights/safetensors.ts'
import { openInline, scratch } from '../engine/harness.ts'
import { fixtures, root } from '../paths.ts'

const test = suite('inflation')

const draft = join(root, 'models', 'draft')
const llama3 = join(fixtures, 'llama-3-rope')

/** Wider by a half, with more layers, more KV heads, more queries for each, and heads of twice the size. */
const LARGE: LargeShape = { hidden: 192, layers: 5, heads: 9, kvHeads: 3, headSize: 64, intermediate: 576 }

const bestOf = (row: Float32Array): number => row.reduce((best, value, i) => (value > row[best] ? i : best), 0)

/** Logits of both models after every token. */
function compare(small: string, large: string, tokens: readonly number[]): { difference: number; wrong: number } {
  const context = tokens.length
  const expected = openInline(small, { weights: 'f32', context }).engine.logits({ tokens })
  const found = openInline(large, { weights: 'f32', context }).engine.logits({ tokens })
  assert.equal([found.rows, found.vocab], [expected.rows, expected.vocab])
  const { vocab, rows } = expected
  let difference = 0
  let wrong = 0
  for (let row = 0; row < rows; row++) {
    const a = expected.data.subarray(row * vocab, (row + 1) * vocab)
    const b = found.data.subarray(row * vocab, (row + 1) * vocab)
    for (let i = 0; i < vocab; i++) difference = Math.max(difference, Math.abs(a[i] - b[i]))
    const best = bestOf(a)
    const margin = a[best] - a.reduce((most, value, i) => (i === best ? most : Math.max(most, value)), -Infinity)
    if (margin > 1e-3 && bestOf(b) !== best) wrong++
  }
  return { difference, wrong }
}

test('an inflated model says what the small one says, teacher-forced over a text', async () => {
  const output = join(scratch, 'draft')
  await inflate({ model: draft, shape: LARGE, output })
  const text = readFileSync(join(root, 'bench', 'held-out.txt'), 'utf8')
  const { difference, wrong } = compare(draft, output, readTokenizer(draft).encode(text).slice(0, 256))
  assert.ok(difference < 1e-4, `largest difference ${difference}`)
  assert.is(wrong, 0)
})

test('so does one with an untied head, f32 weights and rescaled rotary frequencies', async () => {
  const output = join(scratch, 'llama3')
  await inflate({ model: llama3, shape: { ...LARGE, headSize: 96 }, output })
  const { tokens } = JSON.parse(readFileSync(join(llama3, 'expected.json'), 'utf8')) as { tokens: number[] }
  const { difference, wrong } = compare(llama3, output, tokens)
  assert.ok(difference < 1e-4, `largest difference ${difference}`)
  assert.is(wrong, 0)
})

test('it has the sizes of the large model, and vocabulary, tokenizer and text positions of the small one', async () => {
  const output = join(scratch, 'sizes')
  await inflate({ model: draft, shape: LARGE, output })
  const small = readHfConfig(draft)
  const large = readHfConfig(output)
  const windows = [0, 0, 0, 0, 0]
  assert.equal(large, { ...small, ...LARGE, windows, normEpsilon: (small.normEpsilon * 128) / 192 })
  for (const name of ['tokenizer.json', 'tokenizer_config.json', 'generation_config.json']) {
    assert.equal(readFileSync(join(output, name)), readFileSync(join(draft, name)))
  }
})

test('only what must be zero is zero', async () => {
  const output = join(scratch, 'zeros')
  await inflate({ model: draft, shape: LARGE, output })
  const checkpoint = openSafetensors(output)
  const zeros = (name: string): number => {
    const values = checkpoint.read(name)
    return values.reduce((sum, value) => sum + (value === 0 ? 1 : 0), 0) / values.length
  }
  const added = 'model.layers.1.'
  for (const module of ['self_attn.q_proj', 'self_attn.v_proj', 'mlp.gate_proj', 'mlp.up_proj']) {
    assert.ok(zeros(`${added}${module}.weight`) < 0.01, module)
  }
  for (const module of ['self_attn.o_proj', 'mlp.down_proj']) assert.is(zeros(`${added}${module}.weight`), 1)
  assert.ok(zeros('model.layers.0.mlp.gate_proj.weight') < 0.01)
  // 4 of 9 heads are the draft's, and half of each is used.
  assert.ok(Math.abs(zeros('model.layers.0.self_attn.q_proj.weight') - 4 / 18) < 0.01)
  checkpoint.close()
})

test('the original layers keep their order and are spread evenly', () => {
  assert.equal(originalLayers(2, 5), [0, undefined, 1, undefined, undefined])
  assert.equal(originalLayers(3, 3), [0, 1, 2])
  const places = originalLayers(8, 22).flatMap((layer, place) => (layer === undefined ? [] : [[layer, place]]))
  assert.equal(
    places.map(([layer]) => layer),
    [0, 1, 2, 3, 4, 5, 6, 7],
  )
})

test('what has no place in the shape is refused, with the reason', async () => {
  const refused = async (model: string, change: Partial<LargeShape>, message: RegExp): Promise<void> => {
    try {
      await inflate({ model, shape: { ...LARGE, ...change }, output: join(scratch, 'refused') })
    } catch (error) {
      assert.match((error as Error).message, message)
      return
    }
    assert.unreachable(`${message}`)
  }
  await refused(draft, { hidden: 64 }, /hidden/)
  await refused(draft, { layers: 1 }, /layers/)
  await refused(draft, { heads: 3 }, /heads per KV head/)
  await refused(draft, { headSize: 48 }, /multiple/)
  await refused(join(fixtures, 'qwen3'), {}, /llama/)
})

test.run()
