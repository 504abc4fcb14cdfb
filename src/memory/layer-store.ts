/**
 * A model's units of loading, wherever they are: pinned for good, or passing through slots that loaders
 * fill ahead of use (LLMCad's compute-I/O pipeline, arXiv 2309.04255, section 4.3).
 */
import { now } from '../runtime/platform.ts'
import type { Place } from '../tensor/arena.ts'
import type { Control } from '../tensor/control.ts'
import { type LoadBoard, unitFootprint, unitLead } from './load-board.ts'
import type { Loader } from './loader.ts'
import { NO_SPANS, type Spans } from './timeline.ts'

/**
 * Useful work to do while a unit is still on its way.
 * @param deadline time in ms (`now`) at which waiting would like control back
 * @returns false when there is nothing left to do
 */
export type Idle = (deadline: number) => boolean

/** How long one call of `Idle` should last at the most, in ms. */
const IDLE_SLICE_MS = 2

/** One wait of so many is spent with nothing else, to learn how long waits are. */
const QUIET_EVERY = 8
/** Weight of a new figure in a running mean. */
const GAIN = 0.2

/** Pinned units under way at once, before each of them has been read for good. */
const PINNED_REQUESTS = 3

/** Requests on the board that a store needs, with so many slots. */
export const storeRequests = (slots: number): number => slots + PINNED_REQUESTS

/** Slots lie together with what a layer that streams works with; further banks hold pinned layers. */
const SLOT_BANK = 0

/** A running mean; there was no figure before the first. */
const mean = (value: number, figure: number): number =>
  value === 0 || value === Number.POSITIVE_INFINITY ? figure : value + (figure - value) * GAIN

const placeAfter = ({ bank, pointer }: Place, bytes: number): Place => ({ bank, pointer: pointer + bytes })

interface Slot {
  readonly place: Place
  readonly request: number
  unit: number
  /** 'failed': nobody wants what comes any more, but a loader may still write to it. */
  state: 'free' | 'loading' | 'failed' | 'ready' | 'held'
}

interface Pinned {
  readonly place: Place
  /** 'failed' as in a slot. */
  state: 'absent' | 'loading' | 'failed' | 'ready'
  request: number
}

export interface LayerStoreOptions {
  readonly board: LoadBoard
  readonly control: Control
  /** The first of the board's requests that are this store's own: `storeRequests` of them. */
  readonly firstRequest: number
  /** Reads on the calling thread when there are no loader threads. */
  readonly inlineLoader?: Loader
  /** All units in the order of a pass. Those from `headStart` on belong to the output head or are not in passes. */
  readonly units: readonly number[]
  readonly headStart: number
  /** Where the units lie that stay in memory (multiples of 4096), by unit; others stream. */
  readonly pinned: ReadonlyMap<number, Place>
  /** Addresses of the slots in bank 0, multiples of 4096. At least 2 when anything streams. */
  readonly slots: readonly number[]
  /** False: a unit is asked for when it is needed and not before, for comparison. Default true. */
  readonly readAhead?: boolean
  /** Called when a pinned unit has come in, with bytes of all pinned units. */
  readonly onPinned?: (doneBytes: number, totalBytes: number) => void
  /** Takes the time of waiting for disk, without what `Idle` used. */
  readonly spans?: Spans
}

export class LayerStore {
  /** Bytes that came from disk since the store was made. */
  bytesRead = 0
  readonly #options: LayerStoreOptions
  readonly #readAhead: boolean
  readonly #spans: Spans
  readonly #slots: Slot[]
  readonly #pinned = new Map<number, Pinned>()
  readonly #freeRequests: number[]
  readonly #pinnedBytes: number
  #doneBytes = 0
  /** Pinned units that nobody has asked the loaders for yet. */
  #absent: number
  /** What is read next, an index into the units. */
  #next = 0
  #headFollows = true
  /** No unit was asked for since `rest`, or ever. */
  #rested = true
  /** Waits so far; the mean of quiet ones, and of one call of `Idle`, in ms. */
  #waits = 0
  #quiet = Number.POSITIVE_INFINITY
  #slice = 0

  constructor(options: LayerStoreOptions) {
    const { slots, pinned, units, board, firstRequest } = options
    this.#options = options
    this.#readAhead = options.readAhead ?? true
    this.#spans = options.spans ?? NO_SPANS
    this.#slots = slots.map((pointer, i) => ({
      place: { bank: SLOT_BANK, pointer },
      request: firstRequest + i,
      unit: -1,
      state: 'free',
    }))
    this.#freeRequests = Array.from({ length: PINNED_REQUESTS }, (_, i) => firstRequest + slots.length + i)
    for (const [unit, place] of pinned) this.#pinned.set(unit, { place, state: 'absent', request: -1 })
    this.#absent = pinned.size
    this.#pinnedBytes = [...pinned.keys()].reduce((sum, unit) => sum + board.units[unit].bytes, 0)
    if (units.length > pinned.size && slots.length < 2) throw new Error('streaming needs at least 2 slots')
  }

  /**
   * Whether the coming passes end with the output head. Loaders run ahead into the next pass, so
   * they must know whether it is the head or the first layer that comes after the last layer.
   */
  set headFollows(value: boolean) {
    this.#headFollows = value
  }

  /** Starts on the first units, before anybody asks for them. */
  begin(): void {
    if (this.#readAhead) this.#fill()
  }

  /** Whether all units that stay in memory have been read: from then on passes are alike. */
  get isWarm(): boolean {
    this.#landPinned()
    return this.#absent === 0 && this.#freeRequests.length === PINNED_REQUESTS
  }

  /** Whether a unit stays in memory once it was read. */
  isPinned(unit: number): boolean {
    return this.#pinned.has(unit)
  }

  /** Whether `acquire` would return at once. */
  isReady(unit: number): boolean {
    const pinned = this.#pinned.get(unit)
    if (pinned !== undefined) return pinned.state === 'ready'
    const slot = this.#slotOf(unit)
    return slot !== undefined && (slot.state === 'ready' || this.#options.board.isComplete(slot.request))
  }

  /** The memory in which a unit is whenever it is acquired. */
  bankOf(unit: number): number {
    return this.#options.pinned.get(unit)?.bank ?? SLOT_BANK
  }

  /**
   * Returns where a unit's first byte lies once it is in memory. Until `release` its bytes stay.
   * Units are meant to be asked for in the order of a pass; any other order works, slower. After an error the
   * unit may be asked for again, and is read again.
   * @throws CoppiceError CORRUPT_FILE | FILE_SYSTEM | ABORTED | WORKER_FAILED
   */
  acquire(unit: number, idle?: Idle): Place {
    const { board, control } = this.#options
    const lead = unitLead(board.units[unit])
    const pinned = this.#pinned.get(unit)
    if (this.#rested) this.#forgetFailures()
    control.setLoadersResting(false)
    if (pinned?.state === 'ready') return placeAfter(pinned.place, lead)
    if (pinned !== undefined) {
      if (pinned.state === 'failed') this.#awaitEnd(pinned.request, unit, idle)
      this.#landPinned()
      if (pinned.state === 'absent') this.#restartAt(unit, idle)
      this.#await(pinned, unit, idle)
      this.#landPinned()
      if (this.#readAhead) this.#fill()
      return placeAfter(pinned.place, lead)
    }
    const slot = this.#slotOf(unit) ?? this.#restartAt(unit, idle)
    if (slot.state === 'held') throw new Error(`${board.units[unit].name} is already held`)
    if (this.#readAhead) this.#fill()
    if (slot.state === 'loading') {
      this.#await(slot, unit, idle)
      this.#land(slot)
    }
    slot.state = 'held'
    return placeAfter(slot.place, lead)
  }

  /** Lets go of a unit; its slot is filled with the next unit that will be needed. */
  release(unit: number): void {
    if (this.#pinned.has(unit)) return
    const slot = this.#slots.find((s) => s.unit === unit && s.state === 'held')
    if (slot === undefined) throw new Error(`${this.#options.board.units[unit].name} is not held`)
    slot.state = 'free'
    if (this.#readAhead) this.#fill()
  }

  /** After a call that ended early: nothing is held any more. */
  releaseAll(): void {
    for (const slot of this.#slots) if (slot.state === 'held') slot.state = 'ready'
  }

  /** Nobody will ask for a while: the loaders end with what they are reading just now. */
  rest(): void {
    this.#rested = true
    this.#options.control.setLoadersResting(true)
  }

  /** What could not be read ahead in an earlier call may be readable in this one. */
  #forgetFailures(): void {
    this.#rested = false
    const { board } = this.#options
    for (const place of [...this.#slots, ...this.#pinned.values()]) {
      if (place.state === 'loading' && board.hasFailed(place.request)) place.state = 'failed'
    }
  }

  #slotOf(unit: number): Slot | undefined {
    return this.#slots.find((slot) => slot.unit === unit && slot.state !== 'free' && slot.state !== 'failed')
  }

  #freeSlot(): Slot | undefined {
    const { board } = this.#options
    return this.#slots.find(({ state, request }) => state === 'free' || (state === 'failed' && board.isDone(request)))
  }

  #land(slot: Slot): void {
    slot.state = 'ready'
    this.bytesRead += unitFootprint(this.#options.board.units[slot.unit])
  }

  /** Takes note of the pinned units that have come in, and of those that will not. */
  #landPinned(): void {
    const { board, onPinned } = this.#options
    if (this.#freeRequests.length === PINNED_REQUESTS) return
    for (const [unit, pinned] of this.#pinned) {
      if (pinned.state === 'failed' && board.isDone(pinned.request)) {
        pinned.state = 'absent'
        this.#absent++
        this.#freeRequests.push(pinned.request)
      }
      if (pinned.state !== 'loading' || !board.isComplete(pinned.request)) continue
      pinned.state = 'ready'
      this.#freeRequests.push(pinned.request)
      this.bytesRead += unitFootprint(board.units[unit])
      this.#doneBytes += board.units[unit].bytes
      onPinned?.(this.#doneBytes, this.#pinnedBytes)
    }
  }

  /** Asks for what comes next, as long as there is room for it. */
  #fill(): void {
    this.#landPinned()
    const { units, headStart } = this.#options
    const streams = units.length > this.#pinned.size
    // Once around at the most: then everything that has a place is there or on its way.
    for (let turn = 0; turn < units.length && (streams || this.#absent > 0); turn++) {
      if (this.#next >= units.length || (this.#next >= headStart && !this.#headFollows)) this.#next = 0
      if (!this.#ask(units[this.#next])) return
      this.#next++
      if (!this.#readAhead) return
    }
  }

  /** @returns false when there is no room for a unit now */
  #ask(unit: number): boolean {
    const { board } = this.#options
    const pinned = this.#pinned.get(unit)
    if (pinned !== undefined) {
      if (pinned.state !== 'absent') return true
      const request = this.#freeRequests.pop()
      if (request === undefined) return false
      pinned.request = request
      pinned.state = 'loading'
      this.#absent--
      board.publish(request, unit, pinned.place)
      return true
    }
    if (this.#slotOf(unit) !== undefined) return false
    const slot = this.#freeSlot()
    if (slot === undefined) return false
    slot.unit = unit
    slot.state = 'loading'
    board.publish(slot.request, unit, slot.place)
    return true
  }

  /** Begins the cycle anew at `unit`. Reads under way cannot be recalled and are waited for. */
  #restartAt(unit: number, idle: Idle | undefined): Slot {
    const { units, slots, board } = this.#options
    const index = units.indexOf(unit)
    if (index < 0) throw new Error(`unit ${unit} is none of this store`)
    for (const slot of this.#slots) {
      if (slot.state === 'held') continue
      if (slot.state === 'loading' || slot.state === 'failed') this.#awaitEnd(slot.request, slot.unit, idle)
      if (slot.state === 'loading' && !board.hasFailed(slot.request)) this.#land(slot)
      slot.state = 'free'
    }
    for (const [late, pinned] of this.#pinned) {
      if (pinned.state !== 'loading' && pinned.state !== 'failed') continue
      this.#awaitEnd(pinned.request, late, idle)
      if (board.hasFailed(pinned.request)) pinned.state = 'failed'
    }
    this.#next = index
    this.#fill()
    const slot = this.#slotOf(unit)
    if (slot === undefined && !this.#pinned.has(unit)) {
      throw new Error(`all ${slots.length} slots are held; release one first`)
    }
    return slot!
  }

  /** Waits for what is on its way to a place, and gives the place up when it does not come. */
  #await(place: Slot | Pinned, unit: number, idle: Idle | undefined): void {
    const { board } = this.#options
    this.#awaitEnd(place.request, unit, idle, 'or failure')
    if (!board.hasFailed(place.request)) return
    place.state = 'failed'
    board.checkFailure(place.request)
  }

  /**
   * @param unit what is waited for
   * @param until when to return: 'done', or already when a part has failed, though other reads may be under way
   * @throws CoppiceError ABORTED | WORKER_FAILED
   */
  #awaitEnd(request: number, unit: number, idle?: Idle, until: 'done' | 'or failure' = 'done'): void {
    const { control } = this.#options
    if (this.#isOver(request, until)) return
    const isQuiet = idle !== undefined && ++this.#waits % QUIET_EVERY === 0
    // Other work is not interrupted when the unit comes: it pays only where waits are longer than its steps.
    let working = idle !== undefined && !isQuiet && this.#quiet >= this.#slice
    while (working && !this.#isOver(request, until)) {
      control.checkpoint()
      const began = now()
      working = idle!(began + Math.min(IDLE_SLICE_MS, this.#quiet / 4))
      this.#slice = mean(this.#slice, now() - began)
    }
    if (this.#isOver(request, until)) return
    const began = now()
    try {
      while (!this.#isOver(request, until)) this.#wait(request, until)
    } finally {
      this.#spans.add('wait', began, unit, 0)
      if (isQuiet) this.#quiet = mean(this.#quiet, now() - began)
    }
  }

  #isOver(request: number, until: 'done' | 'or failure'): boolean {
    const { board } = this.#options
    return board.isDone(request) || (until === 'or failure' && board.hasFailed(request))
  }

  /** Until some piece has come, or for a moment. */
  #wait(request: number, until: 'done' | 'or failure'): void {
    const { board, control, inlineLoader } = this.#options
    control.checkpoint()
    if (inlineLoader === undefined) {
      const seen = board.finishedPieces
      if (!this.#isOver(request, until)) board.awaitProgress(seen)
      return
    }
    const piece = board.take()
    if (piece !== undefined) inlineLoader.perform(piece)
  }
}
