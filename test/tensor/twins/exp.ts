/** exp by the kernels' polynomial, one number at a time. */

const f = Math.fround
const LOG2_E = f(Math.LOG2E)
const LN2_HIGH = f(0.693359375)
const LN2_LOW = f(-2.1219444e-4)
/** 1/7!, 1/6!, ... 1/0! */
const COEFFICIENTS = [1.98412698e-4, 1.38888889e-3, 8.33333333e-3, 4.16666667e-2, 0.166666667, 0.5, 1, 1].map(f)

/** Nearest integer, ties to even. */
export function nearest(x: number): number {
  if (!(Math.abs(x) < 2 ** 23)) return x
  const floor = Math.floor(x)
  const rest = x - floor
  if (rest > 0.5 || (rest === 0.5 && floor % 2 !== 0)) return floor + 1
  return floor
}

export function exp(x: number): number {
  if (x < -87) return 0
  const cut = Math.min(x, 88)
  const n = nearest(f(cut * LOG2_E))
  let r = f(cut - f(n * LN2_HIGH))
  r = f(r - f(n * LN2_LOW))
  let p = COEFFICIENTS[0]
  for (let i = 1; i < COEFFICIENTS.length; i++) p = f(f(p * r) + COEFFICIENTS[i])
  return f(p * f(2 ** n))
}

/** (l0 + l1) + (l2 + l3) */
export const sum4 = (l: ArrayLike<number>): number => f(f(l[0] + l[1]) + f(l[2] + l[3]))
