/** `coppice plan`: what would stay in memory and what would stream. */
import { prepare } from '../engine/prepare.ts'
import { measureReadSpeed } from '../memory/read-speed.ts'
import { stdout } from '../runtime/terminal.ts'
import { command, ProgressView, positionals } from './command.ts'
import { HELP_FLAG, JSON_FLAG, LOAD_FLAGS, loadOptions, modelPath } from './flags.ts'
import { planLines } from './report.ts'

const USAGE = 'coppice plan [flags] MODEL'

export const plan = command({
  name: 'plan',
  usage: USAGE,
  summary:
    'Says what a memory budget holds: which layers stay, which stream, how much each pass reads and how long that takes on this disk. Nothing is loaded. A model that is not packed yet is packed into the cache first.',
  flags: { ...LOAD_FLAGS, ...JSON_FLAG, ...HELP_FLAG },
  examples: [
    'coppice plan ./llama-8b --memory 2GB',
    'coppice plan embedded --memory 22MB --weights f32 --ctx-size 512',
  ],
  async run({ values, positionals: given }) {
    const [model] = positionals(given, 1, 1, USAGE)
    const progress = new ProgressView()
    const { plan: found, units } = prepare(modelPath(model), loadOptions(model, values), {
      onProgress: progress.show,
      isAborted: () => false,
    })
    progress.clear()
    const speed = found.streamedBytesPerPass === 0 ? undefined : measureReadSpeed(units, found.io)
    const secondsPerPass = speed === undefined ? 0 : found.streamedBytesPerPass / speed
    if (values.json) stdout.write(`${JSON.stringify({ ...found, readBytesPerSecond: speed, secondsPerPass })}\n`)
    else stdout.write(`${planLines(found, speed).join('\n')}\n`)
    return 0
  },
})
