/** The compiled kernels and their instances. */
import { CoppiceError } from '../errors.ts'
import { decodeBase64 } from '../runtime/platform.ts'
import { kernelsBase64 } from './kernels.generated.ts'

/** The instructions that the embedded kernels are made of; the only variant so far. */
export const KERNEL_VARIANT = 'simd128'

/** What the kernel module exports; see kernels/README.md. All addresses are bytes, u32. */
export interface Kernels {
  /** Executes share `part` of `parts` of the job whose record lies at `record`. */
  run(record: number, part: number, parts: number): void
  checksum(pointer: number, bytes: number): number
  argmax(pointer: number, count: number): number
  maximum(pointer: number, count: number): number
  /** Sum of exp((x - maximum) * scale) over `count` f32. */
  sumExp(pointer: number, count: number, scale: number, maximum: number): number
  /** The k largest of `count` f32 (k <= 64), descending, ties by lower index; returns how many. */
  topK(pointer: number, count: number, k: number, ids: number, values: number): number
}

/** Compiles the embedded kernels. Blocks for some milliseconds, once per process. */
export function compileKernels(): WebAssembly.Module {
  compiled ??= new WebAssembly.Module(decodeBase64(kernelsBase64.simd128))
  return compiled
}

let compiled: WebAssembly.Module | undefined

/** An instance on the given memory. Every thread has its own. */
export function instantiateKernels(memory: WebAssembly.Memory, module: WebAssembly.Module = compileKernels()): Kernels {
  let instance: WebAssembly.Instance
  try {
    instance = new WebAssembly.Instance(module, { env: { memory } })
  } catch (cause) {
    throw new CoppiceError(
      'INVALID_OPTION',
      'the kernels could not be instantiated: a module given as `kernels` must be the kernels.wasm of this very version',
      { cause },
    )
  }
  const exports = instance.exports as unknown as Kernels
  for (const name of ['run', 'checksum', 'argmax', 'maximum', 'sumExp', 'topK'] as const) {
    if (typeof exports[name] !== 'function') {
      throw new CoppiceError(
        'INVALID_OPTION',
        `the kernel module has no export "${name}"; use the kernels.wasm of this very version`,
      )
    }
  }
  return exports
}
