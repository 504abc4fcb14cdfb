// Activations as integers, the left side of q8, q4 and q4a products.
import { max4, partial } from './lanes'
import { isWide, operandBlockBytes, quadBytes, tileAddress, tileBegin, tileOf } from './operand'
import {
  int,
  KIND_Q4,
  KIND_Q8,
  pointer,
  QUANTISE_COLUMNS,
  QUANTISE_KIND,
  QUANTISE_ROWS,
  QUANTISE_SOURCE,
  QUANTISE_SOURCE_STRIDE,
  QUANTISE_VALUES,
  shareBegin,
} from './record'
import { RELAXED_I16, RELAXED_I32, VARIANT } from './variant'

// Stores 32 values of one row as integers: n = nearest(x * 127/amax), scale = amax/127, and the word that the
// products start their sums at. `block` is where the tile's block begins, `row` the row's number in the tile.
@inline
export function quantiseBlock(
  block: usize,
  tileRows: i32,
  row: i32,
  kind: i32,
  a: v128,
  b: v128,
  c: v128,
  d: v128,
  e: v128,
  f: v128,
  g: v128,
  h: v128,
): void {
  const ab = f32x4.max(f32x4.abs(a), f32x4.abs(b))
  const cd = f32x4.max(f32x4.abs(c), f32x4.abs(d))
  const ef = f32x4.max(f32x4.abs(e), f32x4.abs(f))
  const gh = f32x4.max(f32x4.abs(g), f32x4.abs(h))
  const largest = max4(f32x4.max(f32x4.max(ab, cd), f32x4.max(ef, gh)))
  // Where 127 / amax overflows, the block counts as all zeros.
  const amax: f32 = <f32>127 / largest == Infinity ? 0 : largest
  const inverse = f32x4.splat(amax == 0 ? 0 : 127 / amax)
  // A block with NaN or infinity counts as all zeros too; its scale says what it was.
  const counts = i16x8.splat(amax < Infinity ? -1 : 0)
  const n0 = v128.and(i16x8.narrow_i32x4_s(nearest4(a, inverse), nearest4(b, inverse)), counts)
  const n1 = v128.and(i16x8.narrow_i32x4_s(nearest4(c, inverse), nearest4(d, inverse)), counts)
  const n2 = v128.and(i16x8.narrow_i32x4_s(nearest4(e, inverse), nearest4(f, inverse)), counts)
  const n3 = v128.and(i16x8.narrow_i32x4_s(nearest4(g, inverse), nearest4(h, inverse)), counts)
  const stride = <usize>tileRows * quadBytes(kind)
  const at = block + <usize>row * quadBytes(kind)
  if (isWide(kind)) {
    storeWide(at, stride, n0)
    storeWide(at + 2 * stride, stride, n1)
    storeWide(at + 4 * stride, stride, n2)
    storeWide(at + 6 * stride, stride, n3)
  } else {
    storeNarrow(at, stride, i8x16.narrow_i16x8_s(n0, n1))
    storeNarrow(at + 4 * stride, stride, i8x16.narrow_i16x8_s(n2, n3))
  }
  const words = block + 8 * stride + (<usize>row << 2)
  store<f32>(words, amax / 127)
  const pairs = i32x4.extadd_pairwise_i16x8_s(i16x8.add(i16x8.add(n0, n1), i16x8.add(n2, n3)))
  // Sums of inner values 0 and 1, and 2 and 3, of every four.
  const sums = i32x4.add(pairs, v128.shuffle<i32>(pairs, pairs, 2, 3, 0, 1))
  const first = i32x4.extract_lane(sums, 0)
  const second = i32x4.extract_lane(sums, 1)
  store<i32>(words + (<usize>tileRows << 2), startOf(kind, first, second))
}

// Four inner values as (k0, k2), (k1, k3): nibbles and bytes of weights are widened two by two.
@inline
function storeWide(at: usize, stride: usize, n: v128): void {
  const pairs = v128.shuffle<i16>(n, n, 0, 2, 1, 3, 4, 6, 5, 7)
  v128.store64_lane(at, pairs, 0)
  v128.store64_lane(at + stride, pairs, 1)
}

@inline
function storeNarrow(at: usize, stride: usize, n: v128): void {
  v128.store32_lane(at, n, 0)
  v128.store32_lane(at + stride, n, 1)
  v128.store32_lane(at + 2 * stride, n, 2)
  v128.store32_lane(at + 3 * stride, n, 3)
}

// What every sum of the block starts at: that takes out the zero point of weights that are kept unsigned. For
// q4a, whose minimum needs it, the sum of the integers itself.
@inline
function startOf(kind: i32, first: i32, second: i32): i32 {
  if (kind == KIND_Q4) {
    // In i16 lanes a sum is in two parts, each of its own inner values: at most 8 * 16 * 127, so no lane overflows.
    if (VARIANT == RELAXED_I16) return ((first * -8) & 0xffff) | ((second * -8) << 16)
    return (first + second) * -8
  }
  if (kind == KIND_Q8) return VARIANT == RELAXED_I32 ? (first + second) * -128 : 0
  return first + second
}

// The integer nearest to x * inverse, ties to even, in the low bits of a sum with 1.5 * 2^23. (Converting by
// trunc_sat takes twice as long.)
@inline
function nearest4(x: v128, inverse: v128): v128 {
  const sum = f32x4.add(f32x4.mul(x, inverse), f32x4.splat(12582912.0))
  return i32x4.sub(sum, i32x4.splat(0x4b400000))
}

// The same for the values at an address; those from `left` on count as zeros.
function quantiseFrom(block: usize, tileRows: i32, row: i32, kind: i32, x: usize, left: i32): void {
  if (left >= 32) {
    quantiseBlock(
      block,
      tileRows,
      row,
      kind,
      v128.load(x),
      v128.load(x, 16),
      v128.load(x, 32),
      v128.load(x, 48),
      v128.load(x, 64),
      v128.load(x, 80),
      v128.load(x, 96),
      v128.load(x, 112),
    )
  } else {
    quantiseBlock(
      block,
      tileRows,
      row,
      kind,
      partial(x, left),
      partial(x + 16, left - 4),
      partial(x + 32, left - 8),
      partial(x + 48, left - 12),
      partial(x + 64, left - 16),
      partial(x + 80, left - 20),
      partial(x + 96, left - 24),
      partial(x + 112, left - 28),
    )
  }
}

// Blocks [first, last) of a row whose f32 begin at x, which has `columns` of them.
export function quantiseRow(
  values: usize,
  kind: i32,
  rows: i32,
  row: i32,
  x: usize,
  columns: i32,
  first: i32,
  last: i32,
): void {
  const tile = tileOf(rows, row)
  const begin = tileBegin(rows, tile)
  const tileRows = tileBegin(rows, tile + 1) - begin
  const blocks = tileAddress(values, kind, begin, (columns + 31) >> 5)
  const bytes = <usize>tileRows * operandBlockBytes(kind)
  for (let b = first; b < last; b++) {
    const column = b << 5
    quantiseFrom(blocks + <usize>b * bytes, tileRows, row - begin, kind, x + (<usize>column << 2), columns - column)
  }
}

// Rows of f32. Shares are runs of blocks, counted over all rows.
export function quantise(record: usize, part: i32, parts: i32): void {
  const rows = int(record, QUANTISE_ROWS)
  const columns = int(record, QUANTISE_COLUMNS)
  const blocks = (columns + 31) >> 5
  const units = rows * blocks
  const end = shareBegin(units, part + 1, parts)
  for (let unit = shareBegin(units, part, parts); unit < end; ) {
    const row = unit / blocks
    const first = unit - row * blocks
    const last = min(blocks, first + end - unit)
    const x = pointer(record, QUANTISE_SOURCE) + <usize>row * pointer(record, QUANTISE_SOURCE_STRIDE)
    quantiseRow(
      pointer(record, QUANTISE_VALUES),
      int(record, QUANTISE_KIND),
      rows,
      row,
      x,
      columns,
      first,
      last,
    )
    unit += last - first
  }
}
