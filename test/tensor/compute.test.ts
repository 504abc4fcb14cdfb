import { Worker } from 'node:worker_threads'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { CoppiceError } from '../../src/errors.ts'
import { Compute, jobShares } from '../../src/tensor/compute.ts'
import { Control, Word } from '../../src/tensor/control.ts'
import { type CountingData, countingKernels } from './counting-kernels.ts'

const test = suite('jobs on several threads')

async function withThreads(threads: number, use: (compute: Compute, counts: Int32Array) => void): Promise<void> {
  const control = new Control()
  const counts = new SharedArrayBuffer(4 * jobShares(threads))
  const workerData: CountingData = { control: control.buffer, counts, threads }
  const url = new URL('./compute-child.js', import.meta.url)
  const workers = Array.from({ length: threads - 1 }, () => new Worker(url, { workerData }))
  await Promise.all(workers.map((worker) => new Promise((resolve) => worker.once('message', resolve))))
  try {
    use(new Compute(countingKernels(counts), control, threads), new Int32Array(counts))
  } finally {
    control.stop()
    await Promise.all(workers.map((worker) => new Promise((resolve) => worker.once('exit', resolve))))
  }
}

for (const threads of [1, 2, 3, 5]) {
  test(`with ${threads} threads every share of every job is executed exactly once`, async () => {
    await withThreads(threads, (compute, counts) => {
      let expected = 0
      for (let job = 1; job <= 3000; job++) {
        // The record's address differs from job to job, so a share of the wrong job shows in the sums.
        const record = (job % 97) + 1
        expected += record
        compute.run(record)
        for (let share = 0; share < counts.length; share++) {
          if (counts[share] !== expected) assert.is(counts[share], expected, `job ${job}, share ${share}`)
        }
      }
    })
  })
}

test('a job whose threads are gone ends with WORKER_FAILED', () => {
  const control = new Control()
  const threads = 2
  const counts = new SharedArrayBuffer(4 * jobShares(threads))
  const counting = countingKernels(counts)
  const words = control.words
  const compute = new Compute(
    {
      ...counting,
      // As if another thread had claimed a share and died with it.
      run: (record, part, parts) => {
        counting.run(record, part, parts)
        if (part === 0) {
          Atomics.sub(words, Word.jobDone, 1)
          control.raiseFault()
        }
      },
    },
    control,
    threads,
  )
  try {
    compute.run(1)
    assert.unreachable()
  } catch (error) {
    assert.is((error as CoppiceError).code, 'WORKER_FAILED')
  }
})

test.run()
