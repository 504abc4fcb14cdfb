/** Carries out read pieces: disk straight into WASM memory, then the checksum of what came. */
import { CoppiceError } from '../errors.ts'
import { type FileStamp, type OpenMode, ReadableFile } from '../runtime/files.ts'
import { now } from '../runtime/platform.ts'
import { type Control, WAIT_LIMIT_MS, Word } from '../tensor/control.ts'
import type { Kernels } from '../tensor/kernels.ts'
import { alignDown, alignUp, type LoadBoard, type Piece, type Unit } from './load-board.ts'
import { NO_SPANS, type Spans } from './timeline.ts'

interface OpenFile {
  readonly file: ReadableFile
  readonly stamp: FileStamp
}

export class Loader {
  readonly #board: LoadBoard
  readonly #kernels: Kernels
  readonly #memory: WebAssembly.Memory
  readonly #files = new Map<string, OpenFile>()
  readonly #spans: Spans

  /**
   * Opens every file at once: a file that is deleted later is still read to the end where the
   * platform keeps open files alive.
   * @param spans takes the time of reads and checks
   * @throws CoppiceError MODEL_NOT_FOUND | CORRUPT_FILE | FILE_SYSTEM
   */
  constructor(board: LoadBoard, kernels: Kernels, memory: WebAssembly.Memory, mode: OpenMode, spans: Spans = NO_SPANS) {
    this.#board = board
    this.#kernels = kernels
    this.#memory = memory
    this.#spans = spans
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
    const began = now()
    const found = file.stamp()
    if (found.bytes !== stamp.bytes || found.modifiedMs !== stamp.modifiedMs) {
      throw new CoppiceError(
        'CORRUPT_FILE',
        `${unit.path} was changed while the model was in use; load the model again`,
      )
    }
    const dataStart = unit.start + piece.firstChunk * unit.chunkBytes
    const dataEnd = Math.min(unit.start + piece.endChunk * unit.chunkBytes, unit.start + unit.bytes)
    const readStart = alignDown(dataStart)
    const readBytes = alignUp(dataEnd) - readStart
    const pointer = piece.pointer + (readStart - alignDown(unit.start))
    const got = file.read(new Uint8Array(this.#memory.buffer, pointer, readBytes), readStart)
    if (got < readBytes) {
      throw new CoppiceError(
        'CORRUPT_FILE',
        `${unit.path} ended at byte ${readStart + got} while ${unit.name} was read; ${readBytes} bytes from ${readStart} on were expected; pack the model again`,
      )
    }
    this.#spans.add('read', began, piece.unit, readBytes)
    if (this.#board.isVerified(piece)) return
    const checking = now()
    for (let chunk = piece.firstChunk; chunk < piece.endChunk; chunk++) {
      const from = chunk * unit.chunkBytes
      const bytes = Math.min(unit.chunkBytes, unit.bytes - from)
      const sum = this.#kernels.checksum(pointer + (unit.start + from - readStart), bytes) >>> 0
      if (sum !== unit.checksums[chunk]) {
        throw new CoppiceError(
          'CORRUPT_FILE',
          `${unit.path}: the checksum of bytes ${unit.start + from} to ${unit.start + from + bytes} (${unit.name}) does not match; the file is damaged: run \`coppice verify\` and pack the model again`,
        )
      }
    }
    this.#spans.add('check', checking, piece.unit, dataEnd - dataStart)
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
