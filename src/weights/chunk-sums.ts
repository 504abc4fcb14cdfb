/** Checksums of data that passes by in pieces of any size. */
import type { ChecksumBuffer } from '../tensor/packer.ts'
import type { Segment } from './manifest.ts'

type Run = Omit<Segment, 'checksums'>

export class ChunkSums {
  readonly #runs: readonly Run[]
  readonly #sums: number[][]
  readonly #buffer: ChecksumBuffer
  /** The run that the next byte belongs to, or lies before. */
  #run = 0
  #position = 0
  #buffered = 0

  /**
   * @param runs in the order of their offsets, apart from one another
   * @param buffer of `bufferBytes(runs)` or more; used by one at a time
   */
  constructor(runs: readonly Run[], buffer: ChecksumBuffer) {
    this.#runs = runs
    this.#sums = runs.map(() => [])
    this.#buffer = buffer
  }

  /** The largest chunk. */
  static bufferBytes(runs: readonly Run[]): number {
    return Math.max(0, ...runs.map((run) => Math.min(run.chunkBytes, run.bytes)))
  }

  /** The next bytes of the data; the first ones are at offset 0. */
  feed(bytes: Uint8Array): void {
    let from = 0
    while (from < bytes.length && this.#run < this.#runs.length) {
      const run = this.#runs[this.#run]
      if (this.#position < run.offset) {
        const skip = Math.min(run.offset - this.#position, bytes.length - from)
        from += skip
        this.#position += skip
        continue
      }
      const sums = this.#sums[this.#run]
      const size = Math.min(run.chunkBytes, run.bytes - sums.length * run.chunkBytes)
      const count = Math.min(size - this.#buffered, bytes.length - from)
      this.#buffer.bytes.set(bytes.subarray(from, from + count), this.#buffered)
      this.#buffered += count
      this.#position += count
      from += count
      if (this.#buffered < size) break
      sums.push(this.#buffer.checksum(size))
      this.#buffered = 0
      if (this.#position === run.offset + run.bytes) this.#run++
    }
    this.#position += bytes.length - from
  }

  /** One list per run, complete when all its bytes were fed. */
  get sums(): readonly (readonly number[])[] {
    return this.#sums
  }
}
