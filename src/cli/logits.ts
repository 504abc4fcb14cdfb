/** `coppice logits`: raw logits as JSON, for tests and comparisons with other engines. */
import { CoppiceError } from '../errors.ts'
import { type LogitsInput, load } from '../index.ts'
import { stdout } from '../runtime/terminal.ts'
import { command, ProgressView, positionals } from './command.ts'
import { HELP_FLAG, LOAD_FLAGS, loadOptions, modelPath } from './flags.ts'

const USAGE = 'coppice logits [flags] MODEL --tokens 1,2,3'

export const logits = command({
  name: 'logits',
  purpose: 'raw logits as JSON',
  usage: USAGE,
  summary:
    "Writes the logits after each token as one JSON object: {rows, vocab, logits}. With --parents the tokens are a tree: the index of each token's parent, -1 for a child of the last prefix token.",
  flags: {
    ...LOAD_FLAGS,
    tokens: { type: 'string', value: 'IDS', env: false, help: 'token ids, separated by commas' },
    prefix: { type: 'string', value: 'IDS', env: false, help: 'token ids that come before and are seen by all' },
    parents: { type: 'string', value: 'INDICES', env: false, help: 'makes the tokens a tree' },
    top: { type: 'integer', env: false, help: 'only the N largest logits of each row, as [id, value] pairs' },
    ...HELP_FLAG,
  },
  examples: [
    'coppice logits embedded --tokens 477,673,896 --top 5',
    'coppice logits embedded --prefix 477,673 --tokens 896,1233,365 --parents=-1,-1,0',
  ],
  async run({ values, positionals: given }) {
    const [model] = positionals(given, 1, 1, USAGE)
    if (values.tokens === undefined) throw new CoppiceError('INVALID_OPTION', `--tokens is missing; usage: ${USAGE}`)
    const input: LogitsInput = {
      tokens: integers('--tokens', values.tokens),
      ...(values.prefix === undefined ? {} : { prefix: integers('--prefix', values.prefix) }),
      ...(values.parents === undefined ? {} : { parents: integers('--parents', values.parents) }),
    }
    const progress = new ProgressView()
    const opened = await load(modelPath(model), { ...loadOptions(model, values), onProgress: progress.show })
    try {
      const { rows, vocab, data } = await opened.logits(input)
      progress.clear()
      const table = Array.from({ length: rows }, (_, i) => data.subarray(i * vocab, (i + 1) * vocab))
      const shown = table.map((row) => (values.top === undefined ? [...row] : largest(row, values.top)))
      stdout.write(`${JSON.stringify({ rows, vocab, logits: shown })}\n`)
      return 0
    } finally {
      progress.clear()
      await opened.close()
    }
  },
})

function integers(flag: string, text: string): number[] {
  return text.split(',').map((part) => {
    const value = Number(part.trim())
    if (part.trim() === '' || !Number.isInteger(value)) {
      throw new CoppiceError('INVALID_OPTION', `${flag} takes integers separated by commas, not "${text}"`)
    }
    return value
  })
}

function largest(row: Float32Array, count: number): [number, number][] {
  return [...row.keys()]
    .sort((a, b) => row[b] - row[a] || a - b)
    .slice(0, count)
    .map((id) => [id, row[id]])
}
