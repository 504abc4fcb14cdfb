/**
 * Jobs on one or more threads. A job is a list of steps; a step is a record in shared memory, cut into
 * shares. Threads claim one share after the other, and whoever finishes a step's last share opens the
 * next step, so no step waits for one particular thread: not for the engine's, and not for one that the
 * system has put aside, as long as that one holds no share.
 */
import type { Place } from './arena.ts'
import { type Control, WAIT_LIMIT_MS, Word } from './control.ts'
import type { Kernels } from './kernels.ts'
import { RECORD_BYTES } from './operations.ts'

/**
 * Shares of a step per thread at the most: the last share to end is waited for, so a step takes half a
 * share longer than its threads need on average.
 */
const SHARES_PER_THREAD = 16

/** Shares of a step whose scratch is per share: each costs memory. */
const SCRATCH_SHARES_PER_THREAD = 4

/**
 * Multiplications of a share at the least, which take somewhat under 1 us. Opening a step for two
 * threads costs some 110 ns and claiming a share some 35 (AMD Zen 3, Node 20 and 24).
 */
const SHARE_WORK = 16384

/** Shares at the most of a step that needs scratch for each. */
export const scratchShares = (threads: number): number => (threads === 1 ? 1 : threads * SCRATCH_SHARES_PER_THREAD)

/**
 * The ticket word: the open step above, its unclaimed shares below, counted down. Nothing about the
 * job is read before a share is claimed, so it does no harm when an old ticket comes up again.
 */
const SHARE_BITS = 11
const SHARE_MASK = (1 << SHARE_BITS) - 1

/** More shares than these threads can have would not fit in the ticket. */
export const MAXIMUM_THREADS = 64

/** Steps of one job at the most. */
export const MAXIMUM_STEPS = 31

/** The ticket of a job that is over, and of a fresh control block the one before. */
const OVER = MAXIMUM_STEPS << SHARE_BITS

/** What the engine adds to the count of sleepers. */
const ENGINE_SLEEPS = 1 << 16
const SLEEPING_HELPERS = ENGINE_SLEEPS - 1

/**
 * Turns of the polling loop before a thread goes to sleep. A sleep and wake-up costs about 60 us,
 * a turn some 10 ns, so a thread polls for about as long as a wake-up would cost it.
 */
const SPIN_TURNS = 6000

/** What every thread of a model knows. */
export interface ComputeParts {
  /** This thread's instance of the kernels in each memory, by bank. */
  readonly kernels: readonly Kernels[]
  readonly control: Control
  /** Threads that work on jobs, the engine's included. */
  readonly threads: number
  /** Threads that can run at once: more than these are not woken, they would only take turns. */
  readonly cores: number
}

/** One thread's side of the walk through a job's steps. */
class Walker {
  readonly #kernels: readonly Kernels[]
  readonly #words: Int32Array
  readonly #threads: number
  readonly #useful: number

  constructor({ kernels, control, threads, cores }: ComputeParts) {
    this.#kernels = kernels
    this.#words = control.words
    this.#threads = threads
    this.#useful = Math.min(threads, cores)
  }

  /** Executes shares until all of the open step are claimed. @returns the ticket as it was seen last */
  work(): number {
    const words = this.#words
    for (;;) {
      const ticket = Atomics.load(words, Word.jobTicket)
      const left = ticket & SHARE_MASK
      if (left === 0) return ticket
      if (Atomics.compareExchange(words, Word.jobTicket, ticket, ticket - 1) !== ticket) continue
      const step = ticket >>> SHARE_BITS
      const shares = words[Word.jobShares + step]
      this.#kernels[words[Word.jobBank]].run(this.#record(step), shares - left, shares)
      if (Atomics.sub(words, Word.jobUnfinished, 1) === 1) this.open(step + 1)
    }
  }

  /** Opens a step. Steps of one share are executed here and now: nobody else needs to hear of them. */
  open(first: number): void {
    const words = this.#words
    const steps = words[Word.jobSteps]
    const kernels = this.#kernels[words[Word.jobBank]]
    for (let step = first; step < steps; step++) {
      const shares = words[Word.jobShares + step]
      if (shares > 1) {
        Atomics.store(words, Word.jobUnfinished, shares)
        // Last, because from here on shares can be claimed.
        Atomics.store(words, Word.jobTicket, (step << SHARE_BITS) | shares)
        this.#wake(Math.min(shares, this.#useful))
        return
      }
      kernels.run(this.#record(step), 0, 1)
    }
    Atomics.store(words, Word.jobTicket, OVER)
    if (Atomics.load(words, Word.jobSleepers) >= ENGINE_SLEEPS) this.#wakeEngine()
  }

  /** Polls for a while. @returns whether the ticket is another one now */
  poll(ticket: number): boolean {
    for (let turn = 0; turn < SPIN_TURNS; turn++) {
      if (Atomics.load(this.#words, Word.jobTicket) !== ticket) return true
    }
    return false
  }

  /** Wakes as many sleepers as it takes for `wanted` threads to be awake. */
  #wake(wanted: number): void {
    const sleepers = Atomics.load(this.#words, Word.jobSleepers)
    if (sleepers === 0) return
    const engine = sleepers >= ENGINE_SLEEPS ? 1 : 0
    let missing = wanted - (this.#threads - (sleepers & SLEEPING_HELPERS) - engine)
    if (missing > 0 && engine === 1) {
      this.#wakeEngine()
      missing--
    }
    if (missing > 0) Atomics.notify(this.#words, Word.jobTicket, missing)
  }

  #wakeEngine(): void {
    Atomics.add(this.#words, Word.jobEngineCalls, 1)
    Atomics.notify(this.#words, Word.jobEngineCalls)
  }

  #record(step: number): number {
    return (this.#words[Word.jobRecords] >>> 0) + step * RECORD_BYTES
  }
}

export class Compute {
  readonly threads: number
  readonly #control: Control
  readonly #walker: Walker

  /** `threads - 1` others must be in `serveJobs` on the same control block. */
  constructor(parts: ComputeParts) {
    this.threads = parts.threads
    this.#control = parts.control
    this.#walker = new Walker(parts)
  }

  /**
   * Into how many shares to cut a step.
   * @param units what the kernel cannot cut @param work multiplications of the whole step, about
   */
  shares(units: number, work: number): number {
    if (this.threads === 1) return 1
    return Math.max(1, Math.min(units, this.threads * SHARES_PER_THREAD, Math.floor(work / SHARE_WORK)))
  }

  /**
   * Executes a job and returns when it is done.
   * @param records where the steps' records lie, one behind the other: the job works in their bank
   * @param shares of each step, the first `steps` of them
   * @throws CoppiceError WORKER_FAILED when a thread died meanwhile
   */
  run(records: Place, shares: Int32Array, steps: number): void {
    const { words } = this.#control
    words[Word.jobBank] = records.bank
    words[Word.jobRecords] = records.pointer
    words[Word.jobSteps] = steps
    for (let step = 0; step < steps; step++) words[Word.jobShares + step] = shares[step]
    this.#walker.open(0)
    for (;;) {
      const ticket = this.#walker.work()
      if (ticket === OVER) return
      if (this.#walker.poll(ticket)) continue
      this.#control.checkFault()
      this.#sleep(ticket)
    }
  }

  #sleep(ticket: number): void {
    const { words } = this.#control
    // In this order: whoever changes the ticket from here on sees a sleeper and changes the count of calls.
    Atomics.add(words, Word.jobSleepers, ENGINE_SLEEPS)
    const calls = Atomics.load(words, Word.jobEngineCalls)
    if (Atomics.load(words, Word.jobTicket) === ticket) {
      Atomics.wait(words, Word.jobEngineCalls, calls, WAIT_LIMIT_MS)
    }
    Atomics.sub(words, Word.jobSleepers, ENGINE_SLEEPS)
  }
}

/** The loop of a compute thread. Returns when the control block says stop. */
export function serveJobs(parts: ComputeParts): void {
  const { control } = parts
  const { words } = control
  const walker = new Walker(parts)
  while (!control.stopped) {
    const ticket = walker.work()
    if (walker.poll(ticket)) continue
    Atomics.add(words, Word.jobSleepers, 1)
    // Without polling in between: a thread that is not wanted takes no time from those that are.
    while (Atomics.wait(words, Word.jobTicket, ticket, WAIT_LIMIT_MS) === 'timed-out' && !control.stopped);
    Atomics.sub(words, Word.jobSleepers, 1)
  }
}
