/** What the machine and the runtime are, and what they can spare. */
import { randomBytes } from 'node:crypto'
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

/** Threads that can run at once, as far as the system lets this process have them. At least 1. */
export function cores(): number {
  return Math.max(1, os.availableParallelism())
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
