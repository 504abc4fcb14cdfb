// Attention of rows that share a prefix and differ in their ancestors. Scores are indexed by absolute
// position, so lane = position mod 4 wherever lanes are summed, and a tree node repeats the
// operations of the same token in plain decoding.
import { exp4 } from './exp'
import { float, int, pointer, shareBegin } from './record'

const ROWS: i32 = 1
const HEADS: i32 = 2
const KV_HEADS: i32 = 3
const HEAD_SIZE: i32 = 4
const Q: i32 = 5
const Q_STRIDE: i32 = 6
const KEYS: i32 = 7
const VALUES: i32 = 8
const HEAD_STRIDE: i32 = 9
const OUT: i32 = 10
const OUT_STRIDE: i32 = 11
const PREFIXES: i32 = 12
const ANCESTOR_OFFSETS: i32 = 13
const ANCESTOR_SLOTS: i32 = 14
const WINDOW: i32 = 15
const SCALE: i32 = 16
const SOFTCAP: i32 = 17
const SCRATCH: i32 = 18
const SCRATCH_BYTES: i32 = 19

// Keys whose vectors stay in the first-level cache while all rows use them.
const KEY_BLOCK: i32 = 32

export function attention(record: usize, part: i32, parts: i32): void {
  const rows = int(record, ROWS)
  const kvHeads = int(record, KV_HEADS)
  const group = int(record, HEADS) / kvHeads
  const prefixes = pointer(record, PREFIXES)
  const offsets = pointer(record, ANCESTOR_OFFSETS)
  let most = 0
  for (let row = 0; row < rows; row++) most = max(most, visibleEnd(prefixes, offsets, row))
  // Whole vectors, and one more that masking may touch.
  const scoreBytes = <usize>(((most + 3) & ~3) + 4) * 4
  const fit = <i32>(pointer(record, SCRATCH_BYTES) / (scoreBytes * <usize>group))
  const rowsAtOnce = max(1, min(rows, fit))
  const blocks = (rows + rowsAtOnce - 1) / rowsAtOnce
  const scratch = pointer(record, SCRATCH) + <usize>part * pointer(record, SCRATCH_BYTES)
  const end = shareBegin(kvHeads * blocks, part + 1, parts)
  for (let unit = shareBegin(kvHeads * blocks, part, parts); unit < end; unit++) {
    const firstRow = (unit % blocks) * rowsAtOnce
    attendBlock(record, unit / blocks, group, firstRow, min(rows, firstRow + rowsAtOnce), scratch, scoreBytes)
  }
}

// @ts-ignore: decorator
@inline
function visibleEnd(prefixes: usize, offsets: usize, row: i32): i32 {
  const at = offsets + (<usize>row << 2)
  return load<i32>(prefixes + (<usize>row << 2)) + load<i32>(at, 4) - load<i32>(at)
}

function attendBlock(
  record: usize,
  kvHead: i32,
  group: i32,
  firstRow: i32,
  endRow: i32,
  scratch: usize,
  scoreBytes: usize,
): void {
  const headSize = int(record, HEAD_SIZE)
  const headBytes = <usize>headSize << 2
  const keys = pointer(record, KEYS) + <usize>kvHead * pointer(record, HEAD_STRIDE)
  const values = pointer(record, VALUES) + <usize>kvHead * pointer(record, HEAD_STRIDE)
  const prefixes = pointer(record, PREFIXES)
  const offsets = pointer(record, ANCESTOR_OFFSETS)
  const slots = pointer(record, ANCESTOR_SLOTS)
  const window = int(record, WINDOW)
  const scale = float(record, SCALE)
  const qStride = pointer(record, Q_STRIDE)
  const outStride = pointer(record, OUT_STRIDE)
  const q = pointer(record, Q) + <usize>(kvHead * group) * headBytes
  const out = pointer(record, OUT) + <usize>(kvHead * group) * headBytes

  let longest = 0
  for (let row = firstRow; row < endRow; row++) longest = max(longest, load<i32>(prefixes + (<usize>row << 2)))

  // Scores of the prefix, a block of keys at a time for all rows and all query heads of the group.
  for (let block = 0; block < longest; block += KEY_BLOCK) {
    for (let row = firstRow; row < endRow; row++) {
      const visible = visibleEnd(prefixes, offsets, row)
      const begin = max(block, window > 0 ? visible - window : 0)
      const end = min(block + KEY_BLOCK, load<i32>(prefixes + (<usize>row << 2)))
      const scores = scratch + <usize>((row - firstRow) * group) * scoreBytes
      for (let head = 0; head < group; head++) {
        const query = q + <usize>row * qStride + <usize>head * headBytes
        const target = scores + <usize>head * scoreBytes
        let key = begin
        for (; key + 4 <= end; key += 4) {
          v128.store(target + (<usize>key << 2), dot4(query, keys + <usize>key * headBytes, headBytes, scale))
        }
        for (; key < end; key++) {
          store<f32>(target + (<usize>key << 2), dot1(query, keys + <usize>key * headBytes, headBytes, scale))
        }
      }
    }
  }

  // Scores of the ancestors, then the softmax of each row and head.
  for (let row = firstRow; row < endRow; row++) {
    const prefix = load<i32>(prefixes + (<usize>row << 2))
    const visible = visibleEnd(prefixes, offsets, row)
    const begin = max(0, window > 0 ? visible - window : 0)
    const list = slots + (<usize>load<i32>(offsets + (<usize>row << 2)) << 2)
    const scores = scratch + <usize>((row - firstRow) * group) * scoreBytes
    for (let head = 0; head < group; head++) {
      const query = q + <usize>row * qStride + <usize>head * headBytes
      const target = scores + <usize>head * scoreBytes
      for (let position = max(prefix, begin); position < visible; position++) {
        const slot = load<i32>(list + (<usize>(position - prefix) << 2))
        store<f32>(target + (<usize>position << 2), dot1(query, keys + <usize>slot * headBytes, headBytes, scale))
      }
      const sum = softmax(target, begin, visible, float(record, SOFTCAP))
      // The place behind the scores keeps the sum until the values are added up.
      store<f32>(target + (<usize>((visible + 3) & ~3) << 2), sum)
      memory.fill(out + <usize>row * outStride + <usize>head * headBytes, 0, headBytes)
    }
  }

  // Values of the prefix, in the same blocks.
  for (let block = 0; block < longest; block += KEY_BLOCK) {
    for (let row = firstRow; row < endRow; row++) {
      const visible = visibleEnd(prefixes, offsets, row)
      const begin = max(block, window > 0 ? visible - window : 0)
      const end = min(block + KEY_BLOCK, load<i32>(prefixes + (<usize>row << 2)))
      if (begin >= end) continue
      const scores = scratch + <usize>((row - firstRow) * group) * scoreBytes
      for (let head = 0; head < group; head++) {
        const target = out + <usize>row * outStride + <usize>head * headBytes
        addValues(target, scores + <usize>head * scoreBytes, values, headBytes, begin, end)
      }
    }
  }

  for (let row = firstRow; row < endRow; row++) {
    const prefix = load<i32>(prefixes + (<usize>row << 2))
    const visible = visibleEnd(prefixes, offsets, row)
    const begin = max(prefix, window > 0 ? visible - window : 0)
    const list = slots + (<usize>load<i32>(offsets + (<usize>row << 2)) << 2)
    const scores = scratch + <usize>((row - firstRow) * group) * scoreBytes
    for (let head = 0; head < group; head++) {
      const target = out + <usize>row * outStride + <usize>head * headBytes
      const weights = scores + <usize>head * scoreBytes
      for (let position = begin; position < visible; position++) {
        const slot = load<i32>(list + (<usize>(position - prefix) << 2))
        addValue(target, load<f32>(weights + (<usize>position << 2)), values + <usize>slot * headBytes, headBytes)
      }
      divide(target, load<f32>(weights + (<usize>((visible + 3) & ~3) << 2)), headBytes)
    }
  }
}

// q.k of one key: four lanes over the head dimension, then (l0 + l1) + (l2 + l3).
// @ts-ignore: decorator
@inline
function dot1(query: usize, key: usize, bytes: usize, scale: f32): f32 {
  let a = f32x4.splat(0)
  for (let i: usize = 0; i < bytes; i += 16) a = f32x4.add(a, f32x4.mul(v128.load(query + i), v128.load(key + i)))
  const sum =
    f32x4.extract_lane(a, 0) + f32x4.extract_lane(a, 1) + (f32x4.extract_lane(a, 2) + f32x4.extract_lane(a, 3))
  return sum * scale
}

// Four neighbouring keys at once; each lane repeats dot1.
// @ts-ignore: decorator
@inline
function dot4(query: usize, keys: usize, bytes: usize, scale: f32): v128 {
  let a = f32x4.splat(0)
  let b = f32x4.splat(0)
  let c = f32x4.splat(0)
  let d = f32x4.splat(0)
  const key1 = keys + bytes
  const key2 = key1 + bytes
  const key3 = key2 + bytes
  for (let i: usize = 0; i < bytes; i += 16) {
    const x = v128.load(query + i)
    a = f32x4.add(a, f32x4.mul(x, v128.load(keys + i)))
    b = f32x4.add(b, f32x4.mul(x, v128.load(key1 + i)))
    c = f32x4.add(c, f32x4.mul(x, v128.load(key2 + i)))
    d = f32x4.add(d, f32x4.mul(x, v128.load(key3 + i)))
  }
  const ab01 = v128.shuffle<f32>(a, b, 0, 4, 1, 5)
  const ab23 = v128.shuffle<f32>(a, b, 2, 6, 3, 7)
  const cd01 = v128.shuffle<f32>(c, d, 0, 4, 1, 5)
  const cd23 = v128.shuffle<f32>(c, d, 2, 6, 3, 7)
  const lane0 = v128.shuffle<f32>(ab01, cd01, 0, 1, 4, 5)
  const lane1 = v128.shuffle<f32>(ab01, cd01, 2, 3, 6, 7)
  const lane2 = v128.shuffle<f32>(ab23, cd23, 0, 1, 4, 5)
  const lane3 = v128.shuffle<f32>(ab23, cd23, 2, 3, 6, 7)
  const sum = f32x4.add(f32x4.add(lane0, lane1), f32x4.add(lane2, lane3))
  return f32x4.mul(sum, f32x4.splat(scale))
}

// Replaces scores [begin, end) by exp(score - maximum) and returns their sum: four lanes by absolute
// position, then (l0 + l1) + (l2 + l3).
function softmax(scores: usize, begin: i32, end: i32, softcap: f32): f32 {
  const first = begin & ~3
  const last = (end + 3) & ~3
  const least = -Infinity as f32
  for (let position = first; position < begin; position++) store<f32>(scores + (<usize>position << 2), least)
  for (let position = end; position < last; position++) store<f32>(scores + (<usize>position << 2), least)
  if (softcap != 0) {
    for (let position = first; position < last; position += 4) {
      const at = scores + (<usize>position << 2)
      v128.store(at, cap4(v128.load(at), softcap))
    }
    for (let position = first; position < begin; position++) store<f32>(scores + (<usize>position << 2), least)
    for (let position = end; position < last; position++) store<f32>(scores + (<usize>position << 2), least)
  }
  let most = f32x4.splat(least)
  for (let position = first; position < last; position += 4) {
    most = f32x4.max(most, v128.load(scores + (<usize>position << 2)))
  }
  const top = max(
    max(f32x4.extract_lane(most, 0), f32x4.extract_lane(most, 1)),
    max(f32x4.extract_lane(most, 2), f32x4.extract_lane(most, 3)),
  )
  const maximum = f32x4.splat(top)
  let sum = f32x4.splat(0)
  for (let position = first; position < last; position += 4) {
    const at = scores + (<usize>position << 2)
    const e = exp4(f32x4.sub(v128.load(at), maximum))
    v128.store(at, e)
    sum = f32x4.add(sum, e)
  }
  return (
    f32x4.extract_lane(sum, 0) + f32x4.extract_lane(sum, 1) + (f32x4.extract_lane(sum, 2) + f32x4.extract_lane(sum, 3))
  )
}

// cap * tanh(x / cap), tanh(y) = 1 - 2 / (exp(2y) + 1).
// @ts-ignore: decorator
@inline
function cap4(x: v128, cap: f32): v128 {
  const one = f32x4.splat(1)
  const e = exp4(f32x4.mul(f32x4.div(x, f32x4.splat(cap)), f32x4.splat(2)))
  const tanh = f32x4.sub(one, f32x4.div(f32x4.splat(2), f32x4.add(e, one)))
  return f32x4.mul(f32x4.splat(cap), tanh)
}

// out += weight[position] * value[position] for neighbouring positions, one after the other.
function addValues(out: usize, weights: usize, values: usize, bytes: usize, begin: i32, end: i32): void {
  let i: usize = 0
  for (; i + 64 <= bytes; i += 64) {
    let a = v128.load(out + i)
    let b = v128.load(out + i, 16)
    let c = v128.load(out + i, 32)
    let d = v128.load(out + i, 48)
    let value = values + <usize>begin * bytes + i
    for (let position = begin; position < end; position++) {
      const weight = v128.load32_splat(weights + (<usize>position << 2))
      a = f32x4.add(a, f32x4.mul(weight, v128.load(value)))
      b = f32x4.add(b, f32x4.mul(weight, v128.load(value, 16)))
      c = f32x4.add(c, f32x4.mul(weight, v128.load(value, 32)))
      d = f32x4.add(d, f32x4.mul(weight, v128.load(value, 48)))
      value += bytes
    }
    v128.store(out + i, a)
    v128.store(out + i, b, 16)
    v128.store(out + i, c, 32)
    v128.store(out + i, d, 48)
  }
  for (; i < bytes; i += 16) {
    let a = v128.load(out + i)
    let value = values + <usize>begin * bytes + i
    for (let position = begin; position < end; position++) {
      a = f32x4.add(a, f32x4.mul(v128.load32_splat(weights + (<usize>position << 2)), v128.load(value)))
      value += bytes
    }
    v128.store(out + i, a)
  }
}

// @ts-ignore: decorator
@inline
function addValue(out: usize, weight: f32, value: usize, bytes: usize): void {
  const w = f32x4.splat(weight)
  for (let i: usize = 0; i < bytes; i += 16) {
    v128.store(out + i, f32x4.add(v128.load(out + i), f32x4.mul(w, v128.load(value + i))))
  }
}

// @ts-ignore: decorator
@inline
function divide(out: usize, divisor: f32, bytes: usize): void {
  const d = f32x4.splat(divisor)
  for (let i: usize = 0; i < bytes; i += 16) v128.store(out + i, f32x4.div(v128.load(out + i), d))
}
