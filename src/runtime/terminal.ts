/** The streams of a command-line program: writing, reading, colours, interruption, one line of progress. */
import * as fs from 'node:fs'
import * as tty from 'node:tty'
import { stripVTControlCharacters } from 'node:util'
import { environment, now } from './platform.ts'

/** Where text goes: a standard stream, or a test's own collector. */
export interface TextOutput {
  /** A person sees this output, and it obeys cursor movements. */
  readonly isTerminal: boolean
  /** Width in characters; 80 where there is none to ask. */
  readonly columns: number
  write(text: string): void
}

const DEFAULT_COLUMNS = 80
/** How long to leave a full pipe to its reader before the next attempt, in ms. */
const FULL_PIPE_PAUSE_MS = 2
/** What a write answers when nobody reads any more: a pipe, a socket (some parents give one as stdout), Windows. */
const READER_GONE: ReadonlySet<string | undefined> = new Set(['EPIPE', 'ECONNRESET', 'EOF'])

class StandardOutput implements TextOutput {
  readonly isTerminal: boolean
  readonly #descriptor: 1 | 2

  constructor(descriptor: 1 | 2) {
    this.#descriptor = descriptor
    this.isTerminal = tty.isatty(descriptor)
  }

  get columns(): number {
    const stream = this.#descriptor === 1 ? process.stdout : process.stderr
    const columns = this.isTerminal ? stream.columns : Number(environment('COLUMNS'))
    return columns > 0 ? columns : DEFAULT_COLUMNS
  }

  /**
   * Returns when the system has taken the text, so that whoever reads a pipe gets all of it, in order, however
   * the process ends. When nobody reads stdout any more the process ends without a word: `| head` is no error.
   */
  write(text: string): void {
    if (this.isTerminal && process.platform === 'win32') {
      // Bytes written past the stream would be read in the console's code page.
      const stream = this.#descriptor === 1 ? process.stdout : process.stderr
      stream.write(text)
      return
    }
    const bytes = new TextEncoder().encode(text)
    let done = 0
    while (done < bytes.length) {
      try {
        done += fs.writeSync(this.#descriptor, bytes, done)
      } catch (cause) {
        const { code } = cause as NodeJS.ErrnoException
        if (code === 'EAGAIN') pause(FULL_PIPE_PAUSE_MS)
        else if (this.#descriptor === 2) return
        else if (READER_GONE.has(code)) process.exit(0)
        else throw cause
      }
    }
  }
}

export const stdout: TextOutput = new StandardOutput(1)
export const stderr: TextOutput = new StandardOutput(2)

/** Whether stdin is a keyboard: then there is nothing to read to the end. */
export const stdinIsTerminal = (): boolean => tty.isatty(0)

/** Everything that arrives on stdin, as UTF-8. Empty when stdin is closed. */
export async function readStdin(): Promise<string> {
  const chunks: Uint8Array[] = []
  for await (const chunk of process.stdin) chunks.push(chunk)
  return new TextDecoder().decode(Buffer.concat(chunks))
}

/**
 * Whether to colour what goes to `output`: FORCE_COLOR decides if it is set, then NO_COLOR (no-color.org),
 * then TERM=dumb, then whether it is a terminal.
 */
export function coloursAllowed(
  output: TextOutput,
  variable: (name: string) => string | undefined = environment,
): boolean {
  const forced = variable('FORCE_COLOR')
  if (forced !== undefined) return forced !== '0' && forced !== 'false'
  if (variable('NO_COLOR') !== undefined || variable('TERM') === 'dumb') return false
  return output.isTerminal
}

/** The exit code of a program that Ctrl-C ended: 128 + SIGINT. */
export const INTERRUPTED_EXIT_CODE = 130

/**
 * Calls `listener` at the first Ctrl-C; the second one ends the process at once.
 * @returns a function that gives Ctrl-C its usual meaning back.
 */
export function onInterrupt(listener: () => void): () => void {
  let interrupted = false
  const handle = (): void => {
    if (interrupted) {
      // Not by `exit`, which waits for every thread, also for one whose read from disk does not return.
      process.off('SIGINT', handle)
      process.kill(process.pid, 'SIGINT')
    }
    interrupted = true
    listener()
  }
  process.on('SIGINT', handle)
  return () => void process.off('SIGINT', handle)
}

/** The code with which the process will end when nothing is left to do. */
export function setExitCode(code: number): void {
  process.exitCode = code
}

/** The shortest time between two drawings on a terminal, in ms: more often is flicker. */
const REDRAW_MS = 50
/** The time between two lines where they stay, such as a log file, in ms. */
const PLAIN_LINE_MS = 5000
const CLEAR_LINE = '\r\x1b[2K'

export interface ProgressOptions {
  readonly output?: TextOutput
  readonly clock?: () => number
  readonly term?: string | undefined
}

/**
 * Progress on stderr. On a terminal one line that is rewritten in place, never wider than the terminal, and
 * gone at the end. Elsewhere a line every few seconds, so that short work leaves no trace in a log.
 */
export class ProgressLine {
  readonly #output: TextOutput
  readonly #clock: () => number
  readonly #rewrites: boolean
  #last: number
  #drawn = ''

  constructor({ output = stderr, clock = now, term = environment('TERM') }: ProgressOptions = {}) {
    this.#output = output
    this.#clock = clock
    this.#rewrites = output.isTerminal && term !== 'dumb'
    this.#last = this.#rewrites ? Number.NEGATIVE_INFINITY : clock()
  }

  /** Shows `text`, one line, now or, if the line changed a moment ago, not at all. */
  update(text: string): void {
    const time = this.#clock()
    if (time - this.#last < (this.#rewrites ? REDRAW_MS : PLAIN_LINE_MS)) return
    this.#last = time
    const plain = oneLine(text)
    if (!this.#rewrites) {
      this.#output.write(`${plain}\n`)
      return
    }
    // A full last column makes some terminals begin the next line.
    const line = fitColumns(plain, this.#output.columns - 1)
    if (line === this.#drawn) return
    this.#output.write(CLEAR_LINE + line)
    this.#drawn = line
  }

  /** Removes the line; the cursor is back at its beginning. The next `update` draws at once. */
  clear(): void {
    if (this.#drawn !== '') this.#output.write(CLEAR_LINE)
    this.#drawn = ''
    if (this.#rewrites) this.#last = Number.NEGATIVE_INFINITY
  }
}

/** The beginning of `text` that fits into `columns` columns, marked by an ellipsis if anything is cut. */
export function fitColumns(text: string, columns: number): string {
  if (displayWidth(text) <= columns) return text
  let kept = ''
  let width = 1
  for (const character of text) {
    width += characterWidth(character)
    if (width > columns) break
    kept += character
  }
  return columns > 0 ? `${kept}…` : ''
}

/** Columns that `text` takes on a terminal. */
export function displayWidth(text: string): number {
  let width = 0
  for (const character of text) width += characterWidth(character)
  return width
}

/** Two columns: East Asian wide and fullwidth characters and emoji (Unicode Standard Annex 11). */
const WIDE =
  /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Hangul}\p{Emoji_Presentation}\u3000-\u303e\uff01-\uff60\uffe0-\uffe6]/u
const NO_WIDTH = /[\p{Mn}\p{Me}\p{Cf}\p{Cc}]/u

function characterWidth(character: string): number {
  if (NO_WIDTH.test(character)) return 0
  return WIDE.test(character) ? 2 : 1
}

function oneLine(text: string): string {
  return stripVTControlCharacters(text).replace(/\s*[\r\n\t]+\s*/g, ' ')
}

function pause(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms)
}
