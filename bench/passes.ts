/** Times passes through layers or whole models next to their matrix products alone, and takes them apart. */
import type { Transformer } from '../src/model/transformer.ts'
import type { Matrix } from '../src/tensor/operators.ts'
import { MatrixPass, type OperationName, type Profile, readJob, Team } from './harness.ts'
import { type Report, race, ratio } from './report.ts'
import { SyntheticModel, type SyntheticShape } from './synthetic-model.ts'

export const PASS_COLUMNS = [
  'threads',
  'rows',
  '      ms',
  'rows/s',
  'speed-up',
  'over GEMMs',
  'of read',
  'gemm',
  'attention',
  'others',
  'no kernel',
]

/** Passes of 64 rows take seconds. */
const ROUNDS = 2

export interface PassMeasurement {
  readonly report: Report
  /** What the JSON lines say of the case. */
  readonly labels: object
  readonly model: Omit<SyntheticShape, 'threads'>
  readonly rowCounts: readonly number[]
  readonly threadCounts: readonly number[]
  /** Of one round, in ms. */
  readonly time: number
  readonly pass: (model: Transformer, rows: number, prefix: number) => () => void
  /** Those that the pass multiplies with. */
  readonly matrices: (all: readonly Matrix[]) => readonly Matrix[]
  /** What is reported is the time of a pass over this. */
  readonly passesPerUnit: number
}

export async function measurePasses(measurement: PassMeasurement): Promise<void> {
  const { report, labels, rowCounts, threadCounts, time, pass, passesPerUnit } = measurement
  const alone = new Map<number, number>()
  for (const threads of threadCounts) {
    const shape: SyntheticShape = { ...measurement.model, threads }
    const model = new SyntheticModel(shape)
    const team = await Team.start(model.arena, threads)
    const transformer = model.transformer(team)
    const matrices = measurement.matrices(model.matrices)
    const products = new MatrixPass(model.arena, matrices, Math.max(...rowCounts))
    const reading = readJob(team, model.arena, matrices[0].pointer, products.bytes)
    for (const rows of rowCounts) {
      const run = pass(transformer, rows, shape.prefix)
      const times = await race(
        [
          { name: 'read', run: reading.run },
          { name: 'products', run: products.productsAlone(team.operators, rows) },
          { name: 'whole', run },
        ],
        time,
        ROUNDS,
      )
      const ms = times.get('whole')! / passesPerUnit
      if (threads === 1) alone.set(rows, ms)
      const shares = profileShares(team.profile, run)
      const figures = {
        ...labels,
        threads,
        rows,
        ms,
        rowsPerSecond: (rows * 1000) / ms,
        speedUp: threads > 1 && alone.has(rows) ? alone.get(rows)! / ms : undefined,
        productsMs: times.get('products')! / passesPerUnit,
        overProducts: times.get('whole')! / times.get('products')!,
        shareOfRead: products.bytes / times.get('whole')! / (reading.bytes / times.get('read')!),
        shares,
      }
      const { gemm = 0, attention = 0, noKernel } = shares
      report.row(
        [
          String(threads),
          String(rows),
          ms.toFixed(2),
          figures.rowsPerSecond.toFixed(1),
          ratio(figures.speedUp),
          ratio(figures.overProducts),
          figures.shareOfRead.toFixed(2),
          ...[gemm, attention, 1 - gemm - attention - noKernel, noKernel].map(
            (share) => `${(share * 100).toFixed(0)} %`,
          ),
        ],
        figures,
      )
    }
    await team.close()
  }
}

type Shares = Partial<Record<OperationName, number>> & {
  /** TypeScript, handing out jobs and waiting for other threads. */
  readonly noKernel: number
}

const PROFILED_CALLS = 2

/** Shares of the calling thread's time by operation, in the fastest of some calls. */
function profileShares(profile: Profile, run: () => void): Shares {
  let best = Number.POSITIVE_INFINITY
  let shares: Shares = { noKernel: 1 }
  for (let i = 0; i < PROFILED_CALLS; i++) {
    const total = profile.measure(run)
    if (total >= best) continue
    best = total
    const parts = Object.fromEntries([...profile.times].map(([name, ms]) => [name, ms / total]))
    shares = { ...parts, noKernel: 1 - Object.values(parts).reduce((sum, share) => sum + share, 0) }
  }
  return shares
}
