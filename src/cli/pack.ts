/** `coppice pack`: a checkpoint into a packed directory. */
import type { LoadOptions } from '../index.ts'
import { formatBytes } from '../runtime/sizes.ts'
import { stderr, stdout } from '../runtime/terminal.ts'
import { packModel } from '../weights/pack.ts'
import { command, ProgressView, positionals } from './command.ts'
import { HELP_FLAG, JSON_FLAG, modelPath } from './flags.ts'

const USAGE = 'coppice pack [flags] SOURCE OUTPUT'

export const pack = command({
  name: 'pack',
  purpose: 'turn a checkpoint into a packed directory',
  usage: USAGE,
  summary:
    'Turns a Hugging Face directory into a packed directory, whose layers can be streamed. Work that was interrupted goes on where it ended when the command is given again.',
  flags: {
    quant: { type: 'string', value: 'KIND', default: 'auto', help: 'f32, f16, q8, q4a, q4, or auto by size' },
    ...JSON_FLAG,
    ...HELP_FLAG,
  },
  examples: ['coppice pack ./llama-8b ./llama-8b-q4 --quant q4'],
  async run({ values, positionals: given }) {
    const [source, output] = positionals(given, 2, 2, USAGE)
    const progress = new ProgressView()
    // Ctrl-C keeps its usual meaning here: packing may be killed at any moment.
    try {
      const { directory, manifest } = packModel(modelPath(source), output, {
        weights: values.quant as LoadOptions['weights'],
        onProgress: progress.show,
      })
      progress.clear()
      const bytes = [manifest.edges, ...manifest.layers].reduce((sum, file) => sum + file.bytes, 0)
      const { layers, edges } = manifest.quantisation
      if (values.json) {
        stdout.write(`${JSON.stringify({ directory, bytes, quantisation: manifest.quantisation })}\n`)
      } else {
        stderr.write(
          `${directory}: ${manifest.layers.length} layers, ${formatBytes(bytes)}, layers ${layers}, edges ${edges}\n`,
        )
      }
      return 0
    } finally {
      progress.clear()
    }
  },
})
