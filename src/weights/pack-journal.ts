/**
 * The output directory while it is being packed. A journal says which files are finished, so that
 * packing can go on after a crash; it exists from before the first file until after the manifest.
 */
import { CoppiceError } from '../errors.ts'
import { finalNameOf, removeAbandonedTemporaries, writeFileAtomically } from '../runtime/atomic-file.ts'
import { joinPath, listDirectory, makeDirectory, readText, removePath, statPath } from '../runtime/files.ts'
import { LockFile } from '../runtime/lock-file.ts'
import { isJsonObject, parseJsonObject } from './json.ts'
import { FORMAT_VERSION, MANIFEST_NAME, type Quantisation } from './manifest.ts'
import { COPIED_NAMES, parsePackedFile } from './manifest-json.ts'
import { hashFile } from './packed.ts'
import { type DataLayout, EDGES_NAME } from './packed-layout.ts'
import type { WrittenFile } from './packed-writer.ts'

export const JOURNAL_NAME = 'coppice.partial.json'
/** Held while a process packs. */
export const LOCK_NAME = 'coppice.lock'

/** What must be the same for finished files to be of use. */
export interface JournalKey {
  /** Fingerprint of the source. */
  readonly source: string
  readonly quantisation: Quantisation
}

/** Files that are gone when the model is packed. */
const OWN_NAMES: readonly string[] = [JOURNAL_NAME, LOCK_NAME]

const LAYER_NAME = /^layer-\d{5,}\.safetensors$/

const isPackedName = (name: string): boolean =>
  name === EDGES_NAME || LAYER_NAME.test(name) || COPIED_NAMES.includes(name)

export class PackJournal {
  readonly #directory: string
  readonly #key: string
  readonly #lock: LockFile
  readonly #finished = new Map<string, unknown>()

  /**
   * Makes `directory` ready for packing: creates it, or takes over what an earlier attempt with the
   * same key finished there. What earlier attempts with other keys left is removed. While another process
   * packs into it, waits for its end.
   * @param onWait called every 50 ms while it waits; may throw to give up
   * @throws CoppiceError INVALID_OPTION when the directory holds anything else, also what another process
   *   has packed meanwhile, FILE_SYSTEM, and what `onWait` throws
   */
  constructor(directory: string, key: JournalKey, onWait: () => void) {
    this.#directory = directory
    this.#key = JSON.stringify({ version: FORMAT_VERSION, ...key })
    checkOutput(directory)
    makeDirectory(directory)
    this.#lock = new LockFile(joinPath(directory, LOCK_NAME), onWait)
    try {
      this.#takeOver(checkOutput(directory))
    } catch (error) {
      this.#lock.release()
      throw error
    }
  }

  #takeOver(names: readonly string[]): void {
    removeAbandonedTemporaries(this.#directory)
    const files = this.#read()
    if (files === undefined) {
      this.#write()
      for (const name of names) if (isPackedName(name)) removePath(joinPath(this.#directory, name))
    } else {
      for (const [name, entry] of Object.entries(files)) this.#finished.set(name, entry)
    }
  }

  /** To be called now and then: tells others that this process is still at work. */
  touch(): void {
    this.#lock.touch()
  }

  /**
   * To be called before the manifest is written: a process that was stopped for long may have been taken for gone,
   * and another one be at work in the directory. What it writes must not be called whole by this one.
   * @throws CoppiceError FILE_SYSTEM
   */
  requireHeld(): void {
    if (this.#lock.holds()) return
    throw new CoppiceError(
      'FILE_SYSTEM',
      `another process took over packing into ${this.#directory} while this one stood still (${LOCK_NAME} is no longer its own); wait for that one, or pack again`,
    )
  }

  /** Lets others pack into the directory. */
  release(): void {
    this.#lock.release()
  }

  /**
   * A file that is finished and still as it was written, or `undefined`.
   * @param onBlock called after every block of the file that was read; may throw to give up
   */
  finished(name: string, layout: DataLayout, onBlock: () => void): WrittenFile | undefined {
    const written = this.#entry(name, layout)
    if (written === undefined) return undefined
    const path = joinPath(this.#directory, name)
    const found = statPath(path)
    if (found?.kind !== 'file' || found.stamp.bytes !== written.file.bytes) return undefined
    return hashFile(path, onBlock) === written.file.sha256 ? written : undefined
  }

  /** What the journal says of a file, if that makes sense. */
  #entry(name: string, layout: DataLayout): WrittenFile | undefined {
    const entry = this.#finished.get(name)
    if (!isJsonObject(entry) || typeof entry.sourceDigest !== 'string') return undefined
    try {
      return { file: parsePackedFile(entry.file, name, layout), sourceDigest: entry.sourceDigest }
    } catch (error) {
      if (error instanceof TypeError) return undefined
      throw error
    }
  }

  /** Remembers a file that is durable under its final name. */
  add(written: WrittenFile): void {
    this.#finished.set(written.file.name, written)
    this.#write()
  }

  /** Removes what attempts with other keys may have left beside the files of the model. */
  removeOthers(names: ReadonlySet<string>): void {
    for (const name of listDirectory(this.#directory)) {
      if (isPackedName(name) && !names.has(name)) removePath(joinPath(this.#directory, name))
    }
  }

  /** To be called when the manifest is there. */
  remove(): void {
    removePath(joinPath(this.#directory, JOURNAL_NAME))
  }

  /** The entries of a journal with the same key. */
  #read(): object | undefined {
    const path = joinPath(this.#directory, JOURNAL_NAME)
    if (statPath(path)?.kind !== 'file') return undefined
    try {
      const { files, ...key } = parseJsonObject(readText(path))
      return JSON.stringify(key) === this.#key && isJsonObject(files) ? files : undefined
    } catch (error) {
      // A journal that cannot be read is as good as none.
      if (error instanceof CoppiceError) throw error
      return undefined
    }
  }

  #write(): void {
    const files = Object.fromEntries(this.#finished)
    const text = JSON.stringify({ ...JSON.parse(this.#key), files })
    // Not synced: what it says of a file is compared with the file before it is believed.
    writeFileAtomically(joinPath(this.#directory, JOURNAL_NAME), text, false)
  }
}

/** @returns names of the files in `directory`, if it is there and may be packed into */
function checkOutput(directory: string): string[] {
  const found = statPath(directory)
  if (found === undefined) return []
  const refuse = (what: string): CoppiceError =>
    new CoppiceError('INVALID_OPTION', `cannot pack into ${directory}: ${what}; choose a new or an empty directory`)
  if (found.kind !== 'directory') throw refuse('it is not a directory')
  const names = listDirectory(directory)
  if (names.includes(MANIFEST_NAME)) throw refuse('it already holds a packed model')
  const begun = names.includes(JOURNAL_NAME)
  const stranger = names.find((name) => {
    if (OWN_NAMES.includes(name)) return false
    const final = finalNameOf(name)
    if (final !== undefined) return !OWN_NAMES.includes(final) && final !== MANIFEST_NAME && !isPackedName(final)
    return !begun || !isPackedName(name)
  })
  if (stranger !== undefined) throw refuse(`it holds ${stranger}, which packing did not put there`)
  return names
}
