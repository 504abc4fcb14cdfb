/** Weights out of nothing: distributed like real ones, and without end. */

/** Weights that are drawn; whoever asks for more gets them again, from another place on. */
const POOL = (1 << 21) + 1

/** Every weight is a bfloat16 number, so that both forms hold the same. */
export class MadeUpWeights {
  readonly #floats = drawFloats()
  readonly #bfloats = Uint16Array.from(new Uint32Array(this.#floats.buffer), (word) => word >>> 16)
  #next = 0

  /** Fills `target` with the next weights: as f32, or as the bits of bfloat16. */
  fill(target: Float32Array | Uint16Array): void {
    const pool = target instanceof Float32Array ? this.#floats : this.#bfloats
    for (let done = 0; done < target.length; ) {
      const piece = pool.subarray(this.#next, this.#next + target.length - done)
      target.set(piece, done)
      done += piece.length
      this.#next = (this.#next + piece.length) % POOL
    }
  }
}

/** Bell-shaped, with an outlier now and then. */
function drawFloats(): Float32Array {
  const floats = new Float32Array(POOL)
  const bits = new Uint32Array(floats.buffer)
  let seed = 1
  const next = (): number => {
    seed = (seed * 48_271) % 2_147_483_647
    return seed / 2_147_483_647 - 0.5
  }
  for (let i = 0; i < POOL; i++) {
    floats[i] = (next() + next() + next()) * (i % 499 === 0 ? 0.3 : 0.04)
    bits[i] &= 0xffff0000
  }
  return floats
}
