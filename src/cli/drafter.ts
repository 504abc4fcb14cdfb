/** `coppice drafter ...`: what drafters without a draft model have learnt, as files. */
import { readState, readStateFor, tokenMeaning, writeState } from '../engine/drafter-state.ts'
import { hasTokenizer, readTokenizer } from '../engine/tokenizer-files.ts'
import { CoppiceError } from '../errors.ts'
import { readText, statPath } from '../runtime/files.ts'
import { formatBytes } from '../runtime/sizes.ts'
import { stderr, stdout } from '../runtime/terminal.ts'
import { SOURCES } from '../speculate/drafter.ts'
import { makeSource } from '../speculate/sources/catalogue.ts'
import { loadSections, saveSections, warmSources } from '../speculate/sources/sections.ts'
import type { Source } from '../speculate/sources/source.ts'
import { STATE_VERSION, type StateSection } from '../speculate/state-file.ts'
import type { Tokenizer } from '../text/tokenizer.ts'
import { describeModel } from '../weights/describe.ts'
import { checkOutputFile, command, ProgressView, positionals } from './command.ts'
import { HELP_FLAG, JSON_FLAG, modelPath } from './flags.ts'

const INSPECT_USAGE = 'coppice drafter inspect [flags] FILE'
const WARM_USAGE = 'coppice drafter warm [flags] MODEL TEXT... --output FILE'

/** Characters of a text that are turned into tokens at a time: whole lines, where they are not longer. */
const PART = 1 << 20

export const inspectState = command({
  name: 'drafter inspect',
  purpose: 'show what drafters have learnt',
  usage: INSPECT_USAGE,
  summary: 'Checks every byte of a state of drafters, as run --drafter-state writes it, and shows what is in it.',
  flags: { ...JSON_FLAG, ...HELP_FLAG },
  examples: ['coppice drafter inspect ./mail.state'],
  async run({ values, positionals: given }) {
    const [file] = positionals(given, 1, 1, INSPECT_USAGE)
    const { meaning, sections } = readState(file)
    const listed = sections.map((section) => {
      const source = makeSource(section.source, meaning.vocabulary)
      loadSections([source], [section], file)
      return { source: section.source, bytes: section.bytes.length, entries: source.entries ?? 0 }
    })
    const bytes = statPath(file)?.stamp.bytes ?? 0
    if (values.json) {
      stdout.write(`${JSON.stringify({ file, version: STATE_VERSION, bytes, ...meaning, sections: listed })}\n`)
      return 0
    }
    const rows: [string, string][] = [
      ['file', `${file}, ${formatBytes(bytes)}`],
      ['format', `version ${STATE_VERSION}, sound`],
      ['vocabulary', `${meaning.vocabulary} tokens, digest ${meaning.tokens}`],
      ...listed.map(({ source, bytes, entries }): [string, string] => [
        source,
        `${entries.toLocaleString('en')} ${UNITS[source] ?? 'entries'}, ${formatBytes(bytes)}`,
      ]),
    ]
    const width = Math.max(...rows.map(([name]) => name.length))
    stdout.write(`${rows.map(([name, text]) => `${name.padEnd(width)}  ${text}`).join('\n')}\n`)
    return 0
  },
})

/** What a source counts. */
const UNITS: Readonly<Partial<Record<string, string>>> = { trie: 'nodes', trigram: 'pairs', recycle: 'tokens' }

export const warmState = command({
  name: 'drafter warm',
  purpose: 'let drafters learn from texts',
  usage: WARM_USAGE,
  summary:
    'Lets the drafters trie and trigram learn from text files, as if the model had written them, and writes what they know for run --drafter-state. Of the model only the configuration and the tokenizer are read.',
  flags: {
    output: { type: 'string', short: 'o', value: 'FILE', env: false, help: 'the state to write' },
    drafterState: {
      type: 'string',
      value: 'FILE',
      env: false,
      help: 'a state to begin with, which may be the same file',
    },
    ...JSON_FLAG,
    ...HELP_FLAG,
  },
  examples: [
    'coppice drafter warm ./llama-8b letters/*.txt --output mail.state',
    'coppice drafter warm ./llama-8b new.txt --drafter-state mail.state --output mail.state',
  ],
  async run({ values, positionals: given }) {
    const [model, ...texts] = positionals(given, 2, Number.POSITIVE_INFINITY, WARM_USAGE)
    const { output, drafterState } = values
    if (output === undefined) {
      throw new CoppiceError('INVALID_OPTION', `--output FILE is missing; usage: ${WARM_USAGE}`)
    }
    checkOutputFile('--output', output)
    for (const text of texts) checkText(text)
    const { directory, manifest } = describeModel(modelPath(model))
    if (!hasTokenizer(directory)) {
      throw new CoppiceError(
        'NO_TOKENIZER',
        `${directory} has no tokenizer.json, so text cannot be turned into tokens; add the file`,
      )
    }
    const tokenizer = readTokenizer(directory)
    const { vocabulary } = manifest.config
    const meaning = tokenMeaning(vocabulary, tokenizer.vocabulary)
    const sources = SOURCES.map((name) => makeSource(name, vocabulary)).filter(({ save }) => save !== undefined)
    const unknown: readonly StateSection[] =
      drafterState === undefined
        ? []
        : loadSections(sources, readStateFor(drafterState, meaning).sections, drafterState)
    const tokens = warmAll(sources, tokenizer, texts)
    const sections = [...saveSections(sources), ...unknown]
    const bytes = writeState(output, { meaning, sections })
    const listed = sections.map((section) => ({ source: section.source, bytes: section.bytes.length }))
    if (values.json) stdout.write(`${JSON.stringify({ file: output, bytes, tokens, sections: listed })}\n`)
    else stderr.write(`${output}: ${formatBytes(bytes)}, ${tokens.toLocaleString('en')} tokens read\n`)
    return 0
  },
})

/** @throws CoppiceError INVALID_OPTION */
function checkText(file: string): void {
  const found = statPath(file)
  if (found !== undefined && found.kind !== 'directory') return
  const what = found === undefined ? 'is not there' : 'is a directory'
  throw new CoppiceError('INVALID_OPTION', `the text ${file} ${what}; name text files after the model`)
}

/** @returns tokens that were read */
function warmAll(sources: readonly Source[], tokenizer: Tokenizer, files: readonly string[]): number {
  const progress = new ProgressView()
  let count = 0
  try {
    for (const file of files) {
      const text = readText(file)
      let done = 0
      for (const part of partsOf(text)) {
        const tokens = tokenizer.encode(part, { addBos: false })
        warmSources(sources, tokens)
        count += tokens.length
        done += part.length
        progress.show({ phase: 'warm', file, done, total: text.length })
      }
    }
  } finally {
    progress.clear()
  }
  return count
}

/** A text in parts that end with lines: what a tokenizer makes of all of it at once may take too much memory. */
function* partsOf(text: string): Generator<string> {
  for (let at = 0; at < text.length; ) {
    const end = at + PART >= text.length ? text.length : text.lastIndexOf('\n', at + PART) + 1
    const next = end > at ? end : at + PART
    yield text.slice(at, next)
    at = next
  }
}
