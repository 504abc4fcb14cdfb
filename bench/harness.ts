/**
 * The tensor engine as the benchmarks use it: threads that serve jobs, matrices with made-up weights, and the pass
 * over all matrices of a model. What they know of its interfaces stands here.
 */

import { chooseKernels } from '../src/engine/kernel-choice.ts'
import { startWorkers } from '../src/engine/start-workers.ts'
import { Activations, type TransformerShape, transformerRegions } from '../src/model/activations.ts'
import { KvCache, type KvKind, kvCacheBytes } from '../src/model/kv-cache.ts'
import { RowBatch } from '../src/model/row-batch.ts'
import { cores } from '../src/runtime/platform.ts'
import type { WorkerHandle } from '../src/runtime/workers.ts'
import { Arena, createMemory, type Region } from '../src/tensor/arena.ts'
import { Compute, MAXIMUM_THREADS } from '../src/tensor/compute.ts'
import { Control } from '../src/tensor/control.ts'
import { instantiateKernels, type Kernels } from '../src/tensor/kernels.ts'
import {
  ALIGNMENT,
  groupBytes,
  type Kind,
  matrixBytes,
  packGroup,
  paddedInner,
  paddedOutputs,
  TILE,
} from '../src/tensor/layout.ts'
import { Operation, RECORD_BYTES, ReadWord } from '../src/tensor/operations.ts'
import { JOB_BYTES, type Matrix, type Operand, Operators, quantisedBytes } from '../src/tensor/operators.ts'
import { Rows } from '../src/tensor/rows.ts'
import type { ModelConfig } from '../src/weights/model-config.ts'
import { quantisationOf } from '../src/weights/packed-layout.ts'
import { randomFloats } from '../test/tensor/harness.ts'
import { layerMatrices, type MatrixShape } from './shapes.ts'

/** What the engine would choose here. */
export const kernelChoice = chooseKernels(undefined)

export type OperationName = keyof typeof Operation

/** Kernels that keep a record of their time while it is wanted. */
export class Profile {
  readonly kernels: Kernels
  /** Milliseconds by operation. */
  readonly times = new Map<OperationName, number>()
  #running = false

  constructor(kernels: Kernels, memory: WebAssembly.Memory) {
    const words = new Int32Array(memory.buffer)
    const names = new Map(Object.entries(Operation).map(([name, code]) => [code as number, name as OperationName]))
    const run: Kernels['run'] = (record, part, parts) => {
      if (!this.#running) {
        kernels.run(record, part, parts)
        return
      }
      const began = performance.now()
      kernels.run(record, part, parts)
      const name = names.get(words[record >>> 2])!
      this.times.set(name, (this.times.get(name) ?? 0) + performance.now() - began)
    }
    this.kernels = { ...kernels, run }
  }

  /**
   * @returns milliseconds of the whole call. What `times` lacks of it is TypeScript, handing out jobs, and waiting for
   *   other threads.
   */
  measure(call: () => void): number {
    this.times.clear()
    this.#running = true
    const began = performance.now()
    call()
    const total = performance.now() - began
    this.#running = false
    return total
  }
}

/** The calling thread and its helpers, who serve its jobs as they do in an engine. */
export class Team {
  readonly threads: number
  readonly compute: Compute
  readonly operators: Operators
  /** Where the calling thread's time goes. */
  readonly profile: Profile
  readonly #control: Control
  readonly #workers: readonly WorkerHandle[]

  private constructor(arena: Arena, threads: number, control: Control, workers: readonly WorkerHandle[]) {
    this.threads = threads
    this.#control = control
    this.#workers = workers
    this.profile = new Profile(instantiateKernels(arena.memory, kernelChoice.module), arena.memory)
    const { kernels } = this.profile
    this.compute = new Compute({ kernels: [kernels], control, threads, cores: cores() })
    this.operators = new Operators(kernels, this.compute, arena, arena.allocate('job records', JOB_BYTES))
  }

  static async start(arena: Arena, threads: number): Promise<Team> {
    const control = new Control()
    const data = { control: control.buffer, threads }
    const helpers = Array.from({ length: threads - 1 }, () => ({ role: 'compute', data }) as const)
    return new Team(arena, threads, control, await startWorkers([arena.memory], kernelChoice.module, helpers))
  }

  async close(): Promise<void> {
    this.#control.stop()
    await Promise.all(this.#workers.map((worker) => worker.terminate(500)))
  }
}

/** Bytes of the largest region <= `bytes` that the read kernel takes. */
const readable = (bytes: number): number => Math.floor(bytes / 256) * 256

const MAXIMUM_SHARES = MAXIMUM_THREADS * 16

/** A job that reads a region on all threads. */
export function readJob(team: Team, arena: Arena, pointer: number, bytes: number): { run: () => void; bytes: number } {
  const record = arena.allocate('read record', RECORD_BYTES)
  const words = arena.i32(record, RECORD_BYTES / 4)
  words[0] = Operation.read
  words[ReadWord.source] = pointer
  words[ReadWord.bytes] = readable(bytes)
  words[ReadWord.sums] = arena.allocate('read sums', MAXIMUM_SHARES * 64)
  const shares = Int32Array.of(team.compute.shares(MAXIMUM_SHARES, bytes))
  return { run: () => team.compute.run({ bank: 0, pointer: record }, shares, 1), bytes: readable(bytes) }
}

/**
 * Fills a region with a packed matrix: some groups of random weights over and over.
 * @param groups different ones; the region has at least as many
 */
export function fillMatrix(kind: Kind, columns: number, target: Uint8Array, groups = 1): void {
  const bytes = groupBytes(kind, columns)
  for (let i = 0; i < groups; i++) {
    const weights = randomFloats(TILE * columns, columns + i, 1 / Math.sqrt(columns))
    packGroup(kind, columns, weights, 0, TILE, target, i * bytes)
  }
  for (let done = groups * bytes; done < target.length; done *= 2) {
    target.copyWithin(done, 0, Math.min(done, target.length - done))
  }
}

/** Rows of the output head in the proportion of the layers. */
export const headOutputs = (config: ModelConfig, layers: number): number =>
  Math.max(TILE, Math.round((config.vocabulary * layers) / config.layers / TILE) * TILE)

export const layerBytes = (config: ModelConfig, kind: Kind): number =>
  layerMatrices(config).reduce((sum, { outputs, columns }) => sum + matrixBytes(kind, outputs, columns), 0)

/** How much of a model is multiplied, and for how many rows at the most. */
export interface PassSize {
  /** Layers, each with weights of its own; may be more than the model has. */
  readonly layers: number
  readonly rows: number
}

/** Matrices of some layers and the same proportion of the output head, with made-up weights. */
export function allocateMatrices(arena: Arena, config: ModelConfig, kind: Kind, layers: number): Matrix[] {
  const allocate = (kind: Kind, { outputs, columns }: MatrixShape): Matrix => {
    const rows = paddedOutputs(outputs)
    const bytes = matrixBytes(kind, rows, columns)
    const pointer = arena.allocate('matrix', bytes)
    fillMatrix(kind, columns, arena.u8(pointer, bytes))
    return { kind, rows, columns, pointer }
  }
  const shapes = Array.from({ length: layers }, () => layerMatrices(config)).flat()
  const head = { outputs: headOutputs(config, layers), columns: config.hidden }
  return [...shapes.map((shape) => allocate(kind, shape)), allocate(quantisationOf(kind).edges, head)]
}

/** Memory of `allocateMatrices` and of a pass over them. */
export function passBytes(config: ModelConfig, kind: Kind, { layers, rows }: PassSize): number {
  const head = headOutputs(config, layers)
  const weights = layers * layerBytes(config, kind) + matrixBytes(quantisationOf(kind).edges, head, config.hidden)
  return weights + inputAndOutputBytes([...layerMatrices(config), { outputs: head, columns: config.hidden }], rows)
}

const inputAndOutputBytes = (shapes: readonly MatrixShape[], rows: number): number =>
  65536 + rows * 4 * shapes.reduce((sum, { outputs, columns }) => sum + outputs + 2 * columns, 0)

/** The products of given matrices with rows of made-up values, and nothing else of a model. */
export class MatrixPass {
  /** Multiplications per row. */
  readonly products: number
  /** Of the weights. */
  readonly bytes: number
  readonly #matrices: readonly Matrix[]
  readonly #inputs = new Map<number, Operand>()
  readonly #output: Rows

  constructor(arena: Arena, matrices: readonly Matrix[], rows: number) {
    this.#matrices = matrices
    this.bytes = matrices.reduce((sum, m) => sum + matrixBytes(m.kind, m.rows, m.columns), 0)
    this.products = matrices.reduce((sum, m) => sum + m.rows * m.columns, 0)
    for (const { columns } of matrices) {
      if (!this.#inputs.has(columns)) this.#inputs.set(columns, inputRows(arena, rows, columns))
    }
    const widest = Math.max(...matrices.map((matrix) => paddedOutputs(matrix.rows)))
    this.#output = new Rows(arena.allocate('output', rows * widest * 4), widest * 4, widest)
  }

  /** Memory of inputs and outputs at the most. */
  static bytes(matrices: readonly MatrixShape[], rows: number): number {
    return inputAndOutputBytes(matrices, rows)
  }

  /** Every matrix once. Its input is quantised each time, as onnxruntime does. */
  run(operators: Operators, rows: number): void {
    for (const matrix of this.#matrices) {
      const input = this.#inputs.get(matrix.columns)!
      operators.quantise(input, rows, matrix.kind)
      operators.matmul(input, rows, matrix, this.#output)
    }
    operators.run()
  }

  /** @returns every product once, of inputs that are quantised now: the least that a pass can take */
  productsAlone(operators: Operators, rows: number): () => void {
    const inputs = this.#matrices.map(({ kind, columns }) => {
      const input = this.#inputs.get(columns)!
      operators.quantise(input, rows, kind)
      return input
    })
    operators.run()
    return () => {
      this.#matrices.forEach((matrix, i) => {
        operators.matmul(inputs[i], rows, matrix, this.#output)
      })
      operators.run()
    }
  }
}

function inputRows(arena: Arena, rows: number, columns: number): Operand {
  // A line more than the columns, as the engine has it: see activations.ts.
  const stride = paddedInner(columns) * 4 + ALIGNMENT
  const pointer = arena.allocate('input', rows * stride)
  arena.f32(pointer, (rows * stride) / 4).set(randomFloats((rows * stride) / 4, 1))
  const quantised = arena.allocate('quantised', quantisedBytes(rows, columns))
  return { rows: new Rows(pointer, stride, columns), quantised }
}

/** Rows of a pass: one, a binary tree below the last of a prefix, or the next tokens of it. */
export type BatchForm = 'row' | 'tree' | 'chain'

/** The rows of a tree come level by level: node i is a child of node (i - 1) / 2. */
export function fillBatch(batch: RowBatch, cache: KvCache, rows: number, form: BatchForm, prefix: number): void {
  batch.clear()
  for (let i = 0; i < rows; i++) {
    if (form === 'tree') batch.addTreeRow(i, cache.scratchStart + i, prefix, i === 0 ? -1 : (i - 1) >> 1)
    else batch.addPrefixRow(i, prefix - rows + i)
  }
}

const MOST_ROWS = 64

/** Attention alone, on the caches and buffers of a transformer with some layers. */
export class AttentionStack {
  readonly arena: Arena
  readonly #config: ModelConfig
  readonly #prefix: number
  readonly #cache: KvCache
  readonly #batch: RowBatch
  readonly #activations: Activations

  private constructor(arena: Arena, config: ModelConfig, shape: TransformerShape) {
    this.arena = arena
    this.#config = config
    this.#prefix = shape.context
    this.#cache = new KvCache(
      config,
      shape,
      Array.from({ length: config.layers }, () => arena),
      'KV cache',
    )
    this.#batch = new RowBatch(arena, 'rows', shape.rows)
    this.#activations = new Activations(config, shape, arena, 'attention')
    fillFloats(arena.u8(this.#cache.layers[0].keys, kvCacheBytes(config, shape)))
    const { qkv } = this.#activations
    fillFloats(arena.u8(qkv.pointer, shape.rows * qkv.stride))
  }

  static create(model: ModelConfig, layers: number, prefix: number, threads: number, kind: KvKind): AttentionStack {
    const config = { ...model, layers, vocabulary: TILE }
    const shape = {
      context: prefix,
      scratch: MOST_ROWS,
      rows: MOST_ROWS,
      logitsRows: 1,
      headStreams: false,
      threads,
      kind,
    } as const
    const bytes = regionsBytes(transformerRegions('attention', config, shape))
    return new AttentionStack(new Arena(createMemory(bytes + 65536)), config, shape)
  }

  /** Keys that all rows together see. */
  get visibleKeys(): number {
    const { count, prefixes, ancestorOffsets } = this.#batch
    return prefixes.subarray(0, count).reduce((sum, prefix) => sum + prefix, 0) + ancestorOffsets[count]
  }

  /** A job that reads all keys and values. */
  readJob(team: Team): { run: () => void; bytes: number } {
    const { kvHeads, layers } = this.#config
    return readJob(
      team,
      this.arena,
      this.#cache.layers[0].keys,
      2 * layers * kvHeads * this.#cache.layers[0].headStride,
    )
  }

  /**
   * @param perCall layers per call; the next call takes the next ones
   * @returns attention of the rows
   */
  job({ operators }: Team, rows: number, form: BatchForm, perCall: number): () => void {
    const batch = this.#batch
    const cache = this.#cache
    const a = this.#activations
    const { heads, layers } = this.#config
    fillBatch(batch, cache, rows, form, this.#prefix)
    const jobs = cache.layers.map((layer) => ({
      rows,
      heads,
      queries: a.q,
      cache: layer,
      output: a.attended.rows,
      batch,
      window: 0,
      scores: a.scores,
      scoresBytes: a.scoresBytes,
    }))
    let next = 0
    return () => {
      for (let i = 0; i < perCall; i++) operators.attention(jobs[next++ % layers])
      operators.run()
    }
  }
}

/** Memory of regions, with room to align them. */
export const regionsBytes = (regions: readonly Region[]): number =>
  regions.reduce((sum, { bytes }) => sum + Math.ceil(bytes / 4096) * 4096, 0)

function fillFloats(target: Uint8Array): void {
  const values = randomFloats(4096, 9)
  const pattern = new Uint8Array(values.buffer)
  for (let at = 0; at < target.length; at += pattern.length) {
    target.set(pattern.subarray(0, Math.min(pattern.length, target.length - at)), at)
  }
}
