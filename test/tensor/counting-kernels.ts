import type { Kernels } from '../../src/tensor/kernels.ts'

export interface CountingData {
  readonly control: SharedArrayBuffer
  readonly counts: SharedArrayBuffer
  readonly threads: number
}

/** Kernels whose jobs count, in one word per share, how often each share was executed. */
export function countingKernels(counts: SharedArrayBuffer): Kernels {
  const words = new Int32Array(counts)
  const unused = (): never => {
    throw new Error('only jobs are counted')
  }
  return {
    run: (record, part, parts) => {
      if (parts !== words.length) throw new Error(`${parts} shares, not ${words.length}`)
      Atomics.add(words, part, record)
    },
    checksum: unused,
    argmax: unused,
    maximum: unused,
    sumExp: unused,
    topK: unused,
  }
}
