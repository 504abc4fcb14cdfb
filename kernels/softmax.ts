// The softmax of one row's scores, in lanes by absolute position.
import { exp4, expNegative4, storeExpTable } from './exp'
import { max4, sum4 } from './lanes'

// Replaces scores [begin, end) by exp(score - maximum), and what shares their vectors by zeros.
// Returns the sum of the exponentials. `table`: EXP_TABLE_BYTES to work with.
export function softmax(scores: usize, begin: i32, end: i32, softcap: f32, table: usize): f32 {
  const first = scores + (<usize>(begin & ~3) << 2)
  const last = scores + (<usize>((end + 3) & ~3) << 2)
  if (softcap != 0) for (let at = first; at < last; at += 16) v128.store(at, cap4(v128.load(at), softcap))
  for (let at = first; at < scores + (<usize>begin << 2); at += 4) store<f32>(at, -Infinity)
  for (let at = scores + (<usize>end << 2); at < last; at += 4) store<f32>(at, -Infinity)
  const maximum = f32x4.splat(largest(first, last))
  storeExpTable(table)
  let sum = f32x4.splat(0)
  let at = first
  for (; at + 64 <= last; at += 64) {
    const a = expNegative4(f32x4.sub(v128.load(at), maximum), table)
    const b = expNegative4(f32x4.sub(v128.load(at, 16), maximum), table)
    const c = expNegative4(f32x4.sub(v128.load(at, 32), maximum), table)
    const d = expNegative4(f32x4.sub(v128.load(at, 48), maximum), table)
    v128.store(at, a)
    v128.store(at, b, 16)
    v128.store(at, c, 32)
    v128.store(at, d, 48)
    sum = f32x4.add(f32x4.add(f32x4.add(f32x4.add(sum, a), b), c), d)
  }
  for (; at < last; at += 16) {
    const e = expNegative4(f32x4.sub(v128.load(at), maximum), table)
    v128.store(at, e)
    sum = f32x4.add(sum, e)
  }
  return sum4(sum)
}

// The largest of whole vectors, NaN left out: it shows in its own exponential and in the sum. (pmax is one
// instruction, max about eight.)
@inline
function largest(first: usize, last: usize): f32 {
  let a = f32x4.splat(-Infinity)
  let b = a
  let c = a
  let d = a
  let at = first
  for (; at + 64 <= last; at += 64) {
    a = f32x4.pmax(a, v128.load(at))
    b = f32x4.pmax(b, v128.load(at, 16))
    c = f32x4.pmax(c, v128.load(at, 32))
    d = f32x4.pmax(d, v128.load(at, 48))
  }
  for (; at < last; at += 16) a = f32x4.pmax(a, v128.load(at))
  return max4(f32x4.pmax(f32x4.pmax(a, b), f32x4.pmax(c, d)))
}

// cap * tanh(x / cap), tanh(y) = 1 - 2 / (exp(2y) + 1).
@inline
function cap4(x: v128, cap: f32): v128 {
  const one = f32x4.splat(1)
  const e = exp4(f32x4.mul(f32x4.div(x, f32x4.splat(cap)), f32x4.splat(2)))
  const tanh = f32x4.sub(one, f32x4.div(f32x4.splat(2), f32x4.add(e, one)))
  return f32x4.mul(f32x4.splat(cap), tanh)
}
