// The softmax of one row's scores, in lanes by absolute position.
import { exp4 } from './exp'
import { max4, sum4 } from './lanes'

// Replaces scores [begin, end) by exp(score - maximum), and what shares their vectors by zeros.
// Returns the sum of the exponentials.
export function softmax(scores: usize, begin: i32, end: i32, softcap: f32): f32 {
  const first = scores + (<usize>(begin & ~3) << 2)
  const last = scores + (<usize>((end + 3) & ~3) << 2)
  if (softcap != 0) for (let at = first; at < last; at += 16) v128.store(at, cap4(v128.load(at), softcap))
  for (let at = first; at < scores + (<usize>begin << 2); at += 4) store<f32>(at, -Infinity)
  for (let at = scores + (<usize>end << 2); at < last; at += 4) store<f32>(at, -Infinity)
  let most = f32x4.splat(-Infinity)
  for (let at = first; at < last; at += 16) most = f32x4.max(most, v128.load(at))
  const maximum = f32x4.splat(max4(most))
  let sum = f32x4.splat(0)
  for (let at = first; at < last; at += 16) {
    const e = exp4(f32x4.sub(v128.load(at), maximum))
    v128.store(at, e)
    sum = f32x4.add(sum, e)
  }
  return sum4(sum)
}

// cap * tanh(x / cap), tanh(y) = 1 - 2 / (exp(2y) + 1).
@inline
function cap4(x: v128, cap: f32): v128 {
  const one = f32x4.splat(1)
  const e = exp4(f32x4.mul(f32x4.div(x, f32x4.splat(cap)), f32x4.splat(2)))
  const tanh = f32x4.sub(one, f32x4.div(f32x4.splat(2), f32x4.add(e, one)))
  return f32x4.mul(f32x4.splat(cap), tanh)
}
