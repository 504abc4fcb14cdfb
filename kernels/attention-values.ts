// The last phase of attention: weighted values.
import { BLOCK, STRIPE, prefixOf, ancestorsOf, visibleEnd, visibleBegin, longestPrefix, earliestPosition, isQ8, vectorBytes, groupOf, outputOf, scoresOf, sumOf, valuesOf, runLength } from './attention-job'
import { values1x1, values1x4, values2x1, values2x4 } from './generated/attention'
import { widenVectors } from './kv-vector'
import { ATTENTION_HEAD_SIZE, ATTENTION_HEADS, ATTENTION_KV_HEADS, ATTENTION_ROWS, ATTENTION_SCORE_STRIDE, ATTENTION_SCORES, int, pointer, shareBegin } from './record'

// Phase 3: weighted values, and the division by the sum of the weights. Shares are runs of (KV head, stripe of
// dimensions), so that every value is read by one thread, once for all rows and heads.
export function addValues(record: usize, part: i32, parts: i32): void {
  const size = int(record, ATTENTION_HEAD_SIZE)
  const stripes = (size + STRIPE - 1) / STRIPE
  const units = stripes * int(record, ATTENTION_KV_HEADS)
  const end = shareBegin(units, part + 1, parts)
  for (let unit = shareBegin(units, part, parts); unit < end; ) {
    const stripe = unit % stripes
    const count = min(stripes - stripe, end - unit)
    addStripes(record, unit / stripes, stripe * STRIPE, min(size, (stripe + count) * STRIPE), widenedOf(record, part))
    unit += count
  }
}

// Where a share widens values of a q8 cache: a stripe of a block of positions, behind all scores.
@inline
function widenedOf(record: usize, part: i32): usize {
  const queries = int(record, ATTENTION_ROWS) * int(record, ATTENTION_HEADS)
  const behind = <usize>queries * pointer(record, ATTENTION_SCORE_STRIDE)
  return pointer(record, ATTENTION_SCORES) + behind + <usize>part * <usize>(BLOCK * STRIPE * 4)
}

// Dimensions [dimension, endDimension) of all rows and heads of one KV head, in stripes of at most STRIPE.
function addStripes(record: usize, kvHead: i32, dimension: i32, endDimension: i32, widened: usize): void {
  const rows = int(record, ATTENTION_ROWS)
  const group = groupOf(record)
  const head = kvHead * group
  const longest = longestPrefix(record)
  const at = <usize>dimension << 2
  const bytes = <usize>(endDimension - dimension) << 2
  const pairs = <usize>((rows * group + 1) >> 1)
  // Parts of values do not lie side by side, and touching them helps little.
  const wholeHead = endDimension - dimension == int(record, ATTENTION_HEAD_SIZE)
  const usedPerTurn: usize = isQ8(record) ? STRIPE : 4 * STRIPE
  for (let row = 0; row < rows; row++) {
    for (let h = 0; h < group; h++) memory.fill(outputOf(record, row, head + h) + at, 0, bytes)
  }
  for (let from = earliestPosition(record); from < longest; from += BLOCK) {
    const count = min(BLOCK, longest - from)
    let ahead: usize = 0
    let aheadStep: usize = 0
    if (wholeHead && from + 2 * BLOCK <= longest) {
      ahead = valuesOf(record, kvHead) + <usize>(from + BLOCK) * vectorBytes(record)
      aheadStep = usedPerTurn / pairs
    }
    for (let d = dimension; d < endDimension; d += STRIPE) {
      const size = min(STRIPE, endDimension - d)
      const value = valuesAt(record, kvHead, d, size, from, count, widened)
      // Where there is nothing to touch ahead, turns touch what they read anyway, and nobody writes.
      addBlock(record, kvHead, d, size, from, value, aheadStep == 0 ? value : ahead, aheadStep)
      ahead += <usize>BLOCK * aheadStep * pairs
    }
  }
  for (let row = 0; row < rows; row++) {
    const prefix = prefixOf(record, row)
    const ancestors = ancestorsOf(record, row)
    const count = visibleEnd(record, row) - prefix
    for (let i = max(0, visibleBegin(record, row) - prefix); i < count; ) {
      const run = min(BLOCK, runLength(ancestors, i, count))
      const slot = load<i32>(ancestors + (<usize>i << 2))
      for (let d = dimension; d < endDimension; d += STRIPE) {
        const size = min(STRIPE, endDimension - d)
        const value = valuesAt(record, kvHead, d, size, slot, run, widened)
        for (let h = 0; h < group; h++) valuesOne(record, row, head + h, d, size, prefix + i, run, value, value, 0)
      }
      i += run
    }
    for (let h = 0; h < group; h++) {
      divide(outputOf(record, row, head + h) + at, load<f32>(sumOf(record, row, head + h)), bytes)
    }
  }
}

// Address of a stripe of `count` neighbouring values as f32, `valueStride` apart.
@inline
function valuesAt(
  record: usize,
  kvHead: i32,
  dimension: i32,
  size: i32,
  slot: i32,
  count: i32,
  widened: usize,
): usize {
  const bytes = vectorBytes(record)
  const vector = valuesOf(record, kvHead) + <usize>slot * bytes
  if (!isQ8(record)) return vector + (<usize>dimension << 2)
  widenVectors(vector + <usize>dimension, bytes, size, widened, count)
  return widened
}

@inline
function valueStride(record: usize, size: i32): usize {
  return isQ8(record) ? <usize>size << 2 : vectorBytes(record)
}

// One stripe of the prefix's positions [from, from + BLOCK) for all rows and heads of one KV head; `value`: the
// first position's.
function addBlock(
  record: usize,
  kvHead: i32,
  dimension: i32,
  size: i32,
  from: i32,
  value: usize,
  ahead: usize,
  aheadStep: usize,
): void {
  const group = groupOf(record)
  const queries = int(record, ATTENTION_ROWS) * group
  const stride = valueStride(record, size)
  let row = 0
  let head = kvHead * group
  const headEnd = head + group
  for (let i = 0; i < queries; i += 2) {
    const row0 = row
    const head0 = head
    if (++head == headEnd) {
      head -= group
      row++
    }
    const begin0 = max(from, visibleBegin(record, row0))
    const end0 = min(from + BLOCK, prefixOf(record, row0))
    if (i + 1 == queries) {
      addRun(record, row0, head0, dimension, size, begin0, end0, from, value, ahead, aheadStep)
      continue
    }
    const row1 = row
    const head1 = head
    if (++head == headEnd) {
      head -= group
      row++
    }
    const begin1 = max(from, visibleBegin(record, row1))
    const end1 = min(from + BLOCK, prefixOf(record, row1))
    // Positions are added in their order: what one row sees alone lies before or behind what both see.
    const begin = max(begin0, begin1)
    const end = max(begin, min(end0, end1))
    addRun(record, row0, head0, dimension, size, begin0, min(begin, end0), from, value, ahead, aheadStep)
    addRun(record, row1, head1, dimension, size, begin1, min(begin, end1), from, value, ahead, aheadStep)
    if (begin < end) {
      const first = value + <usize>(begin - from) * stride
      valuesTwo(record, row0, head0, row1, head1, dimension, size, begin, end - begin, first, ahead, aheadStep)
    }
    addRun(record, row0, head0, dimension, size, end, end0, from, value, ahead, aheadStep)
    addRun(record, row1, head1, dimension, size, end, end1, from, value, ahead, aheadStep)
    ahead += <usize>BLOCK * aheadStep
  }
}

@inline
function addRun(
  record: usize,
  row: i32,
  head: i32,
  dimension: i32,
  size: i32,
  begin: i32,
  end: i32,
  from: i32,
  value: usize,
  ahead: usize,
  aheadStep: usize,
): void {
  if (begin >= end) return
  const first = value + <usize>(begin - from) * valueStride(record, size)
  valuesOne(record, row, head, dimension, size, begin, end - begin, first, ahead, aheadStep)
}

// Adds the `count` values from `value` on, which have the positions from `position` on.
function valuesOne(
  record: usize,
  row: i32,
  head: i32,
  dimension: i32,
  size: i32,
  position: i32,
  count: i32,
  value: usize,
  ahead: usize,
  aheadStep: usize,
): void {
  const stride = valueStride(record, size)
  const weights = scoresOf(record, row, head) + (<usize>position << 2)
  const output = outputOf(record, row, head) + (<usize>dimension << 2)
  if (size == STRIPE) {
    values1x4(output, weights, value, stride, count, ahead, aheadStep)
  } else {
    const bytes = <usize>size << 2
    for (let at: usize = 0; at < bytes; at += 16) values1x1(output + at, weights, value + at, stride, count)
  }
}

// The same for two.
function valuesTwo(
  record: usize,
  row0: i32,
  head0: i32,
  row1: i32,
  head1: i32,
  dimension: i32,
  size: i32,
  position: i32,
  count: i32,
  value: usize,
  ahead: usize,
  aheadStep: usize,
): void {
  const stride = valueStride(record, size)
  const weights0 = scoresOf(record, row0, head0) + (<usize>position << 2)
  const weights1 = scoresOf(record, row1, head1) + (<usize>position << 2)
  const output0 = outputOf(record, row0, head0) + (<usize>dimension << 2)
  const output1 = outputOf(record, row1, head1) + (<usize>dimension << 2)
  if (size == STRIPE) {
    values2x4(output0, weights0, output1, weights1, value, stride, count, ahead, aheadStep)
  } else {
    const bytes = <usize>size << 2
    for (let at: usize = 0; at < bytes; at += 16) {
      values2x1(output0 + at, weights0, output1 + at, weights1, value + at, stride, count)
    }
  }
}

@inline
function divide(output: usize, divisor: f32, bytes: usize): void {
  const d = f32x4.splat(divisor)
  for (let i: usize = 0; i < bytes; i += 16) v128.store(output + i, f32x4.div(v128.load(output + i), d))
}
