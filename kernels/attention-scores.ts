// The first phases of attention: queries as integers, and the scores of the prefix.
import { BLOCK, prefixOf, visibleBegin, longestPrefix, earliestPosition, isQ8, vectorBytes, groupOf, outputOf, f32QueryOf, queryOf, factorOf, scoresOf, keysOf } from './attention-job'
import { f32Scores1, f32Scores2, q8Scores1, q8Scores2 } from './generated/attention'
import { quantiseVector16 } from './kv-vector'
import { ATTENTION_HEAD_SIZE, ATTENTION_HEADS, ATTENTION_KV_HEADS, ATTENTION_ROWS, ATTENTION_SCALE, ATTENTION_SCALES_OFFSET, float, int, pointer, shareBegin } from './record'

// Phase 0, q8 only: the queries as integers of 16 bits with one factor. Shares are runs of (row, head).
export function quantiseQueries(record: usize, part: i32, parts: i32): void {
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
export function scorePrefix(record: usize, part: i32, parts: i32): void {
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
export function scoreOne(
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
