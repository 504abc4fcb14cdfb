// y[M x N] = x[M x K] * W^T (+ bias) (+ y), W in groups of 8 outputs. Every output element is one
// chain of operations over the inner dimension, the same for every M, so tiles can be cut anyhow.
import {
  f16_1x1,
  f16_1x2,
  f16_2x1,
  f16_2x2,
  f16_3x1,
  f16_4x1,
  f32_1x1,
  f32_1x2,
  f32_2x1,
  f32_2x2,
  f32_3x1,
  f32_4x1,
  q4_1x1,
  q4_1x4,
  q4_2x1,
  q4_2x2,
  q4_3x1,
  q4_4x1,
  q4_5x1,
  q4a_1x1,
  q4a_1x4,
  q4a_2x1,
  q4a_2x2,
  q4a_3x1,
  q4a_4x1,
  q4a_5x1,
  q8_1x1,
  q8_1x4,
  q8_2x1,
  q8_2x2,
  q8_3x1,
  q8_4x1,
  q8_5x1,
} from './generated/gemm'
import { tileAddress, tileBegin, tileCount } from './operand'
import {
  GEMM_ACCUMULATE,
  GEMM_BIAS,
  GEMM_COLUMNS,
  GEMM_KIND,
  GEMM_OUTPUTS,
  GEMM_ROWS,
  GEMM_SIDE_BY_SIDE,
  GEMM_WEIGHTS,
  GEMM_X,
  GEMM_X_STRIDE,
  GEMM_Y,
  GEMM_Y_STRIDE,
  int,
  KIND_F16,
  KIND_F32,
  KIND_Q4A,
  KIND_Q8,
  kindBlockBytes,
  pointer,
  shareBegin,
} from './record'

// Groups whose weights pass through the cache together, while all rows use them.
const GROUPS_AT_ONCE: i32 = 4

export function gemm(record: usize, part: i32, parts: i32): void {
  // Shares begin at even groups: two groups fill a cache line of y, which two threads must not share.
  const pairs = ((int(record, GEMM_OUTPUTS) >> 3) + 1) >> 1
  const groups = int(record, GEMM_OUTPUTS) >> 3
  const begin = shareBegin(pairs, part, parts) << 1
  const end = min(shareBegin(pairs, part + 1, parts) << 1, groups)
  const kind = int(record, GEMM_KIND)
  for (let group = begin; group < end; group += GROUPS_AT_ONCE) {
    const count = min(GROUPS_AT_ONCE, end - group)
    if (kind == KIND_F32 || kind == KIND_F16) floatGroups(record, group, count)
    else intGroups(record, group, count)
  }
}

function floatGroups(record: usize, group: i32, count: i32): void {
  const rows = int(record, GEMM_ROWS)
  const columns = int(record, GEMM_COLUMNS)
  const xStride = pointer(record, GEMM_X_STRIDE)
  const yStride = pointer(record, GEMM_Y_STRIDE)
  const accumulate = int(record, GEMM_ACCUMULATE) != 0
  const isF16 = int(record, GEMM_KIND) == KIND_F16
  const sideBySide = int(record, GEMM_SIDE_BY_SIDE) != 0
  const bytes = <usize>columns * (isF16 ? 16 : 32)
  const w = pointer(record, GEMM_WEIGHTS) + <usize>group * bytes
  let x = pointer(record, GEMM_X)
  let y = pointer(record, GEMM_Y) + (<usize>group << 5)
  let bias = pointer(record, GEMM_BIAS)
  if (bias != 0) bias += <usize>group << 5
  const step: usize = bias == 0 ? 0 : 32
  // As even as they can be: a last tile of one row costs nearly as much as one of two.
  for (let row = 0, tiles = (rows + 3) >> 2; row < rows; tiles--) {
    const taken = (rows - row + tiles - 1) / tiles
    for (let g = 0; g < count; ) {
      const wg = w + <usize>g * bytes
      const yg = y + (<usize>g << 5)
      const bg = bias + <usize>g * step
      const groups = sideBySide && taken <= 2 && g + 2 <= count ? 2 : 1
      if (isF16) {
        if (taken == 4) f16_4x1(x, xStride, wg, columns, yg, yStride, bg, accumulate)
        else if (taken == 3) f16_3x1(x, xStride, wg, columns, yg, yStride, bg, accumulate)
        else if (taken == 2 && groups == 2) f16_2x2(x, xStride, wg, columns, yg, yStride, bg, accumulate)
        else if (taken == 2) f16_2x1(x, xStride, wg, columns, yg, yStride, bg, accumulate)
        else if (groups == 2) f16_1x2(x, xStride, wg, columns, yg, yStride, bg, accumulate)
        else f16_1x1(x, xStride, wg, columns, yg, yStride, bg, accumulate)
      } else {
        if (taken == 4) f32_4x1(x, xStride, wg, columns, yg, yStride, bg, accumulate)
        else if (taken == 3) f32_3x1(x, xStride, wg, columns, yg, yStride, bg, accumulate)
        else if (taken == 2 && groups == 2) f32_2x2(x, xStride, wg, columns, yg, yStride, bg, accumulate)
        else if (taken == 2) f32_2x1(x, xStride, wg, columns, yg, yStride, bg, accumulate)
        else if (groups == 2) f32_1x2(x, xStride, wg, columns, yg, yStride, bg, accumulate)
        else f32_1x1(x, xStride, wg, columns, yg, yStride, bg, accumulate)
      }
      g += groups
    }
    row += taken
    x += <usize>taken * xStride
    y += <usize>taken * yStride
  }
}

function intGroups(record: usize, group: i32, count: i32): void {
  const rows = int(record, GEMM_ROWS)
  const blocks = int(record, GEMM_COLUMNS) >> 5
  const yStride = pointer(record, GEMM_Y_STRIDE)
  const accumulate = int(record, GEMM_ACCUMULATE) != 0
  const kind = int(record, GEMM_KIND)
  const bytes = <usize>blocks * kindBlockBytes(kind)
  const biasBase = pointer(record, GEMM_BIAS)
  const most = int(record, GEMM_SIDE_BY_SIDE) == 0 || rows > 2 ? 1 : rows == 1 ? 4 : 2
  const tiles = tileCount(rows)
  const end = group + count
  for (let g = group; g < end; ) {
    const w = pointer(record, GEMM_WEIGHTS) + <usize>g * bytes
    const groups = g + most <= end ? most : 1
    const bias = biasBase == 0 ? <usize>0 : biasBase + (<usize>g << 5)
    const column = pointer(record, GEMM_Y) + (<usize>g << 5)
    for (let tile = 0; tile < tiles; tile++) {
      const begin = tileBegin(rows, tile)
      const taken = tileBegin(rows, tile + 1) - begin
      const x = tileAddress(pointer(record, GEMM_X), kind, begin, blocks)
      const y = column + <usize>begin * yStride
      if (kind == KIND_Q8) {
        if (taken == 4) q8_4x1(x, w, bytes, y, yStride, bias, accumulate)
        else if (taken == 5) q8_5x1(x, w, bytes, y, yStride, bias, accumulate)
        else if (taken == 3) q8_3x1(x, w, bytes, y, yStride, bias, accumulate)
        else if (taken == 2 && groups == 2) q8_2x2(x, w, bytes, y, yStride, bias, accumulate)
        else if (taken == 2) q8_2x1(x, w, bytes, y, yStride, bias, accumulate)
        else if (groups == 4) q8_1x4(x, w, bytes, y, yStride, bias, accumulate)
        else q8_1x1(x, w, bytes, y, yStride, bias, accumulate)
      } else if (kind == KIND_Q4A) {
        if (taken == 4) q4a_4x1(x, w, bytes, y, yStride, bias, accumulate)
        else if (taken == 5) q4a_5x1(x, w, bytes, y, yStride, bias, accumulate)
        else if (taken == 3) q4a_3x1(x, w, bytes, y, yStride, bias, accumulate)
        else if (taken == 2 && groups == 2) q4a_2x2(x, w, bytes, y, yStride, bias, accumulate)
        else if (taken == 2) q4a_2x1(x, w, bytes, y, yStride, bias, accumulate)
        else if (groups == 4) q4a_1x4(x, w, bytes, y, yStride, bias, accumulate)
        else q4a_1x1(x, w, bytes, y, yStride, bias, accumulate)
      } else {
        if (taken == 4) q4_4x1(x, w, bytes, y, yStride, bias, accumulate)
        else if (taken == 5) q4_5x1(x, w, bytes, y, yStride, bias, accumulate)
        else if (taken == 3) q4_3x1(x, w, bytes, y, yStride, bias, accumulate)
        else if (taken == 2 && groups == 2) q4_2x2(x, w, bytes, y, yStride, bias, accumulate)
        else if (taken == 2) q4_2x1(x, w, bytes, y, yStride, bias, accumulate)
        else if (groups == 4) q4_1x4(x, w, bytes, y, yStride, bias, accumulate)
        else q4_1x1(x, w, bytes, y, yStride, bias, accumulate)
      }
    }
    g += groups
  }
}
