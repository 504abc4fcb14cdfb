/** The left side of integer products as the kernels of a variant lay it out (kernels/operand.ts). */
import type { KernelVariant } from '../../../src/tensor/kernels.ts'
import { BLOCK, type Kind } from '../../../src/tensor/layout.ts'
import type { Quantised } from './gemm.ts'

/** Rows of a product in tiles: 3 to 5 of them where there are so many, as even as they can be. */
export function tilesOf(rows: number): { begin: number; rows: number }[] {
  const count = Math.max(1, Math.floor((rows + 2) / 4))
  const begins = Array.from({ length: count + 1 }, (_, tile) => Math.floor((rows * tile) / count))
  return begins.slice(0, -1).map((begin, tile) => ({ begin, rows: begins[tile + 1] - begin }))
}

/** @param columns a multiple of 32 */
export function operandBytes(
  x: Quantised,
  rows: number,
  columns: number,
  kind: Kind,
  variant: KernelVariant,
): Uint8Array {
  const wide = variant === 'simd128' || (variant === 'relaxed-i16' && kind === 'q8')
  const bytesPerRow = wide ? 72 : 40
  const blocks = columns / BLOCK
  const view = new DataView(new ArrayBuffer(rows * blocks * bytesPerRow))
  for (const tile of tilesOf(rows)) {
    for (let block = 0; block < blocks; block++) {
      const at = (tile.begin * blocks + block * tile.rows) * bytesPerRow
      for (let r = 0; r < tile.rows; r++) {
        const row = tile.begin + r
        const values = x.values.subarray(row * columns + block * BLOCK, row * columns + (block + 1) * BLOCK)
        values.forEach((value, k) => {
          const quad = (k >> 2) * tile.rows + r
          // Pairs (k0, k2), (k1, k3) of i16, or four bytes in their order.
          if (wide) view.setInt16(at + quad * 8 + [0, 4, 2, 6][k & 3], value, true)
          else view.setInt8(at + quad * 4 + (k & 3), value)
        })
        const words = at + tile.rows * (bytesPerRow - 8) + 4 * r
        view.setFloat32(words, x.scales[row * blocks + block], true)
        view.setInt32(words + 4 * tile.rows, startOf(values, kind, variant), true)
      }
    }
  }
  return new Uint8Array(view.buffer)
}

/** The word that a row's sums start at. */
function startOf(values: Int8Array, kind: Kind, variant: KernelVariant): number {
  let first = 0
  let second = 0
  values.forEach((value, k) => {
    if ((k & 2) === 0) first += value
    else second += value
  })
  if (kind === 'q4a') return first + second
  if (kind === 'q8') return variant === 'relaxed-i32' ? -128 * (first + second) : 0
  return variant === 'relaxed-i16' ? ((-8 * first) & 0xffff) | ((-8 * second) << 16) : -8 * (first + second)
}
