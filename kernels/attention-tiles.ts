// The inner loops of attention. One score is always four lanes over the head dimension, then
// (l0 + l1) + (l2 + l3), then times the scale; tiles only do several of them side by side.
import { sum4 } from './lanes'

@inline
export function dot1(query: usize, key: usize, bytes: usize, scale: f32): f32 {
  let a = f32x4.splat(0)
  for (let i: usize = 0; i < bytes; i += 16) a = f32x4.add(a, f32x4.mul(v128.load(query + i), v128.load(key + i)))
  return sum4(a) * scale
}

// Four neighbouring keys.
@inline
export function dot4(query: usize, keys: usize, bytes: usize, scale: f32): v128 {
  const key1 = keys + bytes
  const key2 = key1 + bytes
  const key3 = key2 + bytes
  let a = f32x4.splat(0)
  let b = f32x4.splat(0)
  let c = f32x4.splat(0)
  let d = f32x4.splat(0)
  for (let i: usize = 0; i < bytes; i += 16) {
    const x = v128.load(query + i)
    a = f32x4.add(a, f32x4.mul(x, v128.load(keys + i)))
    b = f32x4.add(b, f32x4.mul(x, v128.load(key1 + i)))
    c = f32x4.add(c, f32x4.mul(x, v128.load(key2 + i)))
    d = f32x4.add(d, f32x4.mul(x, v128.load(key3 + i)))
  }
  return f32x4.mul(sumColumns(a, b, c, d), f32x4.splat(scale))
}

// Four neighbouring keys for two queries: each key is loaded once.
@inline
export function dot4x2(
  query0: usize,
  query1: usize,
  keys: usize,
  bytes: usize,
  scale: f32,
  target0: usize,
  target1: usize,
): void {
  const key1 = keys + bytes
  const key2 = key1 + bytes
  const key3 = key2 + bytes
  let a0 = f32x4.splat(0)
  let b0 = f32x4.splat(0)
  let c0 = f32x4.splat(0)
  let d0 = f32x4.splat(0)
  let a1 = f32x4.splat(0)
  let b1 = f32x4.splat(0)
  let c1 = f32x4.splat(0)
  let d1 = f32x4.splat(0)
  for (let i: usize = 0; i < bytes; i += 16) {
    const x0 = v128.load(query0 + i)
    const x1 = v128.load(query1 + i)
    const a = v128.load(keys + i)
    a0 = f32x4.add(a0, f32x4.mul(x0, a))
    a1 = f32x4.add(a1, f32x4.mul(x1, a))
    const b = v128.load(key1 + i)
    b0 = f32x4.add(b0, f32x4.mul(x0, b))
    b1 = f32x4.add(b1, f32x4.mul(x1, b))
    const c = v128.load(key2 + i)
    c0 = f32x4.add(c0, f32x4.mul(x0, c))
    c1 = f32x4.add(c1, f32x4.mul(x1, c))
    const d = v128.load(key3 + i)
    d0 = f32x4.add(d0, f32x4.mul(x0, d))
    d1 = f32x4.add(d1, f32x4.mul(x1, d))
  }
  const scales = f32x4.splat(scale)
  v128.store(target0, f32x4.mul(sumColumns(a0, b0, c0, d0), scales))
  v128.store(target1, f32x4.mul(sumColumns(a1, b1, c1, d1), scales))
}

// sum4 of four vectors at once, by a transposition.
@inline
function sumColumns(a: v128, b: v128, c: v128, d: v128): v128 {
  const ab01 = v128.shuffle<f32>(a, b, 0, 4, 1, 5)
  const ab23 = v128.shuffle<f32>(a, b, 2, 6, 3, 7)
  const cd01 = v128.shuffle<f32>(c, d, 0, 4, 1, 5)
  const cd23 = v128.shuffle<f32>(c, d, 2, 6, 3, 7)
  const lane0 = v128.shuffle<f32>(ab01, cd01, 0, 1, 4, 5)
  const lane1 = v128.shuffle<f32>(ab01, cd01, 2, 3, 6, 7)
  const lane2 = v128.shuffle<f32>(ab23, cd23, 0, 1, 4, 5)
  const lane3 = v128.shuffle<f32>(ab23, cd23, 2, 3, 6, 7)
  return f32x4.add(f32x4.add(lane0, lane1), f32x4.add(lane2, lane3))
}

// output += weights[position] * values[position], one position after the other.
export function addValues(output: usize, weights: usize, values: usize, bytes: usize, begin: i32, end: i32): void {
  const first = weights + (<usize>begin << 2)
  const last = weights + (<usize>end << 2)
  values += <usize>begin * bytes
  let i: usize = 0
  for (; i + 64 <= bytes; i += 64) {
    let a = v128.load(output + i)
    let b = v128.load(output + i, 16)
    let c = v128.load(output + i, 32)
    let d = v128.load(output + i, 48)
    let value = values + i
    for (let at = first; at < last; at += 4) {
      const weight = v128.load32_splat(at)
      a = f32x4.add(a, f32x4.mul(weight, v128.load(value)))
      b = f32x4.add(b, f32x4.mul(weight, v128.load(value, 16)))
      c = f32x4.add(c, f32x4.mul(weight, v128.load(value, 32)))
      d = f32x4.add(d, f32x4.mul(weight, v128.load(value, 48)))
      value += bytes
    }
    v128.store(output + i, a)
    v128.store(output + i, b, 16)
    v128.store(output + i, c, 32)
    v128.store(output + i, d, 48)
  }
  for (; i < bytes; i += 16) {
    let a = v128.load(output + i)
    let value = values + i
    for (let at = first; at < last; at += 4) {
      a = f32x4.add(a, f32x4.mul(v128.load32_splat(at), v128.load(value)))
      value += bytes
    }
    v128.store(output + i, a)
  }
}

// The same for two neighbouring heads: each value is loaded once, and eight independent sums hide
// the latency of the additions.
export function addValues2(
  output: usize,
  weights0: usize,
  weights1: usize,
  values: usize,
  bytes: usize,
  begin: i32,
  end: i32,
): void {
  const other = weights1 - weights0
  const first = weights0 + (<usize>begin << 2)
  const last = weights0 + (<usize>end << 2)
  const output1 = output + bytes
  const from = values + <usize>begin * bytes
  let i: usize = 0
  for (; i + 64 <= bytes; i += 64) {
    let a0 = v128.load(output + i)
    let b0 = v128.load(output + i, 16)
    let c0 = v128.load(output + i, 32)
    let d0 = v128.load(output + i, 48)
    let a1 = v128.load(output1 + i)
    let b1 = v128.load(output1 + i, 16)
    let c1 = v128.load(output1 + i, 32)
    let d1 = v128.load(output1 + i, 48)
    let value = from + i
    for (let at = first; at < last; at += 4) {
      const weight0 = v128.load32_splat(at)
      const weight1 = v128.load32_splat(at + other)
      const a = v128.load(value)
      a0 = f32x4.add(a0, f32x4.mul(weight0, a))
      a1 = f32x4.add(a1, f32x4.mul(weight1, a))
      const b = v128.load(value, 16)
      b0 = f32x4.add(b0, f32x4.mul(weight0, b))
      b1 = f32x4.add(b1, f32x4.mul(weight1, b))
      const c = v128.load(value, 32)
      c0 = f32x4.add(c0, f32x4.mul(weight0, c))
      c1 = f32x4.add(c1, f32x4.mul(weight1, c))
      const d = v128.load(value, 48)
      d0 = f32x4.add(d0, f32x4.mul(weight0, d))
      d1 = f32x4.add(d1, f32x4.mul(weight1, d))
      value += bytes
    }
    v128.store(output + i, a0)
    v128.store(output + i, b0, 16)
    v128.store(output + i, c0, 32)
    v128.store(output + i, d0, 48)
    v128.store(output1 + i, a1)
    v128.store(output1 + i, b1, 16)
    v128.store(output1 + i, c1, 32)
    v128.store(output1 + i, d1, 48)
  }
  for (; i < bytes; i += 16) {
    let a0 = v128.load(output + i)
    let a1 = v128.load(output1 + i)
    let value = from + i
    for (let at = first; at < last; at += 4) {
      const a = v128.load(value)
      a0 = f32x4.add(a0, f32x4.mul(v128.load32_splat(at), a))
      a1 = f32x4.add(a1, f32x4.mul(v128.load32_splat(at + other), a))
      value += bytes
    }
    v128.store(output + i, a0)
    v128.store(output1 + i, a1)
  }
}

@inline
export function addValue(output: usize, weight: f32, value: usize, bytes: usize): void {
  const w = f32x4.splat(weight)
  for (let i: usize = 0; i < bytes; i += 16) {
    v128.store(output + i, f32x4.add(v128.load(output + i), f32x4.mul(w, v128.load(value + i))))
  }
}

@inline
export function divide(output: usize, divisor: f32, bytes: usize): void {
  const d = f32x4.splat(divisor)
  for (let i: usize = 0; i < bytes; i += 16) v128.store(output + i, f32x4.div(v128.load(output + i), d))
}
