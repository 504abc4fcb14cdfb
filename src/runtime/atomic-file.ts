/** Files that exist whole or not at all, and what is left of those whose writer was killed. */
import { randomBytes } from 'node:crypto'
import * as fs from 'node:fs'
import * as path from 'node:path'
import { fileError, listDirectory, removePath, statPath, tryTo } from './files.ts'
import { processSpace } from './platform.ts'

const TEMPORARY = /^(.+)\.([0-9a-f]{6})-(\d+)-[0-9a-f]{8}\.tmp$/

/** Says who made a file. */
export const processTag = (): string => `${processSpace}-${process.pid}`

/**
 * Whether a tag that begins as `processTag` is that of a process which no longer runs. Only of processes with numbers
 * of the same series as this one's that can be told.
 */
export function abandonedBy(tag: string): boolean {
  const [space, pid] = tag.split('-')
  return space === processSpace && !isRunning(Number(pid))
}

const ABANDONED_MS = 24 * 60 * 60 * 1000

/** The final name of a file that `AtomicFile` is writing under the name `name`; `undefined` for other names. */
export const finalNameOf = (name: string): string | undefined => TEMPORARY.exec(name)?.[1]

/**
 * Removes temporary files of `AtomicFile` whose writer is gone: a process that is known to run no
 * longer, or one that has not written for a day.
 */
export function removeAbandonedTemporaries(directory: string): void {
  for (const name of listDirectory(directory)) {
    const match = TEMPORARY.exec(name)
    if (match === null) continue
    const file = path.join(directory, name)
    const gone = abandonedBy(`${match[2]}-${match[3]}`)
    const modifiedMs = statPath(file)?.stamp.modifiedMs ?? Number.POSITIVE_INFINITY
    if (gone || Date.now() - modifiedMs > ABANDONED_MS) removePath(file)
  }
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    // Any other answer (no permission, not supported) does not say that it is gone.
    return (error as NodeJS.ErrnoException).code !== 'ESRCH'
  }
}

/**
 * A file under a temporary name beside its final place. `commit` makes it durable and renames it;
 * until then nothing exists under the final name.
 */
export class AtomicFile {
  readonly path: string
  readonly temporaryPath: string
  #descriptor: number
  #committed = false

  constructor(file: string) {
    this.path = file
    this.temporaryPath = `${file}.${processTag()}-${randomBytes(4).toString('hex')}.tmp`
    try {
      this.#descriptor = fs.openSync(this.temporaryPath, 'wx')
    } catch (cause) {
      throw fileError('create', this.temporaryPath, cause)
    }
  }

  write(bytes: Uint8Array): void {
    let done = 0
    try {
      while (done < bytes.length) done += fs.writeSync(this.#descriptor, bytes, done, bytes.length - done)
    } catch (cause) {
      throw fileError('write', this.temporaryPath, cause)
    }
  }

  /** @param durable false when it does no harm that a crash of the system leaves any other content */
  commit(durable = true): void {
    try {
      if (durable) fs.fsyncSync(this.#descriptor)
      this.#close()
      fs.renameSync(this.temporaryPath, this.path)
      this.#committed = true
      if (durable) syncDirectory(path.dirname(this.path))
    } catch (cause) {
      throw fileError('finish', this.path, cause)
    }
  }

  /**
   * Removes the temporary file, also after a `commit` that failed. Does nothing after one that did not. Never throws:
   * it is called because of an error that says more, and `removeAbandonedTemporaries` removes what is left.
   */
  discard(): void {
    if (this.#committed) return
    tryTo(() => this.#close())
    tryTo(() => removePath(this.temporaryPath))
  }

  #close(): void {
    if (this.#descriptor < 0) return
    const descriptor = this.#descriptor
    // A descriptor is gone also when closing it fails, and its number may soon be that of another file.
    this.#descriptor = -1
    fs.closeSync(descriptor)
  }
}

/**
 * Writes a small file so that either the old content or the whole new one is there after a crash.
 * @param durable false when that need only hold for a crash of the process
 */
export function writeFileAtomically(file: string, content: string | Uint8Array, durable = true): void {
  const out = new AtomicFile(file)
  try {
    out.write(typeof content === 'string' ? new TextEncoder().encode(content) : content)
    out.commit(durable)
  } catch (error) {
    out.discard()
    throw error
  }
}

function syncDirectory(directory: string): void {
  // A directory cannot be opened for fsync on Windows; there the rename itself is journaled.
  if (process.platform === 'win32') return
  const descriptor = fs.openSync(directory, 'r')
  try {
    fs.fsyncSync(descriptor)
  } finally {
    fs.closeSync(descriptor)
  }
}
