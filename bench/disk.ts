/** The disk below a directory: what it is, how to make it read afresh, and how fast fio finds it. */
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync, realpathSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { atEnd } from './cleanup.ts'
import { run } from './processes.ts'

export interface Disk {
  /** Such as "nvme0n1 (the manufacturer's name of it)"; what the system tells. */
  readonly device: string
  readonly fileSystem: string
  /** File that holds the kernel's read-ahead in KiB; undefined where there is none. */
  readonly readAheadFile: string | undefined
}

/** @param directory must exist */
export function describeDisk(directory: string): Disk {
  const unknown: Disk = { device: 'unknown disk', fileSystem: 'unknown file system', readAheadFile: undefined }
  const mount = findMount(realpathSync(directory))
  if (mount === undefined) return unknown
  const { dev } = statSync(directory, { bigint: true })
  // As glibc's makedev lays them out.
  const major = ((dev >> 8n) & 0xfffn) | ((dev >> 32n) & ~0xfffn)
  const minor = (dev & 0xffn) | ((dev >> 12n) & ~0xffn)
  const block = `/sys/dev/block/${major}:${minor}`
  // A partition's queue is that of the disk around it.
  const disk = ['', '..'].map((up) => join(block, up)).find((path) => existsSync(join(path, 'queue')))
  if (!existsSync(block) || disk === undefined) return { ...unknown, device: mount.source, fileSystem: mount.type }
  const name = realpathSync(disk).split('/').at(-1)!
  const model = tryRead(join(disk, 'device', 'model'))
  return {
    device: model === undefined ? name : `${name} (${model})`,
    fileSystem: mount.type,
    readAheadFile: join(disk, 'queue', 'read_ahead_kb'),
  }
}

function findMount(directory: string): { type: string; source: string } | undefined {
  let best: { type: string; source: string } | undefined
  let length = 0
  for (const line of (tryRead('/proc/self/mountinfo') ?? '').split('\n')) {
    const [before, after] = line.split(' - ')
    if (after === undefined) continue
    const point = before.split(' ')[4]
    const inside = point === '/' || directory === point || directory.startsWith(`${point}/`)
    if (!inside || point.length < length) continue
    const [type, source] = after.split(' ')
    best = { type, source }
    length = point.length
  }
  return best
}

const DROP_CACHES = '/proc/sys/vm/drop_caches'

/** Makes the system forget what it has read. @returns whether it lets us */
export function dropCaches(): boolean {
  try {
    // What is not written yet would stay.
    execFileSync('sync')
    writeFileSync(DROP_CACHES, '3')
    return true
  } catch {
    return false
  }
}

const BLOCK = '1M'
const DEPTHS = [1, 8] as const

export interface FioSpeed {
  readonly bytesPerSecond: number
  readonly depth: number
}

/** A disk so slow that it could not read all in this time is known well enough. */
const FIO_SECONDS = 60

/**
 * Reads files from the first to the last as fast as fio can, once with one request at a time and once with eight.
 * @param leastBytes direct reads begin anew until they have read so many
 * @returns the speeds of both depths
 * @throws Error with what fio says
 */
export async function fioSpeeds(files: readonly string[], direct: boolean, leastBytes: number): Promise<FioSpeed[]> {
  const bytes = files.reduce((sum, file) => sum + statSync(file).size, 0)
  const speeds: FioSpeed[] = []
  for (const depth of DEPTHS) {
    if (!direct) dropCaches()
    // What is read through the page cache is cold only once.
    const loops = direct ? Math.ceil(leastBytes / bytes) : 1
    const command = fioCommand(files, direct, depth, `--loops=${loops}`, `--runtime=${FIO_SECONDS}`)
    const { status, stdout, stderr } = await run(command, { timeoutMs: 2 * FIO_SECONDS * 1000 })
    if (status !== 0) throw new Error(`fio ended with ${status}: ${stderr || stdout}`)
    speeds.push({ bytesPerSecond: fioSpeed(stdout), depth })
  }
  return speeds
}

/** The depth with the better mean speed, and that. */
export function betterDepth(speeds: readonly FioSpeed[]): FioSpeed | undefined {
  const means = [...new Set(speeds.map(({ depth }) => depth))].map((depth) => {
    const own = speeds.filter((speed) => speed.depth === depth)
    return { depth, bytesPerSecond: own.reduce((sum, { bytesPerSecond }) => sum + bytesPerSecond, 0) / own.length }
  })
  return means.sort((a, b) => b.bytesPerSecond - a.bytesPerSecond)[0]
}

/** Begins to be counted when fio has found its speed. */
const RAMP_MS = 1000

/**
 * Does something else while fio reads files past the page cache, over and over.
 * @returns what fio reached meanwhile, in bytes per second, and what came of the work
 */
export async function besideFio<T>(
  files: readonly string[],
  depth: number,
  work: () => Promise<T>,
): Promise<{ readonly bytesPerSecond: number; readonly result: T }> {
  const forever = ['--time_based', '--runtime=86400', `--ramp_time=${RAMP_MS / 1000}`]
  const [program, ...args] = fioCommand(files, true, depth, ...forever)
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'ignore'] })
  const kill = atEnd(() => child.kill('SIGKILL'))
  let output = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output += text
  })
  try {
    await setTimeout(RAMP_MS)
    const result = await work()
    const gone = once(child, 'close')
    if (child.exitCode !== null) throw new Error(`fio ended with ${child.exitCode}: ${output}`)
    // It tells what it did.
    child.kill('SIGINT')
    await gone
    return { bytesPerSecond: fioSpeed(output), result }
  } finally {
    kill()
  }
}

function fioCommand(files: readonly string[], direct: boolean, depth: number, ...more: string[]): string[] {
  const asynchronous = process.platform === 'linux' ? 'libaio' : 'posixaio'
  return [
    'fio',
    '--name=read',
    `--filename=${files.map((file) => file.replaceAll(':', '\\:')).join(':')}`,
    '--file_service_type=sequential',
    '--rw=read',
    '--readonly',
    `--bs=${BLOCK}`,
    `--direct=${direct ? 1 : 0}`,
    `--ioengine=${depth === 1 ? 'psync' : asynchronous}`,
    `--iodepth=${depth}`,
    '--output-format=json',
    ...more,
  ]
}

function fioSpeed(output: string): number {
  const begin = output.indexOf('{')
  if (begin < 0) throw new Error(`fio says nothing of its speed: ${output}`)
  const { jobs } = JSON.parse(output.slice(begin)) as { jobs: { read: { bw_bytes: number } }[] }
  return jobs[0].read.bw_bytes
}

function tryRead(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8').trim()
  } catch {
    return undefined
  }
}
