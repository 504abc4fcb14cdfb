import { decodeBase64 } from '../../src/runtime/platform.ts'
import { kernelsBase64 } from '../../src/tensor/kernels.generated.ts'

/** Kernels that compile and have all exports, but multiply where they should add products. */
export function wrongModule(): WebAssembly.Module {
  const bytes = decodeBase64(kernelsBase64.simd128)
  // i32x4.dot_i16x8_s becomes i32x4.mul, which takes and gives the same types.
  for (let i = 0; i + 2 < bytes.length; i++) {
    if (bytes[i] === 0xfd && bytes[i + 1] === 0xba && bytes[i + 2] === 0x01) bytes[i + 1] = 0xb5
  }
  return new WebAssembly.Module(bytes)
}
