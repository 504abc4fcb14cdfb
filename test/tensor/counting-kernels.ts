import type { Kernels } from '../../src/tensor/kernels.ts'
import { RECORD_BYTES } from '../../src/tensor/operations.ts'

/** Records of a job begin at a multiple of this; the multiple is what its shares count. */
export const JOB_SPACING = 4096

const STEPS = JOB_SPACING / RECORD_BYTES
const SHARES = 2048

/** What threads did, in memory that all of them see. */
export class Tally {
  readonly buffer: SharedArrayBuffer
  /** Sum of the jobs' numbers that every share of every step was executed with: [step][share]. */
  readonly sums: Int32Array
  /** Shares executed so far, by step. */
  readonly executed: Int32Array
  /** What `executed` must have come to when the next step begins; written before each job. */
  readonly due: Int32Array
  /** Shares of each step of the current job; written before each job. */
  readonly shares: Int32Array
  /** Shares that were executed before the step in front of theirs was done, or as one of another number. */
  readonly wrong: Int32Array

  constructor(buffer: SharedArrayBuffer = new SharedArrayBuffer(4 * (STEPS * (SHARES + 3) + 1))) {
    this.buffer = buffer
    const array = (from: number, length: number): Int32Array => new Int32Array(buffer, 4 * from, length)
    this.sums = array(0, STEPS * SHARES)
    this.executed = array(STEPS * SHARES, STEPS)
    this.due = array(STEPS * (SHARES + 1), STEPS)
    this.shares = array(STEPS * (SHARES + 2), STEPS)
    this.wrong = array(STEPS * (SHARES + 3), 1)
  }

  sum(step: number, share: number): number {
    return this.sums[step * SHARES + share]
  }

  count(bank: number, record: number, part: number, parts: number): void {
    const step = (record % JOB_SPACING) / RECORD_BYTES
    if (parts !== this.shares[step] || part < 0 || part >= parts) Atomics.add(this.wrong, 0, 1)
    if (step > 0 && Atomics.load(this.executed, step - 1) !== this.due[step - 1]) Atomics.add(this.wrong, 0, 1)
    Atomics.add(this.sums, step * SHARES + part, jobValue(bank, Math.floor(record / JOB_SPACING)))
    Atomics.add(this.executed, step, 1)
  }
}

/** What a share counts: it differs by the address of the job's records and by the memory they lie in. */
export const jobValue = (bank: number, job: number): number => bank * 100 + job

/** As if there were so many memories. */
export const BANKS = 3

/** Kernels whose jobs only count, for each memory. */
export const countingKernels = (tally: Tally): Kernels[] =>
  Array.from({ length: BANKS }, (_, bank) => countingKernelsOf(bank, tally))

function countingKernelsOf(bank: number, tally: Tally): Kernels {
  const unused = (): never => {
    throw new Error('only jobs are counted')
  }
  return {
    run: (record, part, parts) => tally.count(bank, record, part, parts),
    checksum: unused,
    sumExp: unused,
    coarseSumExp: unused,
    sumExp64: unused,
    topK: unused,
    outliers: unused,
  }
}

export interface CountingData {
  readonly control: SharedArrayBuffer
  readonly tally: SharedArrayBuffer
  readonly threads: number
  readonly cores: number
}
