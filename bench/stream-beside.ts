/**
 * How well disk and compute can overlap at best: resident passes in one process while fio reads in another. The two
 * share cores, memory and whatever the disk is made of, and nothing of ours stands between them.
 */
import { besideFio, type FioSpeed } from './disk.ts'
import { median } from './report.ts'
import type { PassCommand, PassProcess } from './stream-process.ts'

export interface Beside {
  /** How many times as long compute takes while fio reads, and reading while something is computed. */
  readonly compute: number
  readonly disk: number
}

/**
 * @param resident reads nothing @param aloneMs of its passes when nothing else runs
 * @param fio what it reaches when nothing else runs; it reads past the page cache
 */
export async function measureBeside(
  files: readonly string[],
  resident: PassProcess,
  command: PassCommand,
  aloneMs: number,
  fio: FioSpeed,
): Promise<Beside> {
  const { bytesPerSecond, result } = await besideFio(files, fio.depth, () => resident.passes(command))
  return { compute: median(result.ms) / aloneMs, disk: fio.bytesPerSecond / bytesPerSecond }
}

/** How long a pass must take: both at once, each as slow as the other makes it, until one of them is done. */
export function possibleMs(diskMs: number, computeMs: number, beside: Beside): number {
  const [disk, compute] = [diskMs * beside.disk, computeMs * beside.compute]
  return disk < compute ? disk + (1 - disk / compute) * computeMs : compute + (1 - compute / disk) * diskMs
}
