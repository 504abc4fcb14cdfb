/** `coppice verify`: every byte of a packed directory against its checksums. */
import { formatBytes } from '../runtime/sizes.ts'
import { stderr, stdout } from '../runtime/terminal.ts'
import { verifyPacked } from '../weights/packed.ts'
import { command, ProgressView, positionals } from './command.ts'
import { HELP_FLAG, JSON_FLAG } from './flags.ts'

const USAGE = 'coppice verify [flags] PACKED'

export const verify = command({
  name: 'verify',
  purpose: 'check every byte of a packed directory',
  usage: USAGE,
  summary: 'Reads a packed directory whole and names every file that is not as it was packed.',
  flags: { ...JSON_FLAG, ...HELP_FLAG },
  examples: ['coppice verify ./llama-8b-q4'],
  async run({ values, positionals: given }) {
    const [directory] = positionals(given, 1, 1, USAGE)
    const progress = new ProgressView()
    try {
      const { files, bytes, problems } = verifyPacked(directory, { onProgress: progress.show })
      progress.clear()
      if (values.json) stdout.write(`${JSON.stringify({ files, bytes, problems })}\n`)
      else if (problems.length === 0)
        stderr.write(`${directory}: ${files} files, ${formatBytes(bytes)}, all as packed\n`)
      else for (const { file, problem } of problems) stderr.write(`${file}: ${problem}\n`)
      return problems.length === 0 ? 0 : 1
    } finally {
      progress.clear()
    }
  },
})
