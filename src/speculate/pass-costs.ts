/**
 * What passes cost, as they turn out: the planner's half of the truth. Nothing here reads a clock, so tests can
 * put in any machine they like.
 */

/** Weight of a new figure, once there are enough of them. */
const GAIN = 0.12
/** The same for passes by their size: what one size takes beside the others hardly changes. */
const SIZE_GAIN = 0.06
/** A figure that is so many times the mean is a disturbance and counts for no more than that. */
const DISTURBED = 2.5
/** A pass that waits for so much of its time takes as long as the disk; shorter waits are hitches of a pass that computes. */
const DISK_BOUND = 0.35
/** A pass that waits for less of its time did not have to wait for the disk. */
const HITCH = 0.1
/** So many figures of a size are taken as they are. */
const SURE = 2
/** So many can be held against others. */
const WELL_KNOWN = 4
/**
 * What does change is what all of them take: code gets faster while it runs, and machines have better and worse minutes.
 * So a pass of one size is a hint, with this weight in the exponent, of what any other would take now.
 */
const HINT = 0.12
/** A disturbed pass is a hint of no more than this. */
const MOST_HINT = 1.3
/** Less than this share of what a pass of one row takes is too little for one of more rows. */
const DOUBTFUL = 0.9
/** A row's share of a pass over one row, before two sizes have been seen. */
const ASSUMED_SLOPE = 0.25

/** A mean that forgets. */
class Mean {
  value = 0
  count = 0
  readonly #gain: number

  constructor(gain = GAIN) {
    this.#gain = gain
  }

  forget(): void {
    this.value = 0
    this.count = 0
  }

  scale(factor: number): void {
    this.value *= factor
  }

  add(figure: number): void {
    this.count++
    if (this.count <= 2) {
      // What comes first is often slow: code is compiled, weights are read for the first time.
      this.value = this.count === 1 ? figure : Math.min(this.value, figure)
      return
    }
    const taken = Math.min(figure, this.value * DISTURBED)
    this.value += (taken - this.value) * Math.max(this.#gain, 1 / this.count)
  }
}

export class PassCosts {
  readonly #rows: number
  /** Seconds by rows of a pass: of computing, and as a whole. */
  readonly #compute: readonly Mean[]
  readonly #whole: readonly Mean[]
  /** Of a pass that waits for the disk: as long as the disk takes, however many rows there are. */
  readonly #disk = new Mean()
  readonly #draft: readonly Mean[]
  /** Of reading one token into the draft, beside others. */
  readonly #read = new Mean()
  /** Estimates by rows, as a whole and of computing; built when they are asked for. */
  readonly #table: Float64Array
  readonly #computeTable: Float64Array
  readonly #readAhead: number
  #isStale = true

  /**
   * @param rows of the largest pass @param draftRows of the largest draft pass
   * @param readAhead share of what a pass reads that may be read before it begins
   */
  constructor(rows: number, draftRows: number, readAhead = 0) {
    this.#rows = rows
    this.#readAhead = readAhead
    this.#compute = Array.from({ length: rows + 1 }, () => new Mean(SIZE_GAIN))
    this.#whole = Array.from({ length: rows + 1 }, () => new Mean(SIZE_GAIN))
    this.#draft = Array.from({ length: draftRows + 1 }, () => new Mean())
    this.#table = new Float64Array(rows + 1)
    this.#computeTable = new Float64Array(rows + 1)
  }

  /**
   * @param compute seconds that the pass would have taken without a disk
   * @param whole seconds that it took; absent for passes that read what later ones find in memory
   * @param ahead seconds before it in which the disk went on reading
   */
  observePass(rows: number, compute: number, whole?: number, ahead = 0): void {
    observe(this.#compute, rows, compute)
    this.#isStale = true
    if (whole === undefined) return
    const waited = whole - compute
    // What was read ahead, a pass that waits would have had to wait for.
    const full = waited > HITCH * whole ? whole + this.#sparedBy(ahead) : whole
    // What the disk takes does not change with what computing takes.
    if (waited > HITCH * whole || this.areDiskBound) this.#whole[rows].add(full)
    else observe(this.#whole, rows, full)
    if (waited > DISK_BOUND * whole || full < this.#disk.value) this.#disk.add(full)
  }

  observeDraft(rows: number, seconds: number): void {
    this.#draft[rows].add(seconds)
  }

  /** What it took to read tokens that were written, or were in the prompt, without being drafted for. */
  observeRead(tokens: number, seconds: number): void {
    this.#read.add(seconds / tokens)
  }

  /** Whether there is a figure of a pass of so many rows. */
  hasSeen(rows: number): boolean {
    return this.#whole[rows].count > 0
  }

  /** Whether there are enough of them to go by. */
  isSure(rows: number): boolean {
    return this.#whole[rows].count >= SURE
  }

  /**
   * Whether passes of more rows seem to take less time than plain ones, which cannot be: the figures of plain ones, which
   * are few, are of a worse minute.
   */
  get isPlainDoubtful(): boolean {
    const limit = DOUBTFUL * this.#whole[1].value
    return this.#whole.some(({ value, count }, rows) => rows > 1 && count >= WELL_KNOWN && value < limit)
  }

  /** What plain passes cost is to be seen anew; until then it follows from those of more rows. */
  forgetPlain(): void {
    this.#whole[1].forget()
    this.#compute[1].forget()
    this.#isStale = true
  }

  /** Whether passes have been seen that took as long as the disk. */
  get areDiskBound(): boolean {
    return this.#disk.value > 0
  }

  /**
   * Seconds to expect of a pass; 0 when nothing is known.
   * @param ahead seconds before it in which the disk reads on
   */
  pass(rows: number, ahead = 0): number {
    if (this.#isStale) this.#build()
    const full = this.#table[rows]
    return Math.max(Math.min(full, this.#computeTable[rows]), full - this.#sparedBy(ahead))
  }

  #sparedBy(ahead: number): number {
    return Math.min(ahead, this.#readAhead * this.#disk.value)
  }

  /** Seconds to expect of a draft pass; 0 when nothing is known. */
  draftPass(rows: number): number {
    return between(this.#draft, rows)
  }

  /** Seconds to expect of reading so many tokens into the draft; 0 when nothing is known. */
  read(tokens: number): number {
    return tokens * this.#read.value
  }

  #build(): void {
    this.#isStale = false
    const disk = this.#disk.value
    for (let rows = 1; rows <= this.#rows; rows++) {
      const { value, count } = this.#whole[rows]
      const compute = between(this.#compute, rows)
      const estimate = Math.max(disk, compute)
      this.#computeTable[rows] = compute
      // One disturbed figure must not rule a size out for good.
      const trust = Math.min(1, count / SURE)
      this.#table[rows] = trust * value + (1 - trust) * estimate
    }
  }
}

/** What a pass of so many rows took: a figure of its size, and a hint of all. @param means by rows */
function observe(means: readonly Mean[], rows: number, seconds: number): void {
  const { value, count } = means[rows]
  means[rows].add(seconds)
  if (count < SURE || value === 0) return
  const hint = Math.min(MOST_HINT, Math.max(1 / MOST_HINT, seconds / value)) ** HINT
  for (const mean of means) mean.scale(hint)
}

/** Between the sizes that were seen on a straight line; beyond the last one on that from the first to it. */
function between(seen: readonly Mean[], rows: number): number {
  if (seen[rows].count > 0) return seen[rows].value
  let below = rows - 1
  while (below > 0 && seen[below].count === 0) below--
  let above = rows + 1
  while (above < seen.length && seen[above].count === 0) above++
  if (below === 0) return above === seen.length ? 0 : (seen[above].value / growth(above)) * growth(rows)
  if (above < seen.length) {
    const share = (rows - below) / (above - below)
    return seen[below].value + share * (seen[above].value - seen[below].value)
  }
  let first = 1
  while (seen[first].count === 0) first++
  if (first === below) return (seen[below].value / growth(below)) * growth(rows)
  const slope = Math.max(0, seen[below].value - seen[first].value) / (below - first)
  return seen[below].value + slope * (rows - below)
}

const growth = (rows: number): number => 1 + ASSUMED_SLOPE * (rows - 1)
