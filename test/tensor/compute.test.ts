import { Worker } from 'node:worker_threads'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { CoppiceError } from '../../src/errors.ts'
import { Compute, MAXIMUM_STEPS, MAXIMUM_THREADS } from '../../src/tensor/compute.ts'
import { Control, Word } from '../../src/tensor/control.ts'
import { BANKS, type CountingData, countingKernels, JOB_SPACING, jobValue, Tally } from './counting-kernels.ts'
import { randomNumbers } from './harness.ts'

const test = suite('jobs on several threads')

async function withThreads(
  threads: number,
  cores: number,
  use: (compute: Compute, tally: Tally) => void | Promise<void>,
): Promise<void> {
  const control = new Control()
  const tally = new Tally()
  const workerData: CountingData = { control: control.buffer, tally: tally.buffer, threads, cores }
  const url = new URL('./compute-child.js', import.meta.url)
  const workers = Array.from({ length: threads - 1 }, () => new Worker(url, { workerData }))
  await Promise.all(workers.map((worker) => new Promise((resolve) => worker.once('message', resolve))))
  try {
    await use(new Compute({ kernels: countingKernels(tally), control, threads, cores }), tally)
  } finally {
    control.stop()
    await Promise.all(workers.map((worker) => new Promise((resolve) => worker.once('exit', resolve))))
  }
}

/** Runs jobs of random steps and checks after each that every share was executed once, in its turn. */
class Jobs {
  readonly #compute: Compute
  readonly #tally: Tally
  readonly #expected = new Map<string, number>()
  readonly #random = randomNumbers(5)

  constructor(compute: Compute, tally: Tally) {
    this.#compute = compute
    this.#tally = tally
  }

  run(job: number, shares: Int32Array): void {
    const tally = this.#tally
    // The records' place differs from job to job, so a share of the wrong job shows in the sums.
    const address = (job % 97) + 1
    const bank = Math.floor(this.#random() * BANKS)
    const value = jobValue(bank, address)
    shares.forEach((count, step) => {
      tally.shares[step] = count
      tally.due[step] += count
    })
    this.#compute.run({ bank, pointer: address * JOB_SPACING }, shares, shares.length)
    assert.is(Atomics.load(tally.wrong, 0), 0, `job ${job}: shares out of turn`)
    shares.forEach((count, step) => {
      for (let share = 0; share < count; share++) {
        const name = `${step}/${share}`
        const expected = (this.#expected.get(name) ?? 0) + value
        this.#expected.set(name, expected)
        const sum = tally.sum(step, share)
        if (sum !== expected) assert.is(sum, expected, `job ${job}, step ${step}, share ${share} of ${count}`)
      }
    })
  }

  /** Up to `MAXIMUM_STEPS` steps, half of them of one share. */
  randomShares(most: number): Int32Array {
    const random = this.#random
    const steps = Math.floor(random() * (MAXIMUM_STEPS + 1))
    return Int32Array.from({ length: steps }, () => (random() < 0.5 ? 1 : 1 + Math.floor(random() * most)))
  }
}

for (const threads of [1, 2, 3, 5]) {
  test(`with ${threads} threads every share of every step is executed exactly once, in its turn`, async () => {
    await withThreads(threads, threads, (compute, tally) => {
      const jobs = new Jobs(compute, tally)
      for (let job = 1; job <= 3000; job++) jobs.run(job, jobs.randomShares(12))
    })
  })
}

test('threads that went to sleep wake up again, and those beyond the cores do no harm', async () => {
  for (const cores of [1, 2, 4]) {
    await withThreads(4, cores, async (compute, tally) => {
      const jobs = new Jobs(compute, tally)
      for (let job = 1; job <= 60; job++) {
        jobs.run(job, jobs.randomShares(40))
        if (job % 3 === 0) await new Promise((resolve) => setTimeout(resolve, 2))
      }
    })
  }
})

test('as many threads and shares as there may be', async () => {
  const control = new Control()
  const tally = new Tally()
  const kernels = countingKernels(tally)
  const compute = new Compute({ kernels, control, threads: MAXIMUM_THREADS, cores: 1 })
  const most = compute.shares(1e9, 1e12)
  assert.ok(most > MAXIMUM_THREADS)
  new Jobs(compute, tally).run(1, new Int32Array(MAXIMUM_STEPS).fill(most))
})

test('a step gets no more shares than it can be cut into, and one when it is small', () => {
  const compute = new Compute({ kernels: countingKernels(new Tally()), control: new Control(), threads: 2, cores: 2 })
  assert.is(compute.shares(3, 1e9), 3)
  assert.is(compute.shares(1000, 10), 1)
  assert.is(compute.shares(1000, 0), 1)
  assert.ok(compute.shares(1000, 1e9) >= 4)
})

test('a job whose threads are gone ends with WORKER_FAILED', () => {
  const control = new Control()
  const tally = new Tally()
  const [counting] = countingKernels(tally)
  const kernels = {
    ...counting,
    // As if another thread had claimed a share and died with it.
    run: (record: number, part: number, parts: number) => {
      counting.run(record, part, parts)
      if (part === 0) {
        Atomics.add(control.words, Word.jobUnfinished, 1)
        control.raiseFault()
      }
    },
  }
  const compute = new Compute({ kernels: [kernels], control, threads: 2, cores: 2 })
  try {
    compute.run({ bank: 0, pointer: JOB_SPACING }, Int32Array.of(8), 1)
    assert.unreachable()
  } catch (error) {
    assert.is((error as CoppiceError).code, 'WORKER_FAILED')
  }
})

test.run()
