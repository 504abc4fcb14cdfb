/** Carries out read pieces: disk straight into WASM memory, then the checksum of what came. */
import { CoppiceError } from '../errors.ts'
import { now } from '../runtime/platform.ts'
import { type Control, WAIT_LIMIT_MS, Word } from '../tensor/control.ts'
import type { Kernels } from '../tensor/kernels.ts'
import { alignDown, alignUp, type LoadBoard, type Piece, type Unit } from './load-board.ts'
import { type FileAccesses, type OpenFile, PackedReader } from './packed-reader.ts'
import { NO_SPANS, type Spans } from './timeline.ts'

/** A memory to read into, and the kernels in it that check what came. */
export interface LoaderBank {
  readonly memory: WebAssembly.Memory
  readonly kernels: Kernels
}

export interface LoaderOptions {
  /** Takes the time of reads and checks. */
  readonly spans?: Spans
  /** How a file is opened, for tests of failures. */
  readonly open?: OpenFile
}

export class Loader {
  readonly #board: LoadBoard
  readonly #banks: readonly LoaderBank[]
  readonly #readers = new Map<string, PackedReader>()
  readonly #spans: Spans

  /**
   * Opens every file at once.
   * @param accesses of all files of the board's units
   * @throws CoppiceError MODEL_NOT_FOUND | CORRUPT_FILE | FILE_SYSTEM
   */
  constructor(
    board: LoadBoard,
    banks: readonly LoaderBank[],
    accesses: FileAccesses,
    { spans = NO_SPANS, open }: LoaderOptions = {},
  ) {
    this.#board = board
    this.#banks = banks
    this.#spans = spans
    for (const { path, fileBytes } of board.units) {
      if (this.#readers.has(path)) continue
      const access = accesses.get(path)
      if (access === undefined) {
        throw new CoppiceError('MODEL_NOT_FOUND', `there is no ${path}; pack the model again`)
      }
      if (access.stamp.bytes !== fileBytes) {
        throw new CoppiceError(
          'CORRUPT_FILE',
          `${path} should have ${fileBytes} bytes but has ${access.stamp.bytes}; pack the model again`,
        )
      }
      this.#readers.set(path, new PackedReader(path, access, open))
    }
  }

  /** Reads and checks one piece; a failure goes to the board. */
  perform(piece: Piece): void {
    try {
      // Nobody can use the rest of a unit of which a part is missing.
      if (!this.#board.hasFailed(piece.request)) this.#read(piece, this.#board.units[piece.unit])
    } catch (error) {
      this.#board.fail(piece, error)
    }
    this.#board.finish(piece)
  }

  close(): void {
    for (const reader of this.#readers.values()) reader.close()
    this.#readers.clear()
  }

  #read(piece: Piece, unit: Unit): void {
    const began = now()
    const dataStart = unit.start + piece.firstChunk * unit.chunkBytes
    const dataEnd = Math.min(unit.start + piece.endChunk * unit.chunkBytes, unit.start + unit.bytes)
    const readStart = alignDown(dataStart)
    const readBytes = alignUp(dataEnd) - readStart
    const { memory, kernels } = this.#banks[piece.place.bank]
    const pointer = piece.place.pointer + (readStart - alignDown(unit.start))
    const target = new Uint8Array(memory.buffer, pointer, readBytes)
    this.#readers.get(unit.path)!.read(target, readStart, unit.name)
    this.#spans.add('read', began, piece.unit, readBytes)
    if (this.#board.isVerified(piece)) return
    const checking = now()
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
