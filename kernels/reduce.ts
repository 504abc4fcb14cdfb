// Reductions over one row of logits, and the checksum of packed data. Called directly, not as jobs.
import { exp4, sumOfExp4 } from './exp'
import { sum4 } from './lanes'

// Sum of exp((x - top) * scale), in four lanes by index, then (l0 + l1) + (l2 + l3), then the rest.
export function sumExp(at: usize, count: i32, scale: f32, top: f32): f32 {
  const whole = <usize>(count & ~3) << 2
  let total = sum4(sumOfExp4(at, whole, scale, top))
  for (let i = whole; i < <usize>count << 2; i += 4) {
    total += f32x4.extract_lane(exp4(f32x4.splat((load<f32>(at + i) - top) * scale)), 0)
  }
  return total
}

// (1 + f) / 2^f on the mean of f from 0 to 1: by how much a line between powers of two is above the powers between them.
const CHORD: f32 = 1.0407
const LOG2_E: f32 = 1.44269504
// 1.5 * 2^11: what is added to it is rounded to multiples of 2^-12, which are then in the low bits of the sum.
const COARSE_MAGIC: f32 = 3072.0

// About sum of exp(x - top), where top is the largest and counted exactly: within 4 per cent. exp(x) is the f32 whose
// bits are (x / ln2 + 127) * 2^23, powers of two with lines between them.
export function coarseSumExp(at: usize, count: i32, top: f32): f32 {
  const scale = f32x4.splat(LOG2_E)
  const offset = f32x4.splat(COARSE_MAGIC + 127 - top * LOG2_E)
  const least = f32x4.splat(COARSE_MAGIC)
  let total = f32x4.splat(0)
  const end = at + (<usize>(count & ~3) << 2)
  let i = at
  for (; i < end; i += 16) total = f32x4.add(total, coarseExp4(v128.load(i), scale, offset, least))
  let sum = sum4(total)
  for (const last = at + (<usize>count << 2); i < last; i += 4) {
    sum += f32x4.extract_lane(coarseExp4(f32x4.splat(load<f32>(i)), scale, offset, least), 0)
  }
  return 1 + (sum - 1) / CHORD
}

@inline
function coarseExp4(x: v128, scale: v128, offset: v128, least: v128): v128 {
  return i32x4.shl(f32x4.pmax(least, f32x4.add(f32x4.mul(x, scale), offset)), 11)
}

// The k largest, descending, ties by lower index; NaN is left out. Returns how many there are.
export function topK(at: usize, count: i32, k: i32, ids: usize, values: usize): i32 {
  let found = 0
  let least: f32 = -Infinity
  for (let i = 0; i < count; ) {
    // Most vectors hold nothing that is better than the worst of the list.
    while (found == k && i + 8 <= count) {
      const a = f32x4.gt(v128.load(at + (<usize>i << 2)), f32x4.splat(least))
      const b = f32x4.gt(v128.load(at + (<usize>i << 2), 16), f32x4.splat(least))
      if (v128.any_true(v128.or(a, b))) break
      i += 8
    }
    const next = min(i + 8, count)
    for (; i < next; i++) {
      const value = load<f32>(at + (<usize>i << 2))
      if (found < k ? value == value : value > least) {
        found = min(found + 1, k)
        insert(value, i, found, ids, values)
        least = load<f32>(values + (<usize>(found - 1) << 2))
      }
    }
  }
  return found
}

// Puts a value in its place of a descending list of `length`, whose last entry is free or dropped.
function insert(value: f32, id: i32, length: i32, ids: usize, values: usize): void {
  let place = <usize>(length - 1) << 2
  while (place > 0 && load<f32>(values + place - 4) < value) {
    store<f32>(values + place, load<f32>(values + place - 4))
    store<i32>(ids + place, load<i32>(ids + place - 4))
    place -= 4
  }
  store<f32>(values + place, value)
  store<i32>(ids + place, id)
}

const PRIME_1: i32 = 0x9e3779b1
const PRIME_2: i32 = 0x85ebca77
const PRIME_3: i32 = 0xc2b2ae3d

@inline
function round4(lane: v128, words: v128): v128 {
  const sum = i32x4.add(lane, i32x4.mul(words, i32x4.splat(PRIME_2)))
  const turned = v128.or(i32x4.shl(sum, 13), i32x4.shr_u(sum, 19))
  return i32x4.mul(turned, i32x4.splat(PRIME_1))
}

@inline
function fold(hash: i32, word: i32): i32 {
  return rotl<i32>(hash + word * PRIME_3, 17) * PRIME_1
}

@inline
function fold4(hash: i32, lanes: v128): i32 {
  hash = fold(hash, i32x4.extract_lane(lanes, 0))
  hash = fold(hash, i32x4.extract_lane(lanes, 1))
  hash = fold(hash, i32x4.extract_lane(lanes, 2))
  return fold(hash, i32x4.extract_lane(lanes, 3))
}

// The checksum of src/tensor/checksum.ts: sixteen lanes over 64-byte stripes. `bytes` is a multiple of 4.
export function checksum(at: usize, bytes: usize): u32 {
  const seed = i32x4.splat(PRIME_3)
  let a = i32x4.mul(seed, i32x4(1, 2, 3, 4))
  let b = i32x4.mul(seed, i32x4(5, 6, 7, 8))
  let c = i32x4.mul(seed, i32x4(9, 10, 11, 12))
  let d = i32x4.mul(seed, i32x4(13, 14, 15, 16))
  const whole = bytes & ~63
  for (let i: usize = 0; i < whole; i += 64) {
    a = round4(a, v128.load(at + i))
    b = round4(b, v128.load(at + i, 16))
    c = round4(c, v128.load(at + i, 32))
    d = round4(d, v128.load(at + i, 48))
  }
  let hash = <i32>bytes * PRIME_1
  hash = fold4(hash, a)
  hash = fold4(hash, b)
  hash = fold4(hash, c)
  hash = fold4(hash, d)
  for (let i = whole; i < bytes; i += 4) hash = fold(hash, load<i32>(at + i))
  hash = (hash ^ (hash >>> 15)) * PRIME_2
  hash = (hash ^ (hash >>> 13)) * PRIME_3
  return <u32>(hash ^ (hash >>> 16))
}
