/**
 * Packs a model in a process of its own, for tests that kill it: a byte on stdout per step.
 * Arguments: 'pack' SOURCE OUTPUT WEIGHTS, or 'resolve' SOURCE - WEIGHTS (into the cache).
 */
import { writeSync } from 'node:fs'
import type { Kind } from '../../src/tensor/layout.ts'
import { packModel } from '../../src/weights/pack.ts'
import { resolveModel } from '../../src/weights/resolve.ts'

const [how, source, output, weights] = process.argv.slice(2)
const options = {
  weights: weights as Kind,
  onProgress: () => {
    writeSync(1, '.')
  },
}
if (how === 'pack') packModel(source, output, options)
else resolveModel(source, options)
