/**
 * A file that tells other processes, also of other machines, that somebody is at work in its directory. It may
 * fail to keep two apart: a holder that was stopped for a minute counts as gone, and may go on when another one has
 * taken over. `holds` tells it so, but not for how long; so nothing sound may hang on the lock. It spares the work
 * of doing the same twice.
 */
import { randomBytes } from 'node:crypto'
import * as fs from 'node:fs'
import { abandonedBy, processTag } from './atomic-file.ts'
import { fileError, removePath, tryTo } from './files.ts'

/** How long the lock waits for what, in ms. */
export interface LockTimes {
  /** A holder of whom nothing else is known may be silent for as long. */
  readonly staleMs?: number
  /** A file that does not say who holds it: its maker died, or met a full disk, between creating and writing it. */
  readonly emptyMs?: number
  /** Between two signs of life. */
  readonly touchMs?: number
}

const POLL_MS = 50

const sleeper = new Int32Array(new SharedArrayBuffer(4))

interface Holder {
  readonly tag: string
  /** Another one after every sign of life. */
  readonly state: string
}

export class LockFile {
  readonly path: string
  readonly #tag = `${processTag()}-${randomBytes(4).toString('hex')}`
  readonly #times: Required<LockTimes>
  #touched = performance.now()

  /**
   * Waits until no one else holds it.
   * @param onWait called every 50 ms while it waits; may throw to give up
   * @throws CoppiceError FILE_SYSTEM, and what `onWait` throws
   */
  constructor(path: string, onWait: () => void, times: LockTimes = {}) {
    this.path = path
    this.#times = { staleMs: 60_000, emptyMs: 2000, touchMs: 1000, ...times }
    let seen = ''
    let since = performance.now()
    while (!this.#create()) {
      const holder = readHolder(path)
      if (holder !== undefined && holder.state !== seen) {
        seen = holder.state
        since = performance.now()
      }
      if (holder !== undefined && this.#isGone(holder, performance.now() - since)) {
        this.#take(holder.tag)
        if (this.#create()) return
      }
      onWait()
      Atomics.wait(sleeper, 0, 0, POLL_MS)
    }
  }

  /** Whether it is still this one's: another process may have taken it over. @throws CoppiceError FILE_SYSTEM */
  holds(): boolean {
    return readHolder(this.path)?.tag === this.#tag
  }

  /** To be called now and then while the work goes on. */
  touch(): void {
    if (performance.now() - this.#touched < this.#times.touchMs) return
    this.#touched = performance.now()
    tryTo(() => {
      const now = Date.now() / 1000
      if (this.holds()) fs.utimesSync(this.path, now, now)
    })
  }

  /** Lets go of it. One that cannot be removed is taken over as that of a process that is gone, or silent. */
  release(): void {
    tryTo(() => {
      if (this.holds()) removePath(this.path)
    })
  }

  #create(): boolean {
    let descriptor: number
    try {
      descriptor = fs.openSync(this.path, 'wx')
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code === 'EEXIST') return false
      throw fileError('create', this.path, cause)
    }
    try {
      try {
        fs.writeFileSync(descriptor, this.#tag)
      } finally {
        fs.closeSync(descriptor)
      }
    } catch (cause) {
      tryTo(() => removePath(this.path))
      throw fileError('write', this.path, cause)
    }
    return true
  }

  #isGone({ tag }: Holder, silentMs: number): boolean {
    const { staleMs, emptyMs } = this.#times
    return abandonedBy(tag) || silentMs >= (tag === '' ? Math.min(emptyMs, staleMs) : staleMs)
  }

  /** Puts a holder's file aside; of several that try, one succeeds. */
  #take(tag: string): void {
    const aside = `${this.path}.${this.#tag}.tmp`
    try {
      fs.renameSync(this.path, aside)
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return
      throw fileError('take over', this.path, cause)
    }
    try {
      // In between another one may have done the same and be the holder now.
      if (readHolder(aside)?.tag !== tag && !fs.existsSync(this.path)) fs.renameSync(aside, this.path)
    } catch (cause) {
      throw fileError('give back', this.path, cause)
    } finally {
      tryTo(() => removePath(aside))
    }
  }
}

/** `undefined` when nobody holds it any more. */
function readHolder(path: string): Holder | undefined {
  try {
    const tag = fs.readFileSync(path, 'utf8')
    return { tag, state: `${tag} ${fs.statSync(path).mtimeMs}` }
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw fileError('read', path, cause)
  }
}
