/**
 * The target's layers, wherever they are: pinned for good, or passing through slots that loaders
 * fill ahead of use (LLMCad's compute-I/O pipeline, arXiv 2309.04255, section 4.3).
 */
import { now } from '../runtime/platform.ts'
import type { Place } from '../tensor/arena.ts'
import type { Control } from '../tensor/control.ts'
import { type LoadBoard, unitFootprint, unitLead } from './load-board.ts'
import type { Loader } from './loader.ts'

/**
 * Useful work to do while a layer is still on its way.
 * @param deadline time in ms (`now`) at which waiting would like control back
 * @returns false when there is nothing left to do
 */
export type Idle = (deadline: number) => boolean

/** How long one call of `Idle` should last at the most, in ms. */
const IDLE_SLICE_MS = 2

/** Requests on the board: one for what is loaded once, then one per slot. Stores that share a board share the first. */
const PINNED_REQUEST = 0

export const boardRequests = (slots: number): number => 1 + slots

/** Slots lie together with what a streamed layer uses; further banks hold pinned layers. */
const SLOT_BANK = 0

const placeAfter = ({ bank, pointer }: Place, bytes: number): Place => ({ bank, pointer: pointer + bytes })

interface Slot {
  readonly place: Place
  readonly request: number
  unit: number
  state: 'free' | 'loading' | 'ready' | 'held'
}

export interface LayerStoreOptions {
  readonly board: LoadBoard
  readonly control: Control
  /** Reads on the calling thread when there are no loader threads. */
  readonly inlineLoader?: Loader
  /** Where the units lie that stay in memory (multiples of 4096), by unit; others stream. */
  readonly pinned: ReadonlyMap<number, Place>
  /** Units that stream, in the order of a pass. Those from `headStart` on belong to the output head. */
  readonly streamed: readonly number[]
  readonly headStart: number
  /** Addresses of the slots in bank 0, multiples of 4096. At least 2 when anything streams. */
  readonly slots: readonly number[]
}

export class LayerStore {
  /** Bytes that came from disk since the store was made. */
  bytesRead = 0
  /** Milliseconds spent waiting for disk, without what `Idle` used. */
  waitMs = 0
  readonly #options: LayerStoreOptions
  readonly #slots: Slot[]
  readonly #orderOf = new Map<number, number>()
  #next = 0
  #headFollows = true

  constructor(options: LayerStoreOptions) {
    this.#options = options
    this.#slots = options.slots.map((pointer, i) => ({
      place: { bank: SLOT_BANK, pointer },
      request: 1 + i,
      unit: -1,
      state: 'free',
    }))
    options.streamed.forEach((unit, order) => {
      this.#orderOf.set(unit, order)
    })
    if (options.streamed.length > 0 && options.slots.length < 2) throw new Error('streaming needs at least 2 slots')
  }

  /**
   * Whether the coming passes end with the output head. Loaders run ahead into the next pass, so
   * they must know whether it is the head or the first layer that comes after the last layer.
   */
  set headFollows(value: boolean) {
    this.#headFollows = value
  }

  /** Brings every pinned unit into memory, and starts on the first streamed ones. */
  loadPinned(onProgress?: (doneBytes: number, totalBytes: number) => void): void {
    const { board, pinned } = this.#options
    let total = 0
    for (const unit of pinned.keys()) total += board.units[unit].bytes
    let done = 0
    for (const [unit, place] of pinned) {
      board.publish(PINNED_REQUEST, unit, place)
      this.#awaitRequest(PINNED_REQUEST)
      this.bytesRead += unitFootprint(board.units[unit])
      done += board.units[unit].bytes
      onProgress?.(done, total)
    }
    this.#fill()
  }

  /** The memory in which a unit is whenever it is acquired. */
  bankOf(unit: number): number {
    return this.#options.pinned.get(unit)?.bank ?? SLOT_BANK
  }

  /**
   * Returns where a unit's first byte lies once it is in memory. Until `release` its bytes stay.
   * Units are meant to be asked for in the order of a pass; any other order works, slower.
   * @throws CoppiceError CORRUPT_FILE | FILE_SYSTEM | ABORTED | WORKER_FAILED
   */
  acquire(unit: number, idle?: Idle): Place {
    const { board, pinned } = this.#options
    const lead = unitLead(board.units[unit])
    const fixed = pinned.get(unit)
    if (fixed !== undefined) return placeAfter(fixed, lead)
    const slot = this.#slotOf(unit) ?? this.#restartAt(unit)
    if (slot.state === 'held') throw new Error(`${board.units[unit].name} is already held`)
    if (slot.state === 'loading') {
      this.#awaitRequest(slot.request, idle)
      this.#landed(slot)
    }
    slot.state = 'held'
    return placeAfter(slot.place, lead)
  }

  /** Lets go of a unit; its slot is filled with the next unit that will be needed. */
  release(unit: number): void {
    if (this.#options.pinned.has(unit)) return
    const slot = this.#slots.find((s) => s.unit === unit && s.state === 'held')
    if (slot === undefined) throw new Error(`${this.#options.board.units[unit].name} is not held`)
    slot.state = 'free'
    this.#fill()
  }

  /** After a call that ended early: nothing is held any more. */
  releaseAll(): void {
    for (const slot of this.#slots) if (slot.state === 'held') slot.state = 'ready'
  }

  #slotOf(unit: number): Slot | undefined {
    return this.#slots.find((slot) => slot.unit === unit && slot.state !== 'free')
  }

  #landed(slot: Slot): void {
    slot.state = 'ready'
    this.bytesRead += unitFootprint(this.#options.board.units[slot.unit])
  }

  #fill(): void {
    const { streamed, headStart, board } = this.#options
    if (streamed.length === 0) return
    for (const slot of this.#slots) {
      if (slot.state !== 'free') continue
      if (this.#next >= streamed.length || (this.#next >= headStart && !this.#headFollows)) this.#next = 0
      const unit = streamed[this.#next]
      if (this.#slotOf(unit) !== undefined) return
      slot.unit = unit
      slot.state = 'loading'
      board.publish(slot.request, unit, slot.place)
      this.#next++
    }
  }

  /** Begins the cycle anew at `unit`. Reads under way cannot be recalled and are waited for. */
  #restartAt(unit: number): Slot {
    const order = this.#orderOf.get(unit)
    if (order === undefined) throw new Error(`unit ${unit} is neither pinned nor streamed`)
    for (const slot of this.#slots) {
      if (slot.state === 'held') continue
      if (slot.state === 'loading') {
        this.#awaitRequest(slot.request)
        this.#landed(slot)
      }
      slot.state = 'free'
    }
    this.#next = order
    this.#fill()
    const slot = this.#slotOf(unit)
    if (slot === undefined) throw new Error(`all ${this.#slots.length} slots are held; release one first`)
    return slot
  }

  #awaitRequest(request: number, idle?: Idle): void {
    const { board, control, inlineLoader } = this.#options
    let working = idle !== undefined
    while (!board.isDone(request)) {
      board.checkFailure()
      control.checkpoint()
      if (working && idle !== undefined) {
        working = idle(now() + IDLE_SLICE_MS)
        continue
      }
      const began = now()
      if (inlineLoader === undefined) {
        const seen = board.finishedPieces
        if (!board.isDone(request)) board.awaitProgress(seen)
      } else {
        const piece = board.take()
        if (piece !== undefined) inlineLoader.perform(piece)
      }
      this.waitMs += now() - began
    }
    board.checkFailure()
  }
}
