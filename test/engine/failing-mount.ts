/**
 * A directory on a file system that fails on demand, with the kernel in between as with any other: Linux with
 * /dev/fuse, and the right to mount.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { scratch } from './harness.ts'

/** What happens to reads of files whose names contain `file`, from byte `from` of the file on. */
export type Fault = { readonly file: string; readonly from?: number } & (
  | { readonly kind: 'error'; readonly code: 'EIO' | 'ENOMEM' | 'EACCES' | 'EINVAL' | 'ESTALE' }
  /** No answer as long as the fault lasts. */
  | { readonly kind: 'hang' }
  | { readonly kind: 'slow'; readonly ms: number }
  /** A third of what was asked for. */
  | { readonly kind: 'short' }
  /** Nothing, as if the file ended here. */
  | { readonly kind: 'end' }
  | { readonly kind: 'refuse direct' }
)

export interface ServedRead {
  readonly file: string
  readonly offset: number
  readonly bytes: number
  readonly direct: boolean
}

/** Deno and Bun do not read from any descriptor that they inherit. */
const node = process.versions.bun === undefined && process.versions.deno === undefined ? process.execPath : 'node'
const program = fileURLToPath(new URL('./failing-mount-program.js', import.meta.url))
let mounts = 0

export class FailingMount {
  readonly directory: string
  readonly #server: ChildProcess
  readonly #faults: string
  readonly #log: string
  readonly #onExit = (): void => this.unmount()

  /** @returns a reason why there is none here, in words */
  static async open(source: string): Promise<FailingMount | string> {
    if (process.platform !== 'linux' || !existsSync('/dev/fuse')) return 'this system has no /dev/fuse'
    if (process.getuid?.() !== 0) return 'mounting needs to be root'
    if (spawnSync(node, ['--version']).status !== 0) return 'there is no node to serve the file system'
    const mount = new FailingMount(source, join(scratch, `mount-${mounts++}`))
    return (await mount.#isThere()) ? mount : 'the file system could not be mounted'
  }

  private constructor(source: string, base: string) {
    this.directory = join(base, 'files')
    this.#faults = join(base, 'faults')
    this.#log = join(base, 'log')
    mkdirSync(this.directory, { recursive: true })
    this.set(undefined)
    this.clearLog()
    const options = 'fd=3,rootmode=40000,user_id=0,group_id=0,ro'
    const script = `exec 3<>/dev/fuse && mount -i -t fuse -o ${options} coppice-test "$1" && exec "$2" "$3" "$4" "$5" "$6"`
    const given = [this.directory, node, program, source, this.#faults, this.#log]
    this.#server = spawn('/bin/sh', ['-c', script, 'sh', ...given], { stdio: ['ignore', 'ignore', 'inherit'] })
    process.on('exit', this.#onExit)
  }

  /** From now on reads fail like this, or not at all. */
  set(fault: Fault | undefined): void {
    const next = `${this.#faults}.next`
    writeFileSync(next, fault === undefined ? '' : JSON.stringify(fault))
    renameSync(next, this.#faults)
    // Reads that hang are answered with the next request.
    if (fault === undefined) statSync(join(this.directory, 'nothing'), { throwIfNoEntry: false })
  }

  get reads(): ServedRead[] {
    const lines = readFileSync(this.#log, 'utf8').split('\n').slice(0, -1)
    return lines.map((line) => {
      const [file, offset, bytes, how] = line.split(' ')
      return { file, offset: Number(offset), bytes: Number(bytes), direct: how === 'direct' }
    })
  }

  clearLog(): void {
    writeFileSync(this.#log, '')
  }

  /** Ends the server, upon which every read fails, and takes the file system away. */
  unmount(): void {
    process.off('exit', this.#onExit)
    this.#server.kill('SIGKILL')
    spawnSync('umount', ['-l', this.directory])
    rmSync(this.#faults, { force: true })
  }

  async #isThere(): Promise<boolean> {
    for (let tries = 0; tries < 100 && this.#server.exitCode === null; tries++) {
      if (statSync(join(this.directory, 'coppice.json'), { throwIfNoEntry: false }) !== undefined) return true
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
    this.unmount()
    return false
  }
}
