/** Packed files, read while a model is in use: whole or not at all, and only as long as they stay what they were. */
import { CoppiceError } from '../errors.ts'
import {
  type FileStamp,
  type OpenMode,
  ReadableFile,
  refusalOfDirectReads,
  statPath,
  systemCode,
} from '../runtime/files.ts'

/** What was found out about a file when its model was loaded. All threads go by it. */
export interface FileAccess {
  readonly stamp: FileStamp
  readonly mode: OpenMode
  /** Whether reads may become buffered when the system does not take direct ones any more. */
  readonly mayFallBack: boolean
}

/** By path. */
export type FileAccesses = ReadonlyMap<string, FileAccess>

export type IoChoice = 'auto' | 'direct' | 'buffered'

/**
 * Looks at every file, and tries a direct read once per file system.
 * @param wanted 'auto' takes direct reads wherever they work, 'direct' nothing else
 * @returns paths at which there is no file are left out
 * @throws CoppiceError FILE_SYSTEM when direct reads are wanted and do not work for one of the files
 */
export function findAccess(
  paths: Iterable<string>,
  wanted: IoChoice,
  refusal: (path: string) => string | undefined = refusalOfDirectReads,
): FileAccesses {
  const accesses = new Map<string, FileAccess>()
  const refusals = new Map<number, string | undefined>()
  for (const path of new Set(paths)) {
    const found = statPath(path)
    if (found === undefined) continue
    const { device, stamp } = found
    if (wanted !== 'buffered' && !refusals.has(device)) refusals.set(device, refusal(path))
    const answer = refusals.get(device)
    if (wanted === 'direct' && answer !== undefined) {
      throw new CoppiceError(
        'FILE_SYSTEM',
        `io 'direct' is not possible: a direct read of ${path} got the answer ${answer}; use 'auto' or 'buffered', or another file system`,
      )
    }
    const mode = wanted === 'buffered' || answer !== undefined ? 'buffered' : 'direct'
    accesses.set(path, { stamp, mode, mayFallBack: wanted === 'auto' })
  }
  return accesses
}

/** How all files together are read. */
export function summariseAccess(accesses: FileAccesses): OpenMode | 'mixed' {
  const modes = new Set([...accesses.values()].map(({ mode }) => mode))
  return modes.size > 1 ? 'mixed' : modes.has('direct') ? 'direct' : 'buffered'
}

/** What of an open file a reader needs. */
export type PositionalFile = Pick<ReadableFile, 'stamp' | 'read' | 'close'>
export type OpenFile = (path: string, mode: OpenMode) => PositionalFile

const openReadable: OpenFile = (path, mode) => new ReadableFile(path, mode)

export class PackedReader {
  readonly path: string
  readonly #access: FileAccess
  readonly #open: OpenFile
  #mode: OpenMode
  #file: PositionalFile

  /**
   * The file stays open: one that is deleted or replaced later is still read to the end where the platform
   * keeps open files alive.
   * @throws CoppiceError MODEL_NOT_FOUND | CORRUPT_FILE | FILE_SYSTEM
   */
  constructor(path: string, access: FileAccess, open: OpenFile = openReadable) {
    this.path = path
    this.#access = access
    this.#open = open
    this.#mode = access.mode
    this.#file = open(path, access.mode)
    try {
      this.#checkUnchanged()
    } catch (error) {
      this.close()
      throw error
    }
  }

  /**
   * Fills `target` from byte `position` on. Direct reads need both and the length aligned.
   * @param what it is, for messages
   * @throws CoppiceError CORRUPT_FILE when the file ended or was changed, FILE_SYSTEM with the system's answer
   */
  read(target: Uint8Array, position: number, what: string): void {
    const got = this.#readSome(target, position, what)
    if (got < target.length) {
      throw new CoppiceError(
        'CORRUPT_FILE',
        `${this.path} ended at byte ${position + got} while ${what} was read; ${target.length} bytes from ${position} on were expected; pack the model again`,
      )
    }
    // Afterwards, because a write that came in between shows then.
    this.#checkUnchanged()
  }

  close(): void {
    this.#file.close()
  }

  #readSome(target: Uint8Array, position: number, what: string): number {
    for (;;) {
      try {
        return this.#file.read(target, position)
      } catch (error) {
        if (!(error instanceof CoppiceError)) throw error
        const answer = systemCode(error)
        if (answer === 'EINVAL' && this.#mode === 'direct' && this.#access.mayFallBack) {
          this.#readBuffered()
          continue
        }
        throw new CoppiceError(
          'FILE_SYSTEM',
          `${this.path} could not be read: the system answered ${answer} to a read of ${target.length} bytes from ${position} on (${what}); see to the disk or the connection to it, then call again`,
          { cause: error },
        )
      }
    }
  }

  #readBuffered(): void {
    const file = this.#open(this.path, 'buffered')
    this.#file.close()
    this.#file = file
    this.#mode = 'buffered'
    this.#checkUnchanged()
  }

  #checkUnchanged(): void {
    const { bytes, modifiedMs } = this.#access.stamp
    const found = this.#file.stamp()
    if (found.bytes === bytes && found.modifiedMs === modifiedMs) return
    throw new CoppiceError(
      'CORRUPT_FILE',
      `${this.path} was changed while the model was in use: ${describe(bytes, modifiedMs)} when it was loaded, ${describe(found.bytes, found.modifiedMs)} now; load the model again`,
    )
  }
}

const describe = (bytes: number, modifiedMs: number): string =>
  `${bytes} bytes of ${new Date(modifiedMs).toISOString()}`
