/** `coppice plan`: what would stay in memory and what would stream. */
import { prepare } from '../engine/prepare.ts'
import { measureReadSpeed } from '../memory/read-speed.ts'
import { isFile } from '../runtime/files.ts'
import { stdout } from '../runtime/terminal.ts'
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
    'Says what a memory budget holds: which layers stay, which stream, how much each pass reads and how long that takes on this disk. Nothing is loaded or packed.',
  flags: { ...LOAD_FLAGS, ...JSON_FLAG, ...HELP_FLAG },
  examples: [
    'coppice plan ./llama-8b --memory 2GB',
    'coppice plan embedded --memory 22MB --weights f32 --ctx-size 512',
  ],
  async run({ values, positionals: given }) {
    const [model] = positionals(given, 1, 1, USAGE)
    const {
      plan: found,
      board: { units },
    } = prepare(modelPath(model), loadOptions(model, values), NO_HOOKS, describeModel)
    const measurable = found.streamedBytesPerPass > 0 && isFile(units[0].path)
    const speed = measurable ? measureReadSpeed(units, found.io) : undefined
    const secondsPerPass = speed === undefined ? undefined : found.streamedBytesPerPass / speed
    if (values.json) stdout.write(`${JSON.stringify({ ...found, readBytesPerSecond: speed, secondsPerPass })}\n`)
    else stdout.write(`${planLines(found, speed).join('\n')}\n`)
    return 0
  },
})
