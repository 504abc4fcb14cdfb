/**
 * What does quantisation cost in quality? Perplexity of the embedded target over a held-out text
 * (bench/held-out.txt, written for this purpose) with every other kind of weights, and with a q8 KV cache, next
 * to f32, and how far their predictions are from f32's. Prints a table and one JSON line per case.
 *
 *     npm run bench:quality [-- --window 256]
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Kind, type KvKind, load } from '../src/index.ts'
import { KINDS } from '../src/tensor/layout.ts'
import { root } from '../test/paths.ts'
import { measureQuality, type Quality, windowsOf } from './perplexity.ts'
import { number } from './report.ts'

/** Perplexity over f32's that q8 may have at the most. */
const Q8_LIMIT = 1.005

const size = number('--window', 256)
const target = join(root, 'models', 'target')
const text = readFileSync(join(root, 'bench', 'held-out.txt'), 'utf8')

// Packed afresh, or yesterday's quantiser would be measured.
const cache = mkdtempSync(join(tmpdir(), 'coppice-quality-'))
process.on('exit', () => rmSync(cache, { recursive: true, force: true }))
process.env.COPPICE_CACHE = cache

interface Row extends Quality {
  readonly kind: Kind
  readonly kvCache: KvKind
  /** Perplexity over f32's. */
  readonly ratio: number
}

const rows: Row[] = []
await using reference = await load(target, { weights: 'f32', draft: 'none', context: size })
const windows = windowsOf(reference.tokenizer!.encode(text), size)
const predictReference = (tokens: readonly number[]) => reference.logits({ tokens })
const plain = await measureQuality(predictReference, predictReference, windows)
rows.push({ kind: 'f32', kvCache: 'f32', ...plain, ratio: 1 })
const cases: (readonly [Kind, KvKind])[] = [
  ...KINDS.filter((kind) => kind !== 'f32').map((kind) => [kind, 'f32'] as const),
  ['f32', 'q8'],
  ['q8', 'q8'],
]
for (const [kind, kvCache] of cases) {
  await using model = await load(target, { weights: kind, kvCache, draft: 'none', context: size })
  const quality = await measureQuality((tokens) => model.logits({ tokens }), predictReference, windows)
  rows.push({ kind, kvCache, ...quality, ratio: quality.perplexity / plain.perplexity })
}

console.log(`models/target, ${plain.tokens} tokens predicted in ${windows.length} windows of at most ${size}`)
console.log('weights  cache  perplexity    over f32  KL(f32 || kind), nats/token  same likeliest token')
for (const { kind, kvCache, perplexity, ratio, divergence, agreement } of rows) {
  console.log(
    [
      kind.padEnd(7),
      kvCache.padStart(6),
      perplexity.toFixed(3).padStart(11),
      `${ratio < 1 ? '-' : '+'}${Math.abs((ratio - 1) * 100).toFixed(2)} %`.padStart(11),
      divergence.toExponential(2).padStart(28),
      `${(agreement * 100).toFixed(1)} %`.padStart(21),
    ].join(' '),
  )
}
for (const row of rows) console.log(JSON.stringify({ bench: 'quality', ...row }))
const q8 = rows.find(({ kind }) => kind === 'q8')!
if (q8.ratio > Q8_LIMIT) {
  console.log(`Q8 IS WORSE THAN ${((Q8_LIMIT - 1) * 100).toFixed(1)} % OVER F32`)
  process.exitCode = 1
}
