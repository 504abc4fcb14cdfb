/** What a checkpoint directory is called, and how to tell that it has changed. */
import { absolutePath, baseName, directoryName, joinPath, listDirectory, Sha256, statPath } from '../runtime/files.ts'
import { CONFIG_NAME, GENERATION_CONFIG_NAME } from './hf-config.ts'
import { FORMAT_VERSION } from './manifest.ts'
import { COPIED_NAMES } from './manifest-json.ts'
import { INDEX_FILE_NAME } from './safetensors.ts'

const KNOWN_NAMES: readonly string[] = [CONFIG_NAME, GENERATION_CONFIG_NAME, INDEX_FILE_NAME, ...COPIED_NAMES]

/**
 * SHA-256 over the directory's absolute path and the names, sizes and times of its files, so that a
 * packed copy can be found again without reading the weights.
 */
export function sourceFingerprint(directory: string): string {
  const files = listDirectory(directory)
    .filter((name) => KNOWN_NAMES.includes(name) || name.endsWith('.safetensors'))
    .map((name) => {
      const stamp = statPath(joinPath(directory, name))?.stamp
      // Whole milliseconds: runtimes differ in the fractions they report.
      return [name, stamp?.bytes, stamp === undefined ? undefined : Math.floor(stamp.modifiedMs)]
    })
  return new Sha256().update(JSON.stringify([FORMAT_VERSION, absolutePath(directory), files])).hex()
}

/**
 * The name of a model by where it lies: `owner/name` in the cache of the Hugging Face hub
 * (`models--owner--name/snapshots/COMMIT`), else the directory's own name.
 */
export function sourceName(directory: string): string {
  const path = absolutePath(directory)
  const snapshots = directoryName(path)
  const repository = baseName(directoryName(snapshots))
  if (baseName(snapshots) !== 'snapshots' || !repository.startsWith('models--')) return baseName(path)
  return repository.slice('models--'.length).replace('--', '/')
}
