/**
 * What passes take by the number of their rows, as means that forget. Of sizes that have not been seen it is read off
 * straight lines between those that have.
 */

/** A figure that is so many times the mean is a disturbance and counts for no more than that. */
const DISTURBED = 2.5
/** A row's share of a pass over one row, before two sizes have been seen. */
const ASSUMED_SLOPE = 0.25
/** Beyond this factor, or below its inverse, what all means were scaled by becomes part of them. */
const MOST_SCALE = 1e6
/** A figure that is a hint of others is taken for no further from the mean than this share of it. */
const MOST_AWAY = 0.5

/**
 * A mean that forgets, after another figure.
 * @param count figures before it @param gain weight of a figure once there are enough of them
 */
export function meanWith(figure: number, mean: number, count: number, gain: number): number {
  if (!(mean > 0)) return figure
  // What comes first is often slow: code is compiled, weights are read for the first time.
  if (count < 2) return Math.min(mean, figure)
  const taken = Math.min(figure, mean * DISTURBED)
  return mean + (taken - mean) * Math.max(gain, 1 / (count + 1))
}

/** Adding and estimating take the same time however many sizes there are, but for the first figure of a size. */
export class SizeMeans {
  readonly #gain: number
  readonly #hint: number
  /** By rows, to be multiplied by `#scale`; 0 where nothing was seen. */
  readonly #means: Float64Array
  readonly #counts: Uint32Array
  /** The nearest sizes that were seen, the size itself included: 0, or one more than the largest, where there is none. */
  readonly #below: Uint32Array
  readonly #above: Uint32Array
  #scale = 1

  /**
   * @param rows the largest size @param gain weight of a new figure, once there are enough of them
   * @param hint weight of a figure of one size, in the exponent, for what all the others are said to take; see `observe`
   */
  constructor(rows: number, gain: number, hint = 0) {
    this.#gain = gain
    this.#hint = hint
    this.#means = new Float64Array(rows + 1)
    this.#counts = new Uint32Array(rows + 1)
    this.#below = new Uint32Array(rows + 1)
    this.#above = new Uint32Array(rows + 1).fill(rows + 1)
  }

  /** Of figures of exactly so many rows; 0 when there are none. */
  at(rows: number): number {
    return this.#means[rows] * this.#scale
  }

  count(rows: number): number {
    return this.#counts[rows]
  }

  add(rows: number, seconds: number): void {
    const count = this.#counts[rows]++
    if (count === 0) this.#findNeighbours()
    this.#means[rows] = meanWith(seconds / this.#scale, this.#means[rows], count, this.#gain)
  }

  /**
   * A figure of its size, and a hint of all others, once there are two of its size. Mean and scale follow the same
   * deviation: with one of its own each, noise would drive them apart as long as passes are seen, and sizes that are not
   * seen would seem to take less and less.
   */
  observe(rows: number, seconds: number): void {
    const count = this.#counts[rows]
    const mean = this.at(rows)
    if (count < 2 || !(mean > 0)) {
      this.add(rows, seconds)
      return
    }
    this.#counts[rows]++
    const away = Math.max(-MOST_AWAY, Math.min(MOST_AWAY, seconds / mean - 1))
    this.#means[rows] *= Math.exp(away * Math.max(this.#gain, 1 / (count + 1)))
    this.#rescale(Math.exp(away * this.#hint))
  }

  /** All sizes take so many times what they took. */
  #rescale(factor: number): void {
    this.#scale *= factor
    if (this.#scale < MOST_SCALE && this.#scale > 1 / MOST_SCALE) return
    for (let rows = 0; rows < this.#means.length; rows++) this.#means[rows] *= this.#scale
    this.#scale = 1
  }

  forget(rows: number): void {
    this.#means[rows] = 0
    this.#counts[rows] = 0
    this.#findNeighbours()
  }

  /** Whether of any size above one row there are so many figures, with a mean below a limit. */
  isAnyBelow(limit: number, figures: number): boolean {
    const scaled = limit / this.#scale
    for (let rows = 2; rows < this.#means.length; rows++) {
      if (this.#means[rows] < scaled && this.#counts[rows] >= figures) return true
    }
    return false
  }

  /** Between the sizes that were seen on a straight line; beyond the last one on that from the first to it. */
  estimate(rows: number): number {
    return this.#scale * this.#unscaled(rows)
  }

  #unscaled(rows: number): number {
    const means = this.#means
    const below = this.#below[rows]
    const above = this.#above[rows]
    if (below === rows) return means[rows]
    const hasAbove = above < means.length
    if (below === 0) return hasAbove ? (means[above] / growth(above)) * growth(rows) : 0
    if (hasAbove) return means[below] + ((rows - below) / (above - below)) * (means[above] - means[below])
    const first = this.#above[1]
    if (first === below) return (means[below] / growth(below)) * growth(rows)
    return means[below] + (Math.max(0, means[below] - means[first]) / (below - first)) * (rows - below)
  }

  #findNeighbours(): void {
    const counts = this.#counts
    for (let rows = 1, last = 0; rows < counts.length; rows++) this.#below[rows] = last = counts[rows] > 0 ? rows : last
    for (let rows = counts.length - 1, next = counts.length; rows > 0; rows--) {
      this.#above[rows] = next = counts[rows] > 0 ? rows : next
    }
  }
}

const growth = (rows: number): number => 1 + ASSUMED_SLOPE * (rows - 1)
