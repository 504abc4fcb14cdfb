/** Norms, rotations and gates, one number at a time, rounded as the kernels round. */
import { exp, sum4 } from './exp.ts'

const f = Math.fround

/** x * (1 / sqrt(mean(x^2) + epsilon)) * w */
export function rmsNorm(x: Float32Array, weight: Float32Array, epsilon: number): Float32Array {
  const lanes = new Float32Array(4)
  const whole = x.length - (x.length % 4)
  for (let i = 0; i < whole; i++) lanes[i % 4] += f(x[i] * x[i])
  let sum = sum4(lanes)
  for (let i = whole; i < x.length; i++) sum = f(sum + f(x[i] * x[i]))
  const factor = f(1 / f(Math.sqrt(f(f(sum / x.length) + f(epsilon)))))
  return x.map((value, i) => f(f(value * factor) * weight[i]))
}

/** Rotates dimensions (i, i + half) of one head, in place. */
export function rope(head: Float32Array, half: number, cosines: Float32Array, sines: Float32Array): void {
  for (let i = 0; i < half; i++) {
    const a = head[i]
    const b = head[i + half]
    head[i] = f(f(a * cosines[i]) - f(b * sines[i]))
    head[i + half] = f(f(b * cosines[i]) + f(a * sines[i]))
  }
}

/** gate / (1 + exp(-gate)) * up */
export function siluGate(gate: Float32Array, up: Float32Array): Float32Array {
  return gate.map((g, i) => f(f(g / f(1 + exp(-g))) * up[i]))
}

/** Sum of exp((x - maximum) * scale). */
export function sumExp(x: Float32Array, scale: number, maximum: number): number {
  const lanes = new Float32Array(4)
  const whole = x.length - (x.length % 4)
  const term = (value: number): number => exp(f(f(value - maximum) * f(scale)))
  for (let i = 0; i < whole; i++) lanes[i % 4] += term(x[i])
  let sum = sum4(lanes)
  for (let i = whole; i < x.length; i++) sum = f(sum + term(x[i]))
  return sum
}
