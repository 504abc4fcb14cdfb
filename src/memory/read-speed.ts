/** How fast this machine reads a model's files. */
import { type OpenMode, ReadableFile, refusalOfDirectReads } from '../runtime/files.ts'
import { now } from '../runtime/platform.ts'
import { alignDown, type Unit, unitFootprint } from './load-board.ts'

/** Loader threads at the most. */
export const MOST_LOADERS = 4

/** Bytes per second by the number of reads that are under way at once: 1 to `MOST_LOADERS`. */
export type SpeedByReaders = readonly number[]

export interface ReadSpeeds {
  /** Past the page cache; absent where the file system does not take such reads. */
  readonly direct?: SpeedByReaders
  /** Of files that are in the page cache. */
  readonly buffered: SpeedByReaders
}

/** As loaders read. */
const BLOCK_BYTES = 4 * 1024 * 1024
/** Enough to leave the first request's latency behind, unless the disk takes longer for it than anybody would wait. */
const SAMPLE_BYTES = 64 * 1024 * 1024
const SAMPLE_MS = 120
/** Of each sample; the better one counts. */
const ROUNDS = 2

interface Block {
  readonly path: string
  readonly at: number
  readonly bytes: number
}

/** Reads samples of the units, which lie on one file system. Takes three seconds at the most where a disk is not very slow. */
export async function measureReadSpeeds(units: readonly Unit[]): Promise<ReadSpeeds> {
  const blocks = units.flatMap(blocksOf)
  // WASM memory begins at a page, which direct reads need and an ordinary buffer does not promise.
  const memory = new WebAssembly.Memory({ initial: (MOST_LOADERS * BLOCK_BYTES) / 65536 })
  const sampler = new Sampler(blocks, memory)
  const direct = refusalOfDirectReads(units[0].path) === undefined ? await sampler.speeds('direct') : undefined
  return { ...(direct && { direct }), buffered: await sampler.speeds('buffered') }
}

function blocksOf(unit: Unit): Block[] {
  const blocks: Block[] = []
  const end = alignDown(unit.start) + unitFootprint(unit)
  for (let at = alignDown(unit.start); at < end; at += BLOCK_BYTES) {
    blocks.push({ path: unit.path, at, bytes: Math.min(BLOCK_BYTES, end - at) })
  }
  return blocks
}

class Sampler {
  readonly #blocks: readonly Block[]
  readonly #memory: WebAssembly.Memory
  /** What is read next. A disk that remembers what it read lately is asked for something else. */
  #next = 0

  constructor(blocks: readonly Block[], memory: WebAssembly.Memory) {
    this.#blocks = blocks
    this.#memory = memory
  }

  async speeds(mode: OpenMode): Promise<SpeedByReaders> {
    const files = new Map<string, ReadableFile>()
    for (const { path } of this.#blocks) if (!files.has(path)) files.set(path, new ReadableFile(path, mode))
    try {
      const best = new Array<number>(MOST_LOADERS).fill(0)
      for (let round = 0; round < ROUNDS; round++) {
        for (let turn = 1; turn <= MOST_LOADERS; turn++) {
          // Forth and back: some disks are fast for a while and then no more.
          const readers = round % 2 === 0 ? turn : MOST_LOADERS + 1 - turn
          const first = this.#next
          // The first time brings the pages in.
          const cached = mode === 'buffered' ? (await this.#sample(files, readers, SAMPLE_BYTES)).bytes : undefined
          if (cached !== undefined) this.#next = first
          const { bytes, ms } = await this.#sample(files, readers, cached ?? SAMPLE_BYTES)
          best[readers - 1] = Math.max(best[readers - 1], bytes / Math.max(1e-6, ms / 1000))
        }
      }
      return best
    } finally {
      for (const file of files.values()) file.close()
    }
  }

  async #sample(files: ReadonlyMap<string, ReadableFile>, readers: number, most: number) {
    let bytes = 0
    const began = now()
    let left = most
    const read = async (reader: number): Promise<void> => {
      while (left > 0 && now() - began < SAMPLE_MS) {
        const block = this.#blocks[this.#next]
        this.#next = (this.#next + 1) % this.#blocks.length
        left -= block.bytes
        const target = new Uint8Array(this.#memory.buffer, reader * BLOCK_BYTES, block.bytes)
        bytes += await files.get(block.path)!.readBeside(target, block.at)
      }
    }
    await Promise.all(Array.from({ length: readers }, (_, reader) => read(reader)))
    return { bytes, ms: now() - began }
  }
}
