// What packing does with vectors: rows of a checkpoint widened to f32, four rows as columns, halves, extremes of rows.
import { halfBits, halfRebase } from './constants'
import { halves4 } from './half'

// Vectors for the loops; constants.ts says why they are variables.
export let magnitudeBits: v128 = i32x4.splat(0x7fffffff)
export let magnitudeBits16: v128 = i16x8.splat(0x7fff)
export let bfloatBits: v128 = i32x4.splat(0xffff0000)
export let rounding: v128 = f32x4.splat(12582912.0)
export let roundingBits: v128 = i32x4.splat(0x4b400000)

// Scratch memory of `packBlocks`: 1440 bytes, which src/tensor/packer.ts gives.
export const ROWS: usize = 0 // f32 [8 x 32]: a block, widened
export const INTEGERS: usize = 1024 // i16 [16 x 4 x 2]: pairs of inner values of four outputs
export const FITS: usize = 1280 // what a search found: two candidates, three v128 each
export const SCALES: usize = 1376 // f32 [8]: of 1 / scale
export const MINIMUMS: usize = 1408 // f32 [8]

// Four of eight bf16 as f32.
@inline
export function lowBfloats(zero: v128, x: v128): v128 {
  return v128.shuffle<i16>(zero, x, 0, 8, 1, 9, 2, 10, 3, 11)
}

@inline
export function highBfloats(zero: v128, x: v128): v128 {
  return v128.shuffle<i16>(zero, x, 4, 12, 5, 13, 6, 14, 7, 15)
}

export function widenBfloats(source: usize, stride: usize, target: usize): void {
  const zero = i32x4.splat(0)
  for (const end = target + 1024; target < end; target += 128) {
    const a = v128.load(source)
    const b = v128.load(source, 16)
    const c = v128.load(source, 32)
    const d = v128.load(source, 48)
    v128.store(target, lowBfloats(zero, a))
    v128.store(target, highBfloats(zero, a), 16)
    v128.store(target, lowBfloats(zero, b), 32)
    v128.store(target, highBfloats(zero, b), 48)
    v128.store(target, lowBfloats(zero, c), 64)
    v128.store(target, highBfloats(zero, c), 80)
    v128.store(target, lowBfloats(zero, d), 96)
    v128.store(target, highBfloats(zero, d), 112)
    source += stride
  }
}

export function widenHalves(source: usize, stride: usize, target: usize): void {
  for (const end = target + 1024; target < end; target += 128) {
    for (let k: usize = 0; k < 64; k += 8) v128.store(target + 2 * k, halves4(source + k, halfBits, halfRebase))
    source += stride
  }
}

// Four rows of four as four columns; the results come one by one, as there is only one to return.
@inline
export function low2(a: v128, b: v128): v128 {
  return v128.shuffle<i32>(a, b, 0, 4, 1, 5)
}

@inline
export function high2(a: v128, b: v128): v128 {
  return v128.shuffle<i32>(a, b, 2, 6, 3, 7)
}

@inline
export function firstHalves(a: v128, b: v128): v128 {
  return v128.shuffle<i64>(a, b, 0, 2)
}

@inline
export function lastHalves(a: v128, b: v128): v128 {
  return v128.shuffle<i64>(a, b, 1, 3)
}

// Stores four rows of four words as columns, `stride` bytes apart.
@inline
export function storeColumns(at: usize, stride: usize, a: v128, b: v128, c: v128, d: v128): void {
  const ab = low2(a, b)
  const cd = low2(c, d)
  v128.store(at, firstHalves(ab, cd))
  v128.store(at + stride, lastHalves(ab, cd))
  const efgh = high2(a, b)
  const ijkl = high2(c, d)
  v128.store(at + 2 * stride, firstHalves(efgh, ijkl))
  v128.store(at + 3 * stride, lastHalves(efgh, ijkl))
}

// f32 to the nearest f16, ties to even, in the low halves; below 65520.
@inline
export function toHalves(x: v128): v128 {
  const magnitude = v128.and(x, i32x4.splat(0x7fffffff))
  const odd = v128.and(i32x4.shr_u(magnitude, 13), i32x4.splat(1))
  const normal = i32x4.shr_u(i32x4.add(i32x4.add(magnitude, odd), i32x4.splat(0xfff - 0x38000000)), 13)
  // In a sum with 0.5 the last bit stands for 2^-24, the unit of subnormal halves.
  const subnormal = i32x4.sub(f32x4.add(magnitude, f32x4.splat(0.5)), i32x4.splat(0x3f000000))
  const bits = v128.bitselect(subnormal, normal, i32x4.lt_s(magnitude, i32x4.splat(0x38800000)))
  return v128.or(bits, v128.and(i32x4.shr_u(x, 16), i32x4.splat(0x8000)))
}

// The f32 that halves in the low halves stand for.
@inline
export function fromHalves(h: v128): v128 {
  const magnitude = f32x4.mul(i32x4.shl(v128.and(h, i32x4.splat(0x7fff)), 13), f32x4.splat(reinterpret<f32>(0x77800000)))
  return v128.or(magnitude, i32x4.shl(v128.and(h, i32x4.splat(0x8000)), 16))
}

// The low halves of eight words.
@inline
export function lowHalves(a: v128, b: v128): v128 {
  return v128.shuffle<i16>(a, b, 0, 2, 4, 6, 8, 10, 12, 14)
}

// Integers nearest to x, ties to even, for |x| < 2^22.
@inline
export function nearest(x: v128): v128 {
  return i32x4.sub(f32x4.add(x, rounding), roundingBits)
}

// x where it counts, elsewhere 0.
@inline
export function orZero(x: v128, counts: v128): v128 {
  return v128.and(x, counts)
}

@inline
export function lane4(x: v128, lane: i32): v128 {
  if (lane == 0) return v128.shuffle<i32>(x, x, 0, 0, 0, 0)
  if (lane == 1) return v128.shuffle<i32>(x, x, 1, 1, 1, 1)
  if (lane == 2) return v128.shuffle<i32>(x, x, 2, 2, 2, 2)
  return v128.shuffle<i32>(x, x, 3, 3, 3, 3)
}

// The largest of every row's four lanes.
@inline
export function largestOfRows(a: v128, b: v128, c: v128, d: v128): v128 {
  const ab = f32x4.pmax(low2(a, b), high2(a, b))
  const cd = f32x4.pmax(low2(c, d), high2(c, d))
  return f32x4.pmax(firstHalves(ab, cd), lastHalves(ab, cd))
}

@inline
export function smallestOfRows(a: v128, b: v128, c: v128, d: v128): v128 {
  const ab = f32x4.pmin(low2(a, b), high2(a, b))
  const cd = f32x4.pmin(low2(c, d), high2(c, d))
  return f32x4.pmin(firstHalves(ab, cd), lastHalves(ab, cd))
}

// Printed out: as loops of eight turns these took as long as all else that is done once per block.
@inline
export function largestOf(row: usize): v128 {
  const a = f32x4.pmax(v128.load(row), v128.load(row, 16))
  const b = f32x4.pmax(v128.load(row, 32), v128.load(row, 48))
  const c = f32x4.pmax(v128.load(row, 64), v128.load(row, 80))
  const d = f32x4.pmax(v128.load(row, 96), v128.load(row, 112))
  return f32x4.pmax(f32x4.pmax(a, b), f32x4.pmax(c, d))
}

@inline
export function smallestOf(row: usize): v128 {
  const a = f32x4.pmin(v128.load(row), v128.load(row, 16))
  const b = f32x4.pmin(v128.load(row, 32), v128.load(row, 48))
  const c = f32x4.pmin(v128.load(row, 64), v128.load(row, 80))
  const d = f32x4.pmin(v128.load(row, 96), v128.load(row, 112))
  return f32x4.pmin(f32x4.pmin(a, b), f32x4.pmin(c, d))
}

// 1 / scale, and 0 for a scale of 0.
@inline
export function inverseOf(scale: v128): v128 {
  return orZero(f32x4.div(f32x4.splat(1), scale), f32x4.ne(scale, f32x4.splat(0)))
}
