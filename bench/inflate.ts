/**
 * Makes the inflated pair of a shape, says what that takes, and checks it: over a held-out text (bench/held-out.txt),
 * teacher-forced, how far the logits of the packed target are from those of the embedded one in f32, and for how many
 * tokens both find the same one likeliest. With --kind f32 they must be the same but for the order of sums.
 *
 *     npm run bench:inflate [-- --shape 1.1B --kind q4 --windows 4 --window 256 --keep --json FILE]
 *
 * With --keep, what was made stays in .bench/inflated for the benchmarks that need it, and is used from there; else
 * it is removed at the end.
 */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { load } from '../src/index.ts'
import { KINDS, type Kind } from '../src/tensor/layout.ts'
import { root } from '../test/paths.ts'
import { atEnd } from './cleanup.ts'
import { INFLATED, inflatedPair } from './inflated-pair.ts'
import { compareLogits, windowsOf } from './perplexity.ts'
import { number, Report, words } from './report.ts'
import { SHAPE_NAMES } from './shapes.ts'

/** Logits of one model in f32 and in the corner of a larger one. */
const F32_LIMIT = 1e-4

const [shape] = words('--shape', SHAPE_NAMES, ['1.1B'])
const [kind] = words<Kind>('--kind', KINDS, ['q4'])
const size = number('--window', 256)
const report = new Report('inflate')

const cache = process.argv.includes('--keep') ? INFLATED : scratch()
const began = performance.now()
const { target, draft } = await inflatedPair(shape, kind, { cache, note: (line) => report.note(line) })
const seconds = (performance.now() - began) / 1000
report.note(`${seconds.toFixed(1)} s`)
for (const directory of [target, draft]) report.note(`${(bytesIn(directory) / 1e6).toFixed(0)} MB in ${directory}`)

await using small = await load(join(root, 'models', 'target'), { weights: 'f32', draft: 'none', context: size })
await using large = await load(target, { draft: 'none', context: size })
const held = readFileSync(join(root, 'bench', 'held-out.txt'), 'utf8')
const windows = windowsOf(small.tokenizer!.encode(held), size).slice(0, number('--windows', 4))
const found = await compareLogits(
  (tokens) => large.logits({ tokens }),
  (tokens) => small.logits({ tokens }),
  windows,
)
report.table(`${shape} against the embedded target in f32, ${windows.length} windows of ${size} tokens`, [
  'kind',
  'tokens',
  'largest difference',
  'same likeliest',
  'same, margin > 0.001',
])
const percent = (share: number): string => `${(share * 100).toFixed(2)} %`
report.row(
  [kind, `${found.tokens}`, found.difference.toExponential(2), percent(found.agreement), percent(found.clearAgreement)],
  { shape, kind, seconds, targetBytes: bytesIn(target), draftBytes: bytesIn(draft), ...found },
)
report.end()
if (kind === 'f32' && (found.difference > F32_LIMIT || found.clearAgreement < 1)) {
  console.log('THE INFLATED MODEL IS ANOTHER ONE')
  process.exitCode = 1
}

function scratch(): string {
  mkdirSync(dirname(INFLATED), { recursive: true })
  const directory = mkdtempSync(`${INFLATED}-`)
  atEnd(() => rmSync(directory, { recursive: true, force: true }))
  return directory
}

function bytesIn(directory: string): number {
  return readdirSync(directory).reduce((sum, name) => sum + statSync(join(directory, name)).size, 0)
}
