// The left side of integer products: how rows are cut into tiles and where their integers lie. Only
// quantise.ts writes it and only the printed tiles read it, so every variant lays it out as its
// instructions like it; kernels/README.md has a picture.
import { KIND_Q8 } from './record'
import { RELAXED_I16, SIMD128, VARIANT } from './variant'

// Rows are cut into tiles of 3 to 5 (all of them, when there are fewer). A tree of n nodes is n + 1 rows, so
// 9, 17, 33 and 65 are common, and their last row must not pass all weights once more alone.
@inline
export function tileCount(rows: i32): i32 {
  return max(1, (rows + 2) >> 2)
}

// First row of a tile; it ends where the next one begins.
@inline
export function tileBegin(rows: i32, tile: i32): i32 {
  return (rows * tile) / tileCount(rows)
}

@inline
export function tileOf(rows: i32, row: i32): i32 {
  return ((row + 1) * tileCount(rows) - 1) / rows
}

// Whether integers are i16 (for i32x4.dot_i16x8_s) or i8 (for the relaxed dot products).
@inline
export function isWide(kind: i32): bool {
  return VARIANT == SIMD128 || (VARIANT == RELAXED_I16 && kind == KIND_Q8)
}

// Bytes of four inner values of one row.
@inline
export function quadBytes(kind: i32): usize {
  return isWide(kind) ? 8 : 4
}

// Bytes of one block of 32 inner values of one row: integers, an f32 scale, a word for the start of the sum.
@inline
export function operandBlockBytes(kind: i32): usize {
  return (quadBytes(kind) << 3) + 8
}

// Block 0 of a tile; its blocks follow each other, each with all rows of the tile.
@inline
export function tileAddress(values: usize, kind: i32, begin: i32, blocks: i32): usize {
  return values + <usize>(begin * blocks) * operandBlockBytes(kind)
}
