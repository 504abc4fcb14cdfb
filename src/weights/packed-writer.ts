/** Writes one file of a packed model from the tensors of a checkpoint, a few rows at a time. */
import { CoppiceError } from '../errors.ts'
import { Sha256 } from '../runtime/files.ts'
import { checksum } from '../tensor/checksum.ts'
import { groupBytes, type Kind, paddedOutputs, TILE } from '../tensor/layout.ts'
import { ChecksumBuffer, dtypeBytes, type FloatDtype, Packer } from '../tensor/packer.ts'
import { ChunkSums } from './chunk-sums.ts'
import type { PackedFile } from './manifest.ts'
import { type DataLayout, FILE_ALIGNMENT, headerMetadata, headerTensors } from './packed-layout.ts'
import type { Safetensors } from './safetensors.ts'
import { SafetensorsWriter } from './safetensors-writer.ts'
import type { TensorPart, TensorRecipe } from './tensor-names.ts'

/** Bytes of a tensor that are read and packed at a time, unless 8 rows have more. */
const BLOCK_BYTES = 1 << 20

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
  /** SHA-256 over the checksums of the checkpoint's bytes that went into it. */
  readonly sourceDigest: string
}

/** What a packed file is made of. */
export interface FilePlan {
  readonly name: string
  readonly layout: DataLayout
  /** The tensors of `layout`, in its order. */
  readonly recipes: readonly TensorRecipe[]
}

/** Writes the files of one model, one after the other: what they need in memory is allocated once. */
export class PackedWriter {
  /** What it takes of memory. */
  readonly bufferBytes: number
  readonly #checkpoint: Safetensors
  readonly #packer: Packer
  readonly #sums: ChecksumBuffer

  /** @param files all that will be written */
  constructor(checkpoint: Safetensors, files: readonly FilePlan[]) {
    this.#checkpoint = checkpoint
    let source = 0
    let target = 0
    for (const { layout, recipes } of files) {
      layout.tensors.forEach(({ kind }, i) => {
        const { parts, columns } = recipes[i]
        for (const part of parts) {
          const rows = Math.min(part.rows, kind === 'vector' ? part.rows : rowsPerBlock(this.#dtypeOf(part), columns))
          source = Math.max(source, rows * columns * dtypeBytes(this.#dtypeOf(part)))
          if (kind !== 'vector') target = Math.max(target, (paddedOutputs(rows) / TILE) * groupBytes(kind, columns))
        }
      })
    }
    const chunk = Math.max(...files.map(({ layout }) => ChunkSums.bufferBytes(layout.segments)))
    this.#packer = new Packer(source, target)
    this.#sums = new ChecksumBuffer(chunk)
    this.bufferBytes = source + target + chunk
  }

  /**
   * @param path of the file to write
   * @param onWritten called with the bytes of `layout` added, after every block, and when the header is written; may
   *   throw to give up
   * @throws CoppiceError CORRUPT_FILE for weights that are not finite or too large for their kind, FILE_SYSTEM,
   *   and what `onWritten` throws. Nothing is left behind.
   */
  write(path: string, { name, layout, recipes }: FilePlan, onWritten: (bytes: number) => void): WrittenFile {
    const writer = new SafetensorsWriter(path, headerTensors(layout), {
      metadata: headerMetadata(layout),
      alignment: FILE_ALIGNMENT,
    })
    try {
      onWritten(0)
      const sums = new ChunkSums(layout.segments, this.#sums)
      const source = new Sha256()
      let written = 0
      const write = (bytes: Uint8Array): void => {
        for (let at = 0; at < bytes.length; at += BLOCK_BYTES) {
          const block = bytes.subarray(at, at + BLOCK_BYTES)
          writer.write(block)
          sums.feed(block)
          written += block.length
          onWritten(block.length)
        }
      }
      layout.tensors.forEach(({ kind, offset, bytes }, i) => {
        if (kind === 'vector') this.#packVector(recipes[i].parts, source, write)
        else this.#packMatrix(recipes[i], kind, source, write)
        write(new Uint8Array(offset + bytes - written))
      })
      write(new Uint8Array(layout.bytes - written))
      const sha256 = writer.commit()
      return { file: describe(name, writer, sha256, layout, sums), sourceDigest: source.hex() }
    } catch (error) {
      writer.discard()
      throw error
    }
  }

  #packVector(parts: readonly TensorPart[], source: Sha256, write: (bytes: Uint8Array) => void): void {
    for (const part of parts) {
      const dtype = this.#read(part, 1, 0, part.rows, 'f32', source)
      // One part is stored as it is; several are padded like the rows of the matrix they belong to.
      const values = new Float32Array(parts.length === 1 ? part.rows : paddedOutputs(part.rows))
      values.set(this.#packer.floats(dtype, 0, part.rows))
      write(new Uint8Array(values.buffer))
    }
  }

  #packMatrix({ parts, columns }: TensorRecipe, kind: Kind, source: Sha256, write: (bytes: Uint8Array) => void): void {
    for (const part of parts) {
      const block = rowsPerBlock(this.#dtypeOf(part), columns)
      for (let first = 0; first < part.rows; first += block) {
        const rows = Math.min(block, part.rows - first)
        const dtype = this.#read(part, columns, first, rows, kind, source)
        write(this.#packer.target.subarray(0, this.#packer.pack(kind, dtype, columns, rows)))
      }
    }
  }

  #dtypeOf({ source }: TensorPart): FloatDtype {
    // `resolveNames` has let no other pass.
    return this.#checkpoint.info(source).dtype as FloatDtype
  }

  /** Reads rows into the packer's source, if all their weights can be packed. */
  #read(part: TensorPart, columns: number, first: number, rows: number, kind: Kind, source: Sha256): FloatDtype {
    const packer = this.#packer
    const dtype = this.#dtypeOf(part)
    const bytes = this.#checkpoint.readRowBytes(part.source, first, rows, packer.source)
    const found = packer.oversized(dtype, rows * columns, LIMITS[kind])
    if (found !== undefined) throw unpackable(part.source, first * columns + found.index, found.value, kind)
    source.update(`${dtype} ${bytes} ${packer.sourceChecksum(bytes)}\n`)
    return dtype
  }
}

/** Whole groups. */
const rowsPerBlock = (dtype: FloatDtype, columns: number): number =>
  TILE * Math.max(1, Math.floor(BLOCK_BYTES / (columns * TILE * dtypeBytes(dtype))))

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

function unpackable(tensor: string, element: number, value: number, kind: Kind): CoppiceError {
  const hint = Number.isFinite(value)
    ? `which is too large for weights ${kind} (below ${LIMITS[kind]}); pack with weights f32`
    : 'which no sound model has; download the checkpoint again'
  return new CoppiceError('CORRUPT_FILE', `tensor ${tensor}: element ${element} is ${value}, ${hint}`)
}
