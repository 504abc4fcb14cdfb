/**
 * The decoder-only transformer of the Llama family: one forward pass for prefill, plain decoding and
 * tree verification. Rows differ only in what they see.
 */
import type { Idle, LayerStore } from '../memory/layer-store.ts'
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
import { type LayerWeights, layerAt } from './weights-view.ts'

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
  /** Unit of the layer store per layer. */
  readonly layerUnits: readonly number[]
  readonly embedding: Embedding
  /** Address of the final norm's weights: [hidden] f32. */
  readonly finalNorm: number
  readonly head: readonly HeadPart[]
  readonly headKind: Matrix['kind']
  /** Called at least once per layer; throws to give up. */
  readonly checkpoint: () => void
}

export class Transformer {
  readonly config: ModelConfig
  readonly cache: KvCache
  /** The rows of the next pass; filled by the caller. */
  readonly batch: RowBatch
  readonly #parts: TransformerParts
  readonly #activations: Activations
  readonly #frequencies: Float64Array
  readonly #views = new Map<number, LayerWeights>()

  constructor(parts: TransformerParts) {
    const { config, shape, arena, name } = parts
    this.#parts = parts
    this.config = config
    this.cache = new KvCache(config, shape, arena, `${name} KV cache`)
    this.batch = new RowBatch(arena, `${name} rows`, shape.rows)
    this.#activations = new Activations(config, shape, arena, name)
    this.#frequencies = ropeFrequencies(config)
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
    const { store, operators, layerUnits, embedding, checkpoint } = this.#parts
    const { batch } = this
    const a = this.#activations
    embedding.gather(batch.tokens, batch.count, a.hidden)
    fillRopeTables(this.#frequencies, batch.positions, batch.count, a.cosines, a.sines)
    for (let layer = 0; layer < layerUnits.length; layer++) {
      checkpoint()
      const base = store.acquire(layerUnits[layer], idle)
      const weights = this.#view(layer, base)
      this.#attention(layer, weights)
      this.#mlp(weights)
      operators.run()
      store.release(layerUnits[layer])
    }
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
      const { byteOffset } = a.headRows
      if (i === 0) {
        operators.rmsNorm(a.hidden, rows.length, finalNorm, config.normEpsilon, headKind, a.normed, byteOffset)
      }
      const matrix: Matrix = { kind: headKind, rows: part.rows, columns: config.hidden, pointer }
      operators.matmul(a.normed, rows.length, matrix, a.logits.columnsFrom(part.firstRow))
      operators.run()
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

  #view(layer: number, base: number): LayerWeights {
    const { layerFiles } = this.#parts
    const key = base * layerFiles.length + layer
    let view = this.#views.get(key)
    if (view === undefined) {
      view = layerAt(layerFiles[layer], base)
      this.#views.set(key, view)
    }
    return view
  }

  #attention(layer: number, w: LayerWeights): void {
    const { operators, config } = this.#parts
    const { batch, cache } = this
    const a = this.#activations
    const rows = batch.count
    const { heads, normEpsilon: epsilon } = config

    operators.rmsNorm(a.hidden, rows, w.attentionNorm, epsilon, w.qkv.kind, a.normed)
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
    operators.quantise(a.attended, rows, w.attentionOutput.kind)
    operators.matmulAdd(a.attended, rows, w.attentionOutput, a.hidden, w.attentionOutputBias)
  }

  #mlp(w: LayerWeights): void {
    const { operators, config } = this.#parts
    const a = this.#activations
    const rows = this.batch.count
    operators.rmsNorm(a.hidden, rows, w.mlpNorm, config.normEpsilon, w.gateUp.kind, a.normed)
    operators.matmul(a.normed, rows, w.gateUp, a.gateUp, w.gateUpBias)
    operators.siluGate(a.gateUp, rows, paddedOutputs(config.intermediate), w.down.kind, a.gated)
    operators.matmulAdd(a.gated, rows, w.down, a.hidden, w.downBias)
  }
}
