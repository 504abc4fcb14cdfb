/**
 * Where the engine asks for parts of files and loader threads find the work: a ring of *pieces* in
 * shared memory, and per request a countdown and the first failure in words.
 */
import { CoppiceError, type ErrorCode } from '../errors.ts'
import { DIRECT_ALIGNMENT } from '../runtime/files.ts'
import type { Place } from '../tensor/arena.ts'
import { type Control, WAIT_LIMIT_MS, Word } from '../tensor/control.ts'

/** A run of bytes in a packed file that is loaded as a whole: a group of a layer's tensors, or some rows of the output head. */
export interface Unit {
  readonly name: string
  readonly path: string
  /** Size that the whole file must have. */
  readonly fileBytes: number
  /** First byte in the file. */
  readonly start: number
  readonly bytes: number
  readonly chunkBytes: number
  /** One checksum per chunk of `chunkBytes` from `start` on. */
  readonly checksums: readonly number[]
}

/**
 * Bytes of one read. Large enough that the disk streams, small enough that several loaders share a group
 * evenly and an abort does not wait long.
 */
const PIECE_BYTES = 4 * 1024 * 1024

export const alignDown = (value: number): number => Math.floor(value / DIRECT_ALIGNMENT) * DIRECT_ALIGNMENT
export const alignUp = (value: number): number => Math.ceil(value / DIRECT_ALIGNMENT) * DIRECT_ALIGNMENT

const chunksPerPiece = (unit: Unit): number => Math.max(1, Math.floor(PIECE_BYTES / unit.chunkBytes))
export const pieceCount = (unit: Unit): number => Math.ceil(unit.checksums.length / chunksPerPiece(unit))

/** Bytes between the slot's start and the unit's first byte, when reads begin at an aligned offset. */
export const unitLead = (unit: Unit): number => unit.start - alignDown(unit.start)

/** Memory that a unit takes when whole aligned blocks are read. A multiple of `DIRECT_ALIGNMENT`. */
export const unitFootprint = (unit: Unit): number => alignUp(unit.start + unit.bytes) - alignDown(unit.start)

/** One read: whole chunks `[firstChunk, endChunk)` of a unit. */
export interface Piece {
  readonly request: number
  readonly unit: number
  readonly index: number
  /** Where the unit is to be laid down. */
  readonly place: Place
  readonly firstChunk: number
  readonly endChunk: number
}

const PIECE_WORDS = 5
/** Per request: how far the telling of its failure is (0: none, 1: being written, 2: written), code, length of the text. */
const ERROR_WORDS = 3
const ERROR_TEXT_BYTES = 1024
const ERROR_CODES: readonly ErrorCode[] = ['CORRUPT_FILE', 'MODEL_NOT_FOUND', 'FILE_SYSTEM', 'WORKER_FAILED']

export interface BoardShape {
  readonly units: readonly Unit[]
  /** Requests that can be under way at once. */
  readonly requests: number
}

export class LoadBoard {
  readonly buffer: SharedArrayBuffer
  readonly units: readonly Unit[]
  readonly #control: Control
  /** Entries of the ring, a power of two: so an entry follows from its number even when that wraps at 32 bits. */
  readonly #capacity: number
  readonly #ring: Int32Array
  readonly #remaining: Int32Array
  readonly #errors: Int32Array
  readonly #errorTexts: Uint8Array
  readonly #verified: Uint8Array
  readonly #verifiedStart: number[] = []

  constructor(shape: BoardShape, control: Control, buffer?: SharedArrayBuffer) {
    this.units = shape.units
    this.#control = control
    let verified = 0
    let most = 1
    for (const unit of shape.units) {
      this.#verifiedStart.push(verified)
      verified += pieceCount(unit)
      most = Math.max(most, pieceCount(unit))
    }
    this.#capacity = 2 ** Math.ceil(Math.log2(most * shape.requests))
    const words = this.#capacity * PIECE_WORDS + shape.requests * (1 + ERROR_WORDS)
    const bytes = words * 4 + shape.requests * ERROR_TEXT_BYTES + verified
    this.buffer = buffer ?? new SharedArrayBuffer(bytes)
    let at = 0
    this.#ring = new Int32Array(this.buffer, at, this.#capacity * PIECE_WORDS)
    at += this.#ring.byteLength
    this.#remaining = new Int32Array(this.buffer, at, shape.requests)
    at += this.#remaining.byteLength
    this.#errors = new Int32Array(this.buffer, at, shape.requests * ERROR_WORDS)
    at += this.#errors.byteLength
    this.#errorTexts = new Uint8Array(this.buffer, at, shape.requests * ERROR_TEXT_BYTES)
    at += this.#errorTexts.byteLength
    this.#verified = new Uint8Array(this.buffer, at, verified)
  }

  /**
   * Asks for a unit, to be laid down from `place` (a multiple of 4096) on. The unit's first byte
   * then lies `unitLead` bytes further. `request` must be done; if it failed, that is forgotten.
   */
  publish(request: number, unit: number, place: Place): void {
    const { words } = this.#control
    const pieces = pieceCount(this.units[unit])
    Atomics.store(this.#errors, request * ERROR_WORDS, 0)
    Atomics.store(this.#remaining, request, pieces)
    const first = Atomics.load(words, Word.piecesPublished)
    for (let i = 0; i < pieces; i++) {
      const at = this.#entry(first + i)
      this.#ring[at] = request
      this.#ring[at + 1] = unit
      this.#ring[at + 2] = i
      this.#ring[at + 3] = place.bank
      this.#ring[at + 4] = place.pointer
    }
    Atomics.add(words, Word.piecesPublished, pieces)
    Atomics.notify(words, Word.piecesPublished)
  }

  /** Whether nobody writes to the request's memory any more, be it because all came or because something failed. */
  isDone(request: number): boolean {
    return Atomics.load(this.#remaining, request) === 0
  }

  /** Whether all of the request's bytes have come. */
  isComplete(request: number): boolean {
    return this.isDone(request) && !this.hasFailed(request)
  }

  /** Whether `checkFailure` throws. */
  hasFailed(request: number): boolean {
    return Atomics.load(this.#errors, request * ERROR_WORDS) === 2
  }

  /** Takes a piece of work, or `undefined` when none is left. */
  take(): Piece | undefined {
    const { words } = this.#control
    for (;;) {
      const taken = Atomics.load(words, Word.piecesTaken)
      if (taken === Atomics.load(words, Word.piecesPublished)) return undefined
      const at = this.#entry(taken)
      const request = this.#ring[at]
      const unitIndex = this.#ring[at + 1]
      const index = this.#ring[at + 2]
      const place = { bank: this.#ring[at + 3], pointer: this.#ring[at + 4] >>> 0 }
      // The entry was read before it is claimed: after the claim it may be overwritten.
      if (Atomics.compareExchange(words, Word.piecesTaken, taken, taken + 1) !== taken) continue
      const unit = this.units[unitIndex]
      const chunks = chunksPerPiece(unit)
      const firstChunk = index * chunks
      const endChunk = Math.min(firstChunk + chunks, unit.checksums.length)
      return { request, unit: unitIndex, index, place, firstChunk, endChunk }
    }
  }

  #entry(number: number): number {
    return (number & (this.#capacity - 1)) * PIECE_WORDS
  }

  finish(piece: Piece): void {
    Atomics.sub(this.#remaining, piece.request, 1)
    Atomics.add(this.#control.words, Word.piecesDone, 1)
    Atomics.notify(this.#control.words, Word.piecesDone)
  }

  /** Blocks until some piece is finished, a fault or an abort is raised, or a moment has passed. */
  awaitProgress(seen: number): void {
    Atomics.wait(this.#control.words, Word.piecesDone, seen, WAIT_LIMIT_MS)
  }

  get finishedPieces(): number {
    return Atomics.load(this.#control.words, Word.piecesDone)
  }

  isVerified(piece: Piece): boolean {
    return Atomics.load(this.#verified, this.#verifiedStart[piece.unit] + piece.index) === 1
  }

  markVerified(piece: Piece): void {
    Atomics.store(this.#verified, this.#verifiedStart[piece.unit] + piece.index, 1)
  }

  /** Records why a piece cannot be had, before it is finished; of a request the first failure is kept. */
  fail({ request }: Piece, error: unknown): void {
    const at = request * ERROR_WORDS
    if (Atomics.compareExchange(this.#errors, at, 0, 1) !== 0) return
    const known = error instanceof CoppiceError ? ERROR_CODES.indexOf(error.code) : -1
    const text = new TextEncoder().encode(error instanceof Error ? error.message : String(error))
    const length = Math.min(text.length, ERROR_TEXT_BYTES)
    this.#errorTexts.set(text.subarray(0, length), request * ERROR_TEXT_BYTES)
    this.#errors[at + 1] = known < 0 ? ERROR_CODES.indexOf('WORKER_FAILED') : known
    this.#errors[at + 2] = length
    Atomics.store(this.#errors, at, 2)
  }

  /** @throws CoppiceError what a loader recorded with `fail` */
  checkFailure(request: number): void {
    const at = request * ERROR_WORDS
    if (Atomics.load(this.#errors, at) !== 2) return
    const start = request * ERROR_TEXT_BYTES
    const text = new TextDecoder().decode(this.#errorTexts.slice(start, start + this.#errors[at + 2]))
    throw new CoppiceError(ERROR_CODES[this.#errors[at + 1]], text)
  }
}
