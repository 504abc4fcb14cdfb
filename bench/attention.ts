/**
 * How fast is attention? One row on short and long contexts (plain decoding), trees of 8 and 64 rows (verification)
 * and a chain of 64 (prefill), with the head shapes of real models. Several layers' keys and values are gone through
 * in turn, so that they come from memory. Beside it, in the same run: the memory's read bandwidth and the scalar twin
 * of the tests. Prints a table and JSON lines.
 *
 *     npm run bench:attention [-- --shape 135M,1.1B,8B --cache f32,q8 --threads 1,2 --ms 60 --json FILE]
 *
 * GB/s count keys and values once per layer, however many rows see them.
 */
import { KV_KINDS, type KvKind } from '../src/model/kv-cache.ts'
import { randomFloats } from '../test/tensor/harness.ts'
import { attend, plain } from '../test/tensor/twins/attention.ts'
import { AttentionStack, type BatchForm, Team } from './harness.ts'
import { defaultThreads, number, numbers, Report, race, ratio, words } from './report.ts'
import { SHAPE_NAMES, SHAPES, type ShapeName } from './shapes.ts'

const shapes = words('--shape', SHAPE_NAMES, SHAPE_NAMES)
const threadCounts = numbers('--threads', defaultThreads())
const time = number('--ms', 60)

/** Keys and values that are gone through at the least: more than caches hold. */
const LEAST_BYTES = 128e6

interface Case {
  readonly rows: number
  readonly keys: number
  readonly form: BatchForm
}

const CASES: readonly Case[] = [
  { rows: 1, keys: 512, form: 'row' },
  { rows: 1, keys: 8192, form: 'row' },
  { rows: 1, keys: 32768, form: 'row' },
  { rows: 8, keys: 512, form: 'tree' },
  { rows: 8, keys: 8192, form: 'tree' },
  { rows: 64, keys: 512, form: 'tree' },
  { rows: 64, keys: 8192, form: 'tree' },
  { rows: 64, keys: 512, form: 'chain' },
]

const kinds = words<KvKind>('--cache', KV_KINDS, ['f32', 'q8'])

const report = new Report('attention')
for (const shape of shapes) for (const kind of kinds) await measureShape(shape, kind)
report.end()

async function measureShape(shape: ShapeName, kind: KvKind): Promise<void> {
  const { heads, kvHeads, headSize } = SHAPES[shape]
  const title = `${shape}: ${heads} heads on ${kvHeads} of ${headSize}, keys and values in ${kind}; us per layer`
  const columns = ['threads', 'rows', ' form', ' keys', '      us', ' GB/s', 'of read', 'GFLOP/s', 'speed-up']
  report.table(title, [...columns, 'against twin'])
  const productsPerMs = await twinSpeed(headSize)
  for (const length of new Set(CASES.map(({ keys }) => keys))) {
    await measure(
      shape,
      kind,
      CASES.filter(({ keys }) => keys === length),
      productsPerMs,
    )
  }
}

async function measure(shape: ShapeName, kind: KvKind, cases: readonly Case[], productsPerMs: number): Promise<void> {
  const { heads, kvHeads, headSize } = SHAPES[shape]
  const alone = new Map<Case, number>()
  const vectorBytes = kind === 'f32' ? headSize * 4 : headSize + 4
  const layerBytes = 2 * kvHeads * vectorBytes * cases[0].keys
  const layers = Math.ceil(LEAST_BYTES / layerBytes)
  for (const threads of threadCounts) {
    const stack = AttentionStack.create(SHAPES[shape], layers, cases[0].keys, threads, kind)
    const team = await Team.start(stack.arena, threads)
    const reading = stack.readJob(team)
    for (const measured of cases) {
      const { form, rows, keys } = measured
      const perCall = Math.ceil(layers / rows)
      const run = stack.job(team, rows, form, perCall)
      const times = await race(
        [
          { name: 'read', run: reading.run },
          { name: 'ours', run },
        ],
        time,
      )
      const ms = times.get('ours')! / perCall
      if (threads === 1) alone.set(measured, ms)
      // One for a key's score, one for its value.
      const products = 2 * heads * headSize * stack.visibleKeys
      const gigabytes = layerBytes / ms / 1e6
      const readGigabytes = reading.bytes / times.get('read')! / 1e6
      const figures = {
        shape,
        kind,
        threads,
        rows,
        form,
        keys,
        ms,
        gigabytes,
        readGigabytes,
        shareOfRead: gigabytes / readGigabytes,
        gigaflops: (2 * products) / ms / 1e6,
        speedUp: threads > 1 && alone.has(measured) ? alone.get(measured)! / ms : undefined,
        againstTwin: products / productsPerMs / ms,
      }
      report.row(
        [
          String(threads),
          String(rows),
          form,
          String(keys),
          (ms * 1000).toFixed(1),
          gigabytes.toFixed(1),
          figures.shareOfRead.toFixed(2),
          figures.gigaflops.toFixed(1),
          ratio(figures.speedUp),
          ratio(figures.againstTwin, 0),
        ],
        figures,
      )
    }
    await team.close()
  }
}

/** @returns multiplications per ms of the scalar twin */
async function twinSpeed(headSize: number): Promise<number> {
  const keys = 512
  const vectors = (seed: number) => Array.from({ length: keys }, (_, i) => plain(randomFloats(headSize, seed + i)))
  const [query, k, v] = [randomFloats(headSize, 1), vectors(2), vectors(1000)]
  const parameters = { scale: 1 / Math.sqrt(headSize), softcap: 0, window: 0 }
  const times = await race([{ name: 'twin', run: () => void attend(query, k, v, parameters) }], time / 3, 1)
  return (2 * headSize * keys) / times.get('twin')!
}
