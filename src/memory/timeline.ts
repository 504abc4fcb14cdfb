/**
 * Where the time of a call goes, thread by thread. A *span* is a stretch of one thread's time. Spans are always
 * summed, for the statistics; while a trace is wanted they are also kept one by one, so that the two agree.
 */
import { clockOrigin, now } from '../runtime/platform.ts'

/**
 * What a thread does: a loader reads or checks a piece; the engine waits for disk, executes steps of the target,
 * lets the drafter propose, or lets it grow its tree while a layer is on its way. 'prefill' and 'pass' enclose others.
 */
export const SPAN_KINDS = ['read', 'check', 'wait', 'execute', 'propose', 'grow', 'prefill', 'pass'] as const
export type SpanKind = (typeof SPAN_KINDS)[number]

/** Takes spans of one thread. */
export interface Spans {
  /**
   * A span that ends now.
   * @param began in ms (`now` of this thread)
   * @param unit a unit of loading, or the number of a pass; -1: none, or rows of the embedding
   * @param amount bytes read or checked, units executed, rows of a pass or of embeddings
   */
  add(kind: SpanKind, began: number, unit: number, amount: number): void
}

/** Of what nobody asks about. */
export const NO_SPANS: Spans = { add: () => {} }

/** Words of one span: kind, beginning, length in ms, unit, amount. */
const SPAN_WORDS = 5

/** Spans of a loader that the engine has not taken yet, at the most. It takes them several times per layer. */
const RING_SPANS = 1024

/** Int32 words at the beginning of a ring; those that different threads write lie 64 bytes apart. */
const RingWord = { written: 0, dropped: 1, taken: 16 } as const
const RING_HEAD_BYTES = 128
const RING_BYTES = RING_HEAD_BYTES + RING_SPANS * SPAN_WORDS * 8

/** Where the rings begin: before them is the origin of the engine's clock, one f64. */
const RINGS_START = 64

/** Spans from a loader thread to the engine. Whoever adds never waits: what finds no room is dropped and counted. */
export class SpanRing implements Spans {
  readonly #words: Int32Array
  readonly #spans: Float64Array
  /** From this thread's clock to the engine's, in ms. */
  readonly #shift: number

  /** @param buffer of a `Timeline` @param loader its number */
  constructor(buffer: SharedArrayBuffer, loader: number) {
    const start = RINGS_START + loader * RING_BYTES
    this.#words = new Int32Array(buffer, start, RING_HEAD_BYTES / 4)
    this.#spans = new Float64Array(buffer, start + RING_HEAD_BYTES, RING_SPANS * SPAN_WORDS)
    this.#shift = clockOrigin() - new Float64Array(buffer, 0, 1)[0]
  }

  add(kind: SpanKind, began: number, unit: number, amount: number): void {
    const ms = now() - began
    const written = Atomics.load(this.#words, RingWord.written)
    // Counters wrap around; their difference does not.
    if (((written - Atomics.load(this.#words, RingWord.taken)) | 0) >= RING_SPANS) {
      Atomics.add(this.#words, RingWord.dropped, 1)
      return
    }
    const at = (written & (RING_SPANS - 1)) * SPAN_WORDS
    this.#spans[at] = SPAN_KINDS.indexOf(kind)
    this.#spans[at + 1] = began + this.#shift
    this.#spans[at + 2] = ms
    this.#spans[at + 3] = unit
    this.#spans[at + 4] = amount
    // Last: from here on the engine may read it.
    Atomics.store(this.#words, RingWord.written, (written + 1) | 0)
  }

  /** Takes all spans. @returns how many were dropped since the last time */
  take(each: (kind: number, began: number, ms: number, unit: number, amount: number) => void): number {
    let taken = this.#words[RingWord.taken]
    const written = Atomics.load(this.#words, RingWord.written)
    for (; taken !== written; taken = (taken + 1) | 0) {
      const at = (taken & (RING_SPANS - 1)) * SPAN_WORDS
      const spans = this.#spans
      each(spans[at], spans[at + 1], spans[at + 2], spans[at + 3], spans[at + 4])
    }
    Atomics.store(this.#words, RingWord.taken, taken)
    return Atomics.exchange(this.#words, RingWord.dropped, 0)
  }
}

export interface Span {
  readonly kind: SpanKind
  /** Number of the loader; -1: the engine's thread. */
  readonly loader: number
  /** Milliseconds of the engine's clock, and length. */
  readonly began: number
  readonly ms: number
  readonly unit: number
  readonly amount: number
}

/** Words of one span of a record: number of the loader, then as in a ring. */
const RECORD_WORDS = 1 + SPAN_WORDS

/** Spans of one call that are kept at the most: 12 MB of them. Large models write a hundred passes with it. */
const MOST_SPANS = 1 << 18

/** The spans of one call, in the order in which the engine heard of them. */
export class SpanRecord {
  /** Spans that are missing, because a ring or the record was full. */
  dropped = 0
  readonly #most: number
  #count = 0
  #words = new Float64Array(1024 * RECORD_WORDS)

  constructor(most: number = MOST_SPANS) {
    this.#most = most
  }

  get count(): number {
    return this.#count
  }

  add(loader: number, kind: number, began: number, ms: number, unit: number, amount: number): void {
    if (this.#count === this.#most) {
      this.dropped++
      return
    }
    const at = this.#count++ * RECORD_WORDS
    if (at === this.#words.length) {
      const larger = new Float64Array(2 * at)
      larger.set(this.#words)
      this.#words = larger
    }
    this.#words[at] = loader
    this.#words[at + 1] = kind
    this.#words[at + 2] = began
    this.#words[at + 3] = ms
    this.#words[at + 4] = unit
    this.#words[at + 5] = amount
  }

  *[Symbol.iterator](): Generator<Span, void, undefined> {
    for (let at = 0; at < this.#count * RECORD_WORDS; at += RECORD_WORDS) {
      const [loader, kind, began, ms, unit, amount] = this.#words.subarray(at, at + RECORD_WORDS)
      yield { loader, kind: SPAN_KINDS[kind], began, ms, unit, amount }
    }
  }
}

/** The engine's side: takes its own spans and those of the loaders. */
export class Timeline implements Spans {
  /** For the loaders' rings. */
  readonly buffer: SharedArrayBuffer
  readonly #rings: readonly SpanRing[]
  /** Milliseconds by kind. */
  readonly #sums = new Float64Array(SPAN_KINDS.length)
  readonly #takers: readonly ((kind: number, began: number, ms: number, unit: number, amount: number) => void)[]
  #record: SpanRecord | undefined

  /** @param loaders threads that load; 0: the engine's own does */
  constructor(loaders: number) {
    const rings = Math.max(1, loaders)
    this.buffer = new SharedArrayBuffer(RINGS_START + rings * RING_BYTES)
    new Float64Array(this.buffer, 0, 1)[0] = clockOrigin()
    this.#rings = Array.from({ length: rings }, (_, loader) => new SpanRing(this.buffer, loader))
    this.#takers = this.#rings.map((_, loader) => (kind, began, ms, unit, amount) => {
      this.#sums[kind] += ms
      this.#record?.add(loader, kind, began, ms, unit, amount)
    })
  }

  /** Where the engine's own thread puts what it loads itself. */
  get inlineLoader(): Spans {
    return this.#rings[0]
  }

  /** Begins a call: sums are 0 from here on. @param record where to keep its spans, if they are wanted */
  begin(record: SpanRecord | undefined): void {
    this.#record = undefined
    this.#collect()
    this.#sums.fill(0)
    this.#record = record
  }

  /** Ends the call: its sums stay, and no further spans join them until the next one. */
  end(): void {
    this.#collect()
    this.#record = undefined
  }

  /** Milliseconds of the call that spans of a kind have taken so far, those of several loaders added up. */
  ms(kind: SpanKind): number {
    return this.#sums[SPAN_KINDS.indexOf(kind)]
  }

  add(kind: SpanKind, began: number, unit: number, amount: number): void {
    const ms = now() - began
    const code = SPAN_KINDS.indexOf(kind)
    this.#sums[code] += ms
    this.#record?.add(-1, code, began, ms, unit, amount)
    this.#collect()
  }

  /** Takes what the loaders have added since the last time. */
  #collect(): void {
    for (let loader = 0; loader < this.#rings.length; loader++) {
      const dropped = this.#rings[loader].take(this.#takers[loader])
      if (this.#record !== undefined) this.#record.dropped += dropped
    }
  }
}
