/** `coppice inspect`: what a model is made of, and what this machine would do with it. */
import { chooseKernels } from '../engine/kernel-choice.ts'
import { prepare } from '../engine/prepare.ts'
import { planWithExpectation } from '../engine/speed.ts'
import { cores, runtimeName, runtimeVersion } from '../runtime/platform.ts'
import { formatBytes } from '../runtime/sizes.ts'
import { stdout } from '../runtime/terminal.ts'
import type { ModelConfig } from '../weights/model-config.ts'
import { command, ProgressView, positionals } from './command.ts'
import { HELP_FLAG, JSON_FLAG, LOAD_FLAGS, loadOptions, modelPath } from './flags.ts'
import { placeOf, planLines } from './report.ts'

const USAGE = 'coppice inspect [flags] MODEL'

export const inspect = command({
  name: 'inspect',
  purpose: 'show what a model is made of',
  usage: USAGE,
  summary: 'Shows the architecture, the files and the memory plan of a model.',
  flags: { ...LOAD_FLAGS, ...JSON_FLAG, ...HELP_FLAG },
  examples: ['coppice inspect ./llama-8b-q4', 'coppice inspect embedded --json'],
  async run({ values, positionals: given }) {
    const [model] = positionals(given, 1, 1, USAGE)
    const progress = new ProgressView()
    const preparation = prepare(modelPath(model), loadOptions(model, values), {
      onProgress: progress.show,
      isAborted: () => false,
    })
    progress.clear()
    const { target, tokenizer } = preparation
    const { directory, manifest } = target.packed
    const { variant, description } = chooseKernels(undefined)
    const plan = planWithExpectation(preparation, variant)
    const kernels = { variant, description }
    const runtime = { name: runtimeName(), version: runtimeVersion(), cores: cores(), kernels }
    if (values.json) {
      stdout.write(`${JSON.stringify({ directory, manifest, plan, tokenizer: tokenizer !== undefined, runtime })}\n`)
      return 0
    }
    const files = [manifest.edges, ...manifest.layers]
    const rows: [string, string][] = [
      ['model', directory],
      ['source', `${manifest.source.name}, revision ${manifest.source.revision.slice(0, 19)}`],
      ...configRows(manifest.config),
      ['parameters', manifest.parameters.toLocaleString('en')],
      ['weights', `layers ${manifest.quantisation.layers}, embedding and head ${manifest.quantisation.edges}`],
      ['files', `${files.length}, ${formatBytes(files.reduce((sum, file) => sum + file.bytes, 0))}`],
      ['tokenizer', tokenizer === undefined ? 'none: tokens only' : `${tokenizer.vocabularySize} entries`],
      ['memory', placeOf(plan)],
      ['runtime', `${runtime.name} ${runtime.version}, ${runtime.cores} cores`],
      ['kernels', description],
    ]
    const width = Math.max(...rows.map(([name]) => name.length))
    const lines = [
      ...rows.map(([name, text]) => `${name.padEnd(width)}  ${text}`),
      '',
      ...planLines(plan, stdout.columns),
    ]
    stdout.write(`${lines.join('\n')}\n`)
    return 0
  },
})

function configRows(config: ModelConfig): [string, string][] {
  const windows = new Set(config.windows)
  const window = windows.size === 1 && windows.has(0) ? 'all positions' : `windows ${[...windows].join(', ')} (0: all)`
  const scaling = config.rope.scaling.type === 'none' ? '' : `, ${config.rope.scaling.type} scaling`
  return [
    ['family', config.family],
    ['shape', `${config.layers} layers, ${config.hidden} wide, feed-forward ${config.intermediate}`],
    ['attention', `${config.heads} heads, ${config.kvHeads} for keys and values, ${config.headSize} each; ${window}`],
    ['positions', `${config.positions}, theta ${config.rope.theta}${scaling}`],
    ['vocabulary', `${config.vocabulary}, head ${config.tiedHead ? 'tied to the embedding' : 'of its own'}`],
  ]
}
