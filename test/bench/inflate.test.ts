import { mkdirSync, readdirSync, readFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { type InflationRequest, inflatedModel } from '../../bench/inflated-pair.ts'
import { inflate, inflatedConfig, type LargeShape, originalLayers } from '../../bench/inflation.ts'
import { compareLogits } from '../../bench/perplexity.ts'
import { readTokenizer } from '../../src/engine/tokenizer-files.ts'
import { processSpace } from '../../src/runtime/platform.ts'
import { readHfConfig } from '../../src/weights/hf-config.ts'
import { openPacked } from '../../src/weights/packed.ts'
import { openSafetensors } from '../../src/weights/safetensors.ts'
import { openInline, scratch } from '../engine/harness.ts'
import { fixtures, root } from '../paths.ts'

const test = suite('inflation')

const draft = join(root, 'models', 'draft')
const llama3 = join(fixtures, 'llama-3-rope')

/** Wider by a half, with more layers, more KV heads, more queries for each, and heads of twice the size. */
const LARGE: LargeShape = { hidden: 192, layers: 5, heads: 9, kvHeads: 3, headSize: 64, intermediate: 576 }

async function assertSame(small: string, large: string, tokens: readonly number[]): Promise<void> {
  const [expected, found] = [small, large].map((model) => {
    const { engine } = openInline(model, { weights: 'f32', context: tokens.length })
    return (input: readonly number[]) => engine.logits({ tokens: input })
  })
  const { difference, clearAgreement } = await compareLogits(found, expected, [tokens])
  assert.ok(difference < 1e-4, `largest difference ${difference}`)
  assert.is(clearAgreement, 1)
}

test('an inflated model says what the small one says, teacher-forced over a text', async () => {
  const output = join(scratch, 'draft')
  await inflate({ model: draft, shape: LARGE, output })
  const text = readFileSync(join(root, 'bench', 'held-out.txt'), 'utf8')
  await assertSame(draft, output, readTokenizer(draft).encode(text).slice(0, 256))
})

test('so does one with an untied head, f32 weights and rescaled rotary frequencies', async () => {
  const output = join(scratch, 'llama3')
  await inflate({ model: llama3, shape: { ...LARGE, headSize: 96 }, output })
  const { tokens } = JSON.parse(readFileSync(join(llama3, 'expected.json'), 'utf8')) as { tokens: number[] }
  await assertSame(llama3, output, tokens)
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

/** A place of its own for packed models, and what is said while one is made. */
function requestIn(name: string, changes: Partial<InflationRequest> = {}) {
  const cache = join(scratch, name)
  const notes: string[] = []
  const request = { model: draft, name: 'draft', shape: LARGE, kind: 'q8', cache } as const
  return { cache, notes, request: { ...request, note: (line: string) => notes.push(line), ...changes } }
}

test('a packed model is made once, and what was left half made is never taken for it', async () => {
  const { cache, notes, request } = requestIn('made')
  // Left by a process of this machine that is gone: no process has this number.
  const left = join(cache, `work-${processSpace}-4194305-abcdef`)
  mkdirSync(join(left, 'packed'), { recursive: true })
  const directory = await inflatedModel(request)
  assert.equal(openPacked(directory).manifest.config, inflatedConfig(draft, LARGE))
  assert.is(await inflatedModel(request), directory)
  assert.is(notes.length, 1)
  assert.equal(readdirSync(cache), [basename(directory)])
})

test('another shape or kind is another directory', async () => {
  const { cache, request } = requestIn('kinds')
  await inflatedModel(request)
  await inflatedModel({ ...request, kind: 'q4' })
  await inflatedModel({ ...request, shape: { ...LARGE, layers: 3 } })
  assert.is(readdirSync(cache).length, 3)
})

test('on a small disk it has fewer layers and says so, or none at all', async () => {
  const { notes, request } = requestIn('small')
  const bytes = 2e9 + 9e6
  const directory = await inflatedModel({ ...request, freeBytes: () => bytes })
  const { layers } = openPacked(directory).manifest.config
  assert.ok(layers >= 2 && layers < LARGE.layers, `${layers} layers`)
  assert.match(notes[0], `ONLY ${layers} OF 5 LAYERS`)
  try {
    await inflatedModel({ ...request, kind: 'f32', freeBytes: () => 2e9 })
    assert.unreachable('no disk')
  } catch (error) {
    assert.match((error as Error).message, /must be free on the disk/)
  }
})

test.run()
