/**
 * The tensor engine as the benchmarks use it: threads that serve jobs, matrices with made-up weights, and the pass
 * over all matrices of a model. What they know of its interfaces stands here.
 */

import type { ComputeWorkerData, HelperMessage } from '../src/engine/protocol.ts'
import { createLine, spawnWorker, type WorkerHandle } from '../src/runtime/workers.ts'
import type { Arena } from '../src/tensor/arena.ts'
import { Compute, jobShares } from '../src/tensor/compute.ts'
import { Control } from '../src/tensor/control.ts'
import { instantiateKernels, type Kernels } from '../src/tensor/kernels.ts'
import {
  groupBytes,
  type Kind,
  matrixBytes,
  packGroup,
  paddedInner,
  paddedOutputs,
  TILE,
} from '../src/tensor/layout.ts'
import { Operation, RECORD_BYTES, ReadWord } from '../src/tensor/operations.ts'
import { type Matrix, Operators, QuantisedRows, Rows } from '../src/tensor/operators.ts'
import type { ModelConfig } from '../src/weights/model-config.ts'
import { quantisationOf } from '../src/weights/packed-layout.ts'
import { randomFloats } from '../test/tensor/harness.ts'
import { layerMatrices, type MatrixShape } from './shapes.ts'

const OPERATORS_BYTES = 4096

/** The calling thread and its helpers, who serve its jobs as they do in an engine. */
export class Team {
  readonly threads: number
  readonly kernels: Kernels
  readonly compute: Compute
  readonly operators: Operators
  readonly #control: Control
  readonly #workers: readonly WorkerHandle[]

  private constructor(arena: Arena, threads: number, control: Control, workers: readonly WorkerHandle[]) {
    this.threads = threads
    this.#control = control
    this.#workers = workers
    this.kernels = instantiateKernels(arena.memory)
    this.compute = new Compute(this.kernels, control, threads)
    this.operators = new Operators(this.kernels, this.compute, arena, arena.allocate('job records', OPERATORS_BYTES))
  }

  static async start(arena: Arena, threads: number): Promise<Team> {
    const control = new Control()
    const workers: WorkerHandle[] = []
    for (let i = 1; i < threads; i++) {
      const [end, line] = createLine()
      const data: ComputeWorkerData = { line, control: control.buffer, threads, kernels: undefined }
      const url = new URL('../src/engine/compute-worker.js', import.meta.url)
      const worker = spawnWorker(url, data, { name: 'compute', transfer: [line] })
      workers.push(worker)
      end.postMessage({ memory: arena.memory })
    }
    await Promise.all(workers.map(isReady))
    for (const worker of workers) worker.unref()
    return new Team(arena, threads, control, workers)
  }

  async close(): Promise<void> {
    this.#control.stop()
    await Promise.all(this.#workers.map((worker) => worker.terminate(500)))
  }
}

function isReady(worker: WorkerHandle): Promise<void> {
  return new Promise((resolve, reject) => {
    worker.onError(reject)
    worker.onMessage((message) => {
      const answer = message as HelperMessage
      if (answer.type === 'ready') resolve()
      else reject(new Error(answer.error.message))
    })
  })
}

/** Bytes of the largest region <= `bytes` that the read kernel takes. */
const readable = (bytes: number): number => Math.floor(bytes / 256) * 256

/** A job that reads a region on all threads. */
export function readJob(team: Team, arena: Arena, pointer: number, bytes: number): { run: () => void; bytes: number } {
  const record = arena.allocate('read record', RECORD_BYTES)
  const words = arena.i32(record, RECORD_BYTES / 4)
  words[0] = Operation.read
  words[ReadWord.source] = pointer
  words[ReadWord.bytes] = readable(bytes)
  words[ReadWord.sums] = arena.allocate('read sums', jobShares(team.threads) * 64)
  return { run: () => team.compute.run(record), bytes: readable(bytes) }
}

/** Fills a region with a packed matrix: one group of random weights over and over. */
export function fillMatrix(kind: Kind, columns: number, target: Uint8Array): void {
  const group = groupBytes(kind, columns)
  packGroup(kind, columns, randomFloats(TILE * columns, columns, 1 / Math.sqrt(columns)), 0, TILE, target, 0)
  for (let done = group; done < target.length; done *= 2) {
    target.copyWithin(done, 0, Math.min(done, target.length - done))
  }
}

/** How much of a model is multiplied, and for how many rows at the most. */
export interface PassSize {
  /** Layers, each with weights of its own; may be more than the model has. */
  readonly layers: number
  readonly rows: number
}

/** Rows of the output head in the proportion of the layers. */
export const headOutputs = (config: ModelConfig, layers: number): number =>
  Math.max(TILE, Math.round((config.vocabulary * layers) / config.layers / TILE) * TILE)

export const layerBytes = (config: ModelConfig, kind: Kind): number =>
  layerMatrices(config).reduce((sum, { outputs, columns }) => sum + matrixBytes(kind, outputs, columns), 0)

/** All matrices of some layers and the same proportion of the output head, with inputs and outputs. */
export class MatrixPass {
  readonly layers: number
  /** Multiplications per row. */
  readonly products: number
  /** Of the weights. */
  readonly bytes: number
  /** The weights lie in one region from here on. */
  readonly pointer: number
  readonly #matrices: readonly Matrix[]
  readonly #inputs = new Map<number, { rows: Rows; quantised: QuantisedRows }>()
  readonly #output: Rows

  constructor(arena: Arena, config: ModelConfig, kind: Kind, { layers, rows }: PassSize) {
    this.layers = layers
    this.pointer = arena.allocate('weights', 0)
    const layer = layerMatrices(config)
    const head = { outputs: headOutputs(config, layers), columns: config.hidden }
    this.#matrices = [
      ...Array.from({ length: layers }, () => layer.map((shape) => this.#matrix(arena, kind, shape))).flat(),
      this.#matrix(arena, quantisationOf(kind).edges, head),
    ]
    this.bytes = this.#matrices.reduce((sum, m) => sum + matrixBytes(m.kind, m.rows, m.columns), 0)
    this.products = this.#matrices.reduce((sum, m) => sum + m.rows * m.columns, 0)
    for (const { columns } of [...layer, head]) this.#inputs.set(columns, inputRows(arena, rows, columns))
    const widest = Math.max(head.outputs, ...layer.map(({ outputs }) => outputs))
    this.#output = new Rows(arena.allocate('output', rows * widest * 4), widest * 4, widest)
  }

  static bytes(config: ModelConfig, kind: Kind, { layers, rows }: PassSize): number {
    const head = headOutputs(config, layers)
    const { edges } = quantisationOf(kind)
    const weights = layers * layerBytes(config, kind) + matrixBytes(edges, head, config.hidden)
    const widths = [head, ...layerMatrices(config).flatMap(({ outputs, columns }) => [outputs, 2 * columns])]
    return weights + rows * 4 * widths.reduce((sum, width) => sum + width, 0) + 65536
  }

  /** Every matrix once. Inputs are quantised for every matrix, as onnxruntime does. */
  run(operators: Operators, rows: number): void {
    for (const matrix of this.#matrices) {
      const input = this.#inputs.get(matrix.columns)!
      operators.matmul(operators.prepare(input.rows, rows, matrix.kind, input.quantised), rows, matrix, this.#output)
    }
  }

  #matrix(arena: Arena, kind: Kind, shape: MatrixShape): Matrix {
    const rows = paddedOutputs(shape.outputs)
    const bytes = matrixBytes(kind, rows, shape.columns)
    const pointer = arena.allocate('matrix', bytes)
    fillMatrix(kind, shape.columns, arena.u8(pointer, bytes))
    return { kind, rows, columns: shape.columns, pointer }
  }
}

function inputRows(arena: Arena, rows: number, columns: number): { rows: Rows; quantised: QuantisedRows } {
  const stride = paddedInner(columns) * 4
  const pointer = arena.allocate('input', rows * stride)
  arena.f32(pointer, (rows * stride) / 4).set(randomFloats((rows * stride) / 4, 1))
  const quantised = new QuantisedRows(arena.allocate('quantised', QuantisedRows.bytes(rows, columns)), rows, columns)
  return { rows: new Rows(pointer, stride, columns), quantised }
}
