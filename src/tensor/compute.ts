/**
 * Jobs on one or more threads. A job is a record in shared memory; every thread executes its own
 * share of it, and the engine's thread takes share 0.
 */
import { type Control, WAIT_LIMIT_MS, Word } from './control.ts'
import type { Kernels } from './kernels.ts'

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

export class Compute {
  readonly threads: number
  readonly #kernels: Kernels
  readonly #control: Control

  /** @param threads this one included; `threads - 1` others must be in `serveJobs` on the same control block */
  constructor(kernels: Kernels, control: Control, threads: number) {
    this.threads = threads
    this.#kernels = kernels
    this.#control = control
  }

  /**
   * Executes the job at `record` and returns when all shares are done.
   * @throws CoppiceError WORKER_FAILED when a thread died meanwhile
   */
  run(record: number): void {
    if (this.threads === 1) {
      this.#kernels.run(record, 0, 1)
      return
    }
    const { words } = this.#control
    const others = this.threads - 1
    Atomics.store(words, Word.jobDone, 0)
    Atomics.store(words, Word.jobRecord, record)
    Atomics.add(words, Word.jobEpoch, 1)
    Atomics.notify(words, Word.jobEpoch)
    this.#kernels.run(record, 0, this.threads)
    for (let done = Atomics.load(words, Word.jobDone); done < others; done = Atomics.load(words, Word.jobDone)) {
      this.#control.checkFault()
      waitForChange(words, Word.jobDone, done)
    }
  }

  /** For jobs too small to be worth a hand-out: the result is the same by contract. */
  runAlone(record: number): void {
    this.#kernels.run(record, 0, 1)
  }
}

/** The loop of compute thread `part` (1 to threads - 1). Returns when the control block says stop. */
export function serveJobs(kernels: Kernels, control: Control, part: number, threads: number): void {
  const { words } = control
  // Not the current value: a job may have been handed out between this thread's report and this line.
  let epoch = 0
  while (!control.stopped) {
    const now = Atomics.load(words, Word.jobEpoch)
    if (now === epoch) {
      waitForChange(words, Word.jobEpoch, epoch)
      continue
    }
    epoch = now
    kernels.run(Atomics.load(words, Word.jobRecord) >>> 0, part, threads)
    Atomics.add(words, Word.jobDone, 1)
    Atomics.notify(words, Word.jobDone)
  }
}
