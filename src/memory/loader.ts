/** Carries out read pieces: disk straight into WASM memory, then the checksum of what came. */
import { CoppiceError } from '../errors.ts'
import { type FileStamp, type OpenMode, ReadableFile } from '../runtime/files.ts'
import { type Control, WAIT_LIMIT_MS, Word } from '../tensor/control.ts'
import type { Kernels } from '../tensor/kernels.ts'
import { alignDown, alignUp, type LoadBoard, type Piece, type Unit } from './load-board.ts'

/** A memory to read into, and the kernels in it that check what came. */
export interface LoaderBank {
  readonly memory: WebAssembly.Memory
  readonly kernels: Kernels
}

interface OpenFile {
  readonly file: ReadableFile
  readonly stamp: FileStamp
}

export class Loader {
  readonly #board: LoadBoard
  readonly #banks: readonly LoaderBank[]
  readonly #files = new Map<string, OpenFile>()

  /**
   * Opens every file at once: a file that is deleted later is still read to the end where the
   * platform keeps open files alive.
   * @throws CoppiceError MODEL_NOT_FOUND | CORRUPT_FILE | FILE_SYSTEM
   */
  constructor(board: LoadBoard, banks: readonly LoaderBank[], mode: OpenMode) {
    this.#board = board
    this.#banks = banks
    for (const unit of board.units) {
      if (this.#files.has(unit.path)) continue
      const file = new ReadableFile(unit.path, mode)
      const stamp = file.stamp()
      if (stamp.bytes !== unit.fileBytes) {
        throw new CoppiceError(
          'CORRUPT_FILE',
          `${unit.path} should have ${unit.fileBytes} bytes but has ${stamp.bytes}; pack the model again`,
        )
      }
      this.#files.set(unit.path, { file, stamp })
    }
  }

  /** Reads and checks one piece; a failure goes to the board. */
  perform(piece: Piece): void {
    try {
      this.#read(piece, this.#board.units[piece.unit])
      this.#board.finish(piece)
    } catch (error) {
      this.#board.fail(error)
    }
  }

  close(): void {
    for (const { file } of this.#files.values()) file.close()
    this.#files.clear()
  }

  #read(piece: Piece, unit: Unit): void {
    const { file, stamp } = this.#files.get(unit.path)!
    const now = file.stamp()
    if (now.bytes !== stamp.bytes || now.modifiedMs !== stamp.modifiedMs) {
      throw new CoppiceError(
        'CORRUPT_FILE',
        `${unit.path} was changed while the model was in use; load the model again`,
      )
    }
    const dataStart = unit.start + piece.firstChunk * unit.chunkBytes
    const dataEnd = Math.min(unit.start + piece.endChunk * unit.chunkBytes, unit.start + unit.bytes)
    const readStart = alignDown(dataStart)
    const readBytes = alignUp(dataEnd) - readStart
    const { memory, kernels } = this.#banks[piece.place.bank]
    const pointer = piece.place.pointer + (readStart - alignDown(unit.start))
    const got = file.read(new Uint8Array(memory.buffer, pointer, readBytes), readStart)
    if (got < readBytes) {
      throw new CoppiceError(
        'CORRUPT_FILE',
        `${unit.path} ended at byte ${readStart + got} while ${unit.name} was read; ${readBytes} bytes from ${readStart} on were expected; pack the model again`,
      )
    }
    if (this.#board.isVerified(piece)) return
    for (let chunk = piece.firstChunk; chunk < piece.endChunk; chunk++) {
      const from = chunk * unit.chunkBytes
      const bytes = Math.min(unit.chunkBytes, unit.bytes - from)
      const sum = kernels.checksum(pointer + (unit.start + from - readStart), bytes) >>> 0
      if (sum !== unit.checksums[chunk]) {
        throw new CoppiceError(
          'CORRUPT_FILE',
          `${unit.path}: the checksum of bytes ${unit.start + from} to ${unit.start + from + bytes} (${unit.name}) does not match; the file is damaged: run \`coppice verify\` and pack the model again`,
        )
      }
    }
    this.#board.markVerified(piece)
  }
}

/** The loop of a loader thread. Returns when the control block says stop. */
export function serveLoads(loader: Loader, board: LoadBoard, control: Control): void {
  while (!control.stopped) {
    if (control.loadersResting) {
      Atomics.wait(control.words, Word.loadersResting, 1, WAIT_LIMIT_MS)
      continue
    }
    const published = Atomics.load(control.words, Word.piecesPublished)
    const piece = board.take()
    if (piece === undefined) Atomics.wait(control.words, Word.piecesPublished, published, WAIT_LIMIT_MS)
    else loader.perform(piece)
  }
}
