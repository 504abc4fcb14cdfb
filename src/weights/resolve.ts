/** From a path that a user gave to a packed model, packing it into the cache if need be. */
import { CoppiceError } from '../errors.ts'
import {
  absolutePath,
  baseName,
  cacheDirectory,
  directoryName,
  isFile,
  joinPath,
  listDirectory,
  statPath,
} from '../runtime/files.ts'
import type { Kind } from '../tensor/layout.ts'
import { CONFIG_NAME, readHfConfig } from './hf-config.ts'
import { MANIFEST_NAME } from './manifest.ts'
import { checkWeights, type PackOptions, packModel } from './pack.ts'
import { JOURNAL_NAME } from './pack-journal.ts'
import { openPacked, type PackedModel } from './packed.ts'
import { chooseKind } from './packed-layout.ts'
import { INDEX_FILE_NAME, SINGLE_FILE_NAME } from './safetensors.ts'
import { sourceFingerprint, sourceName } from './source.ts'

/**
 * Opens the model at `path`: a packed directory as it is; a Hugging Face directory, or a safetensors
 * file in one, by way of a packed copy in the cache, which is made on first use.
 * @throws CoppiceError MODEL_NOT_FOUND, UNSUPPORTED_FORMAT for other model files, INVALID_OPTION when
 *   `weights` is not what a packed directory has, and what `openPacked` and `packModel` throw
 */
export function resolveModel(path: string, options: PackOptions = {}): PackedModel {
  const { weights = 'auto' } = options
  checkWeights(weights)
  const directory = modelDirectory(absolutePath(path))
  if (isFile(joinPath(directory, MANIFEST_NAME))) return openAsPacked(directory, weights)
  requireCheckpoint(directory)
  const kind = chooseKind(weights, readHfConfig(directory))
  const cached = cachedDirectory(directory, kind)
  if (!isFile(joinPath(cached, MANIFEST_NAME))) {
    try {
      return packModel(directory, cached, { ...options, weights: kind })
    } catch (error) {
      // Another process may have packed the same model into the same place meanwhile.
      if (!isFile(joinPath(cached, MANIFEST_NAME)) || (error instanceof CoppiceError && error.code === 'ABORTED')) {
        throw inCache(error, directory)
      }
    }
  }
  return openCached(cached, directory)
}

/** What fails in the cache can be done elsewhere. */
function inCache(error: unknown, source: string): unknown {
  if (!(error instanceof CoppiceError) || error.code !== 'FILE_SYSTEM') return error
  const message = `${source} could not be packed into the cache: ${error.message}. Or set COPPICE_CACHE to a directory on another disk, or pack the model where there is room (coppice pack) and give that directory`
  return new CoppiceError(error.code, message, { cause: error })
}

/** Where the packed copy of a checkpoint is kept. Another place when the checkpoint changes. */
export function cachedDirectory(directory: string, kind: Kind): string {
  const name = sourceName(directory)
    .replace(/[^A-Za-z0-9._-]+/g, '-')
    .slice(0, 80)
  return joinPath(cacheDirectory(), 'packed', `${name}-${kind}-${sourceFingerprint(directory).slice(0, 12)}`)
}

function openAsPacked(directory: string, weights: 'auto' | Kind): PackedModel {
  const packed = openPacked(directory)
  const { layers } = packed.manifest.quantisation
  if (weights !== 'auto' && weights !== layers) {
    throw new CoppiceError(
      'INVALID_OPTION',
      `${directory} is packed with ${layers} weights, but ${weights} was asked for; leave weights out, or pack the original model with ${weights}`,
    )
  }
  return packed
}

function openCached(cached: string, source: string): PackedModel {
  try {
    return openPacked(cached)
  } catch (cause) {
    if (!(cause instanceof CoppiceError)) throw cause
    const message = `the packed copy of ${source} is damaged: ${cause.message}. Remove ${cached} and it will be packed again`
    throw new CoppiceError(cause.code, message, { cause })
  }
}

/** The directory that `path` means. */
export function modelDirectory(path: string): string {
  const found = statPath(path)
  if (found === undefined) {
    throw new CoppiceError('MODEL_NOT_FOUND', `there is no ${path}; give the path of a model's directory`)
  }
  if (found.kind === 'directory') return path
  if (/\.gguf$/i.test(path)) throw unsupportedGguf(path)
  const directory = directoryName(path)
  const isModel = isFile(joinPath(directory, MANIFEST_NAME)) || isFile(joinPath(directory, CONFIG_NAME))
  const isPart = /\.safetensors$/i.test(path) || [MANIFEST_NAME, CONFIG_NAME, INDEX_FILE_NAME].includes(baseName(path))
  if (isModel && isPart) return directory
  throw new CoppiceError(
    'UNSUPPORTED_FORMAT',
    `${path} is not a model that can be loaded; give a directory that holds ${CONFIG_NAME} and ${SINGLE_FILE_NAME}, or ${MANIFEST_NAME}`,
  )
}

const unsupportedGguf = (path: string): CoppiceError =>
  new CoppiceError(
    'UNSUPPORTED_FORMAT',
    `${path} is a GGUF file, which this version cannot read; give the Hugging Face directory of the model (${CONFIG_NAME} and safetensors)`,
  )

/** @throws CoppiceError saying what is in a directory that holds no checkpoint to pack */
function requireCheckpoint(directory: string): void {
  const names = listDirectory(directory)
  const hasWeights = names.includes(SINGLE_FILE_NAME) || names.includes(INDEX_FILE_NAME)
  if (names.includes(CONFIG_NAME) && hasWeights) return
  if (names.includes(JOURNAL_NAME)) {
    throw new CoppiceError(
      'CORRUPT_FILE',
      `${directory} was not packed to the end: it has ${JOURNAL_NAME} but no ${MANIFEST_NAME}; pack the model into it again`,
    )
  }
  const gguf = names.find((name) => /\.gguf$/i.test(name))
  if (gguf !== undefined) throw unsupportedGguf(joinPath(directory, gguf))
  const pickled = names.find((name) => /^pytorch_model.*\.bin$/.test(name))
  if (pickled !== undefined && !hasWeights) {
    throw new CoppiceError(
      'UNSUPPORTED_FORMAT',
      `${directory} has its weights in ${pickled}, which can run code when it is read; give a checkpoint in safetensors`,
    )
  }
  throw new CoppiceError(
    'MODEL_NOT_FOUND',
    `${directory} holds no model: looked for ${MANIFEST_NAME} (a packed model), and for ${CONFIG_NAME} with ${SINGLE_FILE_NAME} or ${INDEX_FILE_NAME} (a Hugging Face checkpoint)`,
  )
}
