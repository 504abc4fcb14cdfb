/** Token embeddings: gathered from memory, or read row by row from disk when the matrix is not resident. */
import { CoppiceError } from '../errors.ts'
import type { Unit } from '../memory/load-board.ts'
import { type FileAccess, PackedReader } from '../memory/packed-reader.ts'
import type { Arena } from '../tensor/arena.ts'
import { checksum } from '../tensor/checksum.ts'
import { groupBytes, TILE, unpackRow } from '../tensor/layout.ts'
import type { Matrix, Operators } from '../tensor/operators.ts'
import type { Rows } from '../tensor/rows.ts'

export interface Embedding {
  /** Bytes that came from disk so far. */
  readonly bytesRead: number
  /** Writes the embeddings of `count` tokens to the first rows of `target`: [count][hidden] f32. */
  gather(tokens: Int32Array, count: number, target: Rows): void
  close(): void
}

/** The matrix [vocabulary x hidden] lies in memory. */
export class MatrixEmbedding implements Embedding {
  readonly bytesRead = 0
  readonly #operators: Operators
  readonly #matrix: Matrix

  constructor(operators: Operators, matrix: Matrix) {
    this.#operators = operators
    this.#matrix = matrix
  }

  gather(tokens: Int32Array, count: number, target: Rows): void {
    this.#operators.gather(tokens, count, this.#matrix, target)
    this.#operators.run()
  }

  close(): void {}
}

/** Rows come from disk until the matrix was read. */
export class ArrivingEmbedding implements Embedding {
  readonly #near: Embedding
  readonly #far: Embedding
  readonly #isThere: () => boolean

  /** @param isThere whether the matrix of `near` was read @param far the same matrix on disk */
  constructor(near: Embedding, far: Embedding, isThere: () => boolean) {
    this.#near = near
    this.#far = far
    this.#isThere = isThere
  }

  get bytesRead(): number {
    return this.#far.bytesRead
  }

  gather(tokens: Int32Array, count: number, target: Rows): void {
    const source = this.#isThere() ? this.#near : this.#far
    source.gather(tokens, count, target)
  }

  close(): void {
    this.#far.close()
  }
}

/**
 * The matrix stays on disk. A row lies in a group of 8 rows, which is read whole; the first read of
 * a chunk reads and checks all of it.
 */
export class EmbeddingOnDisk implements Embedding {
  bytesRead = 0
  readonly #file: PackedReader
  readonly #unit: Unit
  readonly #matrix: Omit<Matrix, 'pointer'>
  readonly #arena: Arena
  readonly #verified: Uint8Array
  readonly #group: Uint8Array

  /**
   * @param unit the bytes of the matrix and nothing else, in chunks of whole groups
   * @param access of the unit's file; single rows are too small for direct reads
   * @throws CoppiceError MODEL_NOT_FOUND | CORRUPT_FILE | FILE_SYSTEM
   */
  constructor(unit: Unit, matrix: Omit<Matrix, 'pointer'>, arena: Arena, access: FileAccess) {
    this.#file = new PackedReader(unit.path, { ...access, mode: 'buffered' })
    this.#unit = unit
    this.#matrix = matrix
    this.#arena = arena
    this.#verified = new Uint8Array(unit.checksums.length)
    this.#group = new Uint8Array(groupBytes(matrix.kind, matrix.columns))
  }

  gather(tokens: Int32Array, count: number, target: Rows): void {
    const { kind, columns } = this.#matrix
    for (let i = 0; i < count; i++) {
      const group = Math.floor(tokens[i] / TILE)
      this.#read(this.#group, group * this.#group.length)
      const row = this.#arena.f32(target.pointer + i * target.stride, target.stride / 4)
      row.fill(0)
      unpackRow(kind, columns, this.#group, 0, tokens[i] % TILE, row, 0)
    }
  }

  close(): void {
    this.#file.close()
  }

  #read(target: Uint8Array, from: number): void {
    const { chunkBytes, checksums, bytes, start, path } = this.#unit
    const chunk = Math.floor(from / chunkBytes)
    if (this.#verified[chunk] === 1) {
      this.#readFully(target, start + from)
      return
    }
    const whole = new Uint8Array(Math.min(chunkBytes, bytes - chunk * chunkBytes))
    this.#readFully(whole, start + chunk * chunkBytes)
    if (checksum(whole) !== checksums[chunk]) {
      throw new CoppiceError(
        'CORRUPT_FILE',
        `${path}: the checksum of ${whole.length} bytes from ${start + chunk * chunkBytes} on (embedding) does not match; the file is damaged: run \`coppice verify\` and pack the model again`,
      )
    }
    this.#verified[chunk] = 1
    const at = from - chunk * chunkBytes
    target.set(whole.subarray(at, at + target.length))
  }

  #readFully(target: Uint8Array, position: number): void {
    this.#file.read(target, position, 'the embedding')
    this.bytesRead += target.length
  }
}
