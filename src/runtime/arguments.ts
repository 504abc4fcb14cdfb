/** Command-line flags: declared once, then parsed, read from the environment, and explained from that declaration. */
import { parseArgs } from 'node:util'
import { CoppiceError } from '../errors.ts'
import { formatBytes, parseBytes } from './sizes.ts'

interface FlagValues {
  readonly string: string
  readonly number: number
  readonly integer: number
  readonly boolean: boolean
  /** A size such as '22MB', as a number of bytes. */
  readonly bytes: number
}

export type FlagType = keyof FlagValues

/** One flag. Its key in the declaration names it: `topK` is `--top-k` and COPPICE_TOP_K. */
export interface Flag {
  readonly type: FlagType
  readonly help: string
  /** Without the leading dashes, where the key does not give it. */
  readonly name?: string
  /** One character: `n` is `-n`. */
  readonly short?: string
  /** Environment variable, where the name does not give it. `false`: none. */
  readonly env?: string | false
  readonly default?: string | number | boolean
  /** What the help calls the value, such as 'FILE'. */
  readonly value?: string
}

export type Flags = Readonly<Record<string, Flag>>

/** What parsing gives per flag; `undefined` only where nothing was given and there is no default. */
export type FlagResults<F extends Flags> = {
  readonly [K in keyof F]: F[K] extends { readonly default: string | number | boolean }
    ? FlagValues[F[K]['type']]
    : FlagValues[F[K]['type']] | undefined
}

export interface ParsedArguments<F extends Flags> {
  readonly values: FlagResults<F>
  readonly positionals: readonly string[]
}

/** The arguments after the script's name. */
export const commandArguments = (): string[] => process.argv.slice(2)

/** `--top-k` */
export function flagName(key: string, flag: Flag): string {
  return `--${flag.name ?? key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`
}

/** `COPPICE_TOP_K`, or `undefined` for a flag that the environment cannot set. */
export function flagVariable(key: string, flag: Flag): string | undefined {
  if (flag.env === false) return undefined
  return flag.env ?? `COPPICE_${flagName(key, flag).slice(2).replaceAll('-', '_').toUpperCase()}`
}

/**
 * A flag on the command line wins over its environment variable, which wins over its default. A
 * boolean flag is undone by `--no-NAME`; `--` ends the flags; of a repeated flag the last one counts.
 * @throws CoppiceError INVALID_OPTION for an unknown flag (with the nearest known one) or a value that does not fit.
 */
export function parseArguments<const F extends Flags>(
  flags: F,
  args: readonly string[],
  environment: Readonly<Record<string, string | undefined>> = process.env,
): ParsedArguments<F> {
  const keys = new Map(Object.entries(flags).map(([key, flag]) => [flagName(key, flag).slice(2), key]))
  const options = Object.fromEntries(
    [...keys].map(([name, key]) => {
      const { type, short } = flags[key]
      return [
        name,
        { type: type === 'boolean' ? type : ('string' as const), ...(short === undefined ? {} : { short }) },
      ]
    }),
  )
  const values: Record<string, string | number | boolean | undefined> = {}
  for (const [key, flag] of Object.entries(flags)) {
    const variable = flagVariable(key, flag)
    const text = variable === undefined ? undefined : environment[variable]
    values[key] = variable !== undefined && text ? parseValue(flag.type, text, variable) : flag.default
  }
  const positionals: string[] = []
  // Not strict, because strict parsing knows no nearest flag; the tokens carry everything that it would check.
  for (const token of parseArgs({ args: [...args], options, allowPositionals: true, strict: false, tokens: true })
    .tokens) {
    if (token.kind === 'positional') positionals.push(token.value)
    if (token.kind !== 'option') continue
    const key = keys.get(token.name)
    if (key !== undefined) {
      values[key] = givenValue(flags[key], token)
      continue
    }
    // Runtimes disagree on whether the name of an undone flag still has its "no-".
    const undone = token.rawName.startsWith('--no-') ? keys.get(token.rawName.slice(5)) : undefined
    if (undone === undefined || flags[undone].type !== 'boolean') throw unknownFlag(token.rawName, keys.keys())
    values[undone] = false
  }
  return { values: values as FlagResults<F>, positionals }
}

interface OptionToken {
  readonly rawName: string
  readonly value?: string | undefined
  readonly inlineValue?: boolean | undefined
}

function givenValue(flag: Flag, token: OptionToken): string | number | boolean {
  const { rawName, value } = token
  if (flag.type === 'boolean') return value === undefined ? true : parseValue('boolean', value, rawName)
  if (value === undefined || value === '' || (!token.inlineValue && value.startsWith('--'))) {
    const found = value ? `it is followed by ${value}; write ${rawName}=${value} if that is meant` : 'none follows'
    throw new CoppiceError('INVALID_OPTION', `${rawName} needs ${KIND[flag.type]}, but ${found}`)
  }
  return parseValue(flag.type, value, rawName)
}

const KIND: Readonly<Record<FlagType, string>> = {
  string: 'a value',
  number: 'a number',
  integer: 'a whole number',
  boolean: 'true or false',
  bytes: 'a size such as 22MB',
}

function parseValue(type: FlagType, text: string, where: string): string | number | boolean {
  switch (type) {
    case 'string':
      return text
    case 'boolean':
      if (/^(1|true|yes|on)$/i.test(text)) return true
      if (/^(0|false|no|off)$/i.test(text)) return false
      break
    case 'bytes':
      try {
        return parseBytes(text)
      } catch (cause) {
        throw new CoppiceError('INVALID_OPTION', `${where}: ${(cause as Error).message}`, { cause })
      }
    case 'integer':
      if (/^[+-]?\d+$/.test(text) && Number.isSafeInteger(Number(text))) return Number(text)
      break
    case 'number':
      if (text.trim() !== '' && Number.isFinite(Number(text))) return Number(text)
      break
  }
  throw new CoppiceError('INVALID_OPTION', `${where} needs ${KIND[type]}, not "${text}"`)
}

function unknownFlag(given: string, names: Iterable<string>): CoppiceError {
  const wanted = given.replace(/^-+/, '')
  let nearest: string | undefined
  let least = Math.max(2, Math.floor(wanted.length / 3)) + 1
  for (const name of names) {
    // Whoever types the beginning of a flag means it, however long its rest.
    const distance = wanted.length > 2 && name.startsWith(wanted) ? 1 : editDistance(wanted, name)
    if (distance < least) {
      least = distance
      nearest = name
    }
  }
  const advice = nearest === undefined ? '--help lists all' : `did you mean --${nearest}?`
  return new CoppiceError('INVALID_OPTION', `there is no flag ${given}; ${advice}`)
}

/** Insertions, deletions and replacements that turn `a` into `b` (Levenshtein 1966). */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      next.push(Math.min(row[j] + 1, next[j - 1] + 1, row[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1)))
    }
    row = next
  }
  return row[b.length]
}

export interface HelpParts {
  /** Such as 'coppice run [flags] MODEL PROMPT'. */
  readonly usage: string
  readonly summary: string
  readonly flags: Flags
  readonly examples?: readonly string[]
}

/** Widest line of a help text; wider terminals are not filled, because long lines read badly. */
const HELP_COLUMNS = 80
/** Below this the explanation stands under its flag. */
const NARROW_COLUMNS = 60

/** The width of a help text on a terminal of `columns` columns. */
export const helpWidth = (columns: number): number => Math.max(20, Math.min(columns, HELP_COLUMNS))

/** The help text of a command, wrapped to at most `columns` columns; ends with a line break. */
export function helpText(parts: HelpParts, columns: number): string {
  const width = helpWidth(columns)
  const lines = [...wrap(`Usage: ${parts.usage}`, width, 0, 7), '', ...wrap(parts.summary, width, 0, 0)]
  const entries = Object.entries(parts.flags)
  if (entries.length > 0) {
    const left = entries.map(([key, flag]) => flagSyntax(key, flag))
    const column = Math.min(30, Math.max(...left.map((text) => text.length)) + 4)
    lines.push('', 'Flags:')
    for (const [i, [, flag]] of entries.entries()) {
      const text = `${flag.help}${defaultText(flag)}`
      const head = `  ${left[i]}`
      if (width < NARROW_COLUMNS) lines.push(head, ...wrap(text, width, 6, 6))
      else if (head.length + 2 > column) lines.push(head, ...wrap(text, width, column, column))
      else lines.push(...wrap(`${head.padEnd(column)}${text}`, width, 0, column))
    }
    const sample = entries.find(([key, flag]) => flagVariable(key, flag) !== undefined)
    if (sample !== undefined) {
      const note = `Environment variables set what the command line does not: ${flagVariable(...sample)} is ${flagName(...sample)}.`
      lines.push('', ...wrap(note, width, 0, 0))
    }
  }
  if (parts.examples !== undefined) lines.push('', 'Examples:', ...parts.examples.flatMap((e) => wrap(e, width, 2, 4)))
  return `${lines.join('\n')}\n`
}

function flagSyntax(key: string, flag: Flag): string {
  const value =
    flag.type === 'boolean'
      ? ''
      : ` ${flag.value ?? { string: 'TEXT', bytes: 'SIZE', number: 'N', integer: 'N' }[flag.type]}`
  return `${flag.short === undefined ? '    ' : `-${flag.short}, `}${flagName(key, flag)}${value}`
}

function defaultText(flag: Flag): string {
  if (flag.default === undefined || flag.default === false || flag.default === '') return ''
  return ` (default: ${flag.type === 'bytes' ? formatBytes(Number(flag.default)) : flag.default})`
}

/** Lines of `text` broken at spaces; the first one starts at column `first`, the others at `rest`. A word longer than a line stays whole. */
export function wrap(text: string, width: number, first: number, rest: number): string[] {
  const lines: string[] = []
  let line = ' '.repeat(first)
  let empty = true
  // Runs of spaces align the columns of a line's head and are kept within a line.
  for (const [, gap, word] of text.matchAll(/( *)([^ ]+)/g)) {
    if (!empty && line.length + gap.length + word.length > width) {
      lines.push(line)
      line = ' '.repeat(rest) + word
    } else {
      line += gap + word
    }
    empty = false
  }
  return [...lines, line]
}
