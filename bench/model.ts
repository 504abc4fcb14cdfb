/**
 * What does a pass through a whole model cost, and how much of it is matrix products? Made-up weights in the shapes of
 * real models, run by the engine's own transformer, from the tokens to the logits of all rows. Prints a table and JSON
 * lines.
 *
 *     npm run bench:model [-- --shape 135M,1.1B,8B --kinds q4 --rows 1,8,32,64 --threads 1,2 --prefix 512 --ms 150
 *                             --json FILE]
 *
 * Then every model is written as a packed directory below .bench/ and loaded and run like any other: tokens per second
 * of plain decoding.
 */
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { load } from '../src/index.ts'
import { MEMORY_LIMIT_BYTES } from '../src/tensor/arena.ts'
import { KINDS, type Kind } from '../src/tensor/layout.ts'
import { root } from '../test/paths.ts'
import { measurePasses, PASS_COLUMNS } from './passes.ts'
import { defaultThreads, number, numbers, Report, words } from './report.ts'
import { SHAPE_NAMES, SHAPES, type ShapeName } from './shapes.ts'
import { writeSyntheticModel } from './synthetic-files.ts'
import { modelPass, SyntheticModel } from './synthetic-model.ts'

const kinds = words<Kind>('--kinds', KINDS, ['q4'])
const shapes = words('--shape', SHAPE_NAMES, SHAPE_NAMES)
const threadCounts = numbers('--threads', defaultThreads())
const prefix = number('--prefix', 512)

/** Tokens that are read and then decoded, in one call to warm up and one that counts. */
const PROMPT_TOKENS = 16
const TOKENS = 32

const report = new Report('model')
const small: { shape: ShapeName; kind: Kind }[] = []
for (const shape of shapes) {
  for (const kind of kinds) {
    const model = { config: SHAPES[shape], kind, prefix }
    const size = { ...model, threads: Math.max(...threadCounts) }
    if (!SyntheticModel.fits(size)) {
      const [needed, limit] = [SyntheticModel.bytes(size), MEMORY_LIMIT_BYTES].map((bytes) => (bytes / 1e9).toFixed(2))
      report.note(
        `\nSKIPPED: ${shape} in ${kind} needs ${needed} GB, and one WASM memory holds ${limit}; see npm run bench:layer -- --shape ${shape}`,
      )
      continue
    }
    small.push({ shape, kind })
    report.table(`${shape}, ${kind} weights, whole model, ${prefix} positions before the rows`, PASS_COLUMNS)
    await measurePasses({
      report,
      labels: { shape, kind, prefix },
      model,
      rowCounts: numbers('--rows', [1, 8, 32, 64]),
      threadCounts,
      time: number('--ms', 150),
      pass: modelPass,
      matrices: (all) => all,
      passesPerUnit: 1,
    })
  }
}
report.table('plain decoding of packed files through load()', ['shape', 'kind', 'threads', 'tokens/s', 'ms per token'])
for (const { shape, kind } of small) {
  const directory = join(root, '.bench', `${shape}-${kind}`)
  await writeSyntheticModel(directory, SHAPES[shape], kind)
  try {
    for (const threads of threadCounts) await decode(shape, kind, threads, directory)
  } finally {
    rmSync(directory, { recursive: true })
  }
}
report.end()

async function decode(shape: ShapeName, kind: Kind, threads: number, directory: string): Promise<void> {
  await using model = await load(directory, { draft: 'none', threads, context: PROMPT_TOKENS + TOKENS })
  const prompt = { tokens: Array.from({ length: PROMPT_TOKENS }, (_, i) => i) }
  let best = Number.POSITIVE_INFINITY
  for (let run = 0; run < 2; run++) {
    const { stats } = await model.complete(prompt, { temperature: 0, maxTokens: TOKENS, ignoreEos: true })
    best = Math.min(best, ((stats.seconds.total - stats.seconds.prefill) * 1000) / stats.tokens)
  }
  const values = [shape, kind, String(threads), (1000 / best).toFixed(1), best.toFixed(2)]
  report.row(values, { shape, kind, threads, tokensPerSecond: 1000 / best, msPerToken: best })
}
