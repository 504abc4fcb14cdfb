/**
 * Packs a model in a process of its own, for tests that kill it: a byte on stdout per step, `w` for one of waiting
 * for another process, `p` once something is packed.
 * Arguments: 'pack' SOURCE OUTPUT WEIGHTS, or 'resolve' SOURCE - WEIGHTS (into the cache).
 */
import { writeSync } from 'node:fs'
import type { Kind } from '../../src/tensor/layout.ts'
import { type PackProgress, packModel } from '../../src/weights/pack.ts'
import { LOCK_NAME } from '../../src/weights/pack-journal.ts'
import { resolveModel } from '../../src/weights/resolve.ts'

const [how, source, output, weights] = process.argv.slice(2)
const options = {
  weights: weights as Kind,
  onProgress: ({ file, done }: PackProgress) => {
    writeSync(1, file === LOCK_NAME ? 'w' : done > 0 ? 'p' : '.')
  },
}
if (how === 'pack') packModel(source, output, options)
else resolveModel(source, options)
