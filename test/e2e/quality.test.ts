/** Quantised weights predict a text that the model was not trained on nearly as well as f32 weights do. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { measureQuality, type Predict, type Quality, windowsOf } from '../../bench/perplexity.ts'
import { readTokenizer } from '../../src/engine/tokenizer-files.ts'
import type { KvKind } from '../../src/model/kv-cache.ts'
import type { Kind } from '../../src/tensor/layout.ts'
import { openInline } from '../engine/harness.ts'
import { root } from '../paths.ts'
import { TARGET } from './models.ts'

const WINDOW = 192

const test = suite('quality')

/** Of the whole held-out text, every fourth window is enough here; `npm run bench:quality` takes all. */
const text = readFileSync(join(root, 'bench', 'held-out.txt'), 'utf8')
const windows = windowsOf(readTokenizer(TARGET).encode(text), WINDOW).filter((_, i) => i % 4 === 0)

const predictWith = (weights: Kind, kvCache: KvKind = 'f32'): Predict => {
  const { engine } = openInline(TARGET, { weights, kvCache, context: WINDOW })
  return (tokens) => engine.logits({ tokens })
}

/** The reference's logits are computed once per window. */
const reference = ((): Predict => {
  const predict = predictWith('f32')
  const known = new Map(windows.map((window) => [window, predict(window)]))
  return (tokens) => known.get(tokens as number[])!
})()

let plain: Quality
let q8: Quality
let q4a: Quality

test('f32 predicts the text far better than chance', async () => {
  plain = await measureQuality(reference, reference, windows)
  assert.ok(plain.tokens > 400, `${plain.tokens} tokens`)
  assert.ok(plain.perplexity < 100, `perplexity ${plain.perplexity}`)
  assert.is(plain.divergence, 0)
  assert.is(plain.agreement, 1)
})

test('q8 stays within 0.5 % of the perplexity of f32', async () => {
  q8 = await measureQuality(predictWith('q8'), reference, windows)
  const ratio = q8.perplexity / plain.perplexity
  assert.ok(Math.abs(ratio - 1) < 0.005, `perplexity ${plain.perplexity} became ${q8.perplexity}`)
  assert.ok(q8.divergence > 0, 'q8 says exactly what f32 says: were its weights quantised at all?')
  assert.ok(q8.divergence < 0.001, `${q8.divergence} nats per token`)
  assert.ok(q8.agreement > 0.97, `${q8.agreement} of the tokens`)
})

test('f16 says what f32 says', async () => {
  const f16 = await measureQuality(predictWith('f16'), reference, windows)
  assert.ok(Math.abs(f16.perplexity / plain.perplexity - 1) < 1e-4, `perplexity ${f16.perplexity}`)
  assert.ok(f16.divergence < q8.divergence / 10, `${f16.divergence} and ${q8.divergence} nats per token`)
  assert.ok(f16.agreement > 0.99, `${f16.agreement} of the tokens`)
})

test('q4a stays within 3 % of the perplexity of f32', async () => {
  q4a = await measureQuality(predictWith('q4a'), reference, windows)
  const ratio = q4a.perplexity / plain.perplexity
  assert.ok(Math.abs(ratio - 1) < 0.03, `perplexity ${plain.perplexity} became ${q4a.perplexity}`)
  assert.ok(q4a.agreement > 0.85, `${q4a.agreement} of the tokens`)
})

test('a q8 KV cache costs less than q8 weights', async () => {
  const cache = await measureQuality(predictWith('f32', 'q8'), reference, windows)
  const ratio = cache.perplexity / plain.perplexity
  assert.ok(Math.abs(ratio - 1) < 0.002, `perplexity ${plain.perplexity} became ${cache.perplexity}`)
  assert.ok(cache.divergence > 0, 'a q8 cache says exactly what f32 says: was it quantised at all?')
  assert.ok(cache.divergence < q8.divergence, `${cache.divergence} and ${q8.divergence} nats per token`)
})

test('q4 stays within 3 % of the perplexity of f32, and is further from it than q4a and q8', async () => {
  const q4 = await measureQuality(predictWith('q4'), reference, windows)
  const ratio = q4.perplexity / plain.perplexity
  assert.ok(Math.abs(ratio - 1) < 0.03, `perplexity ${plain.perplexity} became ${q4.perplexity}`)
  assert.ok(q4.divergence > q4a.divergence, `${q4.divergence} and ${q4a.divergence} nats per token`)
  assert.ok(q4.divergence > 10 * q8.divergence, `${q4.divergence} and ${q8.divergence} nats per token`)
  assert.ok(q4.divergence < 0.03, `${q4.divergence} nats per token`)
  assert.ok(q4.agreement > 0.85, `${q4.agreement} of the tokens`)
})

test.run()
