/**
 * The decoder-only transformer of the Llama family: one forward pass for prefill, plain decoding and
 * tree verification. Rows differ only in what they see.
 */
import type { Idle, LayerStore } from '../memory/layer-store.ts'
import { NO_SPANS, type Spans } from '../memory/timeline.ts'
import { now } from '../runtime/platform.ts'
import type { Arena } from '../tensor/arena.ts'
import { paddedOutputs } from '../tensor/layout.ts'
import type { Candidates, Matrix, Operators } from '../tensor/operators.ts'
import type { PackedFile } from '../weights/manifest.ts'
import type { ModelConfig } from '../weights/model-config.ts'
import { Activations, type TransformerShape } from './activations.ts'
import type { Embedding } from './embedding.ts'
import { KvCache } from './kv-cache.ts'
import { fillRopeTables, ropeFrequencies } from './rope.ts'
import { RowBatch } from './row-batch.ts'
import {
  type AttentionWeights,
  attentionAt,
  type DownWeights,
  downAt,
  type GateUpWeights,
  gateUpAt,
} from './weights-view.ts'

/** A run of the output head's rows, resident or streamed as one unit. */
export interface HeadPart {
  /** Unit of the layer store that holds it. */
  readonly unit: number
  /** First vocabulary entry; a multiple of 8. */
  readonly firstRow: number
  readonly rows: number
}

export interface TransformerParts {
  readonly name: string
  readonly config: ModelConfig
  readonly shape: TransformerShape
  readonly arena: Arena
  readonly operators: Operators
  readonly store: LayerStore
  readonly layerFiles: readonly PackedFile[]
  /** Units of the layer store per layer: attention, gate and up, down. */
  readonly layerUnits: readonly (readonly number[])[]
  readonly embedding: Embedding
  /** Address of the final norm's weights: [hidden] f32. */
  readonly finalNorm: number
  readonly head: readonly HeadPart[]
  readonly headKind: Matrix['kind']
  /** Called at least once per layer; throws to give up. */
  readonly checkpoint: () => void
  /** Takes the time of execution, without waiting for units of the store. */
  readonly spans?: Spans
}

export class Transformer {
  readonly config: ModelConfig
  readonly cache: KvCache
  /** The rows of the next pass; filled by the caller. */
  readonly batch: RowBatch
  readonly #parts: TransformerParts
  readonly #activations: Activations
  readonly #frequencies: Float64Array
  /** By unit and address: where a unit's tensors lie. */
  readonly #views = new Map<number, unknown>()
  /** Units whose weights the steps of the next job read. */
  readonly #held: number[] = []
  readonly #spans: Spans
  /** When the first step of the next job was begun. */
  #began = 0
  /** More than the largest number of a unit. */
  readonly #units: number

  constructor(parts: TransformerParts) {
    const { config, shape, arena, name } = parts
    this.#parts = parts
    this.#spans = parts.spans ?? NO_SPANS
    this.config = config
    this.cache = new KvCache(config, shape, arena, `${name} KV cache`)
    this.batch = new RowBatch(arena, `${name} rows`, shape.rows)
    this.#activations = new Activations(config, shape, arena, name)
    this.#frequencies = ropeFrequencies(config)
    this.#units = 1 + Math.max(...parts.layerUnits.flat())
  }

  /** Bytes from one row of logits to the next. */
  get logitsStride(): number {
    return this.#activations.logits.stride
  }

  /** Rows that one call of `head` takes at the most. */
  get headRows(): number {
    return this.#parts.shape.logitsRows
  }

  /** True when every call of `head` brings the output head in from disk. */
  get headStreams(): boolean {
    return this.#parts.shape.headStreams
  }

  /**
   * Runs the batch's rows through all layers. Their keys and values are stored at their slots; their
   * hidden states stay for `head`.
   * @param idle work to do while a layer is still on its way
   */
  forward(idle?: Idle): void {
    const { layerUnits, embedding, checkpoint } = this.#parts
    const { batch } = this
    const a = this.#activations
    // A pass that was cut short let go of everything at once.
    this.#held.length = 0
    const began = now()
    const bytesBefore = embedding.bytesRead
    embedding.gather(batch.tokens, batch.count, a.hidden)
    // Rows that come from disk are waited for here and now.
    this.#spans.add(embedding.bytesRead > bytesBefore ? 'wait' : 'execute', began, -1, batch.count)
    fillRopeTables(this.#frequencies, batch.positions, batch.count, a.cosines, a.sines)
    layerUnits.forEach(([attention, gateUp, down], layer) => {
      checkpoint()
      this.#attention(layer, this.#weights(attention, layer, attentionAt, idle))
      this.#letGo(attention)
      this.#gateUp(this.#weights(gateUp, layer, gateUpAt, idle))
      this.#letGo(gateUp)
      this.#down(this.#weights(down, layer, downAt, idle))
      this.#execute()
    })
  }

  /**
   * Logits of some of the last pass's rows.
   * @param rows indices into the batch, at most `headRows`
   * @returns address of [rows][vocabulary] f32, `logitsStride` bytes apart, valid until the next call
   */
  head(rows: readonly number[], idle?: Idle): number {
    const { store, operators, finalNorm, config, head, headKind, checkpoint } = this.#parts
    const a = this.#activations
    if (rows.length > this.headRows) throw new Error(`head takes ${this.headRows} rows, not ${rows.length}`)
    a.headRows.set(rows)
    head.forEach((part, i) => {
      checkpoint()
      const pointer = store.acquire(part.unit, idle)
      const began = now()
      const { byteOffset } = a.headRows
      if (i === 0) {
        operators.rmsNorm(a.hidden, rows.length, finalNorm, config.normEpsilon, headKind, a.normed, byteOffset)
      }
      const matrix: Matrix = { kind: headKind, rows: part.rows, columns: config.hidden, pointer }
      operators.matmul(a.normed, rows.length, matrix, a.logits.columnsFrom(part.firstRow))
      operators.run()
      this.#spans.add('execute', began, part.unit, 1)
      store.release(part.unit)
    })
    return a.logits.pointer
  }

  /** Logits of row `i` of the last call of `head`: a view of [vocabulary] f32. */
  logitsView(i: number): Float32Array {
    const { logits } = this.#activations
    return this.#parts.arena.f32(logits.pointer + i * logits.stride, this.config.vocabulary)
  }

  /** The `k` best next tokens of one row of logits, with what is needed to normalise them. */
  topCandidates(logits: number, k: number, scale: number): Candidates {
    return this.#parts.operators.topCandidates(logits, this.config.vocabulary, k, scale)
  }

  /** A group of a layer's weights, in memory until the next `#execute`. */
  #weights<Weights>(
    unit: number,
    layer: number,
    viewAt: (file: PackedFile, pointer: number) => Weights,
    idle: Idle | undefined,
  ): Weights {
    const { store, layerFiles } = this.#parts
    // Whoever waits may run jobs of its own.
    if (!store.isReady(unit)) this.#execute()
    const pointer = store.acquire(unit, idle)
    if (this.#held.push(unit) === 1) this.#began = now()
    const key = pointer * this.#units + unit
    let view = this.#views.get(key)
    if (view === undefined) {
      view = viewAt(layerFiles[layer], pointer)
      this.#views.set(key, view)
    }
    return view as Weights
  }

  /** After the steps that read a unit were added: its slot is wanted for the next one as soon as possible. */
  #letGo(unit: number): void {
    if (!this.#parts.store.isPinned(unit)) this.#execute()
  }

  /** Executes the steps so far, and releases what they read. */
  #execute(): void {
    const { operators, store } = this.#parts
    if (this.#held.length === 0) return
    operators.run()
    this.#spans.add('execute', this.#began, this.#held[0], this.#held.length)
    for (const unit of this.#held) store.release(unit)
    this.#held.length = 0
  }

  #attention(layer: number, w: AttentionWeights): void {
    const { operators, config } = this.#parts
    const { batch, cache } = this
    const a = this.#activations
    const rows = batch.count
    const { heads, normEpsilon: epsilon } = config

    operators.rmsNorm(a.hidden, rows, w.norm, epsilon, w.qkv.kind, a.normed)
    operators.matmul(a.normed, rows, w.qkv, a.qkv, w.qkvBias)
    operators.rotateAndStore({
      rows,
      heads,
      q: a.q,
      k: a.k,
      v: a.v,
      qNorm: w.qNorm,
      kNorm: w.kNorm,
      epsilon,
      cosines: a.cosinesPointer,
      sines: a.sinesPointer,
      cache: cache.layers[layer],
      slots: batch.slots,
    })
    operators.attention({
      rows,
      heads,
      queries: a.q,
      cache: cache.layers[layer],
      output: a.attended.rows,
      batch,
      window: config.windows[layer],
      scores: a.scores,
      scoresBytes: a.scoresBytes,
    })
    operators.quantise(a.attended, rows, w.output.kind)
    operators.matmulAdd(a.attended, rows, w.output, a.hidden, w.outputBias)
  }

  #gateUp(w: GateUpWeights): void {
    const { operators, config } = this.#parts
    const a = this.#activations
    const rows = this.batch.count
    operators.rmsNorm(a.hidden, rows, w.norm, config.normEpsilon, w.matrix.kind, a.normed)
    operators.matmul(a.normed, rows, w.matrix, a.gateUp, w.bias)
  }

  #down(w: DownWeights): void {
    const { operators, config } = this.#parts
    const a = this.#activations
    const rows = this.batch.count
    operators.siluGate(a.gateUp, rows, paddedOutputs(config.intermediate), w.matrix.kind, a.gated)
    operators.matmulAdd(a.gated, rows, w.matrix, a.hidden, w.bias)
  }
}
