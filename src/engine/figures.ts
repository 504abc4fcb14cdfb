/**
 * Figures about this machine that take time to find out, kept in the cache directory: one file for each situation
 * that they are true of.
 */
import { CoppiceError } from '../errors.ts'
import { writeFileAtomically } from '../runtime/atomic-file.ts'
import { cacheDirectory, isFile, joinPath, makeDirectory, readText, Sha256 } from '../runtime/files.ts'

/** How long a measured speed is believed: disks fill up, drivers and neighbours change. */
export const OLDEST_SPEED_MS = 30 * 24 * 60 * 60 * 1000

export const isSpeed = (value: unknown): boolean => typeof value === 'number' && Number.isFinite(value) && value > 0

export interface Figures<T> {
  /** What is known; `undefined` when nothing is, or nothing that is whole, of this very situation, and young enough. */
  read(): T | undefined
  write(value: T): void
}

export interface FiguresOptions<T> {
  /** Folder of the cache directory. */
  readonly folder: string
  /** Everything that the figures depend on. */
  readonly situation: readonly string[]
  readonly isValid: (value: Partial<T>) => boolean
  /** Older figures are not used. Default: they never age. */
  readonly oldestMs?: number
  /** Milliseconds since 1970. */
  readonly today?: () => number
}

export function figuresOf<T extends object>(options: FiguresOptions<T>): Figures<T> {
  const { folder, situation, isValid, oldestMs = Number.POSITIVE_INFINITY, today = Date.now } = options
  const key = situation.join('\n')
  const directory = joinPath(cacheDirectory(), folder)
  const file = joinPath(directory, `${new Sha256().update(key).hex().slice(0, 24)}.json`)
  return {
    read: () => {
      try {
        if (!isFile(file)) return undefined
        const stored = JSON.parse(readText(file)) as { key?: unknown; written?: unknown; value?: Partial<T> }
        const { value, written } = stored
        if (stored.key !== key || typeof value !== 'object' || value === null || !isValid(value)) return undefined
        const age = today() - Number(written)
        // A clock that was set back makes no figures that stay young for years.
        return age <= oldestMs && age >= -oldestMs ? (value as T) : undefined
      } catch {
        // Unreadable or damaged: they are found out anew.
        return undefined
      }
    },
    write: (value) => {
      try {
        makeDirectory(directory)
        writeFileAtomically(file, `${JSON.stringify({ key, written: today(), value })}\n`)
      } catch (error) {
        // A cache that cannot be written costs the next start the time, and no model its load.
        if (!(error instanceof CoppiceError)) throw error
      }
    },
  }
}
