/** What the machine and the runtime are, and what they can spare. */
import { createHash, randomBytes } from 'node:crypto'
import * as fs from 'node:fs'
import * as os from 'node:os'

export type RuntimeName = 'node' | 'deno' | 'bun'

export function runtimeName(): RuntimeName {
  if (process.versions.bun !== undefined) return 'bun'
  if (process.versions.deno !== undefined) return 'deno'
  return 'node'
}

/** The runtime's own version; `process.version` tells the Node that it imitates. */
export function runtimeVersion(): string {
  return process.versions[runtimeName()] ?? ''
}

const shortHash = (text: string): string => createHash('sha256').update(text).digest('hex').slice(0, 6)

/** Tells machines apart that share a file system. */
export const hostTag = shortHash(os.hostname())

/**
 * Tells apart where process numbers come from: they mean nothing on another machine, nor in another container, which
 * may well have the same host name.
 */
export const processSpace = shortHash(`${os.hostname()} ${processNamespace()}`)

function processNamespace(): string {
  try {
    return fs.readlinkSync('/proc/self/ns/pid')
  } catch {
    // Only Linux has them; elsewhere a machine has one series of numbers.
    return ''
  }
}

/** Threads that can run at once, as far as the system lets this process have them. At least 1. */
export function cores(): number {
  return Math.max(1, os.availableParallelism())
}

/**
 * The processor: whatever decides which instructions an engine emits on it. On Linux that is told beside
 * the model's name, because virtual machines may hide a part of what the model can do.
 */
export function processor(): string {
  const name = `${process.arch} ${os.cpus()[0]?.model ?? 'unknown'}`
  if (process.platform !== 'linux') return name
  try {
    // The first processor's lines; a description of all of them can be long.
    const [first] = firstBytes('/proc/cpuinfo', 8192).split('\n\n')
    const lines = first.split('\n').filter((line) => /^(stepping|microcode|flags|Features|CPU \w+)\s*:/.test(line))
    return [name, ...lines].join('\n')
  } catch {
    return name
  }
}

function firstBytes(file: string, bytes: number): string {
  const descriptor = fs.openSync(file, 'r')
  try {
    const buffer = Buffer.alloc(bytes)
    return buffer.toString('latin1', 0, fs.readSync(descriptor, buffer, 0, bytes, 0))
  } finally {
    fs.closeSync(descriptor)
  }
}

/** What changes how the engine compiles: command-line flags of the runtime, and the variables that hold such flags. */
export function engineFlags(): string[] {
  const names = Object.keys(process.env).filter((name) => /^(NODE_OPTIONS|DENO_V8_FLAGS|(BUN_)?JSC_.*)$/.test(name))
  return [...process.execArgv, ...names.sort().map((name) => `${name}=${process.env[name]}`)]
}

/** Bytes that this process can still take before the system, or its container's limit, runs out. */
export function availableMemoryBytes(): number {
  // Node before 20.13 lacks availableMemory; constrainedMemory answers 0 or a huge number where there is no limit.
  const free = process.availableMemory?.() ?? os.freemem()
  const limit = process.constrainedMemory?.() ?? 0
  return limit > 0 ? Math.max(0, Math.min(free, limit - processMemoryBytes())) : free
}

/** Resident bytes of the whole process. */
export function processMemoryBytes(): number {
  return process.memoryUsage.rss()
}

/** Milliseconds on a clock that never goes back. */
export const now = (): number => performance.now()

/**
 * Where this thread's `now` begins, in ms of a clock that all threads share: it is another moment in each thread of
 * Deno and Bun. Clocks of two threads corrected by it were at most 1.2 us apart on all four runtimes.
 */
export const clockOrigin = (): number => performance.timeOrigin

/** An environment variable; `undefined` when it is unset or empty. */
export function environment(name: string): string | undefined {
  const value = process.env[name]
  return value === '' ? undefined : value
}

/** An unpredictable seed, 0 .. 2^32 - 1: short enough to be typed again. */
export function randomSeed(): number {
  return randomBytes(4).readUInt32LE()
}

export function decodeBase64(text: string): Uint8Array<ArrayBuffer> {
  return new Uint8Array(Buffer.from(text, 'base64'))
}

/**
 * Gives the memory of an array back now, where the runtime can; it must not be used any more. For what is seldom: the
 * bytes lie outside of the heaps, so that collectors come late for them, but from the first array on that was given
 * back, V8 has all code that works on arrays look for such ones, which makes drafting 10 % slower.
 */
export function release({ buffer }: ArrayBufferView): void {
  if (buffer instanceof ArrayBuffer && 'transfer' in buffer) (buffer.transfer as (bytes: number) => ArrayBuffer)(0)
}

/** The same for what is replaced all the time: left to the collector where that comes in time. */
export const discard: (array: ArrayBufferView) => void = runtimeName() === 'bun' ? release : () => {}
