/** What a checkpoint would be when packed, without packing it: enough to plan its memory. */
import { absolutePath, isFile, joinPath } from '../runtime/files.ts'
import { readHfConfig } from './hf-config.ts'
import { FORMAT_VERSION, MANIFEST_NAME, type PackedFile } from './manifest.ts'
import type { PackOptions } from './pack.ts'
import type { PackedModel } from './packed.ts'
import {
  chooseKind,
  chunkCount,
  type DataLayout,
  EDGES_NAME,
  edgesLayout,
  FILE_ALIGNMENT,
  layerFileName,
  layerLayout,
  quantisationOf,
} from './packed-layout.ts'
import { cachedDirectory, modelDirectory, resolveModel } from './resolve.ts'
import { sourceName } from './source.ts'
import { parameterCount } from './tensor-names.ts'

/**
 * The model at `path` as it is packed; or, where it is not packed yet, a description with the same
 * sizes, whose files do not exist and whose checksums are zeros.
 * @throws CoppiceError what `resolveModel` throws for paths and configurations that it does not take
 */
export function describeModel(path: string, options: PackOptions = {}): PackedModel {
  const directory = modelDirectory(absolutePath(path))
  if (isFile(joinPath(directory, MANIFEST_NAME))) return resolveModel(path, options)
  const config = readHfConfig(directory)
  const kind = chooseKind(options.weights ?? 'auto', config)
  const cached = cachedDirectory(directory, kind)
  if (isFile(joinPath(cached, MANIFEST_NAME))) return resolveModel(path, options)
  const quantisation = quantisationOf(kind)
  const layer = layerLayout(config, quantisation.layers)
  return {
    // The tokenizer's files are found beside the checkpoint.
    directory,
    manifest: {
      format: 'coppice',
      version: FORMAT_VERSION,
      config,
      quantisation,
      parameters: parameterCount(config),
      source: { name: sourceName(directory), revision: '' },
      edges: describeFile(EDGES_NAME, edgesLayout(config, quantisation.edges)),
      layers: Array.from({ length: config.layers }, (_, i) => describeFile(layerFileName(i), layer)),
      copies: [],
    },
  }
}

function describeFile(name: string, layout: DataLayout): PackedFile {
  return {
    name,
    bytes: FILE_ALIGNMENT + layout.bytes,
    sha256: '',
    dataOffset: FILE_ALIGNMENT,
    headerChecksum: 0,
    tensors: layout.tensors,
    segments: layout.segments.map((segment) => ({
      ...segment,
      checksums: new Array<number>(chunkCount(segment)).fill(0),
    })),
  }
}
