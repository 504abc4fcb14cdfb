/**
 * Synchronous files. Every other folder reaches the disk through this door, so a runtime without
 * node:fs needs one replacement and not twenty.
 */

import { createHash } from 'node:crypto'
import * as fs from 'node:fs'
import * as os from 'node:os'
import * as path from 'node:path'
import { fileURLToPath } from 'node:url'
import { CoppiceError } from '../errors.ts'
import { hostTag } from './platform.ts'

/** Identity of a file's content as the file system tells it; a change of any field is a change of the file. */
export interface FileStamp {
  readonly bytes: number
  readonly modifiedMs: number
  readonly inode: number
}

export type OpenMode = 'buffered' | 'direct'

/** Whether this platform can bypass the page cache (Linux's O_DIRECT). */
export const directIoAvailable =
  process.platform === 'linux' && typeof fs.constants.O_DIRECT === 'number' && fs.constants.O_DIRECT !== 0

/** Direct transfers need pointer, offset and length to be multiples of this many bytes. */
export const DIRECT_ALIGNMENT = 4096

/**
 * Tries one direct read: some file systems refuse when a file is opened, others only when it is read, and some
 * want more than `DIRECT_ALIGNMENT`. Whatever works for one file works for all of its file system.
 * @param file one with at least two blocks of `DIRECT_ALIGNMENT` bytes
 * @returns `undefined` when it worked, else what the system answered
 */
export function refusalOfDirectReads(file: string): string | undefined {
  if (!directIoAvailable) return 'this platform has no direct reads'
  // The least aligned place and length that a loader may ask for.
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true })
  const target = new Uint8Array(memory.buffer, DIRECT_ALIGNMENT, DIRECT_ALIGNMENT)
  let descriptor: number | undefined
  try {
    descriptor = fs.openSync(file, fs.constants.O_RDONLY | fs.constants.O_DIRECT)
    const got = fs.readSync(descriptor, target, 0, target.length, DIRECT_ALIGNMENT)
    return got === target.length ? undefined : `${got} bytes instead of ${target.length}`
  } catch (error) {
    return systemCode(error)
  } finally {
    if (descriptor !== undefined) fs.closeSync(descriptor)
  }
}

/** An open file, read by position. */
export class ReadableFile {
  readonly path: string
  readonly mode: OpenMode
  #descriptor: number

  /** @throws CoppiceError MODEL_NOT_FOUND when there is no such file, FILE_SYSTEM otherwise. */
  constructor(file: string, mode: OpenMode = 'buffered') {
    this.path = file
    this.mode = mode
    const flags = mode === 'direct' ? fs.constants.O_RDONLY | fs.constants.O_DIRECT : fs.constants.O_RDONLY
    try {
      this.#descriptor = fs.openSync(file, flags)
    } catch (cause) {
      throw fileError('open', file, cause)
    }
  }

  /** @throws CoppiceError FILE_SYSTEM */
  stamp(): FileStamp {
    try {
      const s = fs.fstatSync(this.#descriptor)
      return { bytes: s.size, modifiedMs: s.mtimeMs, inode: s.ino }
    } catch (cause) {
      throw fileError('stat', this.path, cause)
    }
  }

  /**
   * Fills `target` from byte `position` on.
   * @returns bytes read; fewer than `target.length` only at the end of the file.
   * @throws CoppiceError FILE_SYSTEM
   */
  read(target: Uint8Array, position: number): number {
    let done = 0
    while (done < target.length) {
      let got: number
      try {
        got = fs.readSync(this.#descriptor, target, done, target.length - done, position + done)
      } catch (cause) {
        throw fileError('read', this.path, cause)
      }
      if (got === 0) break
      const end = done + got
      // A direct read goes on at a whole block, also where the system stopped within one.
      const next = this.mode === 'direct' && end < target.length ? end - (end % DIRECT_ALIGNMENT) : end
      if (next === done) return end
      done = next
    }
    return done
  }

  /** Reads some bytes, at the most those that `target` takes, beside this thread: several reads can be under way at once. */
  readBeside(target: Uint8Array, position: number): Promise<number> {
    return new Promise((resolve, reject) => {
      fs.read(this.#descriptor, target, 0, target.length, position, (cause, got) => {
        if (cause === null) resolve(got)
        else reject(fileError('read', this.path, cause))
      })
    })
  }

  close(): void {
    if (this.#descriptor < 0) return
    fs.closeSync(this.#descriptor)
    this.#descriptor = -1
  }
}

export function readBytes(file: string): Uint8Array {
  try {
    return fs.readFileSync(file)
  } catch (cause) {
    throw fileError('read', file, cause)
  }
}

export function readText(file: string): string {
  return new TextDecoder('utf-8', { fatal: false }).decode(readBytes(file))
}

export const sameBytes = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0

const COMPARED_BYTES = 1 << 20

/** Whether two files hold the same bytes. @throws CoppiceError MODEL_NOT_FOUND | FILE_SYSTEM */
export function sameContent(a: string, b: string): boolean {
  const files = [new ReadableFile(a), new ReadableFile(b)]
  try {
    if (files[0].stamp().bytes !== files[1].stamp().bytes) return false
    const blocks = files.map(() => new Uint8Array(COMPARED_BYTES))
    for (let position = 0; ; position += COMPARED_BYTES) {
      const [one, other] = files.map((file, i) => blocks[i].subarray(0, file.read(blocks[i], position)))
      if (!sameBytes(one, other)) return false
      if (one.length < COMPARED_BYTES) return true
    }
  } finally {
    for (const file of files) file.close()
  }
}

export interface FoundPath {
  readonly kind: 'file' | 'directory' | 'other'
  readonly stamp: FileStamp
  /** Number of the file system that holds it. */
  readonly device: number
}

/** `undefined` when nothing is there. Follows links. */
export function statPath(file: string): FoundPath | undefined {
  let s: fs.Stats | undefined
  try {
    s = fs.statSync(file, { throwIfNoEntry: false })
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOTDIR') return undefined
    throw fileError('stat', file, cause)
  }
  if (s === undefined) return undefined
  const kind = s.isFile() ? 'file' : s.isDirectory() ? 'directory' : 'other'
  return { kind, stamp: { bytes: s.size, modifiedMs: s.mtimeMs, inode: s.ino }, device: s.dev }
}

export const isFile = (file: string): boolean => statPath(file)?.kind === 'file'
export const isDirectory = (file: string): boolean => statPath(file)?.kind === 'directory'

export function listDirectory(directory: string): string[] {
  try {
    return fs.readdirSync(directory).sort()
  } catch (cause) {
    throw fileError('list', directory, cause)
  }
}

/** With its parents, one by one: Node's own way to make them answers ENOENT on a read-only file system. */
export function makeDirectory(directory: string): void {
  if (isDirectory(directory)) return
  const parent = path.dirname(directory)
  if (parent !== directory) makeDirectory(parent)
  try {
    fs.mkdirSync(directory)
  } catch (cause) {
    // Another process may have made it meanwhile.
    if (!isDirectory(directory)) throw fileError('create', directory, cause)
  }
}

/** Removes a file, or a directory with all that is in it. Nothing there is no error. */
export function removePath(file: string): void {
  try {
    fs.rmSync(file, { recursive: true, force: true })
  } catch (cause) {
    throw fileError('remove', file, cause)
  }
}

/** Bytes that an unprivileged user can still write on the file system that holds `directory`. */
export function freeDiskBytes(directory: string): number {
  try {
    const s = fs.statfsSync(directory)
    return s.bavail * s.bsize
  } catch (cause) {
    throw fileError('ask for the free space of', directory, cause)
  }
}

/**
 * What tells a file system from others, on this machine and on those that share its cache directory: of the one that
 * holds `file`, or will hold it when it is written.
 */
export function fileSystemOf(file: string): string {
  let place = path.resolve(file)
  while (!fs.existsSync(place) && path.dirname(place) !== place) place = path.dirname(place)
  const device = `${hostTag}, device ${fs.statSync(place).dev}`
  try {
    const { type, bsize, blocks } = fs.statfsSync(place)
    return `${device}, type ${type}, ${blocks} blocks of ${bsize}`
  } catch {
    // Some, such as those of user programs, do not tell what they are.
    return device
  }
}

/**
 * True for the name of a file in a directory that is given by other means: no separator, drive or
 * parent of any platform, whatever platform this is.
 */
export function isPlainFileName(name: string): boolean {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what must not be in a name
  return name !== '' && name !== '.' && name !== '..' && name.length <= 255 && !/[/\\:\u0000-\u001f]/.test(name)
}

export const joinPath = (...parts: string[]): string => path.join(...parts)
export const baseName = (file: string): string => path.basename(file)
export const directoryName = (file: string): string => path.dirname(file)
export const absolutePath = (file: string): string => path.resolve(file)

/** The directory of the installed package: the nearest one above this module that has a package.json. */
export function packageDirectory(): string {
  let directory = path.dirname(fileURLToPath(import.meta.url))
  while (!fs.existsSync(path.join(directory, 'package.json'))) {
    const parent = path.dirname(directory)
    if (parent === directory)
      throw new CoppiceError('FILE_SYSTEM', 'the package.json of coppice is missing; install it again')
    directory = parent
  }
  return directory
}

export function packageVersion(): string {
  return (JSON.parse(readText(path.join(packageDirectory(), 'package.json'))) as { version: string }).version
}

/** Where derived data may be kept: COPPICE_CACHE, else the platform's own place for caches. */
export function cacheDirectory(): string {
  const own = process.env.COPPICE_CACHE
  if (own !== undefined && own !== '') return path.resolve(own)
  if (process.platform === 'win32') {
    return path.join(process.env.LOCALAPPDATA ?? path.join(os.homedir(), 'AppData', 'Local'), 'coppice', 'Cache')
  }
  if (process.platform === 'darwin') return path.join(os.homedir(), 'Library', 'Caches', 'coppice')
  const xdg = process.env.XDG_CACHE_HOME
  return path.join(xdg !== undefined && path.isAbsolute(xdg) ? xdg : path.join(os.homedir(), '.cache'), 'coppice')
}

/** Incremental SHA-256 (FIPS 180-4). */
export class Sha256 {
  readonly #hash = createHash('sha256')

  update(bytes: Uint8Array | string): this {
    this.#hash.update(bytes)
    return this
  }

  hex(): string {
    return this.#hash.digest('hex')
  }
}

/** What the system answered when a call failed, such as EIO; also of an error of this module. */
export function systemCode(error: unknown): string {
  const cause = error instanceof CoppiceError && error.cause !== undefined ? error.cause : error
  const { code, errno } = cause as NodeJS.ErrnoException
  if (code !== undefined && code !== 'UNKNOWN' && /^[A-Z0-9_]+$/.test(code)) return code
  // Runtimes have names for common answers only.
  const named = Object.entries(os.constants.errno).find(([, number]) => number === Math.abs(errno ?? 0))
  return named?.[0] ?? code ?? String(cause)
}

/** What can be done about an answer of the system. */
const ADVICE: Readonly<Record<string, string>> = {
  ENOSPC: 'its disk is full; free some space and do it again',
  EDQUOT: 'its disk quota is used up; free some space and do it again',
  EFBIG: 'the file may not become so large here; raise the limit (ulimit -f) or choose another file system',
  EROFS: 'its file system is read-only; choose a directory that can be written',
  EACCES: 'this user may not; change the permissions or choose another directory',
  EPERM: 'this user may not; change the permissions or choose another directory',
  EIO: "the disk failed; see what the system's log says of it, and use another one",
  ESTALE: 'the file server no longer knows the file; do it again',
  EMFILE: 'this process has too many files open; raise the limit (ulimit -n)',
  ENFILE: 'the system has too many files open; end other programs or raise its limit',
}

/** What is done to files that need not be there before; what these lack is the directory. */
const MAKING: readonly string[] = ['create', 'write', 'finish']

/** For steps whose failure changes nothing: cleaning up after another error, signs of life. */
export function tryTo(step: () => void): void {
  try {
    step()
  } catch {
    // The caller says why this may be.
  }
}

/** An error of the system as one with a code that says what to do. */
export function fileError(action: string, file: string, cause: unknown): CoppiceError {
  const code = systemCode(cause)
  if (code === 'ENOENT' || code === 'ENOTDIR') {
    if (MAKING.includes(action)) {
      return new CoppiceError(
        'FILE_SYSTEM',
        `cannot ${action} ${file}: the system answered ${code}: ${path.dirname(file)}, or what was written there, is not there any more; see that the directory exists and do it again`,
        { cause },
      )
    }
    return new CoppiceError(
      'MODEL_NOT_FOUND',
      `cannot ${action} ${file}: there is no such file or directory; check the path`,
      { cause },
    )
  }
  const advice = ADVICE[code] === undefined ? '' : `: ${ADVICE[code]}`
  return new CoppiceError('FILE_SYSTEM', `cannot ${action} ${file}: the system answered ${code}${advice}`, { cause })
}
