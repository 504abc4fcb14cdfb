// Activations as integers, the left side of q8 and q4 products.
import { max4, partial } from './lanes'
import {
  int,
  pointer,
  QUANTISE_COLUMNS,
  QUANTISE_ROWS,
  QUANTISE_SCALES,
  QUANTISE_SOURCE,
  QUANTISE_SOURCE_STRIDE,
  QUANTISE_SUMS,
  QUANTISE_VALUES,
  shareBegin,
} from './record'

// Stores 32 values as block `block` of a quantised matrix, counted over all rows: n = nearest(x * 127/amax),
// scale = amax/127, and the sum of the n. The layout of the integers is known here and in the products only.
@inline
export function quantiseBlock(
  values: usize,
  scales: usize,
  sums: usize,
  block: i32,
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
  const at = values + (<usize>block << 5)
  v128.store(at, i8x16.narrow_i16x8_s(n0, n1))
  v128.store(at, i8x16.narrow_i16x8_s(n2, n3), 16)
  const sum = i32x4.extadd_pairwise_i16x8_s(i16x8.add(i16x8.add(n0, n1), i16x8.add(n2, n3)))
  const total =
    i32x4.extract_lane(sum, 0) + i32x4.extract_lane(sum, 1) + i32x4.extract_lane(sum, 2) + i32x4.extract_lane(sum, 3)
  store<f32>(scales + (<usize>block << 2), amax / 127)
  store<i32>(sums + (<usize>block << 2), total)
}

// The integer nearest to x * inverse, ties to even, in the low bits of a sum with 1.5 * 2^23. (Converting by
// trunc_sat takes twice as long.)
@inline
function nearest4(x: v128, inverse: v128): v128 {
  const sum = f32x4.add(f32x4.mul(x, inverse), f32x4.splat(12582912.0))
  return i32x4.sub(sum, i32x4.splat(0x4b400000))
}

// The same for the values at an address; those from `left` on count as zeros.
export function quantiseFrom(values: usize, scales: usize, sums: usize, block: i32, x: usize, left: i32): void {
  if (left >= 32) {
    quantiseBlock(
      values,
      scales,
      sums,
      block,
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
      values,
      scales,
      sums,
      block,
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

// Rows of f32. Shares are runs of blocks, counted over all rows.
export function quantise(record: usize, part: i32, parts: i32): void {
  const columns = int(record, QUANTISE_COLUMNS)
  const blocks = (columns + 31) >> 5
  const values = pointer(record, QUANTISE_VALUES)
  const scales = pointer(record, QUANTISE_SCALES)
  const sums = pointer(record, QUANTISE_SUMS)
  const units = int(record, QUANTISE_ROWS) * blocks
  const end = shareBegin(units, part + 1, parts)
  for (let unit = shareBegin(units, part, parts); unit < end; unit++) {
    const row = unit / blocks
    const column = (unit - row * blocks) << 5
    const x = pointer(record, QUANTISE_SOURCE) + <usize>row * pointer(record, QUANTISE_SOURCE_STRIDE)
    quantiseFrom(values, scales, sums, unit, x + (<usize>column << 2), columns - column)
  }
}
