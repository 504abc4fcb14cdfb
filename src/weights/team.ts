/**
 * Files that several threads work through: the one that asks, which does not return in between, and helpers. Whoever
 * is free takes the next file. Helpers start beside the work and are not waited for: where none come, the asking
 * thread does everything. All four runtimes start a thread while the one that asked for it stays in a loop: after 0.05
 * to 0.2 s, 0.6 s for a thread of a thread on Deno.
 */
import { CoppiceError, type ErrorCode } from '../errors.ts'
import { cores, now } from '../runtime/platform.ts'
import { createLine, type MessagePort, spawnWorker, takeMessage } from '../runtime/workers.ts'
import type { Kind } from '../tensor/layout.ts'

/** What helpers are told to do, with what they need to do it. `files` are numbers of files, in the order of the work. */
export type Task =
  | {
      readonly what: 'pack'
      readonly source: string
      readonly output: string
      readonly kind: Kind
      readonly files: readonly number[]
    }
  | { readonly what: 'verify'; readonly directory: string; readonly files: readonly number[] }

/** Does one file and returns what there is to know of it. */
export type Work = (file: number, onBytes: (bytes: number) => void) => unknown

export interface HelperData {
  readonly task: Task
  readonly board: SharedArrayBuffer
  readonly line: MessagePort
}

type Answer =
  | { readonly file: number; readonly result: unknown }
  | { readonly code: ErrorCode | undefined; readonly message: string }

/** More threads than this wait for the disk rather than compute. */
const MOST_HELPERS = 3
/** Below that the work is done before a thread has started. */
const LEAST_BYTES = 1 << 26
/** What all helpers together may take of memory for their buffers; their threads take some 10 MB each. */
const BUFFER_BYTES = 1 << 25
/** One that works on a file and was not heard of for so long, in ms, is gone: no single write or sync takes that. */
const LOST_MS = 600_000
/** How long helpers may take to leave the file that they are at, in ms. */
const LEAVE_MS = 10_000
const POLL_MS = 50

/** Words of the board. */
const NEXT = 0
const STOP = 1
const ACTIVE = 2
const BELL = 3
/** In words of 64 bits: bytes that helpers have done and nobody has asked about. */
const BYTES = 2
const BOARD_BYTES = 24

/**
 * How many helpers are of use.
 * @param bytes of all files
 * @param bufferBytes of each thread
 */
export function usefulHelpers(files: number, bytes: number, bufferBytes: number): number {
  if (bytes < LEAST_BYTES) return 0
  return Math.max(0, Math.min(cores() - 1, MOST_HELPERS, files - 1, Math.floor(BUFFER_BYTES / bufferBytes)))
}

export class Team {
  readonly #task: Task
  readonly #board = new SharedArrayBuffer(BOARD_BYTES)
  readonly #words = new Int32Array(this.#board)
  readonly #bytes = new BigInt64Array(this.#board)
  readonly #lines: readonly MessagePort[]
  readonly #onResult: (file: number, result: unknown) => void
  #finished = 0
  #heard = now()

  /** @param onResult called with what `Work` returned for a file, wherever it was done */
  constructor(task: Task, helpers: number, onResult: (file: number, result: unknown) => void) {
    this.#task = task
    this.#onResult = onResult
    this.#lines = Array.from({ length: helpers }, () => {
      const [own, line] = createLine()
      const data: HelperData = { task, board: this.#board, line }
      const worker = spawnWorker(new URL('./team-worker.js', import.meta.url), data, {
        name: 'files',
        transfer: [line],
      })
      // What a helper has to say it says over the line; one that cannot start is not missed.
      worker.onError(() => {})
      worker.unref()
      return own
    })
  }

  /**
   * Works until all files are done.
   * @param onWait called every 50 ms while only helpers work, and when they have done all; may throw to give up
   * @throws CoppiceError WORKER_FAILED when a helper was lost, and what `work` throws, here or in a helper. Then no
   *   helper is at work any more, unless it hangs in a call of the system.
   */
  run(work: (file: number) => unknown, onWait: () => void): void {
    const { files } = this.#task
    try {
      for (let i = takeNext(this.#words); i < files.length; i = takeNext(this.#words)) {
        const result = work(files[i])
        this.#finish(files[i], result)
        this.#collect()
      }
      for (let bell = this.#bell(); this.#finished < files.length; bell = this.#bell()) {
        onWait()
        this.#collect()
        if (now() - this.#heard > LOST_MS) throw lost()
        if (this.#finished < files.length) Atomics.wait(this.#words, BELL, bell, POLL_MS)
      }
      if (this.#lines.length > 0) onWait()
    } finally {
      this.#end()
    }
  }

  /** To be called now and then: takes in what helpers have done. @returns bytes since the last time */
  poll(): number {
    this.#collect()
    const bytes = Number(Atomics.exchange(this.#bytes, BYTES, 0n))
    if (bytes > 0) this.#heard = now()
    return bytes
  }

  #collect(): void {
    for (const line of this.#lines) {
      for (let message = takeMessage(line); message !== undefined; message = takeMessage(line)) {
        const answer = message as Answer
        if ('message' in answer) throw failureOf(answer)
        this.#finish(answer.file, answer.result)
      }
    }
  }

  #finish(file: number, result: unknown): void {
    this.#finished++
    this.#heard = now()
    this.#onResult(file, result)
  }

  #end(): void {
    Atomics.store(this.#words, STOP, 1)
    Atomics.notify(this.#words, STOP)
    const begun = now()
    for (let left = this.#active(); left > 0 && now() - begun < LEAVE_MS; left = this.#active()) {
      Atomics.wait(this.#words, ACTIVE, left, POLL_MS)
    }
    for (const line of this.#lines) line.close()
  }

  #bell(): number {
    return Atomics.load(this.#words, BELL)
  }

  #active(): number {
    return Atomics.load(this.#words, ACTIVE)
  }
}

class Stopped extends Error {}

/** In a helper: does files until there are no more, and returns when the asking thread has heard of all. */
export function help({ task, board, line }: HelperData, prepare: () => Work): void {
  const words = new Int32Array(board)
  const stopped = (): boolean => Atomics.load(words, STOP) !== 0
  const onBytes = (bytes: number): void => {
    Atomics.add(new BigInt64Array(board), BYTES, BigInt(bytes))
    if (stopped()) throw new Stopped()
  }
  const answer = (message: Answer): void => {
    line.postMessage(message)
    ring(words, BELL)
  }
  Atomics.add(words, ACTIVE, 1)
  try {
    let work: Work | undefined
    while (!stopped()) {
      const i = takeNext(words)
      if (i >= task.files.length) break
      work ??= prepare()
      answer({ file: task.files[i], result: work(task.files[i], onBytes) })
    }
  } catch (error) {
    if (!(error instanceof Stopped)) answer(reportOf(error))
  }
  Atomics.sub(words, ACTIVE, 1)
  Atomics.notify(words, ACTIVE)
  // What is on a line is lost when this end of it is gone.
  Atomics.wait(words, STOP, 0)
}

const takeNext = (words: Int32Array): number => Atomics.add(words, NEXT, 1)

function ring(words: Int32Array, word: number): void {
  Atomics.add(words, word, 1)
  Atomics.notify(words, word)
}

/** Errors lose their class on their way between threads. */
function reportOf(error: unknown): Answer {
  if (error instanceof CoppiceError) return { code: error.code, message: error.message }
  return { code: undefined, message: error instanceof Error ? (error.stack ?? error.message) : String(error) }
}

const failureOf = ({ code, message }: { code: ErrorCode | undefined; message: string }): Error =>
  code === undefined
    ? new Error(`internal error in a thread that works on files: ${message}`)
    : new CoppiceError(code, message)

const lost = (): CoppiceError =>
  new CoppiceError(
    'WORKER_FAILED',
    `a thread that works on files was not heard of for ${LOST_MS / 1000} s; do it again, packing goes on from here`,
  )
