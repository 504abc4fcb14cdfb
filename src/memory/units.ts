/** Packed files as units of loading. */
import { CoppiceError } from '../errors.ts'
import { joinPath } from '../runtime/files.ts'
import { groupBytes, TILE } from '../tensor/layout.ts'
import type { PackedFile, PackedTensor, Segment } from '../weights/manifest.ts'
import { type Unit, unitFootprint } from './load-board.ts'

const unitOf = (directory: string, file: PackedFile, segment: Segment, name: string): Unit => ({
  name,
  path: joinPath(directory, file.name),
  fileBytes: file.bytes,
  start: file.dataOffset + segment.offset,
  bytes: segment.bytes,
  chunkBytes: segment.chunkBytes,
  checksums: segment.checksums,
})

/** A layer file's data, whole. */
export function layerUnit(directory: string, file: PackedFile): Unit {
  return unitOf(directory, file, file.segments[0], file.name)
}

/** One segment of a file: a matrix of the edges, or their vectors. @throws CoppiceError CORRUPT_FILE */
export function segmentUnit(directory: string, file: PackedFile, name: string): Unit {
  const segment = file.segments.find((s) => s.name === name)
  if (segment === undefined) {
    throw new CoppiceError('CORRUPT_FILE', `${file.name} has no segment "${name}"; pack the model again`)
  }
  return unitOf(directory, file, segment, name)
}

export interface MatrixPiece {
  readonly unit: Unit
  readonly firstRow: number
  readonly rows: number
}

/**
 * A matrix in runs of whole chunks, each no larger in memory than `limit` bytes, or one chunk where
 * a single chunk is larger.
 */
export function splitMatrix(unit: Unit, tensor: PackedTensor, limit: number): MatrixPiece[] {
  if (tensor.kind === 'vector') throw new Error('a vector is not split')
  const group = groupBytes(tensor.kind, tensor.columns)
  const rowsPerChunk = (unit.chunkBytes / group) * TILE
  const pieces: MatrixPiece[] = []
  for (let first = 0; first < unit.checksums.length; ) {
    let count = 1
    while (first + count < unit.checksums.length && unitFootprint(cut(unit, first, count + 1)) <= limit) count++
    const firstRow = first * rowsPerChunk
    const rows = Math.min(count * rowsPerChunk, tensor.rows - firstRow)
    pieces.push({ unit: cut(unit, first, count), firstRow, rows })
    first += count
  }
  return pieces
}

function cut(unit: Unit, firstChunk: number, chunks: number): Unit {
  const from = firstChunk * unit.chunkBytes
  return {
    ...unit,
    name: `${unit.name} from chunk ${firstChunk} on`,
    start: unit.start + from,
    bytes: Math.min(chunks * unit.chunkBytes, unit.bytes - from),
    checksums: unit.checksums.slice(firstChunk, firstChunk + chunks),
  }
}
