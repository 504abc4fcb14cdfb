// Attention of rows that share a prefix and differ in their ancestors. Scores are indexed by absolute
// position, so lane = position mod 4 wherever lanes are summed, and a tree node repeats the
// operations of the same token in plain decoding.
import { addValue, addValues, addValues2, divide, dot1, dot4, dot4x2 } from './attention-tiles'
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
  ATTENTION_PREFIXES,
  ATTENTION_QUERIES,
  ATTENTION_QUERY_STRIDE,
  ATTENTION_ROWS,
  ATTENTION_SCALE,
  ATTENTION_SCRATCH,
  ATTENTION_SCRATCH_BYTES,
  ATTENTION_SOFTCAP,
  ATTENTION_VALUES,
  ATTENTION_WINDOW,
  float,
  int,
  pointer,
  shareBegin,
} from './record'
import { softmax } from './softmax'

// Keys whose vectors stay in the first-level cache while all rows use them.
const KEY_BLOCK: i32 = 32

export function attention(record: usize, part: i32, parts: i32): void {
  const rows = int(record, ATTENTION_ROWS)
  const heads = int(record, ATTENTION_HEADS)
  const group = heads / int(record, ATTENTION_KV_HEADS)
  let most = 0
  for (let row = 0; row < rows; row++) most = max(most, visibleEnd(record, row))
  // Whole vectors of scores, and one place behind them for their sum.
  const scoreBytes = <usize>(((most + 3) & ~3) + 4) * 4
  const scratchBytes = pointer(record, ATTENTION_SCRATCH_BYTES)
  const scratch = pointer(record, ATTENTION_SCRATCH) + <usize>part * scratchBytes
  const rowsAtOnce = max(1, min(rows, <i32>(scratchBytes / (scoreBytes * <usize>group))))
  const blocks = (rows + rowsAtOnce - 1) / rowsAtOnce
  // Shares are runs of (row block, query head); a run is cut where the KV head changes.
  const end = shareBegin(heads * blocks, part + 1, parts)
  for (let unit = shareBegin(heads * blocks, part, parts); unit < end; ) {
    const head = unit % heads
    const count = min(group - (head % group), end - unit)
    const firstRow = (unit / heads) * rowsAtOnce
    attendBlock(record, head, count, head / group, firstRow, min(rows, firstRow + rowsAtOnce), scratch, scoreBytes)
    unit += count
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

// Rows [firstRow, endRow) of `count` query heads from `head` on, which share a KV head.
function attendBlock(
  record: usize,
  head: i32,
  count: i32,
  kvHead: i32,
  firstRow: i32,
  endRow: i32,
  scratch: usize,
  scoreBytes: usize,
): void {
  const headBytes = <usize>int(record, ATTENTION_HEAD_SIZE) << 2
  const cache = <usize>kvHead * pointer(record, ATTENTION_HEAD_STRIDE)
  const keys = pointer(record, ATTENTION_KEYS) + cache
  const values = pointer(record, ATTENTION_VALUES) + cache
  const queryStride = pointer(record, ATTENTION_QUERY_STRIDE)
  const outputStride = pointer(record, ATTENTION_OUTPUT_STRIDE)
  const queries = pointer(record, ATTENTION_QUERIES) + <usize>head * headBytes
  const output = pointer(record, ATTENTION_OUTPUT) + <usize>head * headBytes
  const rowScores = <usize>count * scoreBytes

  let longest = 0
  let earliest = i32.MAX_VALUE
  for (let row = firstRow; row < endRow; row++) {
    longest = max(longest, prefixOf(record, row))
    earliest = min(earliest, visibleBegin(record, row))
  }

  // Scores of the prefix, a block of keys at a time for all rows and heads.
  for (let block = earliest; block < longest; block += KEY_BLOCK) {
    for (let row = firstRow; row < endRow; row++) {
      const begin = max(block, visibleBegin(record, row))
      const end = min(block + KEY_BLOCK, prefixOf(record, row))
      const query = queries + <usize>row * queryStride
      const scores = scratch + <usize>(row - firstRow) * rowScores
      scoreKeys(record, query, keys, headBytes, count, scores, scoreBytes, begin, end)
    }
  }

  // Scores of the ancestors, then the softmax of each row and head.
  for (let row = firstRow; row < endRow; row++) {
    const prefix = prefixOf(record, row)
    const ancestors = ancestorsOf(record, row)
    const begin = visibleBegin(record, row)
    const end = visibleEnd(record, row)
    for (let h = 0; h < count; h++) {
      const query = queries + <usize>row * queryStride + <usize>h * headBytes
      const scores = scratch + <usize>(row - firstRow) * rowScores + <usize>h * scoreBytes
      for (let position = max(prefix, begin); position < end; position++) {
        const slot = load<i32>(ancestors + (<usize>(position - prefix) << 2))
        const score = dot1(query, keys + <usize>slot * headBytes, headBytes, float(record, ATTENTION_SCALE))
        store<f32>(scores + (<usize>position << 2), score)
      }
      const sum = softmax(scores, begin, end, float(record, ATTENTION_SOFTCAP))
      store<f32>(scores + scoreBytes - 4, sum)
    }
    memory.fill(output + <usize>row * outputStride, 0, <usize>count * headBytes)
  }

  // Values of the prefix, in the same blocks.
  for (let block = earliest; block < longest; block += KEY_BLOCK) {
    for (let row = firstRow; row < endRow; row++) {
      const begin = max(block, visibleBegin(record, row))
      const end = min(block + KEY_BLOCK, prefixOf(record, row))
      if (begin >= end) continue
      const scores = scratch + <usize>(row - firstRow) * rowScores
      const target = output + <usize>row * outputStride
      let h = 0
      for (; h + 2 <= count; h += 2) {
        const weights = scores + <usize>h * scoreBytes
        addValues2(target + <usize>h * headBytes, weights, weights + scoreBytes, values, headBytes, begin, end)
      }
      if (h < count) {
        addValues(target + <usize>h * headBytes, scores + <usize>h * scoreBytes, values, headBytes, begin, end)
      }
    }
  }

  for (let row = firstRow; row < endRow; row++) {
    const prefix = prefixOf(record, row)
    const ancestors = ancestorsOf(record, row)
    const end = visibleEnd(record, row)
    for (let h = 0; h < count; h++) {
      const target = output + <usize>row * outputStride + <usize>h * headBytes
      const scores = scratch + <usize>(row - firstRow) * rowScores + <usize>h * scoreBytes
      for (let position = max(prefix, visibleBegin(record, row)); position < end; position++) {
        const slot = load<i32>(ancestors + (<usize>(position - prefix) << 2))
        addValue(target, load<f32>(scores + (<usize>position << 2)), values + <usize>slot * headBytes, headBytes)
      }
      divide(target, load<f32>(scores + scoreBytes - 4), headBytes)
    }
  }
}

// Scores of one row's heads against the neighbouring keys [begin, end).
function scoreKeys(
  record: usize,
  query: usize,
  keys: usize,
  headBytes: usize,
  count: i32,
  scores: usize,
  scoreBytes: usize,
  begin: i32,
  end: i32,
): void {
  const scale = float(record, ATTENTION_SCALE)
  const whole = begin + ((end - begin) & ~3)
  let h = 0
  for (; h + 2 <= count; h += 2) {
    const target = scores + <usize>h * scoreBytes
    const q = query + <usize>h * headBytes
    for (let key = begin; key < whole; key += 4) {
      const at = target + (<usize>key << 2)
      dot4x2(q, q + headBytes, keys + <usize>key * headBytes, headBytes, scale, at, at + scoreBytes)
    }
  }
  if (h < count) {
    const target = scores + <usize>h * scoreBytes
    const q = query + <usize>h * headBytes
    for (let key = begin; key < whole; key += 4) {
      v128.store(target + (<usize>key << 2), dot4(q, keys + <usize>key * headBytes, headBytes, scale))
    }
  }
  for (let key = max(begin, whole); key < end; key++) {
    for (h = 0; h < count; h++) {
      const score = dot1(query + <usize>h * headBytes, keys + <usize>key * headBytes, headBytes, scale)
      store<f32>(scores + <usize>h * scoreBytes + (<usize>key << 2), score)
    }
  }
}
