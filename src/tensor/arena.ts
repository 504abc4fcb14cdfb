/** A WASM memory of a model, handed out once as named regions. */
import { CoppiceError } from '../errors.ts'
import { ALIGNMENT } from './layout.ts'

export const PAGE_BYTES = 65536

/**
 * The largest memory: wasm32's address space but for its last page. The kernels end their loops at the address
 * behind a matrix or vector, which in a memory of 4 GiB could be 2^32, and so 0.
 */
export const MEMORY_LIMIT_BYTES = 65535 * PAGE_BYTES

/** Address 0 stays free, so that 0 can mean "none" in job records. */
export const FIRST_ADDRESS = 4096

export interface Region {
  readonly name: string
  readonly bytes: number
}

/** An address in one of a model's memories, its *banks*. Bank 0 holds everything that one memory has room for. */
export interface Place {
  readonly bank: number
  /** u32. */
  readonly pointer: number
}

export const roundUp = (value: number, multiple: number): number => Math.ceil(value / multiple) * multiple

/** A shared memory of at least `bytes`, which never grows. */
export function createMemory(bytes: number): WebAssembly.Memory {
  const pages = Math.ceil(bytes / PAGE_BYTES)
  try {
    return new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true })
  } catch (cause) {
    throw new CoppiceError(
      'OUT_OF_BUDGET',
      `this process could not get ${bytes} bytes of memory for the model; give a smaller memory budget`,
      { cause },
    )
  }
}

/** Hands out regions of a memory from low to high. Nothing is ever given back. */
export class Arena {
  readonly memory: WebAssembly.Memory
  /** Which of the model's memories it is. */
  readonly bank: number
  readonly regions: (Region & { readonly pointer: number })[] = []
  #next = FIRST_ADDRESS

  constructor(memory: WebAssembly.Memory, bank = 0) {
    this.memory = memory
    this.bank = bank
  }

  get usedBytes(): number {
    return this.#next
  }

  /**
   * @param bytes size of the region; its address is a multiple of `alignment`
   * @returns the region's address (u32)
   */
  allocate(name: string, bytes: number, alignment: number = ALIGNMENT): number {
    const pointer = roundUp(this.#next, alignment)
    const end = pointer + bytes
    if (end > this.memory.buffer.byteLength) {
      throw new CoppiceError(
        'OUT_OF_BUDGET',
        `region "${name}" needs ${bytes} bytes at ${pointer}, but the memory ends at ${this.memory.buffer.byteLength}`,
      )
    }
    this.#next = end
    this.regions.push({ name, bytes, pointer })
    return pointer
  }

  f32(pointer: number, length: number): Float32Array {
    return new Float32Array(this.memory.buffer, pointer, length)
  }

  f64(pointer: number, length: number): Float64Array {
    return new Float64Array(this.memory.buffer, pointer, length)
  }

  i32(pointer: number, length: number): Int32Array {
    return new Int32Array(this.memory.buffer, pointer, length)
  }

  u8(pointer: number, length: number): Uint8Array {
    return new Uint8Array(this.memory.buffer, pointer, length)
  }
}
