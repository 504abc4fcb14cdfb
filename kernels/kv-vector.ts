// Keys and values of the q8 cache: int8 with one f32 scale per head and position, and the queries that meet them.
import { max4 } from './lanes'

// Bytes of one int8 vector: products take eight dimensions at a time.
@inline
export function q8VectorBytes(headSize: i32): usize {
  return <usize>((headSize + 7) & ~7)
}

// Largest magnitude of `size` f32; 0 where levels / amax overflows, so that such a vector counts as all zeros.
@inline
function significantMagnitude(source: usize, size: i32, levels: f32): f32 {
  let largest = f32x4.splat(0)
  const bytes = <usize>size << 2
  for (let i: usize = 0; i < bytes; i += 16) largest = f32x4.max(largest, f32x4.abs(v128.load(source + i)))
  const amax = max4(largest)
  return levels / amax == Infinity ? 0 : amax
}

@inline
function nearest4(source: usize, inverse: v128): v128 {
  return i32x4.trunc_sat_f32x4_s(f32x4.nearest(f32x4.mul(v128.load(source), inverse)))
}

// q = nearest(x * (127 / amax)), zeros behind `size`. Returns the scale, amax / 127.
@inline
export function quantiseVector8(source: usize, size: i32, target: usize): f32 {
  const amax = significantMagnitude(source, size, 127)
  const inverse = f32x4.splat(amax == 0 ? 0 : 127 / amax)
  const bytes = <usize>size
  for (let i: usize = 0; i < bytes; i += 4) {
    const words = nearest4(source + (i << 2), inverse)
    const halves = i16x8.narrow_i32x4_s(words, words)
    v128.store32_lane(target + i, i8x16.narrow_i16x8_s(halves, halves), 0)
  }
  if (size & 4) store<i32>(target + bytes, 0)
  return amax / 127
}

// The same with 16 bits: q = nearest(x * (32767 / amax)). A query is widened to 16 bits for the product
// anyway, so its own rounding costs nothing to avoid.
@inline
export function quantiseVector16(source: usize, size: i32, target: usize): f32 {
  const amax = significantMagnitude(source, size, 32767)
  const inverse = f32x4.splat(amax == 0 ? 0 : 32767 / amax)
  const bytes = <usize>size << 1
  for (let i: usize = 0; i < bytes; i += 8) {
    const words = nearest4(source + (i << 1), inverse)
    v128.store64_lane(target + i, i16x8.narrow_i32x4_s(words, words), 0)
  }
  if (size & 4) store<i64>(target + bytes, 0)
  return amax / 32767
}

// One key or value into its slot. `head`: where its KV head begins in the cache; `scalesOffset` 0: f32 cache.
@inline
export function storeVector(source: usize, size: i32, head: usize, slot: i32, scalesOffset: usize): void {
  if (scalesOffset == 0) {
    const bytes = <usize>size << 2
    memory.copy(head + <usize>slot * bytes, source, bytes)
  } else {
    const scale = quantiseVector8(source, size, head + <usize>slot * q8VectorBytes(size))
    store<f32>(head + scalesOffset + (<usize>slot << 2), scale)
  }
}

// `count` neighbouring vectors, of each `size` int8 (a multiple of four), as f32 one after the other.
export function widenVectors(source: usize, sourceBytes: usize, size: i32, target: usize, count: i32): void {
  for (let i = 0; i < count; i++) {
    let d = 0
    for (; d + 8 <= size; d += 8) {
      const halves = v128.load_ext<i8>(source + <usize>d)
      v128.store(target, f32x4.convert_i32x4_s(i32x4.extend_low_i16x8_s(halves)))
      v128.store(target, f32x4.convert_i32x4_s(i32x4.extend_high_i16x8_s(halves)), 16)
      target += 32
    }
    if (d < size) {
      const halves = i16x8.extend_low_i8x16_s(v128.load32_zero(source + <usize>d))
      v128.store(target, f32x4.convert_i32x4_s(i32x4.extend_low_i16x8_s(halves)))
      target += 16
    }
    source += sourceBytes
  }
}
