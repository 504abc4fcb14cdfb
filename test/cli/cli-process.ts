/** The `coppice` command in a process of its own, on the runtime that runs the test. */
import { type ChildProcess, spawn } from 'node:child_process'
import { constants } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { scratch } from '../engine/harness.ts'
import { selfCommand } from '../runtime/self-command.ts'

const main = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url))
const LIMIT_MS = 60_000

export interface Finished {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

export interface Surroundings {
  /** Text on stdin; without it stdin is empty. */
  readonly input?: string
  readonly environment?: Readonly<Record<string, string>>
  /** SIGKILL after this many ms. */
  readonly killAfterMs?: number
  /** Called with everything that came on stdout so far, whenever more comes. */
  readonly onStdout?: (text: string, child: ChildProcess) => void
  /** The same of stderr. */
  readonly onStderr?: (text: string, child: ChildProcess) => void
}

/** Runs the command to its end. */
export function coppice(args: readonly string[], surroundings: Surroundings = {}): Promise<Finished> {
  const [command, ...rest] = selfCommand(main, ...args)
  const environment: NodeJS.ProcessEnv = { ...process.env, COPPICE_CACHE: join(scratch, 'cache') }
  // What the test's own surroundings ask for is not what is tested.
  for (const name of ['NO_COLOR', 'FORCE_COLOR', 'COLUMNS', 'TERM']) delete environment[name]
  const child = spawn(command, rest, { env: { ...environment, ...surroundings.environment } })
  const killer =
    surroundings.killAfterMs === undefined
      ? undefined
      : setTimeout(() => child.kill('SIGKILL'), surroundings.killAfterMs)
  let stdout = ''
  let stderr = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text
    surroundings.onStdout?.(stdout, child)
  })
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text
    surroundings.onStderr?.(stderr, child)
  })
  child.stdin.on('error', () => {})
  child.stdin.end(surroundings.input ?? '')
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      child.kill('SIGKILL')
      reject(new Error(`coppice ${args.join(' ')} did not end: ${stdout}\n${stderr}`))
    }, LIMIT_MS)
    child.once('error', reject)
    child.once('close', (code, signal) => {
      clearTimeout(timer)
      clearTimeout(killer)
      // Deno tells of a child that exited with 130 that SIGINT ended it, as a shell would put it.
      resolve({ code: code ?? 128 + (signal === null ? 0 : constants.signals[signal]), stdout, stderr })
    })
  })
}
