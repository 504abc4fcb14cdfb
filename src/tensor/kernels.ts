/** What a module of kernels offers, and its instances. The modules themselves: kernel-modules.ts. */
import { CoppiceError } from '../errors.ts'

/**
 * The modules that are compiled from the same sources; all give the same bits. The relaxed ones multiply
 * integers by relaxed SIMD instructions, and differ in how wide they add up.
 */
export type KernelVariant = 'simd128' | 'relaxed-i16' | 'relaxed-i32'

export const KERNEL_VARIANTS: readonly KernelVariant[] = ['simd128', 'relaxed-i16', 'relaxed-i32']

/** What the kernel module exports; see kernels/README.md. All addresses are bytes, u32. */
export interface Kernels {
  /** Executes share `part` of `parts` of the job whose record lies at `record`. */
  run(record: number, part: number, parts: number): void
  checksum(pointer: number, bytes: number): number
  /** Sum of exp((x - maximum) * scale) over `count` f32. */
  sumExp(pointer: number, count: number, scale: number, maximum: number): number
  /** Sum of exp(x - maximum) over `count` f32, within 4 per cent: a fourth of the instructions. */
  coarseSumExp(pointer: number, count: number, maximum: number): number
  /** `total` and exp(x), as src/tensor/math.ts has it, of `count` f64 from -700 to 700, added one after the other. */
  sumExp64(pointer: number, count: number, total: number): number
  /** The k largest of `count` f32 (k <= 64), descending, ties by lower index; returns how many. */
  topK(pointer: number, count: number, k: number, ids: number, values: number): number
  /**
   * Threefry words under a key of the counters (position, token) for the tokens [first, end), where the first word is at
   * least `least` (unsigned): token, first word, second word from `pointer` on; returns how many. Needs room for all of
   * them, and 80 bytes.
   */
  outliers(
    key0: number,
    key1: number,
    position: number,
    first: number,
    end: number,
    least: number,
    pointer: number,
  ): number
}

/** An instance on the given memory. Every thread has its own. */
export function instantiateKernels(memory: WebAssembly.Memory, module: WebAssembly.Module): Kernels {
  let instance: WebAssembly.Instance
  try {
    instance = new WebAssembly.Instance(module, { env: { memory } })
  } catch (cause) {
    throw new CoppiceError(
      'INVALID_OPTION',
      `the kernels could not be instantiated: a module given as \`kernels\` must be a compiled kernels.<variant>.wasm of this very version (${KERNEL_VARIANTS.join(', ')})`,
      { cause },
    )
  }
  const exports = instance.exports as unknown as Kernels
  for (const name of ['run', 'checksum', 'sumExp', 'coarseSumExp', 'sumExp64', 'topK', 'outliers'] as const) {
    if (typeof exports[name] !== 'function') {
      throw new CoppiceError(
        'INVALID_OPTION',
        `the kernel module has no export "${name}"; use a kernels.<variant>.wasm of this very version`,
      )
    }
  }
  return exports
}
