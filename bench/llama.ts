/**
 * llama.cpp beside us, where COPPICE_LLAMA names its llama-bench or llama-cli and COPPICE_LLAMA_GGUF a model: weights
 * mapped into memory, under the same limit. Q8_0 is the kind to take: others it may copy into memory of its own, which
 * has nothing to do with mapping.
 */
import { readFileSync, statSync, writeFileSync } from 'node:fs'
import { basename } from 'node:path'
import { environment } from '../src/runtime/platform.ts'
import { runLimited } from './cgroup.ts'
import { atEnd } from './cleanup.ts'
import { type Disk, dropCaches } from './disk.ts'
import { run } from './processes.ts'

export interface Llama {
  readonly binary: string
  readonly gguf: string
  readonly bytes: number
}

/** @returns in words what is missing */
export function findLlama(): Llama | string {
  const binary = environment('COPPICE_LLAMA')
  const gguf = environment('COPPICE_LLAMA_GGUF')
  if (binary === undefined || gguf === undefined) {
    return 'COPPICE_LLAMA (a llama-bench or llama-cli) and COPPICE_LLAMA_GGUF (a model) are not both set; README.md says how to get them'
  }
  return { binary, gguf, bytes: statSync(gguf).size }
}

export interface LlamaSpeed {
  /** Undefined when it came to no end. */
  readonly tokensPerSecond: number | undefined
  readonly end: 'done' | 'out of memory' | 'too slow'
  /** Of the whole run, its start included. */
  readonly readBytes: number | undefined
}

const TIMEOUT_MS = 600_000

/** @returns in words why it could not be run */
export async function runLlama(
  { binary, gguf }: Llama,
  limitBytes: number,
  threads: number,
  tokens: number,
): Promise<LlamaSpeed | string> {
  const help = await run([binary, '--help'], { timeoutMs: TIMEOUT_MS })
  const knows = (flag: string): boolean => `${help.stdout}${help.stderr}`.includes(flag)
  // Mapping is what older versions do unasked.
  const mapped = knows('--load-mode') ? ['--load-mode', 'mmap'] : []
  const common = ['-m', gguf, '-t', String(threads), '-n', String(tokens), '-ngl', '0', ...mapped]
  const isBench = basename(binary).includes('bench')
  // Versions that chat unasked differ in the flag that stops it.
  const once = ['--single-turn', '-no-cnv'].filter(knows).slice(-1)
  const command = isBench
    ? [binary, ...common, '-p', '0', '-r', '1', '-o', 'json']
    : [binary, ...common, '-p', 'Once upon a time', ...once, '--ignore-eos', '--no-warmup']
  if (!dropCaches()) return 'caches cannot be dropped here, so its first reads would not be cold; run as root'
  const ended = await runLimited(limitBytes, command, { timeoutMs: TIMEOUT_MS })
  if (typeof ended === 'string') return ended
  const { status, signal, stdout, stderr, readBytes } = ended
  if (ended.outOfMemory) return { tokensPerSecond: undefined, end: 'out of memory', readBytes }
  if (ended.timedOut) return { tokensPerSecond: undefined, end: 'too slow', readBytes }
  const name = basename(binary)
  if (status !== 0) return `${name} ended with ${status ?? signal}: ${stderr.slice(-2000)}`
  const tokensPerSecond = isBench ? benchSpeed(stdout) : clientSpeed(`${stdout}\n${stderr}`)
  if (tokensPerSecond === undefined) return `no speed in the output of ${name}: ${stdout.slice(-2000)}`
  return { tokensPerSecond, end: 'done', readBytes }
}

function benchSpeed(stdout: string): number | undefined {
  try {
    const tests = JSON.parse(stdout.slice(stdout.indexOf('['))) as { n_gen: number; avg_ts: number }[]
    return tests.find((test) => test.n_gen > 0)?.avg_ts
  } catch {
    // A flag that it does not know makes it print its help and end well.
    return undefined
  }
}

function clientSpeed(output: string): number | undefined {
  const line = output.split('\n').find((text) => /\beval time =/.test(text) && !text.includes('prompt eval'))
  const match = /([\d.]+) tokens per second/.exec(line ?? '')
  return match === null ? undefined : Number(match[1])
}

/** KiB: suits random page faults better than the large read-ahead that some disks come with. */
export const SMALL_READ_AHEAD = 128

/** Sets the kernel's read-ahead of a disk, in KiB. @returns undoes it, or in words why it cannot be set */
export function setReadAhead({ readAheadFile }: Disk, kilobytes: number): (() => void) | string {
  const before = readAhead(readAheadFile)
  if (readAheadFile === undefined || before === undefined) return 'this disk has no setting of read-ahead'
  try {
    writeFileSync(readAheadFile, String(kilobytes))
  } catch (error) {
    return `${readAheadFile}: ${(error as NodeJS.ErrnoException).code}`
  }
  return atEnd(() => writeFileSync(readAheadFile, String(before)))
}

/** KiB. */
export function readAhead(file: string | undefined): number | undefined {
  try {
    return file === undefined ? undefined : Number(readFileSync(file, 'utf8'))
  } catch {
    return undefined
  }
}
