/** The models that run in memory in the benchmarks of guessing. */
import { join } from 'node:path'
import { KINDS, type Kind } from '../src/tensor/layout.ts'
import { root } from '../test/paths.ts'
import { type InflatedPair, inflatedPair } from './inflated-pair.ts'
import { words } from './report.ts'
import { SHAPE_NAMES } from './shapes.ts'

const EMBEDDED = 'embedded'

export interface ResidentPair extends InflatedPair {
  readonly title: string
}

/** The embedded pair, or with `--resident-shape` an inflated one in `--kind`. */
export async function residentPair(): Promise<ResidentPair> {
  const [shape] = words('--resident-shape', [EMBEDDED, ...SHAPE_NAMES], [EMBEDDED])
  const model = (role: string): string => join(root, 'models', role)
  if (shape === EMBEDDED) return { title: 'the embedded pair', target: model('target'), draft: model('draft') }
  const [kind] = words<Kind>('--kind', KINDS, ['q4'])
  return { title: `inflated to ${shape} ${kind}`, ...(await inflatedPair(shape, kind)) }
}
