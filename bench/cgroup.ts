/**
 * Programs under a hard limit of memory, swap off: a Linux control group, version 2 or 1, below the one of this
 * process, so that whatever limits this process goes on to hold.
 *
 * The page cache of what a program reads is charged to its group, but given up before the limit strikes.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { atEnd } from './cleanup.ts'
import { type Run, type RunOptions, run } from './processes.ts'

/** Where a version of control groups keeps what is needed here. */
interface Version {
  readonly limit: string
  /** Memory and swap together; a limit equal to that of memory leaves none for swap. */
  readonly both?: string
  /** Swap alone. */
  readonly swap?: string
  readonly peak: string
  /** Has a line "oom_kill N". */
  readonly events: string
}

const VERSIONS: Readonly<Record<1 | 2, Version>> = {
  1: {
    limit: 'memory.limit_in_bytes',
    both: 'memory.memsw.limit_in_bytes',
    peak: 'memory.max_usage_in_bytes',
    events: 'memory.oom_control',
  },
  2: { limit: 'memory.max', swap: 'memory.swap.max', peak: 'memory.peak', events: 'memory.events' },
}

export interface LimitedRun extends Run {
  /** Whether the system killed a process of it for want of memory. */
  readonly outOfMemory: boolean
  /** The most that was charged to it, page cache included; undefined where the system does not tell. */
  readonly peakBytes: number | undefined
}

/**
 * Runs a command under a limit.
 * @returns what became of it, or in words why this machine does not let us
 */
export async function runLimited(
  limitBytes: number,
  command: readonly string[],
  options: Omit<RunOptions, 'enter'>,
): Promise<LimitedRun | string> {
  const group = openGroup(limitBytes)
  if (typeof group === 'string') return group
  const { directory, version } = group
  const remove = atEnd(() => removeGroup(directory))
  try {
    const result = await run(command, { ...options, enter: join(directory, 'cgroup.procs') })
    const events = readText(join(directory, version.events)) ?? ''
    const peak = readText(join(directory, version.peak))
    return {
      ...result,
      outOfMemory: Number(/^oom_kill (\d+)$/m.exec(events)?.[1] ?? 0) > 0,
      peakBytes: peak === undefined ? undefined : Number(peak),
    }
  } finally {
    remove()
  }
}

const HINT =
  'run as root, or in a unit of its own: systemd-run --user --scope --property=Delegate=yes COMMAND, and see that the memory controller is delegated'

let count = 0

function openGroup(limitBytes: number): { directory: string; version: Version } | string {
  const own = readText('/proc/self/cgroup')
  const mounts = readText('/proc/self/mountinfo')
  if (own === undefined || mounts === undefined) return `there are no control groups on ${process.platform}`
  const places = memoryPlaces(own, mounts)
  if (typeof places === 'string') return places
  const reasons: string[] = []
  for (const { directory: parent, version: number } of places) {
    const version = VERSIONS[number]
    const directory = join(parent, `coppice-${process.pid}-${count++}`)
    try {
      removeAbandoned(parent)
      mkdirSync(directory)
    } catch (error) {
      reasons.push(`${parent}: ${(error as NodeJS.ErrnoException).code}`)
      continue
    }
    try {
      setLimit(directory, version, limitBytes)
      return { directory, version }
    } catch (error) {
      removeGroup(directory)
      reasons.push(`${parent}: ${error instanceof Error ? error.message : error}`)
    }
  }
  return `no control group with a memory limit can be made (${reasons.join('; ')}); ${HINT}`
}

function setLimit(directory: string, version: Version, bytes: number): void {
  if (!existsSync(join(directory, version.limit))) throw new Error('the memory controller is not delegated to it')
  writeFileSync(join(directory, version.limit), String(bytes))
  const [file, value] = version.both === undefined ? [version.swap!, 0] : [version.both, bytes]
  if (existsSync(join(directory, file))) writeFileSync(join(directory, file), String(value))
  else if (hasSwap()) throw new Error(`${file} is missing, and swap is on`)
}

const hasSwap = (): boolean => (readText('/proc/swaps') ?? '').trim().split('\n').length > 1

export interface Place {
  readonly directory: string
  readonly version: 1 | 2
}

/**
 * Groups below which one may be made: this process's own. In version 2 a group with processes cannot hand memory on to
 * groups below, so the one above comes second.
 * @param own text of /proc/self/cgroup @param mounts text of /proc/self/mountinfo
 * @returns in words why there is none
 */
export function memoryPlaces(own: string, mounts: string): Place[] | string {
  for (const line of mounts.split('\n')) {
    const [before, after] = line.split(' - ')
    if (after === undefined) continue
    const [, , , mountRoot, mountPoint] = before.split(' ')
    const [type, , options] = after.split(' ')
    const legacy = type === 'cgroup' && options.split(',').includes('memory')
    if (!legacy && !(type === 'cgroup2' && hasMemory(mountPoint))) continue
    const path = (legacy ? /^\d+:(?:[^:]*,)?memory(?:,[^:]*)?:(.*)$/m : /^0::(.*)$/m).exec(own)?.[1] ?? '/'
    const inside = join(mountPoint, relative(mountRoot, path))
    // A container may show the path that its group has outside.
    const directory = existsSync(inside) ? inside : mountPoint
    if (legacy) return [{ directory, version: 1 }]
    const directories = directory === mountPoint ? [directory] : [directory, dirname(directory)]
    return directories.map((at) => ({ directory: at, version: 2 }))
  }
  return 'no memory controller of control groups is mounted'
}

const hasMemory = (mountPoint: string): boolean =>
  (readText(join(mountPoint, 'cgroup.controllers')) ?? '').split(/\s+/).includes('memory')

/** Groups whose program was killed before it could remove them; one that has processes stays. */
function removeAbandoned(parent: string): void {
  for (const name of readdirSync(parent)) {
    const pid = /^coppice-(\d+)-\d+$/.exec(name)?.[1]
    if (pid === undefined || existsSync(`/proc/${pid}`)) continue
    try {
      rmdirSync(join(parent, name))
    } catch {
      // Somebody still runs in it, or it was somebody else's.
    }
  }
}

const REMOVAL_TURNS = 200
const REMOVAL_PAUSE_MS = 10

/** A group can be removed once the last of its processes is gone for good, which takes a moment. */
function removeGroup(directory: string): void {
  for (let turn = 0; existsSync(directory); turn++) {
    try {
      rmdirSync(directory)
    } catch (error) {
      if (turn === REMOVAL_TURNS) throw error
      for (const pid of (readText(join(directory, 'cgroup.procs')) ?? '').split('\n')) end(Number(pid))
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, REMOVAL_PAUSE_MS)
    }
  }
}

function end(pid: number): void {
  if (!(pid > 1)) return
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // It ended by itself.
  }
}

function readText(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    return undefined
  }
}
