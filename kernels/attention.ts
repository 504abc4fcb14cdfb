// Attention of rows that share a prefix and differ in their ancestors, in phases: every phase is a job
// that divides over all threads, and begins when the one before is done. Scores are indexed by absolute
// position, so lane = position mod 4 wherever lanes are summed, and a tree node repeats the operations
// of the same token in plain decoding.
import { EXP_TABLE_BYTES } from './exp'
import {
  f32Scores1,
  f32Scores2,
  q8Scores1,
  q8Scores2,
  values1x1,
  values1x4,
  values2x1,
  values2x4,
} from './generated/attention'
import { q8VectorBytes, quantiseVector16, widenVectors } from './kv-vector'
import {
  ATTENTION_ANCESTOR_OFFSETS,
  ATTENTION_ANCESTOR_SLOTS,
  ATTENTION_HEAD_SIZE,
  ATTENTION_HEAD_STRIDE,
  ATTENTION_HEADS,
  ATTENTION_KEYS,
  ATTENTION_KV_HEADS,
  ATTENTION_OUTPUT,
  ATTENTION_OUTPUT_STRIDE,
  ATTENTION_PHASE,
  ATTENTION_PREFIXES,
  ATTENTION_QUERIES,
  ATTENTION_QUERY_STRIDE,
  ATTENTION_ROWS,
  ATTENTION_SCALE,
  ATTENTION_SCALES_OFFSET,
  ATTENTION_SCORE_STRIDE,
  ATTENTION_SCORES,
  ATTENTION_SOFTCAP,
  ATTENTION_VALUES,
  ATTENTION_WINDOW,
  float,
  int,
  PHASE_QUERIES,
  PHASE_SCORES,
  PHASE_VALUES,
  PHASE_WEIGHTS,
  pointer,
  shareBegin,
} from './record'
import { softmax } from './softmax'

// Positions whose keys or values stay in the first-level cache while all queries use them.
const BLOCK: i32 = 64
// Dimensions of a head that are a unit of work in the last phase: a cache line of f32.
const STRIPE: i32 = 16

export function attention(record: usize, part: i32, parts: i32): void {
  switch (int(record, ATTENTION_PHASE)) {
    case PHASE_QUERIES:
      return quantiseQueries(record, part, parts)
    case PHASE_SCORES:
      return scorePrefix(record, part, parts)
    case PHASE_WEIGHTS:
      return weighRows(record, part, parts)
    case PHASE_VALUES:
      return addValues(record, part, parts)
    default:
      unreachable()
  }
}

@inline
function prefixOf(record: usize, row: i32): i32 {
  return load<i32>(pointer(record, ATTENTION_PREFIXES) + (<usize>row << 2))
}

// Address of the row's ancestor slots.
@inline
function ancestorsOf(record: usize, row: i32): usize {
  const first = load<i32>(pointer(record, ATTENTION_ANCESTOR_OFFSETS) + (<usize>row << 2))
  return pointer(record, ATTENTION_ANCESTOR_SLOTS) + (<usize>first << 2)
}

// Position behind the row's own.
@inline
function visibleEnd(record: usize, row: i32): i32 {
  const at = pointer(record, ATTENTION_ANCESTOR_OFFSETS) + (<usize>row << 2)
  return prefixOf(record, row) + load<i32>(at, 4) - load<i32>(at)
}

// First position that the row sees.
@inline
function visibleBegin(record: usize, row: i32): i32 {
  const window = int(record, ATTENTION_WINDOW)
  return window > 0 ? max(0, visibleEnd(record, row) - window) : 0
}

@inline
function longestPrefix(record: usize): i32 {
  let longest = 0
  for (let row = 0; row < int(record, ATTENTION_ROWS); row++) longest = max(longest, prefixOf(record, row))
  return longest
}

// The start of the vector of four positions that holds the first one that any row sees.
@inline
function earliestPosition(record: usize): i32 {
  let earliest = i32.MAX_VALUE
  for (let row = 0; row < int(record, ATTENTION_ROWS); row++) earliest = min(earliest, visibleBegin(record, row))
  return earliest & ~3
}

@inline
function isQ8(record: usize): bool {
  return int(record, ATTENTION_SCALES_OFFSET) != 0
}

// Bytes of one key or value in the cache.
@inline
function vectorBytes(record: usize): usize {
  const size = int(record, ATTENTION_HEAD_SIZE)
  return isQ8(record) ? q8VectorBytes(size) : <usize>size << 2
}

@inline
function groupOf(record: usize): i32 {
  return int(record, ATTENTION_HEADS) / int(record, ATTENTION_KV_HEADS)
}

@inline
function headBytes(record: usize): usize {
  return <usize>int(record, ATTENTION_HEAD_SIZE) << 2
}

@inline
function outputOf(record: usize, row: i32, head: i32): usize {
  const start = pointer(record, ATTENTION_OUTPUT) + <usize>row * pointer(record, ATTENTION_OUTPUT_STRIDE)
  return start + <usize>head * headBytes(record)
}

@inline
function f32QueryOf(record: usize, row: i32, head: i32): usize {
  const start = pointer(record, ATTENTION_QUERIES) + <usize>row * pointer(record, ATTENTION_QUERY_STRIDE)
  return start + <usize>head * headBytes(record)
}

// Where scores read a query: quantised ones lie in the output, which nothing else needs before the last phase.
@inline
function queryOf(record: usize, row: i32, head: i32): usize {
  return isQ8(record) ? outputOf(record, row, head) : f32QueryOf(record, row, head)
}

// What a dot product with the query is multiplied by.
@inline
function factorOf(record: usize, query: usize): f32 {
  return isQ8(record) ? load<f32>(query + 2 * vectorBytes(record)) : float(record, ATTENTION_SCALE)
}

// Scores by position. Behind them in the stride: the table of exp, and 16 bytes for the sum of the weights.
@inline
function scoresOf(record: usize, row: i32, head: i32): usize {
  const index = row * int(record, ATTENTION_HEADS) + head
  return pointer(record, ATTENTION_SCORES) + <usize>index * pointer(record, ATTENTION_SCORE_STRIDE)
}

@inline
function sumOf(record: usize, row: i32, head: i32): usize {
  return scoresOf(record, row, head) + pointer(record, ATTENTION_SCORE_STRIDE) - 16
}

@inline
function keysOf(record: usize, kvHead: i32): usize {
  return pointer(record, ATTENTION_KEYS) + <usize>kvHead * pointer(record, ATTENTION_HEAD_STRIDE)
}

@inline
function valuesOf(record: usize, kvHead: i32): usize {
  return pointer(record, ATTENTION_VALUES) + <usize>kvHead * pointer(record, ATTENTION_HEAD_STRIDE)
}

// Phase 0, q8 only: the queries as integers of 16 bits with one factor. Shares are runs of (row, head).
function quantiseQueries(record: usize, part: i32, parts: i32): void {
  const heads = int(record, ATTENTION_HEADS)
  const units = int(record, ATTENTION_ROWS) * heads
  const end = shareBegin(units, part + 1, parts)
  for (let unit = shareBegin(units, part, parts); unit < end; unit++) {
    const row = unit / heads
    const head = unit % heads
    const target = outputOf(record, row, head)
    const size = int(record, ATTENTION_HEAD_SIZE)
    const scale = quantiseVector16(f32QueryOf(record, row, head), size, target)
    store<f32>(target + 2 * vectorBytes(record), scale * float(record, ATTENTION_SCALE))
  }
}

// Brings a run of bytes into the cache, line by line in their order: the tiles read several vectors side by side,
// which the processor does not foresee, and would wait for nearly every line. Later blocks are touched one by one
// while the block before is in use: turns of the tiles touch as many bytes of the next block as they use of this
// one, and pairs of queries share that.
@inline
function touch(address: usize, bytes: usize): void {
  const end = address + bytes
  for (; address < end; address += 64) load<u8>(address)
}

// Phase 1: scores of the prefix. Shares are runs of (KV head, block of positions), so that every key is
// read by one thread, once for all rows and heads. Where rows of a pair see different positions, both get
// the scores of all of them: phase 2 overwrites or masks those that a row does not see.
function scorePrefix(record: usize, part: i32, parts: i32): void {
  const group = groupOf(record)
  const queries = int(record, ATTENTION_ROWS) * group
  const pairs = <usize>((queries + 1) >> 1)
  const first = earliestPosition(record)
  const longest = longestPrefix(record)
  const blocks = (max(0, longest - first) + BLOCK - 1) / BLOCK
  const units = blocks * int(record, ATTENTION_KV_HEADS)
  const begin = shareBegin(units, part, parts)
  const end = shareBegin(units, part + 1, parts)
  const bytes = vectorBytes(record)
  const usedPerTurn: usize = isQ8(record) ? 32 : 64
  for (let unit = begin; unit < end; unit++) {
    const kvHead = unit / blocks
    const from = first + (unit - kvHead * blocks) * BLOCK
    const keys = keysOf(record, kvHead) + <usize>from * bytes
    // Few queries are done before it pays.
    if (unit == begin && queries >= 4) touch(keys, <usize>(min(from + BLOCK, longest) - from) * bytes)
    let ahead = keys
    let aheadStep: usize = 0
    const nextHead = from + BLOCK >= longest
    const next = nextHead ? first : from + BLOCK
    // Whole blocks only, so that nothing behind the cache is touched.
    if (unit + 1 < end && next + BLOCK <= longest) {
      ahead = keysOf(record, nextHead ? kvHead + 1 : kvHead) + <usize>next * bytes
      aheadStep = usedPerTurn / pairs
    }
    const aheadBytes = aheadStep * ((<usize>BLOCK * bytes) / usedPerTurn)
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
      const end0 = min(from + BLOCK, prefixOf(record, row0))
      if (i + 1 == queries) {
        if (from + BLOCK > visibleBegin(record, row0)) {
          scoreOne(record, kvHead, row0, head0, from, from, end0 - from, ahead, aheadStep)
        }
        continue
      }
      const row1 = row
      const head1 = head
      if (++head == headEnd) {
        head -= group
        row++
      }
      if (from + BLOCK <= min(visibleBegin(record, row0), visibleBegin(record, row1))) continue
      const count = max(end0, min(from + BLOCK, prefixOf(record, row1))) - from
      scoreTwo(record, kvHead, row0, head0, row1, head1, from, count, ahead, aheadStep)
      ahead += aheadBytes
    }
  }
}

@inline
function keyScalesOf(record: usize, keys: usize, slot: i32): usize {
  return keys + pointer(record, ATTENTION_SCALES_OFFSET) + (<usize>slot << 2)
}

// Scores of one head of a row and the neighbouring keys from `slot` on, which have the positions from `position` on.
function scoreOne(
  record: usize,
  kvHead: i32,
  row: i32,
  head: i32,
  slot: i32,
  position: i32,
  count: i32,
  ahead: usize,
  aheadStep: usize,
): void {
  const keys = keysOf(record, kvHead)
  const bytes = vectorBytes(record)
  const key = keys + <usize>slot * bytes
  const query = queryOf(record, row, head)
  const factor = factorOf(record, query)
  const target = scoresOf(record, row, head) + (<usize>position << 2)
  if (isQ8(record)) {
    const scales = keyScalesOf(record, keys, slot)
    q8Scores1(query, factor, target, key, bytes, scales, count, ahead, aheadStep)
  } else {
    f32Scores1(query, factor, target, key, bytes, count, ahead, aheadStep)
  }
}

// The same for two, of the prefix, where slot = position.
function scoreTwo(
  record: usize,
  kvHead: i32,
  row0: i32,
  head0: i32,
  row1: i32,
  head1: i32,
  slot: i32,
  count: i32,
  ahead: usize,
  aheadStep: usize,
): void {
  const keys = keysOf(record, kvHead)
  const bytes = vectorBytes(record)
  const key = keys + <usize>slot * bytes
  const at = <usize>slot << 2
  const query0 = queryOf(record, row0, head0)
  const query1 = queryOf(record, row1, head1)
  const factor0 = factorOf(record, query0)
  const factor1 = factorOf(record, query1)
  const target0 = scoresOf(record, row0, head0) + at
  const target1 = scoresOf(record, row1, head1) + at
  if (isQ8(record)) {
    const scales = keyScalesOf(record, keys, slot)
    q8Scores2(query0, factor0, target0, query1, factor1, target1, key, bytes, scales, count, ahead, aheadStep)
  } else {
    f32Scores2(query0, factor0, target0, query1, factor1, target1, key, bytes, count, ahead, aheadStep)
  }
}

// Neighbouring slots among the ancestors from `index` on.
@inline
function runLength(ancestors: usize, index: i32, count: i32): i32 {
  const slot = load<i32>(ancestors + (<usize>index << 2))
  let length = 1
  while (index + length < count && load<i32>(ancestors + (<usize>(index + length) << 2)) == slot + length) length++
  return length
}

// Phase 2: scores of the ancestors, softmax, and for q8 the values' scales. Shares are runs of (row, head).
function weighRows(record: usize, part: i32, parts: i32): void {
  const heads = int(record, ATTENTION_HEADS)
  const group = groupOf(record)
  const end = shareBegin(int(record, ATTENTION_ROWS) * heads, part + 1, parts)
  for (let unit = shareBegin(int(record, ATTENTION_ROWS) * heads, part, parts); unit < end; unit++) {
    const row = unit / heads
    const head = unit % heads
    const kvHead = head / group
    const scores = scoresOf(record, row, head)
    const prefix = prefixOf(record, row)
    const begin = visibleBegin(record, row)
    const visible = visibleEnd(record, row)
    const ancestors = ancestorsOf(record, row)
    const count = visible - prefix
    for (let i = max(0, begin - prefix); i < count; ) {
      const run = runLength(ancestors, i, count)
      scoreOne(record, kvHead, row, head, load<i32>(ancestors + (<usize>i << 2)), prefix + i, run, scores, 0)
      i += run
    }
    const table = scores + pointer(record, ATTENTION_SCORE_STRIDE) - 16 - EXP_TABLE_BYTES
    const sum = softmax(scores, begin, visible, float(record, ATTENTION_SOFTCAP), table)
    store<f32>(sumOf(record, row, head), sum)
    if (isQ8(record)) {
      const scales = valuesOf(record, kvHead) + pointer(record, ATTENTION_SCALES_OFFSET)
      scaleWeights(scores, scales, begin, min(prefix, visible))
      for (let i = max(0, begin - prefix); i < count; i++) {
        const scale = load<f32>(scales + (<usize>load<i32>(ancestors + (<usize>i << 2)) << 2))
        const at = scores + (<usize>(prefix + i) << 2)
        store<f32>(at, load<f32>(at) * scale)
      }
    }
  }
}

@inline
function scaleWeights(weights: usize, scales: usize, begin: i32, end: i32): void {
  let position = begin
  for (; position + 4 <= end; position += 4) {
    const at = <usize>position << 2
    v128.store(weights + at, f32x4.mul(v128.load(weights + at), v128.load(scales + at)))
  }
  for (; position < end; position++) {
    const at = <usize>position << 2
    store<f32>(weights + at, load<f32>(weights + at) * load<f32>(scales + at))
  }
}

// Phase 3: weighted values, and the division by the sum of the weights. Shares are runs of (KV head, stripe of
// dimensions), so that every value is read by one thread, once for all rows and heads.
function addValues(record: usize, part: i32, parts: i32): void {
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
    let ahead = outputOf(record, 0, head)
    let aheadStep: usize = 0
    if (wholeHead && from + 2 * BLOCK <= longest) {
      ahead = valuesOf(record, kvHead) + <usize>(from + BLOCK) * vectorBytes(record)
      aheadStep = usedPerTurn / pairs
    }
    for (let d = dimension; d < endDimension; d += STRIPE) {
      const size = min(STRIPE, endDimension - d)
      addBlock(record, kvHead, d, size, from, valuesAt(record, kvHead, d, size, from, count, widened), ahead, aheadStep)
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
