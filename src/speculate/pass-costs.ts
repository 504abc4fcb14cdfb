/**
 * What passes cost, as they turn out: the planner's half of the truth. Nothing here reads a clock, so tests can
 * put in any machine they like.
 */
import { meanWith, SizeMeans } from './size-means.ts'

/** Weight of a new figure, once there are enough of them. */
const GAIN = 0.12
/** The same for passes by their size: what one size takes beside the others hardly changes. */
const SIZE_GAIN = 0.06
/** A pass that waits for so much of its time takes as long as the disk; shorter waits are hitches of a pass that computes. */
export const DISK_BOUND = 0.35
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
/** With fewer draft passes, the first of which may have read weights, nothing is held against a draft. */
const FEWEST_DRAFTS = 6
/** Less than this share of what a pass of one row takes is too little for one of more rows. */
const DOUBTFUL = 0.9

/** A mean that forgets. */
class Mean {
  value = 0
  count = 0

  add(figure: number): void {
    this.value = meanWith(figure, this.value, this.count++, GAIN)
  }
}

export class PassCosts {
  /** Seconds of computing: the layers, which a prompt goes through, too, and what comes behind them; and as a whole. */
  readonly #layers: SizeMeans
  readonly #head: SizeMeans
  readonly #whole: SizeMeans
  /** Of a pass that waits for the disk: as long as the disk takes, however many rows there are. */
  readonly #disk = new Mean()
  readonly #draft: SizeMeans
  /** Of reading one token into the draft, beside others. */
  readonly #read = new Mean()
  /** Draft passes so far, what a plain pass took when the draft was last seen, and passes since. */
  #drafts = 0
  #plainAtDraft = 0
  #sinceDraft = 0
  /** Estimates by rows, as a whole and of computing; made when they are asked for, and true for `#figures` figures. */
  readonly #table: Float64Array
  readonly #computeTable: Float64Array
  readonly #madeAt: Float64Array
  #figures = 1
  readonly #readAhead: number

  /**
   * @param rows of the largest pass @param draftRows of the largest draft pass
   * @param readAhead share of what a pass reads that may be read before it begins
   */
  constructor(rows: number, draftRows: number, readAhead = 0) {
    this.#readAhead = readAhead
    this.#layers = new SizeMeans(rows, SIZE_GAIN, HINT)
    this.#head = new SizeMeans(rows, SIZE_GAIN, HINT)
    this.#whole = new SizeMeans(rows, SIZE_GAIN, HINT)
    this.#draft = new SizeMeans(draftRows, GAIN)
    this.#table = new Float64Array(rows + 1)
    this.#computeTable = new Float64Array(rows + 1)
    this.#madeAt = new Float64Array(rows + 1)
  }

  /**
   * @param compute seconds that the pass would have taken without a disk
   * @param whole seconds that it took; absent for passes that read what later ones find in memory
   * @param ahead seconds before it in which the disk went on reading
   * @param head seconds of `compute` that came after the layers
   */
  observePass(rows: number, compute: number, whole?: number, ahead = 0, head = 0): void {
    this.#layers.observe(rows, compute - head)
    this.#head.observe(rows, head)
    this.#figures++
    this.#sinceDraft++
    if (whole === undefined) return
    const waited = whole - compute
    // What was read ahead, a pass that waits would have had to wait for.
    const full = waited > HITCH * whole ? whole + this.#sparedBy(ahead) : whole
    // What the disk takes does not change with what computing takes.
    if (waited > HITCH * whole || this.areDiskBound) this.#whole.add(rows, full)
    else this.#whole.observe(rows, full)
    this.#observeDisk(waited, full)
  }

  /** Rows of the prompt, of which nothing but the layers is computed. The rest is as in `observePass`. */
  observePrompt(rows: number, compute: number, whole?: number): void {
    this.#layers.observe(rows, compute)
    this.#figures++
    if (whole !== undefined) this.#observeDisk(whole - compute, whole)
  }

  #observeDisk(waited: number, whole: number): void {
    if (waited > DISK_BOUND * whole || whole < this.#disk.value) this.#disk.add(whole)
  }

  observeDraft(rows: number, seconds: number): void {
    this.#draft.add(rows, seconds)
    this.#drafts++
    this.#plainAtDraft = this.pass(1)
    this.#sinceDraft = 0
  }

  /** What it took to read tokens that were written, or were in the prompt, without being drafted for. */
  observeRead(tokens: number, seconds: number): void {
    this.#read.add(seconds / tokens)
  }

  /** Whether there is a figure of a pass of so many rows. */
  hasSeen(rows: number): boolean {
    return this.#whole.count(rows) > 0
  }

  /** Whether there are enough of them to go by. */
  isSure(rows: number): boolean {
    return this.#whole.count(rows) >= SURE
  }

  /**
   * Whether passes of more rows seem to take less time than plain ones, which cannot be: the figures of plain ones, which
   * are few, are of a worse minute.
   */
  get isPlainDoubtful(): boolean {
    return this.#whole.isAnyBelow(DOUBTFUL * this.#whole.at(1), WELL_KNOWN)
  }

  /** What plain passes cost is to be seen anew; until then it follows from those of more rows. */
  forgetPlain(): void {
    this.#whole.forget(1)
    this.#layers.forget(1)
    this.#head.forget(1)
    this.#figures++
  }

  /**
   * Whether plain passes take as long as the disk. What the disk takes is no more than the shortest passes of late, so a
   * target in the page cache, which must wait now and then, is not bound by it.
   */
  get areDiskBound(): boolean {
    return this.#disk.value > 0 && this.#computeOf(1) <= (1 - DISK_BOUND) * this.#disk.value
  }

  /**
   * Seconds to expect of a pass; 0 when nothing is known.
   * @param ahead seconds before it in which the disk reads on
   */
  pass(rows: number, ahead = 0): number {
    if (this.#madeAt[rows] !== this.#figures) this.#estimate(rows)
    const full = this.#table[rows]
    return Math.max(Math.min(full, this.#computeTable[rows]), full - this.#sparedBy(ahead))
  }

  #sparedBy(ahead: number): number {
    return Math.min(ahead, this.#readAhead * this.#disk.value)
  }

  /** Seconds to expect of a draft pass; 0 when nothing is known. */
  draftPass(rows: number): number {
    return this.#draft.estimate(rows)
  }

  /** Seconds to expect of reading so many tokens into the draft; 0 when nothing is known. */
  read(tokens: number): number {
    return tokens * this.#read.value
  }

  /**
   * What the draft took for a pass of one row and for reading a token when it was last seen, in plain passes of that time:
   * nothing is seen of it while nobody drafts, and machines have better and worse minutes. 0 when too little
   * is known. `age` is in passes.
   */
  get lastDraft(): { readonly draftPass: number; readonly readToken: number; readonly age: number } {
    const plain = this.#plainAtDraft
    const age = this.#sinceDraft
    if (plain === 0 || this.#drafts < FEWEST_DRAFTS) return { draftPass: 0, readToken: 0, age }
    return { draftPass: this.draftPass(1) / plain, readToken: this.read(1) / plain, age }
  }

  #computeOf(rows: number): number {
    return this.#layers.estimate(rows) + this.#head.estimate(rows)
  }

  #estimate(rows: number): void {
    this.#madeAt[rows] = this.#figures
    const compute = this.#computeOf(rows)
    this.#computeTable[rows] = compute
    // One disturbed figure must not rule a size out for good.
    const trust = Math.min(1, this.#whole.count(rows) / SURE)
    this.#table[rows] = trust * this.#whole.at(rows) + (1 - trust) * Math.max(this.#disk.value, compute)
  }
}
