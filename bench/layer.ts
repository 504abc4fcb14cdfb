/**
 * What does a whole layer cost, and how much of it is matrix products? Layers with made-up weights in the shapes of
 * real models, run by the engine's own transformer. Several layers, each with weights of its own, so that these come
 * from memory. Prints a table and JSON lines.
 *
 *     npm run bench:layer [-- --shape 135M,1.1B,8B --kinds q4 --rows 1,8,32,64 --threads 1,2 --prefix 512 --ms 100
 *                             --json FILE]
 */
import { KINDS, type Kind } from '../src/tensor/layout.ts'
import { layerBytes } from './harness.ts'
import { measurePasses, PASS_COLUMNS } from './passes.ts'
import { defaultThreads, number, numbers, Report, words } from './report.ts'
import { SHAPE_NAMES, SHAPES, withLayers } from './shapes.ts'
import { layersPass } from './synthetic-model.ts'

const kinds = words<Kind>('--kinds', KINDS, ['q4'])
const shapes = words('--shape', SHAPE_NAMES, SHAPE_NAMES)

/** Weights that are gone through at the least: more than caches hold. */
const LEAST_BYTES = 64e6

const report = new Report('layer')
for (const shape of shapes) {
  for (const kind of kinds) {
    const layers = Math.ceil(LEAST_BYTES / layerBytes(SHAPES[shape], kind))
    const prefix = number('--prefix', 512)
    report.table(
      `${shape}, ${kind} weights, one layer (of ${layers}), ${prefix} positions before the rows`,
      PASS_COLUMNS,
    )
    // A vocabulary of a few rows: the head is no part of a layer.
    const config = { ...withLayers(SHAPES[shape], layers), vocabulary: 64 }
    await measurePasses({
      report,
      labels: { shape, kind, prefix },
      model: { config, kind, prefix },
      rowCounts: numbers('--rows', [1, 8, 32, 64]),
      threadCounts: numbers('--threads', defaultThreads()),
      time: number('--ms', 100),
      pass: layersPass,
      matrices: (all) => all.slice(0, -1),
      passesPerUnit: layers,
    })
  }
}
report.end()
