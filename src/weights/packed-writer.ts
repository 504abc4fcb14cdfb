/** Writes one file of a packed model from the tensors of a checkpoint, a few rows at a time. */
import { CoppiceError } from '../errors.ts'
import { Sha256 } from '../runtime/files.ts'
import { checksum } from '../tensor/checksum.ts'
import { groupBytes, type Kind, packGroup, paddedOutputs, TILE } from '../tensor/layout.ts'
import { ChunkSums } from './chunk-sums.ts'
import type { PackedFile } from './manifest.ts'
import { type DataLayout, FILE_ALIGNMENT, headerMetadata, headerTensors } from './packed-layout.ts'
import { type Safetensors, SafetensorsWriter } from './safetensors.ts'
import type { TensorPart, TensorRecipe } from './tensor-names.ts'

/** Source values that are read and packed at a time: 1 MiB of f32. */
const BLOCK_VALUES = 1 << 18

/** Magnitudes from here on become infinite in f16, whose largest number is 65504. */
const F16_OVERFLOW = 65520

/**
 * Weights must be smaller than this. q8 and q4 have f16 scales; for q4 a scale stands for 1/8 of the
 * largest weight. The minimum of q4a is a weight in f16.
 */
const LIMITS: Readonly<Record<Kind, number>> = {
  f32: Number.POSITIVE_INFINITY,
  f16: F16_OVERFLOW,
  q8: 2 ** 18,
  q4a: F16_OVERFLOW,
  q4: 2 ** 18,
}

export interface WrittenFile {
  readonly file: PackedFile
  /** SHA-256 of the checkpoint's values that went into it, as f32. */
  readonly sourceSha256: string
}

/**
 * @param path of the file to write
 * @param recipes the tensors of `layout`, in its order
 * @param onWritten called with the bytes added, after every block; may throw to give up
 * @throws CoppiceError CORRUPT_FILE for weights that are not finite or too large for their kind, FILE_SYSTEM,
 *   and what `onWritten` throws. Nothing is left behind.
 */
export function writePackedFile(
  path: string,
  name: string,
  layout: DataLayout,
  recipes: readonly TensorRecipe[],
  checkpoint: Safetensors,
  onWritten: (bytes: number) => void,
): WrittenFile {
  const writer = new SafetensorsWriter(path, headerTensors(layout), {
    metadata: headerMetadata(layout),
    alignment: FILE_ALIGNMENT,
  })
  try {
    onWritten(writer.header.length)
    const sums = new ChunkSums(layout.segments)
    const hash = new Sha256()
    let written = 0
    const write = (bytes: Uint8Array): void => {
      writer.write(bytes)
      sums.feed(bytes)
      written += bytes.length
      onWritten(bytes.length)
    }
    layout.tensors.forEach((tensor, i) => {
      if (tensor.kind === 'vector') packVector(recipes[i].parts, checkpoint, hash, write)
      else packMatrix(recipes[i], tensor.kind, checkpoint, hash, write)
      write(new Uint8Array(tensor.offset + tensor.bytes - written))
    })
    write(new Uint8Array(layout.bytes - written))
    const sha256 = writer.commit()
    return { file: describe(name, writer, sha256, layout, sums), sourceSha256: hash.hex() }
  } catch (error) {
    writer.discard()
    throw error
  }
}

function describe(
  name: string,
  { header, bytes }: SafetensorsWriter,
  sha256: string,
  layout: DataLayout,
  sums: ChunkSums,
): PackedFile {
  return {
    name,
    bytes,
    sha256,
    dataOffset: header.length,
    headerChecksum: checksum(header),
    tensors: layout.tensors,
    segments: layout.segments.map((segment, i) => ({ ...segment, checksums: sums.sums[i] })),
  }
}

function packVector(
  parts: readonly TensorPart[],
  checkpoint: Safetensors,
  hash: Sha256,
  write: (bytes: Uint8Array) => void,
): void {
  for (const { source, rows } of parts) {
    // One part is stored as it is; several are padded like the rows of the matrix they belong to.
    const values = new Float32Array(parts.length === 1 ? rows : paddedOutputs(rows))
    const read = checkpoint.readRows(source, 0, rows, values)
    check(read, source, 0, 'f32')
    hash.update(bytesOf(read))
    write(bytesOf(values))
  }
}

function packMatrix(
  { parts, columns }: TensorRecipe,
  kind: Kind,
  checkpoint: Safetensors,
  hash: Sha256,
  write: (bytes: Uint8Array) => void,
): void {
  const groupsPerBlock = Math.max(1, Math.floor(BLOCK_VALUES / (columns * TILE)))
  const rowsPerBlock = groupsPerBlock * TILE
  const group = groupBytes(kind, columns)
  const packed = new Uint8Array(groupsPerBlock * group)
  const values = new Float32Array(rowsPerBlock * columns)
  for (const { source, rows } of parts) {
    for (let first = 0; first < rows; first += rowsPerBlock) {
      const count = Math.min(rowsPerBlock, rows - first)
      const read = checkpoint.readRows(source, first, count, values)
      check(read, source, first * columns, kind)
      hash.update(bytesOf(read))
      let bytes = 0
      for (let row = 0; row < count; row += TILE) {
        packGroup(kind, columns, values, row * columns, Math.min(TILE, count - row), packed, bytes)
        bytes += group
      }
      write(packed.subarray(0, bytes))
    }
  }
}

const bytesOf = (values: Float32Array): Uint8Array =>
  new Uint8Array(values.buffer, values.byteOffset, values.byteLength)

/** @param first index of `values[0]` in the tensor, for the message */
function check(values: Float32Array, source: string, first: number, kind: Kind): void {
  const limit = LIMITS[kind]
  for (let i = 0; i < values.length; i++) {
    // Written so that NaN fails it too.
    if (Math.abs(values[i]) < limit) continue
    const hint = Number.isFinite(values[i])
      ? `which is too large for weights ${kind} (below ${limit}); pack with weights f32`
      : 'which no sound model has; download the checkpoint again'
    throw new CoppiceError('CORRUPT_FILE', `tensor ${source}: element ${first + i} is ${values[i]}, ${hint}`)
  }
}
