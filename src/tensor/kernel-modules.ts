/** The embedded kernels. Threads that are given a module do without this file and its long strings. */
import { decodeBase64, now } from '../runtime/platform.ts'
import { kernelsBase64 } from './kernels.generated.ts'
import type { KernelVariant } from './kernels.ts'

export { KERNEL_BUILD } from './kernels.generated.ts'

const compiled = new Map<KernelVariant, WebAssembly.Module>()

/**
 * Compiles the embedded kernels, once per thread and variant. Blocks for a few milliseconds.
 * @throws WebAssembly.CompileError when the engine lacks instructions of the variant, or may not compile bytes
 */
export function compileKernels(variant: KernelVariant): WebAssembly.Module {
  const module = compiled.get(variant) ?? new WebAssembly.Module(decodeBase64(kernelsBase64[variant]))
  compiled.set(variant, module)
  return module
}

let copies = 0

/**
 * The same code compiled by itself, from the baseline on. V8 shares the code of equal bytes among all threads
 * of a process, and so what one of them has made it optimise; a custom section with a number of its own at
 * the end keeps the bytes apart.
 * @throws WebAssembly.CompileError as `compileKernels`
 */
export function compileKernelsAfresh(variant: KernelVariant): WebAssembly.Module {
  const code = decodeBase64(kernelsBase64[variant])
  const name = new TextEncoder().encode(`${now()} ${copies++}`)
  const bytes = new Uint8Array(code.length + name.length + 3)
  bytes.set(code)
  bytes.set([0, name.length + 1, name.length], code.length)
  bytes.set(name, code.length + 3)
  return new WebAssembly.Module(bytes)
}
