/** What the commands have in common: a declaration, and how progress and failures are shown. */
import { CoppiceError } from '../errors.ts'
import type { Progress } from '../index.ts'
import type { Flags, ParsedArguments } from '../runtime/arguments.ts'
import { absolutePath, directoryName, isDirectory } from '../runtime/files.ts'
import { formatBytes } from '../runtime/sizes.ts'
import { ProgressLine, stderr } from '../runtime/terminal.ts'

export interface Command<F extends Flags = Flags> {
  readonly name: string
  /** A few words for the list of commands. */
  readonly purpose: string
  readonly usage: string
  readonly summary: string
  readonly flags: F
  readonly examples: readonly string[]
  /** @returns the exit code */
  run(args: ParsedArguments<F>): Promise<number>
}

/** Keeps the types of a command's own flags. */
export const command = <const F extends Flags>(parts: Command<F>): Command<F> => parts

/** The positional arguments that a command wants. @throws CoppiceError INVALID_OPTION */
export function positionals(given: readonly string[], least: number, most: number, usage: string): readonly string[] {
  if (given.length >= least && given.length <= most) return given
  const problem = given.length < least ? 'an argument is missing' : `"${given[most]}" is one argument too many`
  throw new CoppiceError('INVALID_OPTION', `${problem}; usage: ${usage}`)
}

/** A file that is to be written, found unwritable before any work is done. @throws CoppiceError INVALID_OPTION */
export function checkOutputFile(flag: string, file: string): void {
  const path = absolutePath(file)
  if (isDirectory(directoryName(path)) && !isDirectory(path)) return
  throw new CoppiceError(
    'INVALID_OPTION',
    `${flag} ${file} cannot be written: it must be a file in a directory that exists; make ${directoryName(path)} or name another`,
  )
}

const LABELS = {
  pack: 'packing',
  load: 'loading',
  prefill: 'reading the prompt',
  verify: 'checking',
  warm: 'learning',
} as const

export interface ShownProgress {
  readonly phase: keyof typeof LABELS
  readonly file: string
  readonly done: number
  readonly total: number
}

/** The bar takes what the numbers leave: nothing on a narrow terminal. */
const WIDEST_BAR = 20
const COLUMNS_FOR_TEXT = 56

/** One line of progress on stderr. */
export class ProgressView {
  readonly #line = new ProgressLine()

  readonly show = (progress: Progress | ShownProgress): void => {
    const { phase, file, done, total } = progress
    const share = total > 0 ? done / total : 1
    const width = Math.max(0, Math.min(WIDEST_BAR, stderr.columns - COLUMNS_FOR_TEXT))
    const cells = Math.round(share * width)
    const bar = width < 4 ? '' : ` ${'█'.repeat(cells)}${'░'.repeat(width - cells)}`
    const amount = phase === 'prefill' ? `${done}/${total} tokens` : `${formatBytes(done)} of ${formatBytes(total)}`
    this.#line.update(`${LABELS[phase]}${bar} ${Math.floor(share * 100)} % ${amount} ${file}`)
    if (done >= total) this.#line.clear()
  }

  clear(): void {
    this.#line.clear()
  }
}
