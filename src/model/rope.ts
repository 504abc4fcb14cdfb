/**
 * Rotary position embedding (RoFormer, arXiv 2104.09864): the angle of pair i at position p is
 * p * theta^(-2i/d), with the frequency rescalings that checkpoints ask for.
 */
import { cos, pow, sin } from '../tensor/math.ts'
import type { ModelConfig } from '../weights/model-config.ts'

/** Frequencies of the headSize/2 rotation pairs, radians per position. */
export function ropeFrequencies(config: ModelConfig): Float64Array {
  const { theta, scaling } = config.rope
  const frequencies = new Float64Array(config.headSize / 2)
  for (let i = 0; i < frequencies.length; i++) {
    frequencies[i] = rescale(pow(theta, (-2 * i) / config.headSize), scaling)
  }
  return frequencies
}

function rescale(frequency: number, scaling: ModelConfig['rope']['scaling']): number {
  switch (scaling.type) {
    case 'none':
      return frequency
    case 'linear':
      return frequency / scaling.factor
    case 'llama3': {
      // Llama 3.1: long wavelengths are stretched, short ones kept, those between interpolated.
      const wavelength = (2 * Math.PI) / frequency
      const { factor, lowFrequencyFactor: low, highFrequencyFactor: high, originalPositions: original } = scaling
      if (wavelength > original / low) return frequency / factor
      if (wavelength < original / high) return frequency
      const smooth = (original / wavelength - low) / (high - low)
      return ((1 - smooth) * frequency) / factor + smooth * frequency
    }
  }
}

/** Writes cos and sin of every row's angles: two [rows][headSize/2] tables. */
export function fillRopeTables(
  frequencies: Float64Array,
  positions: Int32Array,
  rows: number,
  cosines: Float32Array,
  sines: Float32Array,
): void {
  const half = frequencies.length
  for (let row = 0; row < rows; row++) {
    for (let i = 0; i < half; i++) {
      const angle = positions[row] * frequencies[i]
      cosines[row * half + i] = cos(angle)
      sines[row * half + i] = sin(angle)
    }
  }
}
