/** Other programs: started, timed, and ended together with this one. */
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { atEnd } from './cleanup.ts'

export interface RunOptions {
  readonly timeoutMs: number
  readonly environment?: Readonly<Record<string, string>>
  /** A file to which the process writes its own number before it becomes the command: cgroup.procs. */
  readonly enter?: string
}

export interface Run {
  /** Undefined when a signal ended it. */
  readonly status: number | undefined
  readonly signal: string | undefined
  readonly timedOut: boolean
  readonly stdout: string
  readonly stderr: string
  readonly seconds: number
  /** Bytes that storage gave for it and its descendants, page faults included; undefined where the system does not tell. */
  readonly readBytes: number | undefined
}

/** Whether a program of this name is on the PATH. */
export async function isInstalled(program: string): Promise<boolean> {
  try {
    return (await run([program, '--version'], { timeoutMs: 10_000 })).status === 0
  } catch {
    return false
  }
}

/**
 * A shell that stays: a process's reads are added to its parent's when the parent has waited for it. It says nothing
 * of its own where the system keeps no such account.
 */
const WRAPPER = `if [ -n "$1" ]; then echo $$ > "$1" || exit 125; fi
account=$2; shift 2; "$@"; status=$?
cat /proc/$$/io > "$account" 2> /dev/null
exit $status`

/** Runs a command to its end. @throws Error when it cannot be started */
export async function run(command: readonly string[], options: RunOptions): Promise<Run> {
  const linux = process.platform === 'linux'
  const directory = mkdtempSync(join(tmpdir(), 'coppice-run-'))
  const removeDirectory = atEnd(() => rmSync(directory, { recursive: true, force: true }))
  const account = join(directory, 'io')
  const [program, ...args] = linux
    ? ['/bin/sh', '-c', WRAPPER, 'sh', options.enter ?? '', account, ...command]
    : command
  const began = performance.now()
  const child = spawn(program, args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...options.environment },
    // A process group, so that the command ends with its shell.
    detached: linux,
  })
  const kill = atEnd(() => killGroup(child))
  let timedOut = false
  const watchdog = setTimeout(() => {
    timedOut = true
    killGroup(child)
  }, options.timeoutMs)
  try {
    const [stdout, stderr, [status, signal]] = await Promise.all([
      collect(child.stdout),
      collect(child.stderr),
      new Promise<[number | null, string | null]>((resolve, reject) => {
        child.once('error', reject)
        child.once('close', (code, signal) => resolve([code, signal]))
      }),
    ])
    return {
      status: status ?? undefined,
      signal: signal ?? undefined,
      timedOut,
      stdout,
      stderr,
      seconds: (performance.now() - began) / 1000,
      readBytes: readBytes(account),
    }
  } finally {
    clearTimeout(watchdog)
    kill()
    removeDirectory()
  }
}

function killGroup(child: ChildProcess): void {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return
  try {
    process.kill(-child.pid, 'SIGKILL')
  } catch {
    child.kill('SIGKILL')
  }
}

async function collect(stream: NodeJS.ReadableStream): Promise<string> {
  stream.setEncoding('utf8')
  let text = ''
  for await (const chunk of stream) text += chunk
  return text
}

function readBytes(account: string): number | undefined {
  try {
    const match = /^read_bytes: (\d+)$/m.exec(readFileSync(account, 'utf8'))
    return match === null ? undefined : Number(match[1])
  } catch {
    return undefined
  }
}
