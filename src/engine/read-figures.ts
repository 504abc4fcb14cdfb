/** How fast a file system is read, as the cache knows it. */
import { MOST_LOADERS, type ReadSpeeds, type SpeedByReaders } from '../memory/read-speed.ts'
import { fileSystemOf } from '../runtime/files.ts'
import { processor, runtimeName, runtimeVersion } from '../runtime/platform.ts'
import { type Figures, figuresOf, isSpeed, OLDEST_SPEED_MS } from './figures.ts'

const isByReaders = (value: unknown): value is SpeedByReaders =>
  Array.isArray(value) && value.length === MOST_LOADERS && value.every(isSpeed)

/** @param file on the file system that is meant; it need not exist yet */
export function readFigures(file: string): Figures<ReadSpeeds> {
  return figuresOf<ReadSpeeds>({
    folder: 'disks',
    situation: [`${runtimeName()} ${runtimeVersion()}`, processor(), fileSystemOf(file)],
    isValid: ({ direct, buffered }) => isByReaders(buffered) && (direct === undefined || isByReaders(direct)),
    oldestMs: OLDEST_SPEED_MS,
  })
}
