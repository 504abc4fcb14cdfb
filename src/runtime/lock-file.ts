/**
 * A file that tells other processes, also of other machines, that somebody is at work in its directory. It may
 * fail to keep two apart (a holder that was stopped for a minute counts as gone), so nothing sound may hang on it:
 * it spares the work of doing the same twice.
 */
import { randomBytes } from 'node:crypto'
import * as fs from 'node:fs'
import { abandonedBy, processTag } from './atomic-file.ts'
import { fileError } from './files.ts'

/** A holder that is gone without a trace is waited for as long. */
const STALE_MS = 60_000
const TOUCH_MS = 1000
const POLL_MS = 50

const sleeper = new Int32Array(new SharedArrayBuffer(4))

export class LockFile {
  readonly path: string
  readonly #tag = `${processTag()}-${randomBytes(4).toString('hex')}`
  #touched = performance.now()

  /**
   * Waits until no one else holds it.
   * @param onWait called every 50 ms while it waits; may throw to give up
   * @param staleMs how long a holder of whom nothing else is known may be silent
   * @throws CoppiceError FILE_SYSTEM, and what `onWait` throws
   */
  constructor(path: string, onWait: () => void, staleMs: number = STALE_MS) {
    this.path = path
    let seen = ''
    let since = performance.now()
    while (!this.#create()) {
      const holder = readHolder(path)
      if (holder === undefined) continue
      if (holder.state !== seen) {
        seen = holder.state
        since = performance.now()
      }
      if (abandonedBy(holder.tag) || performance.now() - since >= staleMs) this.#take(holder.tag)
      else {
        onWait()
        Atomics.wait(sleeper, 0, 0, POLL_MS)
      }
    }
  }

  /** To be called now and then while the work goes on. */
  touch(): void {
    if (performance.now() - this.#touched < TOUCH_MS) return
    this.#touched = performance.now()
    try {
      const now = Date.now() / 1000
      fs.utimesSync(this.path, now, now)
    } catch {
      // Somebody has taken it over; both go on.
    }
  }

  release(): void {
    if (readHolder(this.path)?.tag === this.#tag) fs.rmSync(this.path, { force: true })
  }

  #create(): boolean {
    try {
      fs.writeFileSync(this.path, this.#tag, { flag: 'wx' })
      return true
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code === 'EEXIST') return false
      throw fileError('create', this.path, cause)
    }
  }

  /** Puts a holder's file aside; of several that try, one succeeds. */
  #take(tag: string): void {
    const aside = `${this.path}.${this.#tag}.tmp`
    try {
      fs.renameSync(this.path, aside)
    } catch {
      return
    }
    // In between another one may have done the same and be the holder now.
    if (readHolder(aside)?.tag !== tag && !fs.existsSync(this.path)) fs.renameSync(aside, this.path)
    fs.rmSync(aside, { force: true })
  }
}

/** `undefined` when nobody holds it any more. */
function readHolder(path: string): { tag: string; state: string } | undefined {
  try {
    const tag = fs.readFileSync(path, 'utf8')
    return { tag, state: `${tag} ${fs.statSync(path).mtimeMs}` }
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw fileError('read', path, cause)
  }
}
