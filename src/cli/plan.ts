/** `coppice plan`: what would stay in memory and what would stream. */
import { chooseKernels } from '../engine/kernel-choice.ts'
import { type Preparation, prepare } from '../engine/prepare.ts'
import { readFigures } from '../engine/read-figures.ts'
import { measureSpeeds, planWithExpectation } from '../engine/speed.ts'
import { ProgressLine, stdout } from '../runtime/terminal.ts'
import { describeModel } from '../weights/describe.ts'
import { command, positionals } from './command.ts'
import { HELP_FLAG, JSON_FLAG, LOAD_FLAGS, loadOptions, modelPath } from './flags.ts'
import { planLines } from './report.ts'

/** Nothing takes long enough here to be shown or interrupted. */
const NO_HOOKS = { onProgress: () => {}, isAborted: () => false }

const USAGE = 'coppice plan [flags] MODEL'

export const plan = command({
  name: 'plan',
  purpose: 'show what a memory budget holds',
  usage: USAGE,
  summary:
    'Says what a memory budget holds: which layers stay, which stream, and how long a pass takes by the measured speeds of this disk and these kernels, which are kept for a month. Nothing is loaded or packed.',
  flags: {
    ...LOAD_FLAGS,
    measure: { type: 'boolean', env: false, help: 'measure again, such as when the machine was busy the last time' },
    ...JSON_FLAG,
    ...HELP_FLAG,
  },
  examples: [
    'coppice plan ./llama-8b --memory 2GB',
    'coppice plan embedded --memory 22MB --weights f32 --ctx-size 512',
  ],
  async run({ values, positionals: given }) {
    const [model] = positionals(given, 1, 1, USAGE)
    const prepared = (): Preparation => prepare(modelPath(model), loadOptions(model, values), NO_HOOKS, describeModel)
    const first = prepared()
    const kernels = chooseKernels(undefined)
    const progress = new ProgressLine()
    progress.update('measuring this disk and these kernels')
    const learned = await measureSpeeds(first, kernels, values.measure === true)
    progress.clear()
    // How files are read is chosen by what is known of the disk.
    const preparation = learned ? prepared() : first
    const found = planWithExpectation(preparation, kernels.variant)
    if (values.json) {
      const speeds = readFigures(preparation.board.units[0].path).read()
      stdout.write(`${JSON.stringify({ ...found, readSpeeds: speeds, kernels: kernels.variant })}\n`)
    } else stdout.write(`${planLines(found, stdout.columns).join('\n')}\n`)
    return 0
  },
})
