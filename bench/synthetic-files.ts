/** A packed model of made-up weights on disk. */
import { linkSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setImmediate } from 'node:timers/promises'
import { checksum } from '../src/tensor/checksum.ts'
import { groupBytes, type Kind } from '../src/tensor/layout.ts'
import { ChecksumBuffer } from '../src/tensor/packer.ts'
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
import { SafetensorsWriter } from '../src/weights/safetensors-writer.ts'
import { parameterCount } from '../src/weights/tensor-names.ts'
import { fillMatrix } from './harness.ts'

/** Layers as one file under many names, or each as a file of its own with the same content. */
export type LayerFiles = 'linked' | 'written'

/** Replaces whatever is in `directory`. */
export async function writeSyntheticModel(
  directory: string,
  config: ModelConfig,
  kind: Kind,
  layerFiles: LayerFiles = 'linked',
): Promise<void> {
  rmSync(directory, { recursive: true, force: true })
  mkdirSync(directory, { recursive: true })
  const quantisation = quantisationOf(kind)
  const layout = layerLayout(config, kind)
  const first = writeFile(directory, layerFileName(0), layout)
  const layers = [first]
  for (let layer = 1; layer < config.layers; layer++) {
    const name = layerFileName(layer)
    if (layerFiles === 'written') writeContents(directory, name, layout, () => {}).commit()
    else linkSync(join(directory, first.name), join(directory, name))
    layers.push({ ...first, name })
    // Gigabytes take a while, and Ctrl-C is heard only between the files.
    await setImmediate()
  }
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

/** Bytes that the files of a model take, each layer written. */
export const syntheticBytes = (config: ModelConfig, kind: Kind): number =>
  config.layers * layerLayout(config, kind).bytes + edgesLayout(config, quantisationOf(kind).edges).bytes

function writeFile(directory: string, name: string, layout: DataLayout): PackedFile {
  const sums = new ChunkSums(layout.segments, new ChecksumBuffer(ChunkSums.bufferBytes(layout.segments)))
  const writer = writeContents(directory, name, layout, (piece) => sums.feed(piece))
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

/** @returns the writer, with all data written */
function writeContents(
  directory: string,
  name: string,
  layout: DataLayout,
  onPiece: (piece: Uint8Array) => void,
): SafetensorsWriter {
  const options = { metadata: headerMetadata(layout), alignment: FILE_ALIGNMENT }
  const writer = new SafetensorsWriter(join(directory, name), headerTensors(layout), options)
  for (const piece of contents(layout)) {
    writer.write(piece)
    onPiece(piece)
  }
  return writer
}

/** Different groups of a matrix: more of them than what a compressing file system looks back. */
const GROUPS = 32

/** What a matrix consists of, over and over. */
const patterns = new Map<string, Uint8Array>()

function pattern(kind: Kind, columns: number): Uint8Array {
  const key = `${kind} ${columns}`
  let bytes = patterns.get(key)
  if (bytes === undefined) {
    bytes = new Uint8Array(GROUPS * groupBytes(kind, columns))
    fillMatrix(kind, columns, bytes, GROUPS)
    patterns.set(key, bytes)
  }
  return bytes
}

/** A layout's bytes from the first to the last, in pieces: the edges of a large model would fill the memory. */
function* contents({ tensors, bytes }: DataLayout): Generator<Uint8Array> {
  let at = 0
  for (const { kind, columns, rows, offset, bytes } of tensors) {
    yield new Uint8Array(offset - at)
    if (kind === 'vector') {
      const data = new Float32Array(bytes / 4)
      data.fill(1, 0, rows)
      yield new Uint8Array(data.buffer)
    } else {
      const part = pattern(kind, columns)
      for (let done = 0; done < bytes; done += part.length) {
        yield part.subarray(0, Math.min(part.length, bytes - done))
      }
    }
    at = offset + bytes
  }
  yield new Uint8Array(bytes - at)
}
