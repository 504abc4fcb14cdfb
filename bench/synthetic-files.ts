/** A packed model of made-up weights on disk, written in seconds: all layers are one file under many names. */
import { linkSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { checksum } from '../src/tensor/checksum.ts'
import type { Kind } from '../src/tensor/layout.ts'
import { ChunkSums } from '../src/weights/chunk-sums.ts'
import { FORMAT_VERSION, MANIFEST_NAME, type Manifest, type PackedFile } from '../src/weights/manifest.ts'
import { formatManifest } from '../src/weights/manifest-json.ts'
import type { ModelConfig } from '../src/weights/model-config.ts'
import {
  type DataLayout,
  EDGES_NAME,
  edgesLayout,
  FILE_ALIGNMENT,
  headerMetadata,
  headerTensors,
  layerFileName,
  layerLayout,
  quantisationOf,
} from '../src/weights/packed-layout.ts'
import { SafetensorsWriter } from '../src/weights/safetensors.ts'
import { parameterCount } from '../src/weights/tensor-names.ts'
import { fillMatrix } from './harness.ts'

/** Replaces whatever is in `directory`. */
export function writeSyntheticModel(directory: string, config: ModelConfig, kind: Kind): void {
  rmSync(directory, { recursive: true, force: true })
  mkdirSync(directory, { recursive: true })
  const quantisation = quantisationOf(kind)
  const first = writeFile(directory, layerFileName(0), layerLayout(config, kind))
  const layers = Array.from({ length: config.layers }, (_, layer) => {
    const name = layerFileName(layer)
    if (layer > 0) linkSync(join(directory, first.name), join(directory, name))
    return { ...first, name }
  })
  const manifest: Manifest = {
    format: 'coppice',
    version: FORMAT_VERSION,
    config,
    quantisation,
    parameters: parameterCount(config),
    source: { name: 'made up', revision: '' },
    edges: writeFile(directory, EDGES_NAME, edgesLayout(config, quantisation.edges)),
    layers,
    copies: [],
  }
  writeFileSync(join(directory, MANIFEST_NAME), formatManifest(manifest))
}

function writeFile(directory: string, name: string, layout: DataLayout): PackedFile {
  const data = new Uint8Array(layout.bytes)
  for (const { kind, columns, rows, offset, bytes } of layout.tensors) {
    if (kind === 'vector') new Float32Array(data.buffer, offset, rows).fill(1)
    else fillMatrix(kind, columns, data.subarray(offset, offset + bytes))
  }
  const options = { metadata: headerMetadata(layout), alignment: FILE_ALIGNMENT }
  const writer = new SafetensorsWriter(join(directory, name), headerTensors(layout), options)
  writer.write(data)
  const sums = new ChunkSums(layout.segments)
  sums.feed(data)
  return {
    name,
    bytes: writer.bytes,
    sha256: writer.commit(),
    dataOffset: writer.header.length,
    headerChecksum: checksum(writer.header),
    tensors: layout.tensors,
    segments: layout.segments.map((segment, i) => ({ ...segment, checksums: sums.sums[i] })),
  }
}
