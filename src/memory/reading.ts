/** How files are read: past the page cache or through it, and by how many threads. */
import type { OpenMode } from '../runtime/files.ts'
import { MOST_LOADERS, type ReadSpeeds, type SpeedByReaders } from './read-speed.ts'

export interface ReadingRequest {
  /** 'auto', or what the caller asked for. */
  readonly io: 'auto' | OpenMode
  /** Whether the file system takes direct reads. */
  readonly direct: boolean
  /** Bytes that the machine can spare, such as for the page cache. */
  readonly available: number
  readonly targetBytes: number
  /** 0: nothing streams. */
  readonly slots: number
  readonly slotBytes: number
  /** Measured on the file system that holds the files. */
  readonly speeds: ReadSpeeds | undefined
}

export interface Reading {
  readonly mode: OpenMode
  /** Whether what is read stays in the page cache: later passes find it there. */
  readonly cached: boolean
  /** Threads; 0: the engine's own reads. */
  readonly loaders: number
}

/** A resident target below this is read by the engine's own thread, which costs no further one. */
const SMALL_TARGET_BYTES = 64e6

/**
 * Units from here on are read by several threads. On a disk whose fio reaches 4.3 GB/s with eight reads at once, passes of
 * units of 13 MB read 3.0 GB/s with two threads, 4.0 with three and 4.3 with four.
 */
const LARGE_UNIT_BYTES = 4 * 1024 * 1024

export function chooseReading(request: ReadingRequest): Reading {
  const { slots, slotBytes, targetBytes, available } = request
  const mode = request.io === 'auto' ? chooseMode(request) : request.io
  const cached = mode === 'buffered' && targetBytes <= available
  if (slots === 0) return { mode, cached, loaders: targetBytes < SMALL_TARGET_BYTES ? 0 : 1 }
  // One keeps up with small reads, and every thread costs memory.
  return { mode, cached, loaders: slotBytes >= LARGE_UNIT_BYTES ? MOST_LOADERS : 1 }
}

function chooseMode({ direct, available, targetBytes, slots, speeds }: ReadingRequest): OpenMode {
  if (!direct || slots === 0) return 'buffered'
  // A target that does not fit in free memory would only churn the page cache.
  if (targetBytes > available) return 'direct'
  // One that does is faster from there, except on disks that are faster than a copy.
  return speeds?.direct !== undefined && best(speeds.direct) > best(speeds.buffered) ? 'direct' : 'buffered'
}

const best = (speeds: SpeedByReaders): number => Math.max(...speeds)
