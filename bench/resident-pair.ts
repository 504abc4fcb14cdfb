/** The models that run in memory in the benchmarks of guessing. */
import { KINDS, type Kind } from '../src/tensor/layout.ts'
import { type InflatedPair, inflatedPair } from './inflated-pair.ts'
import { words } from './report.ts'
import { SHAPE_NAMES } from './shapes.ts'

const EMBEDDED = 'embedded'

export interface ResidentPair extends InflatedPair {
  readonly title: string
}

/** The embedded pair, or with `--resident-shape` an inflated one in `--kind`. */
export async function residentPair(embedded: InflatedPair): Promise<ResidentPair> {
  const [shape] = words('--resident-shape', [EMBEDDED, ...SHAPE_NAMES], [EMBEDDED])
  if (shape === EMBEDDED) return { title: 'the embedded pair', ...embedded }
  const [kind] = words<Kind>('--kind', KINDS, ['q4'])
  return { title: `inflated to ${shape} ${kind}`, ...(await inflatedPair(shape, kind)) }
}
