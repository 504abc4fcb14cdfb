/** A tied checkpoint that stores its matrix under both names must store the same twice. */
import { sameBytes } from '../runtime/files.ts'
import type { Safetensors } from './safetensors.ts'

/** Bytes of each of the two that are read at a time, unless a row has more. */
const BLOCK_BYTES = 1 << 20

/**
 * The first row in which two matrices of the same shape differ, whatever their dtypes; `undefined`: in none.
 * @param onBlock called before every block; may throw to give up
 * @throws CoppiceError CORRUPT_FILE | FILE_SYSTEM, and what `onBlock` throws
 */
export function differingRow(
  checkpoint: Safetensors,
  names: readonly [string, string],
  onBlock: () => void,
): number | undefined {
  const [one, other] = names.map((name) => checkpoint.info(name))
  const [rows, columns] = one.shape
  const rowBytes = Math.max(one.bytes, other.bytes) / rows
  const block = Math.min(rows, Math.max(1, Math.floor(BLOCK_BYTES / rowBytes)))
  // Made once: garbage of this size is what some runtimes let grow to hundreds of MB.
  const bytes = names.map(() => new Uint8Array(block * rowBytes))
  let values: Float32Array[] | undefined
  for (let first = 0; first < rows; first += block) {
    const count = Math.min(block, rows - first)
    onBlock()
    if (one.dtype === other.dtype) {
      const read = names.map((name, i) => bytes[i].subarray(0, checkpoint.readRowBytes(name, first, count, bytes[i])))
      if (sameBytes(read[0], read[1])) continue
    }
    values ??= names.map(() => new Float32Array(block * columns))
    const [a, b] = names.map((name, i) => checkpoint.readRows(name, first, count, values![i]))
    const at = a.findIndex((value, i) => !Object.is(value, b[i]))
    if (at >= 0) return first + Math.floor(at / columns)
  }
  return undefined
}
