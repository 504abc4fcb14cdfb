/** Rows of a checkpoint into groups of packed weights, by the kernels of `kernels/pack.ts`. */
import { decodeBase64 } from '../runtime/platform.ts'
import { Arena, createMemory, FIRST_ADDRESS } from './arena.ts'
import { bfloatToFloat, halfToFloat } from './half.ts'
import { ALIGNMENT, BLOCK, groupBytes, type Kind, packGroup, TILE } from './layout.ts'
import { KIND_CODE } from './operations.ts'
import { packKernelsBase64 } from './pack-kernels.generated.ts'

/** How numbers are stored in checkpoints. */
export type FloatDtype = 'F32' | 'F16' | 'BF16'

/** What the module exports. Addresses are bytes. */
interface PackKernels {
  packBlocks(
    kind: number,
    dtype: number,
    source: number,
    stride: number,
    blocks: number,
    target: number,
    scratch: number,
  ): void
  /** Largest magnitude's bits. */
  largest16(pointer: number, count: number): number
  largest32(pointer: number, count: number): number
  checksum(pointer: number, bytes: number): number
}

const DTYPE_CODE: Readonly<Record<FloatDtype, number>> = { F32: 0, F16: 1, BF16: 2 }

export const dtypeBytes = (dtype: FloatDtype): number => (dtype === 'F32' ? 4 : 2)

/** What the kernel needs for one block. */
const SCRATCH_BYTES = 1536

let module: WebAssembly.Module | undefined

/** Compiled once per thread. */
function compile(): WebAssembly.Module {
  module ??= new WebAssembly.Module(decodeBase64(packKernelsBase64))
  return module
}

function instantiate(memory: WebAssembly.Memory): PackKernels {
  return new WebAssembly.Instance(compile(), { env: { memory } }).exports as unknown as PackKernels
}

/** A number that is not finite, or too large for the kind. */
export interface Oversized {
  /** Index among the values of `source`. */
  readonly index: number
  readonly value: number
}

/** Two buffers, and what turns the content of one into that of the other. */
export class Packer {
  /** Receives rows as they are stored in the checkpoint, one after the other. */
  readonly source: Uint8Array
  /** Holds the groups that `pack` made. */
  readonly target: Uint8Array
  readonly #kernels: PackKernels
  readonly #scratch: number
  /** `source` as numbers. */
  readonly #words: Float32Array
  readonly #halves: Uint16Array
  /** Columns that do not fill a block, of eight rows. */
  readonly #rest = new Float32Array(TILE * BLOCK)

  /** @throws CoppiceError OUT_OF_BUDGET */
  constructor(sourceBytes: number, targetBytes: number) {
    const bytes = sourceBytes + targetBytes + SCRATCH_BYTES + 4 * ALIGNMENT
    const arena = new Arena(createMemory(FIRST_ADDRESS + bytes))
    this.#kernels = instantiate(arena.memory)
    this.#scratch = arena.allocate('scratch', SCRATCH_BYTES)
    this.source = arena.u8(arena.allocate('source', sourceBytes), sourceBytes)
    this.#words = new Float32Array(arena.memory.buffer, this.source.byteOffset, sourceBytes >> 2)
    this.#halves = new Uint16Array(arena.memory.buffer, this.source.byteOffset, sourceBytes >> 1)
    this.target = arena.u8(arena.allocate('packed', targetBytes), targetBytes)
  }

  /** The checksum of the first `bytes` of `source`, as if zeros filled the last word. */
  sourceChecksum(bytes: number): number {
    const whole = Math.ceil(bytes / 4) * 4
    this.source.fill(0, bytes, whole)
    return this.#kernels.checksum(this.source.byteOffset, whole) >>> 0
  }

  /** The first of the `count` values at the start of `source` that is not below `limit` in magnitude. */
  oversized(dtype: FloatDtype, count: number, limit: number): Oversized | undefined {
    const largest =
      dtype === 'F32'
        ? this.#kernels.largest32(this.source.byteOffset, count)
        : this.#kernels.largest16(this.source.byteOffset, count)
    if (magnitudeOf(dtype, largest) < limit) return undefined
    const values = this.floats(dtype, 0, count)
    // Written so that NaN is found too.
    const index = values.findIndex((value) => !(Math.abs(value) < limit))
    return { index, value: values[index] }
  }

  /**
   * Packs `rows` rows of `columns` values, which `oversized` found in order, into `target`: groups of 8.
   * @returns bytes of `target`
   */
  pack(kind: Kind, dtype: FloatDtype, columns: number, rows: number): number {
    const stride = columns * dtypeBytes(dtype)
    const group = groupBytes(kind, columns)
    let packed = 0
    for (let row = 0; row < rows; row += TILE, packed += group) {
      if (rows - row >= TILE) this.#packWhole(kind, dtype, columns, row * stride, packed)
      else
        packGroup(
          kind,
          columns,
          this.floats(dtype, row * stride, (rows - row) * columns),
          0,
          rows - row,
          this.target,
          packed,
        )
    }
    return packed
  }

  /** Eight rows: whole blocks by the kernel, what is left of the columns by the code that it mirrors. */
  #packWhole(kind: Kind, dtype: FloatDtype, columns: number, from: number, packed: number): void {
    const stride = columns * dtypeBytes(dtype)
    const blocks = Math.floor(columns / BLOCK)
    const source = this.source.byteOffset + from
    this.#kernels.packBlocks(
      KIND_CODE[kind],
      DTYPE_CODE[dtype],
      source,
      stride,
      blocks,
      this.target.byteOffset + packed,
      this.#scratch,
    )
    const left = columns - blocks * BLOCK
    if (left === 0) return
    for (let row = 0; row < TILE; row++) {
      const at = from + row * stride + blocks * BLOCK * dtypeBytes(dtype)
      this.#widen(dtype, at, left, this.#rest, row * left)
    }
    packGroup(kind, left, this.#rest, 0, TILE, this.target, packed + groupBytes(kind, blocks * BLOCK))
  }

  /** `count` values from byte `from` of `source` on, as f32. */
  floats(dtype: FloatDtype, from: number, count: number): Float32Array {
    const floats = new Float32Array(count)
    this.#widen(dtype, from, count, floats, 0)
    return floats
  }

  /** One by one: a view per row would be garbage that Bun lets grow to hundreds of MB. */
  #widen(dtype: FloatDtype, from: number, count: number, target: Float32Array, at: number): void {
    const first = from / dtypeBytes(dtype)
    if (dtype === 'F32') for (let i = 0; i < count; i++) target[at + i] = this.#words[first + i]
    else {
      const widen = dtype === 'F16' ? halfToFloat : bfloatToFloat
      for (let i = 0; i < count; i++) target[at + i] = widen(this.#halves[first + i])
    }
  }
}

/** The number whose bits, without their sign, these are. */
function magnitudeOf(dtype: FloatDtype, bits: number): number {
  if (dtype === 'F32') return new Float32Array(Uint32Array.of(bits).buffer)[0]
  return dtype === 'F16' ? halfToFloat(bits) : bfloatToFloat(bits)
}

/** A buffer whose content the kernel sums up. */
export class ChecksumBuffer {
  readonly bytes: Uint8Array
  readonly #kernels: PackKernels

  constructor(bytes: number) {
    const arena = new Arena(createMemory(FIRST_ADDRESS + bytes))
    this.#kernels = instantiate(arena.memory)
    this.bytes = arena.u8(arena.allocate('bytes', bytes), bytes)
  }

  /** `checksum` of the first `count` bytes; a multiple of 4. */
  checksum(count: number): number {
    return this.#kernels.checksum(this.bytes.byteOffset, count) >>> 0
  }
}
