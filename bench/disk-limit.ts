/** Holds a disk to a speed for this process, by a Linux control group, so that slower disks than this one can be tried. */
import { existsSync, mkdirSync, readFileSync, rmdirSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { atEnd } from './cleanup.ts'

const VERSION_1 = '/sys/fs/cgroup/blkio'
const VERSION_2 = '/sys/fs/cgroup'

/**
 * Reads from the disk under a directory take no more than so many bytes per second from now on.
 * @returns in words why this machine does not let us
 */
export function limitDisk(directory: string, bytesPerSecond: number): string | undefined {
  const { dev } = statSync(directory)
  // As glibc packs them.
  const device = `${(dev >> 8) & 0xfff}:${(dev & 0xff) | ((dev >> 12) & 0xfff00)}`
  const first = existsSync(VERSION_1)
  const parent = first ? VERSION_1 : VERSION_2
  const group = join(parent, `coppice-disk-${process.pid}`)
  try {
    mkdirSync(group)
    if (first) writeFileSync(join(group, 'blkio.throttle.read_bps_device'), `${device} ${bytesPerSecond}`)
    else writeFileSync(join(group, 'io.max'), `${device} rbps=${bytesPerSecond}`)
    const before = groupOf(first)
    writeFileSync(join(group, 'cgroup.procs'), String(process.pid))
    atEnd(() => {
      writeFileSync(join(parent, before, 'cgroup.procs'), String(process.pid))
      rmdirSync(group)
    })
    return undefined
  } catch (error) {
    if (existsSync(group)) rmdirSync(group)
    return `the disk cannot be held to a speed here (${error instanceof Error ? error.message : error}); it takes root, Linux and a block device of its own`
  }
}

/** Where this process was until now. */
function groupOf(isFirst: boolean): string {
  const pattern = isFirst ? /^\d+:(?:.*,)?blkio(?:,.*)?:(.*)$/m : /^0::(.*)$/m
  return pattern.exec(readFileSync('/proc/self/cgroup', 'utf8'))?.[1] ?? '/'
}
