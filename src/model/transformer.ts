/**
 * The decoder-only transformer of the Llama family: one forward pass for prefill, plain decoding and
 * tree verification. Rows differ only in what they see.
 */
import type { Idle, LayerStore } from '../memory/layer-store.ts'
import { NO_SPANS, type Spans } from '../memory/timeline.ts'
import { now } from '../runtime/platform.ts'
import { paddedOutputs } from '../tensor/layout.ts'
import type { Bank, Candidates, Matrix, Operators } from '../tensor/operators.ts'
import type { PackedFile } from '../weights/manifest.ts'
import type { ModelConfig } from '../weights/model-config.ts'
import { Activations, HeadBuffers, type TransformerShape } from './activations.ts'
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
  /** Memories by their number in the store; embedding, final norm and output head are in the first. */
  readonly banks: readonly Bank[]
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

/** What the layers of one memory work with. */
interface Workspace extends Bank {
  readonly activations: Activations
  /** The rows of the pass; the first memory's are the ones that are filled. */
  readonly batch: RowBatch
}

export class Transformer {
  readonly config: ModelConfig
  readonly cache: KvCache
  /** The rows of the next pass; filled by the caller. */
  readonly batch: RowBatch
  readonly #parts: TransformerParts
  /** By bank; `undefined` where no layer is. */
  readonly #workspaces: readonly (Workspace | undefined)[]
  /** The first memory's. */
  readonly #first: Workspace
  readonly #head: HeadBuffers
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
    const { config, shape, banks, name, store, layerUnits } = parts
    this.#parts = parts
    this.#spans = parts.spans ?? NO_SPANS
    this.config = config
    const banksOfLayers = layerUnits.map(([attention]) => store.bankOf(attention))
    const arenas = banksOfLayers.map((bank) => banks[bank].arena)
    this.cache = new KvCache(config, shape, arenas, `${name} KV cache`)
    const workspace = ({ arena, operators }: Bank): Workspace => ({
      arena,
      operators,
      batch: new RowBatch(arena, `${name} rows`, shape.rows),
      activations: new Activations(config, shape, arena, name),
    })
    this.#first = workspace(banks[0])
    this.#workspaces = banks.map((bank, i) => {
      if (i === 0) return this.#first
      return banksOfLayers.includes(i) ? workspace(bank) : undefined
    })
    this.batch = this.#first.batch
    this.#head = new HeadBuffers(config, shape, this.#first.arena, name)
    this.#frequencies = ropeFrequencies(config)
    this.#units = 1 + Math.max(...layerUnits.flat())
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
    for (const _ of this.steps(idle)) {
      // All at once.
    }
  }

  /**
   * The same in steps of a layer: between them the caller may do other things, but change nothing of this
   * transformer. Steps that nobody asks for are not made.
   */
  *steps(idle?: Idle): Generator<void, void, void> {
    const { store, layerUnits, embedding, checkpoint } = this.#parts
    const { batch } = this
    // A pass that was cut short let go of everything at once.
    this.#held.length = 0
    const began = now()
    const bytesBefore = embedding.bytesRead
    embedding.gather(batch.tokens, batch.count, this.#first.activations.hidden)
    // Rows that come from disk are waited for here and now.
    this.#spans.add(embedding.bytesRead > bytesBefore ? 'wait' : 'execute', began, -1, batch.count)
    this.#spreadRows()
    let at = this.#first
    for (const [layer, [attention, gateUp, down]] of layerUnits.entries()) {
      checkpoint()
      at = this.#moveHidden(at, this.#workspaces[store.bankOf(attention)]!)
      this.#attention(at, layer, this.#weights(at, attention, layer, attentionAt, idle))
      this.#letGo(at, attention)
      this.#gateUp(at, this.#weights(at, gateUp, layer, gateUpAt, idle))
      this.#letGo(at, gateUp)
      this.#down(at, this.#weights(at, down, layer, downAt, idle))
      this.#execute(at)
      yield
    }
    this.#moveHidden(at, this.#first)
  }

  /** Gives every memory with layers what these read of the batch, and the rotations. */
  #spreadRows(): void {
    const { batch, activations: a } = this.#first
    const words = batch.count * this.#frequencies.length
    fillRopeTables(this.#frequencies, batch.positions, batch.count, a.cosines, a.sines)
    for (const workspace of this.#workspaces) {
      if (workspace === undefined || workspace === this.#first) continue
      workspace.batch.copyFrom(batch)
      workspace.activations.cosines.set(a.cosines.subarray(0, words))
      workspace.activations.sines.set(a.sines.subarray(0, words))
    }
  }

  /** The residual stream goes on in another memory. @returns where it is now */
  #moveHidden(from: Workspace, to: Workspace): Workspace {
    if (from === to) return to
    const { pointer, stride } = from.activations.hidden
    const words = (this.batch.count * stride) / 4
    to.arena.f32(to.activations.hidden.pointer, words).set(from.arena.f32(pointer, words))
    return to
  }

  /**
   * Logits of some of the last pass's rows.
   * @param rows indices into the batch, at most `headRows`
   * @returns address of [rows][vocabulary] f32, `logitsStride` bytes apart, valid until the next call
   */
  head(rows: readonly number[], idle?: Idle): number {
    const { store, finalNorm, config, head, headKind, checkpoint } = this.#parts
    const { operators, activations: a } = this.#first
    const { logits, rows: headRows } = this.#head
    if (rows.length > this.headRows) throw new Error(`head takes ${this.headRows} rows, not ${rows.length}`)
    headRows.set(rows)
    head.forEach((part, i) => {
      checkpoint()
      const { pointer } = store.acquire(part.unit, idle)
      const began = now()
      if (i === 0) {
        operators.rmsNorm(a.hidden, rows.length, finalNorm, config.normEpsilon, headKind, a.normed, headRows.byteOffset)
      }
      const matrix: Matrix = { kind: headKind, rows: part.rows, columns: config.hidden, pointer }
      operators.matmul(a.normed, rows.length, matrix, logits.columnsFrom(part.firstRow))
      operators.run()
      this.#spans.add('execute', began, part.unit, 1)
      store.release(part.unit)
    })
    return logits.pointer
  }

  /** Logits of row `i` of the last call of `head`: a view of [vocabulary] f32. */
  logitsView(i: number): Float32Array {
    const { logits } = this.#head
    return this.#first.arena.f32(logits.pointer + i * logits.stride, this.config.vocabulary)
  }

  /**
   * The `k` best next tokens after row `i` of the last call of `head`, with what is needed to normalise them.
   * @param vocabulary tokens that count, the first ones
   */
  topCandidates(i: number, vocabulary: number, k: number, scale: number): Candidates {
    const { logits } = this.#head
    return this.#first.operators.topCandidates(logits.pointer + i * logits.stride, vocabulary, k, scale)
  }

  /** As `Operators.coarseTopCandidates`, of the whole vocabulary. @param i row of the last call of `head` */
  coarseTopCandidates(i: number, k: number): Candidates {
    const { logits } = this.#head
    return this.#first.operators.coarseTopCandidates(logits.pointer + i * logits.stride, this.config.vocabulary, k)
  }

  /** What choosing a token takes most of its time for. */
  readonly sampling: Pick<Operators, 'outliers' | 'sumExp'> = {
    outliers: (...request) => this.#first.operators.outliers(...request),
    sumExp: (...request) => this.#first.operators.sumExp(...request),
  }

  /** A group of a layer's weights, in memory until the next `#execute`. */
  #weights<Weights>(
    at: Workspace,
    unit: number,
    layer: number,
    viewAt: (file: PackedFile, pointer: number) => Weights,
    idle: Idle | undefined,
  ): Weights {
    const { store, layerFiles } = this.#parts
    // Whoever waits may run jobs of its own.
    if (!store.isReady(unit)) this.#execute(at)
    const { pointer } = store.acquire(unit, idle)
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
  #letGo(at: Workspace, unit: number): void {
    if (!this.#parts.store.isPinned(unit)) this.#execute(at)
  }

  /** Executes the steps so far, and releases what they read. */
  #execute({ operators }: Workspace): void {
    if (this.#held.length === 0) return
    operators.run()
    this.#spans.add('execute', this.#began, this.#held[0], this.#held.length)
    for (const unit of this.#held) this.#parts.store.release(unit)
    this.#held.length = 0
  }

  #attention({ operators, activations: a, batch }: Workspace, layer: number, w: AttentionWeights): void {
    const { config } = this.#parts
    const { cache } = this
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

  #gateUp({ operators, activations: a, batch }: Workspace, w: GateUpWeights): void {
    const { normEpsilon } = this.#parts.config
    operators.rmsNorm(a.hidden, batch.count, w.norm, normEpsilon, w.matrix.kind, a.normed)
    operators.matmul(a.normed, batch.count, w.matrix, a.gateUp, w.bias)
  }

  #down({ operators, activations: a, batch }: Workspace, w: DownWeights): void {
    const { intermediate } = this.#parts.config
    operators.siluGate(a.gateUp, batch.count, paddedOutputs(intermediate), w.matrix.kind, a.gated)
    operators.matmulAdd(a.gated, batch.count, w.matrix, a.hidden, w.bias)
  }
}
