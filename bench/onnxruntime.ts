/**
 * The baselines: onnxruntime-node (native code) and onnxruntime-web (WASM), when `npm run install:bench` has brought
 * them into .bench/. They get the same matrices, the same number of threads, prepacked constant weights, and tensors
 * made beforehand.
 */
import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { runtimeName } from '../src/runtime/platform.ts'
import { root } from '../test/paths.ts'

const directory = join(root, '.bench', 'node_modules')

/** The part of onnxruntime's interface that is used. */
interface OnnxRuntime {
  readonly InferenceSession: { create(model: Uint8Array, options: object): Promise<Session> }
  readonly Tensor: new (type: 'float32', data: Float32Array, shape: readonly number[]) => OnnxTensor
  readonly env: { readonly wasm: { numThreads?: number }; readonly versions: { node?: string; web?: string } }
}

interface OnnxTensor {
  readonly data: Float32Array
}

interface Session {
  run(feeds: object, fetches?: object): Promise<{ readonly y: OnnxTensor }>
  release(): Promise<void>
}

export type BaselineName = 'node' | 'web'

/** A chain of matrix products (onnx.ts), loaded. */
export interface LoadedChain {
  /** @returns a function that runs `rows` rows of `columns` values through it, and its result */
  readonly run: (rows: number) => () => Promise<Float32Array>
  readonly release: () => Promise<void>
}

export class Baseline {
  readonly name: BaselineName
  readonly version: string
  readonly #runtime: OnnxRuntime

  private constructor(name: BaselineName, runtime: OnnxRuntime) {
    this.name = name
    this.#runtime = runtime
    this.version = `onnxruntime-${name} ${runtime.env.versions[name] ?? ''}`.trim()
  }

  /** @returns the baseline, or in words why there is none */
  static async open(name: BaselineName): Promise<Baseline | string> {
    const path = join(directory, `onnxruntime-${name}`)
    if (!existsSync(path)) return `onnxruntime-${name} is not installed: npm run install:bench`
    try {
      const runtime: OnnxRuntime =
        name === 'node'
          ? createRequire(join(directory, 'package.json'))(path)
          : await import(pathToFileURL(join(path, 'dist', 'ort.node.min.mjs')).href)
      return new Baseline(name, runtime)
    } catch (error) {
      return `onnxruntime-${name} does not start on ${runtimeName()}: ${error instanceof Error ? error.message : error}`
    }
  }

  /** @param input values of x, from which each run takes the first rows. @param columns of x. @param outputs of y */
  async load(
    model: Uint8Array,
    threads: number,
    input: Float32Array,
    columns: number,
    outputs: number,
  ): Promise<LoadedChain> {
    const { InferenceSession, Tensor, env } = this.#runtime
    env.wasm.numThreads = threads
    const session = await InferenceSession.create(model, {
      executionProviders: [this.name === 'node' ? 'cpu' : 'wasm'],
      intraOpNumThreads: threads,
      interOpNumThreads: 1,
      executionMode: 'sequential',
      graphOptimizationLevel: 'all',
    })
    return {
      run: (rows) => {
        const x = new Tensor('float32', input.slice(0, rows * columns), [rows, columns])
        const y = new Tensor('float32', new Float32Array(rows * outputs), [rows, outputs])
        // The web build gives a result of its own and leaves a tensor given for it as it was.
        const fetches = this.name === 'node' ? { y } : undefined
        return async () => (await session.run({ x }, fetches)).y.data
      },
      release: () => session.release(),
    }
  }
}
