/**
 * How long does it take to choose a token? Logits as of a trained model, about: normal, with a few tokens far above the
 * others. Beside the sampler as it is, in the same run, the same without kernels: noise and exp of one token after the
 * other.
 * Prints a table and JSON lines.
 *
 *     npm run bench:sample [-- --vocabularies 4096,49152,128256 --ms 150 --json FILE]
 */
import { Noise } from '../src/generate/noise.ts'
import { Sampler } from '../src/generate/sampler.ts'
import type { SamplingOptions } from '../src/generate/sampling-options.ts'
import { soleOperators } from '../test/tensor/harness.ts'
import { number, numbers, Report, race, ratio } from './report.ts'

const vocabularies = numbers('--vocabularies', [4_096, 49_152, 128_256])
const time = number('--ms', 150)

/** Rows that are sampled in turn, each at a new position. */
const ROWS = 8
const SPREAD = 3
const PEAKS = 20
const PEAK = 14

const { operators } = soleOperators()

const report = new Report('sample')
report.table('choosing a token, us', ['vocabulary', 'temperature', '  top-p', 'us', 'without kernels', 'times'])
for (const vocabulary of vocabularies) {
  for (const [temperature, topP] of [
    [0, 1],
    [0.8, 1],
    [1, 1],
    [0.8, 0.95],
  ]) {
    await measure(vocabulary, { temperature, topP, seed: 7 })
  }
}
report.table('the largest noise at a position, us', ['vocabulary', 'us', 'without kernels', 'times'])
for (const vocabulary of vocabularies) {
  const [us, slow] = await timed((isFast) => {
    const noise = new Noise(7, vocabulary, isFast ? operators.outliers.bind(operators) : undefined)
    let position = 0
    return () => void noise.outliers(position++)
  })
  const figures = { part: 'outliers', vocabulary, us, withoutKernels: slow, times: slow / us }
  report.row([String(vocabulary), us.toFixed(1), slow.toFixed(1), ratio(slow / us, 1)], figures)
}
report.end()

async function measure(vocabulary: number, options: Partial<SamplingOptions>): Promise<void> {
  const rows = Array.from({ length: ROWS }, (_, row) => madeUpLogits(vocabulary, row))
  const tokens = new Int32Array(1)
  const [us, slow] = await timed((isFast) => {
    const sampler = new Sampler(options, vocabulary, isFast ? operators : undefined)
    let position = 0
    return () => void sampler.sample(rows[position % ROWS], ++position, tokens, 1, 1)
  })
  const { temperature = 0, topP = 1 } = options
  const cells = [vocabulary, temperature, topP, us.toFixed(1), slow.toFixed(1), ratio(slow / us, 1)]
  const figures = { part: 'sample', vocabulary, temperature, topP, us, withoutKernels: slow, times: slow / us }
  report.row(cells.map(String), figures)
}

/** Microseconds with kernels and without. */
async function timed(open: (isFast: boolean) => () => void): Promise<[number, number]> {
  const times = await race(
    [
      { name: 'kernels', run: open(true) },
      { name: 'without', run: open(false) },
    ],
    time,
  )
  return [times.get('kernels')! * 1000, times.get('without')! * 1000]
}

function madeUpLogits(vocabulary: number, row: number): Float32Array {
  const random = new Noise(row)
  return Float32Array.from({ length: vocabulary }, (_, token) => {
    const radius = Math.sqrt(-2 * Math.log(random.uniform(0, token)))
    const peak = token % Math.ceil(vocabulary / PEAKS) === row ? PEAK * random.uniform(1, token) : 0
    return SPREAD * radius * Math.cos(2 * Math.PI * random.uniform(2, token)) + peak
  })
}
