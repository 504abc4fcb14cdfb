/** IEEE 754 binary16 and bfloat16 numbers as integers. */

const word = new Uint32Array(1)
const single = new Float32Array(word.buffer)

/** The f32 that a binary16 bit pattern stands for. */
export function halfToFloat(half: number): number {
  const sign = (half & 0x8000) << 16
  const exponent = (half >> 10) & 31
  const fraction = half & 1023
  if (exponent === 31) {
    word[0] = sign | 0x7f800000 | (fraction << 13)
    return single[0]
  }
  if (exponent === 0) return (sign === 0 ? fraction : -fraction) * 2 ** -24
  word[0] = sign | ((exponent + 112) << 23) | (fraction << 13)
  return single[0]
}

/** The nearest binary16 bit pattern, ties to even; overflow gives infinity. */
export function floatToHalf(value: number): number {
  single[0] = value
  const bits = word[0]
  const sign = (bits >>> 16) & 0x8000
  const magnitude = bits & 0x7fffffff
  if (magnitude > 0x7f800000) return sign | 0x7e00
  if (magnitude >= 0x477ff000) return sign | 0x7c00
  if (magnitude < 0x38800000) {
    // Subnormal in binary16: a multiple of 2^-24, rounded by the f64 arithmetic of an exact product.
    single[0] = Math.abs(single[0])
    return sign | roundHalfEven(single[0] * 2 ** 24)
  }
  const rounded = magnitude + 0xfff + ((magnitude >>> 13) & 1)
  return sign | ((rounded - 0x38000000) >>> 13)
}

/** The f32 that a bfloat16 bit pattern stands for. */
export function bfloatToFloat(bfloat: number): number {
  word[0] = bfloat << 16
  return single[0]
}

/** Widens binary16 values exactly. */
export function halvesToFloats(source: Uint16Array, target: Float32Array): void {
  for (let i = 0; i < source.length; i++) target[i] = halfToFloat(source[i])
}

/** Widens bfloat16 values exactly: they are the upper halves of f32. */
export function bfloatsToFloats(source: Uint16Array, target: Float32Array): void {
  const bits = new Uint32Array(target.buffer, target.byteOffset, source.length)
  for (let i = 0; i < source.length; i++) bits[i] = source[i] << 16
}

function roundHalfEven(value: number): number {
  const floor = Math.floor(value)
  const rest = value - floor
  if (rest > 0.5 || (rest === 0.5 && floor % 2 === 1)) return floor + 1
  return floor
}
