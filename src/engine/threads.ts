/** How many threads compute: the front starts them while the engine still prepares. */
import { cores } from '../runtime/platform.ts'
import { MAXIMUM_THREADS } from '../tensor/compute.ts'
import { integerOption } from './options.ts'

/** One more does not help where the memory is what limits. */
const MOST_BY_DEFAULT = 8

/** @throws CoppiceError INVALID_OPTION */
export const chooseThreads = (asked: number | undefined): number =>
  integerOption('threads', asked ?? Math.min(cores(), MOST_BY_DEFAULT), 1, MAXIMUM_THREADS)
