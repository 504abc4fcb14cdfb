/**
 * Jobs on one or more threads. A job is a record in shared memory, cut into shares. Threads claim
 * one share after the other, so a thread that the system has put aside holds nobody up: the engine's
 * own thread then does the work alone.
 */
import { type Control, WAIT_LIMIT_MS, Word } from './control.ts'
import type { Kernels } from './kernels.ts'

/** Enough shares that threads of unequal speed end together, few enough that claiming costs nothing. */
const SHARES_PER_THREAD = 4

/** Shares of every job of a model with this many threads. */
export const jobShares = (threads: number): number => (threads === 1 ? 1 : threads * SHARES_PER_THREAD)

/**
 * The ticket word: the job's number above, the next unclaimed share below. Both change together, so
 * a thread that comes late cannot claim a share of a job that is over.
 */
const SHARE_BITS = 10
const SHARE_MASK = (1 << SHARE_BITS) - 1

/** Jobs are numbered from 1 to this and then again; 0 in a fresh control block means that there was none yet. */
const LAST_JOB = 0x7fffffff >> SHARE_BITS

/** More would not fit in the ticket. */
export const MAXIMUM_THREADS = 64

/**
 * Turns of the polling loop before a thread goes to sleep. A sleep and wake-up costs about 60 us,
 * a turn some 10 ns, so a thread polls for about as long as a wake-up would cost it.
 */
const SPIN_TURNS = 6000

/** Blocks until `words[index] !== old` or something needs looking at. */
function waitForChange(words: Int32Array, index: number, old: number): void {
  for (let turn = 0; turn < SPIN_TURNS; turn++) {
    if (Atomics.load(words, index) !== old) return
  }
  Atomics.wait(words, index, old, WAIT_LIMIT_MS)
}

/** Executes shares of the current job until none is left. @returns the ticket as it was seen last */
function work(kernels: Kernels, words: Int32Array, shares: number): number {
  for (;;) {
    const ticket = Atomics.load(words, Word.jobTicket)
    const share = ticket & SHARE_MASK
    if (share >= shares || ticket === 0) return ticket
    if (Atomics.compareExchange(words, Word.jobTicket, ticket, ticket + 1) !== ticket) continue
    kernels.run(Atomics.load(words, Word.jobRecord) >>> 0, share, shares)
    if (Atomics.add(words, Word.jobDone, 1) === shares - 1) Atomics.notify(words, Word.jobDone)
  }
}

export class Compute {
  readonly threads: number
  readonly #kernels: Kernels
  readonly #control: Control
  readonly #shares: number
  #job = 0

  /** @param threads this one included; `threads - 1` others must be in `serveJobs` on the same control block */
  constructor(kernels: Kernels, control: Control, threads: number) {
    this.threads = threads
    this.#kernels = kernels
    this.#control = control
    this.#shares = jobShares(threads)
  }

  /**
   * Executes the job at `record` and returns when all shares are done.
   * @throws CoppiceError WORKER_FAILED when a thread died meanwhile
   */
  run(record: number): void {
    if (this.threads === 1) {
      this.runAlone(record)
      return
    }
    const { words } = this.#control
    Atomics.store(words, Word.jobDone, 0)
    Atomics.store(words, Word.jobRecord, record)
    // Last, because from here on shares can be claimed.
    this.#job = (this.#job % LAST_JOB) + 1
    Atomics.store(words, Word.jobTicket, this.#job << SHARE_BITS)
    Atomics.notify(words, Word.jobTicket)
    work(this.#kernels, words, this.#shares)
    for (;;) {
      const done = Atomics.load(words, Word.jobDone)
      if (done === this.#shares) return
      this.#control.checkFault()
      waitForChange(words, Word.jobDone, done)
    }
  }

  /** For jobs too small to be worth a hand-out: the result is the same by contract. */
  runAlone(record: number): void {
    this.#kernels.run(record, 0, 1)
  }
}

/** The loop of a compute thread. Returns when the control block says stop. */
export function serveJobs(kernels: Kernels, control: Control, threads: number): void {
  const shares = jobShares(threads)
  while (!control.stopped) {
    const ticket = work(kernels, control.words, shares)
    waitForChange(control.words, Word.jobTicket, ticket)
  }
}
