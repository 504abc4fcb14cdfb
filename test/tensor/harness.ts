/** The kernels on a memory of the test's own, with bump allocation. */
import { Arena, createMemory, FIRST_ADDRESS } from '../../src/tensor/arena.ts'
import { Compute } from '../../src/tensor/compute.ts'
import { Control } from '../../src/tensor/control.ts'
import { compileKernels } from '../../src/tensor/kernel-modules.ts'
import { instantiateKernels, type Kernels, type KernelVariant } from '../../src/tensor/kernels.ts'
import { ALIGNMENT } from '../../src/tensor/layout.ts'
import { RECORD_BYTES } from '../../src/tensor/operations.ts'
import { JOB_BYTES, Operators } from '../../src/tensor/operators.ts'

export type Words<Table extends Record<string, number>> = Record<keyof Table, number>

export class Bench {
  readonly memory: WebAssembly.Memory
  readonly kernels: Kernels
  readonly variant: KernelVariant
  #next = FIRST_ADDRESS

  constructor(megabytes = 16, variant: KernelVariant = 'simd128') {
    const pages = megabytes * 16
    this.memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true })
    this.variant = variant
    this.kernels = instantiateKernels(this.memory, compileKernels(variant))
  }

  /** Forgets everything that was allocated and fills it with NaN patterns, so that stale values show. */
  reset(): void {
    new Uint8Array(this.memory.buffer, 0, this.#next).fill(0xff)
    this.#next = FIRST_ADDRESS
  }

  bytes(length: number): Uint8Array {
    const pointer = this.#next
    this.#next = Math.ceil((pointer + length) / ALIGNMENT) * ALIGNMENT
    if (this.#next > this.memory.buffer.byteLength) throw new Error('the test needs a larger memory')
    return new Uint8Array(this.memory.buffer, pointer, length)
  }

  /** The last bytes of the memory: what reads on behind them traps. */
  lastBytes(length: number): Uint8Array {
    const pointer = this.memory.buffer.byteLength - length
    if (pointer < this.#next) throw new Error('the test needs a larger memory')
    return new Uint8Array(this.memory.buffer, pointer, length)
  }

  floats(source: ArrayLike<number> | number): Float32Array {
    const length = typeof source === 'number' ? source : source.length
    const array = new Float32Array(this.memory.buffer, this.bytes(length * 4).byteOffset, length)
    if (typeof source !== 'number') array.set(source)
    return array
  }

  doubles(source: ArrayLike<number>): Float64Array {
    const array = new Float64Array(this.memory.buffer, this.bytes(source.length * 8).byteOffset, source.length)
    array.set(source)
    return array
  }

  integers(source: ArrayLike<number> | number): Int32Array {
    const length = typeof source === 'number' ? source : source.length
    const array = new Int32Array(this.memory.buffer, this.bytes(length * 4).byteOffset, length)
    if (typeof source !== 'number') array.set(source)
    return array
  }

  /**
   * Writes a job record.
   * @param floatWords names of the words that hold f32
   * @returns its address
   */
  record<Table extends Record<string, number>>(
    operation: number,
    table: Table,
    words: Words<Table>,
    floatWords: readonly (keyof Table)[] = [],
  ): number {
    const pointer = this.bytes(RECORD_BYTES).byteOffset
    const view = new DataView(this.memory.buffer, pointer, RECORD_BYTES)
    view.setInt32(0, operation, true)
    for (const name of Object.keys(table) as (keyof Table & string)[]) {
      if (floatWords.includes(name)) view.setFloat32(table[name] * 4, words[name], true)
      else view.setUint32(table[name] * 4, words[name], true)
    }
    return pointer
  }

  /** Writes a job record and executes all its shares, last first: shares must not build on each other. */
  run<Table extends Record<string, number>>(
    operation: number,
    table: Table,
    words: Words<Table>,
    parts = 1,
    floatWords: readonly (keyof Table)[] = [],
  ): void {
    const pointer = this.record(operation, table, words, floatWords)
    for (let part = parts - 1; part >= 0; part--) this.kernels.run(pointer, part, parts)
  }
}

/** Operators of one thread, and the memory that they work in, of 1 MiB. */
export function soleOperators(): { operators: Operators; arena: Arena } {
  const memory = createMemory(1 << 20)
  const arena = new Arena(memory)
  const kernels = instantiateKernels(memory, compileKernels('simd128'))
  const compute = new Compute({ kernels: [kernels], control: new Control(), threads: 1, cores: 1 })
  return { operators: new Operators(kernels, compute, arena, arena.allocate('jobs', JOB_BYTES)), arena }
}

/** A generator of plain pseudo-random numbers (mulberry32), for arrays too long for fast-check. */
export function randomNumbers(seed: number): () => number {
  let state = seed | 0
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}

/** f32 values that look like weights or activations: around zero, some of them large. */
export function randomFloats(length: number, seed: number, spread = 1): Float32Array {
  const next = randomNumbers(seed)
  return Float32Array.from({ length }, () => {
    const value = (next() + next() + next() - 1.5) * spread
    return next() < 0.01 ? value * 20 : value
  })
}

/** The index of the first element whose bits differ, or -1. NaN equals any NaN. */
export function firstDifference(actual: Float32Array, expected: Float32Array): number {
  if (actual.length !== expected.length) return Math.min(actual.length, expected.length)
  for (let i = 0; i < actual.length; i++) if (!Object.is(actual[i], expected[i])) return i
  return -1
}
