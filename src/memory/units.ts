/** Packed files as units of loading. */
import { joinPath } from '../runtime/files.ts'
import { groupBytes, TILE } from '../tensor/layout.ts'
import type { PackedFile, PackedTensor, Segment } from '../weights/manifest.ts'
import { findSegment } from '../weights/packed-layout.ts'
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

/** The groups of a layer file, in the order of a pass: together all its data. */
export function layerUnits(directory: string, file: PackedFile): Unit[] {
  return file.segments.map((segment) => unitOf(directory, file, segment, `${segment.name} of ${file.name}`))
}

/** One segment of a file: a matrix of the edges, or their vectors. @throws CoppiceError CORRUPT_FILE */
export function segmentUnit(directory: string, file: PackedFile, name: string): Unit {
  return unitOf(directory, file, findSegment(file, name), name)
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
