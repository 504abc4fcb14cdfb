/**
 * The words that all threads of one model share: job hand-out, loader tickets, abort and fault.
 * They live in a small SharedArrayBuffer of their own, not in the WASM memory, because the front
 * must be able to raise `abort` and `fault` before that memory exists.
 */
import { CoppiceError } from '../errors.ts'

/** Word indices of the control block. Words that different threads spin on lie 64 bytes apart. */
export const Word = {
  /** Non-zero: a thread died; see `Fault`. Set once, by the front, never cleared. */
  fault: 0,
  /** Non-zero: give up the current call. Set by the front, cleared before a call starts. */
  abort: 1,
  /** Non-zero: helper threads leave their loops. */
  stop: 2,
  /** The step of the current job that is open and its unclaimed shares (tensor/compute.ts); threads wait on it. */
  jobTicket: 16,
  /** Shares of the open step that are not done. */
  jobUnfinished: 32,
  /** Who sleeps: compute threads, counted, and the engine. */
  jobSleepers: 48,
  /** Counts the calls that wake the engine, which waits on it. */
  jobEngineCalls: 49,
  /** Byte address of the current job's first record. From here on written only while no job is under way. */
  jobRecords: 64,
  jobSteps: 65,
  /** Shares of each step, `MAXIMUM_STEPS` words. */
  jobShares: 66,
  /** The memory that the current job works in: its records, and everything that they point to. */
  jobBank: 97,
  /** Read pieces handed out to loaders so far; loaders wait on it. */
  piecesPublished: 112,
  /** Non-zero: loaders take no pieces; they wait on it. */
  loadersResting: 113,
  /** Read pieces taken by loaders so far. */
  piecesTaken: 128,
  /** Counts every finished read piece; the engine waits on it. */
  piecesDone: 144,
} as const

export const CONTROL_BYTES = 4 * 160

/** How long any wait lasts at the most before `fault` and `stop` are read again, in ms. */
export const WAIT_LIMIT_MS = 50

export class Control {
  readonly buffer: SharedArrayBuffer
  readonly words: Int32Array

  constructor(buffer: SharedArrayBuffer = new SharedArrayBuffer(CONTROL_BYTES)) {
    this.buffer = buffer
    this.words = new Int32Array(buffer)
  }

  get stopped(): boolean {
    return Atomics.load(this.words, Word.stop) !== 0
  }

  /** Tells every helper thread to leave, and wakes those that sleep. */
  stop(): void {
    Atomics.store(this.words, Word.stop, 1)
    this.#wakeAll()
  }

  /** A thread is gone: whoever waits for it stops waiting within `WAIT_LIMIT_MS`. */
  raiseFault(): void {
    Atomics.store(this.words, Word.fault, 1)
    this.#wakeAll()
  }

  get faulted(): boolean {
    return Atomics.load(this.words, Word.fault) !== 0
  }

  get loadersResting(): boolean {
    return Atomics.load(this.words, Word.loadersResting) !== 0
  }

  /** While they rest, loaders begin no further read. */
  setLoadersResting(resting: boolean): void {
    if (this.loadersResting === resting) return
    Atomics.store(this.words, Word.loadersResting, resting ? 1 : 0)
    Atomics.notify(this.words, Word.loadersResting)
  }

  requestAbort(): void {
    Atomics.store(this.words, Word.abort, 1)
    Atomics.notify(this.words, Word.piecesDone)
  }

  clearAbort(): void {
    Atomics.store(this.words, Word.abort, 0)
  }

  get abortRequested(): boolean {
    return Atomics.load(this.words, Word.abort) !== 0
  }

  /** @throws CoppiceError WORKER_FAILED when a thread of this model has died. */
  checkFault(): void {
    if (this.faulted) {
      throw new CoppiceError(
        'WORKER_FAILED',
        'a worker thread of this model ended unexpectedly, so the call cannot finish; close the model and load it again',
      )
    }
  }

  /** @throws CoppiceError ABORTED | WORKER_FAILED */
  checkpoint(): void {
    this.checkFault()
    if (this.abortRequested) throw new CoppiceError('ABORTED', 'the call was aborted')
  }

  #wakeAll(): void {
    for (const word of [
      Word.jobTicket,
      Word.jobEngineCalls,
      Word.piecesPublished,
      Word.loadersResting,
      Word.piecesDone,
    ]) {
      Atomics.notify(this.words, word)
    }
  }
}
