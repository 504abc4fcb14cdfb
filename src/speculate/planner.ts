/**
 * How many guesses pay: by what passes cost and what guesses are worth, as both turn out. The tree that is put
 * before the target is the prefix of the order of merit with the most tokens per second, and drafting goes on as
 * long as another draft pass promises to raise that.
 */
import type { Calibration } from './calibration.ts'
import type { Growth, Outcome, Pacing } from './pacing.ts'
import type { PassCosts } from './pass-costs.ts'
import { mayPay } from './prospects.ts'
import { Rate } from './rate.ts'

/** Children of a node that are worth counting with before they are known. */
const EXPECTED_CHILDREN = 3

/** Drafted passes before the first verdict on drafting as such, and in each later trial of it. */
const FIRST_TRIAL = 6
const LATER_TRIAL = 4
const LONGEST_TRIAL = 24
const PASSES_PER_READING = 4
/**
 * A later trial ends before that, but not before so many passes, when these are slower than plain ones by more than this
 * share over the square root of their number: as far as chance may lead. So does a first one that is longer for what it
 * had to read, but not before it is as long as others.
 */
const SHORTEST_TRIAL = 2
const HOPELESS = 0.28
/**
 * Plain passes after a verdict against drafting: so many, then twice as many, and so on. Where passes wait for a
 * disk, drafting nearly always pays, and a verdict against it is mostly that of a machine that was busy otherwise.
 */
const FIRST_REST = 24
const LONGEST_REST = 384
const FIRST_REST_AT_DISK = 3
const LONGEST_REST_AT_DISK = 48

/** Looking for guesses and finding none says nothing of guesses where it took no more than this share of the pass. */
const NEGLIGIBLE = 0.01

/** A pass that takes so many times what its size should take counts for no more. */
const DISTURBED = 1.5

/**
 * The first pass is plain; then these, because the first ones were perhaps disturbed, and code gets faster; then one of
 * so many. Where passes are known to take as long as the disk, whatever is in them, the first ones are not needed.
 */
const PLAIN_AT = [8, 24, 72]
const PLAIN_EVERY = 200
/**
 * When what is known of plain passes cannot be for so many drafted ones, then for twice as many, and so on, two plain
 * ones are made to see. Noise alone can make plain passes look slow where a row more costs little.
 */
const FIRST_DOUBT = 4
const LONGEST_DOUBT = 64

/**
 * Where others guess in passes that are left to them, these may gain more than drafted ones that pay: so many of every
 * so many passes are left to them, the first ones after some text.
 */
const WITHOUT = 8
const WITHOUT_EVERY = 128
const FIRST_WITHOUT = 40

/**
 * What a trial has to read first, which is lost when it fails, should be no more than this share of all passes in
 * memory; and no rest on account of that is longer than so many.
 */
const MOST_READING = 0.005
const LONGEST_REST_OF_READING = 3072
/** Passes that reading is to be worth while, before texts have been seen, and the weight of a text's passes in the mean. */
const EXPECTED_PASSES = 64
const TEXT_GAIN = 0.2

/**
 * What drafting with a model has to gain in memory to count as paying: plain passes among drafted ones, which it is
 * compared with, take longer than among themselves, by up to 9 % where every other one is drafted (EPYC, two threads;
 * among passes with look-ups alone they took no longer). Where weights just fit the last cache (29 of 32 MB, EPYC of Zen
 * 4), the next three take 12 to 20 % longer, after look-ups too; that is not made up for.
 */
const PAYS = 1.03

/** After so many drafted passes that paid, a verdict against drafting would be the first again. */
const CONVINCING = 24
/** What is left of the running rate at a verdict against drafting: as much as a trial brings. */
const KEPT = 0.3

/**
 * While drafting rests: the speed-up that one guess per pass would have had, as a running mean with this weight of the
 * newest pass that was watched, which ends the rest. Two right ones in a row do where a second row costs little, three
 * where it costs a third of the first.
 */
const WATCH_GAIN = 0.25
const ROUSING = 1.25

/** Every so many passes a size nearby is tried that is not well known yet: costs are stairs, and stairs hide behind edges. */
const EXPLORE_EVERY = 12

/**
 * A node that has less of a chance than this share of what a row costs, in plain passes, is not looked behind. Less than
 * all of it, because a node may come at no cost where costs are stairs; and the estimate is made anew seldom.
 */
const LEAST_SHARE = 0.5
const LEAST_EVERY = 16

export class Planner implements Pacing {
  /** What the chances of guesses come from; the request's. */
  calibration: Calibration
  /** Passes so far that were left without guesses because none seemed to pay. */
  declined = 0
  /** The pass is to tell what plain ones cost. */
  needsPlain = false
  /** Tokens per second with guesses as a multiple of those without, when guessing was last found not to pay. */
  declinedSpeedUp: number | undefined
  readonly #costs: PassCosts
  readonly #nodes: number
  /** Chances by falling order: of a tree, and of what a further draft pass should add to it. */
  readonly #chances: Float64Array
  readonly #hoped: Float64Array
  readonly #rate = new Rate()
  #drafted = 0
  #hasTried = false
  #trial = FIRST_TRIAL
  #nextRest = 0
  #resting = 0
  #watched = 1
  #passes = 0
  /** Passes in a row with a doubt about plain ones, after how many it is checked, and whether a second plain one is due. */
  #doubtful = 0
  #doubt = FIRST_DOUBT
  #isChecking = false
  /** Passes of the text that is being written, and of texts as a mean. */
  #textPasses = 0
  #expectedPasses = EXPECTED_PASSES
  /** What was read for the trial that is under way, in plain passes that would take as long. */
  #reading = 0
  /** See `leastChance`; made anew after so many passes. */
  #leastChance = 0
  #leastUntil = 0
  readonly #isModel: boolean
  readonly #pays: number
  /** Whether others guess where this one does not. */
  readonly #hasOthers: boolean
  readonly #rateWithout = new Rate()

  /**
   * @param nodes of the largest tree @param rows of the largest draft pass; 0 without a draft model
   * @param hasOthers whether passes that are not drafted for are not plain, but others' to guess in
   */
  constructor(costs: PassCosts, calibration: Calibration, nodes: number, rows: number, hasOthers = false) {
    this.#costs = costs
    this.#hasOthers = hasOthers
    this.calibration = calibration
    this.#nodes = nodes
    this.#chances = new Float64Array(nodes)
    this.#hoped = new Float64Array(rows * EXPECTED_CHILDREN)
    this.#isModel = rows > 0
    this.#pays = this.#isModel ? PAYS : 1
  }

  startText(): void {
    if (this.#textPasses > 0) this.#expectedPasses += (this.#textPasses - this.#expectedPasses) * TEXT_GAIN
    this.#textPasses = 0
  }

  shouldDraft(unread = 0): boolean {
    this.needsPlain = false
    if (this.#nodes === 0) return false
    this.#textPasses++
    if (this.#resting > 0) {
      this.#restOn()
      return false
    }
    // Without knowing what a plain pass costs there is no telling what pays; and it changes with the text's length.
    const pass = this.#passes++
    const isAtDisk = this.#costs.areDiskBound
    this.needsPlain = isAtDisk
      ? pass > 0 && pass % PLAIN_EVERY === 0
      : PLAIN_AT.includes(pass) || pass % PLAIN_EVERY === 0 || this.#mustCheck()
    if (this.needsPlain) return false
    const sinceLeft = (pass - FIRST_WITHOUT) % WITHOUT_EVERY
    if (this.#hasOthers && !isAtDisk && sinceLeft >= 0 && sinceLeft < WITHOUT) return false
    if (this.#mustWait(unread)) {
      this.#rest()
      this.#restOn()
      return false
    }
    return this.#isWorthReading(unread)
  }

  /**
   * Owners learn of guesses each for itself, and should not each pay for what the machine has shown already. No longer
   * than until rests are as long as they get: an owner's guesses may be better than any that were hoped for.
   */
  #mustWait(unread: number): boolean {
    if (!this.#isModel || this.#hasTried || this.#nextRest > LONGEST_REST || this.#costs.areDiskBound) return false
    return !mayPay(this.#costs, { nodes: this.#nodes, unread, passes: this.#expectedPasses, least: this.#pays })
  }

  #mustCheck(): boolean {
    if (this.#isChecking) {
      this.#isChecking = false
      return true
    }
    this.#doubtful = this.#costs.isPlainDoubtful ? this.#doubtful + 1 : 0
    if (this.#doubtful < this.#doubt) return false
    this.#doubtful = 0
    this.#doubt = Math.min(LONGEST_DOUBT, 2 * this.#doubt)
    this.#costs.forgetPlain()
    this.#isChecking = true
    return true
  }

  /** Who has read much should look twice. */
  get #trialPasses(): number {
    return Math.max(this.#trial, Math.min(LONGEST_TRIAL, Math.round(PASSES_PER_READING * this.#reading)))
  }

  /** What was read is read, and no matter of whether to go on; but to begin, what is gained should outweigh it. */
  #isWorthReading(tokens: number): boolean {
    const plain = this.#costs.pass(1)
    if (tokens === 0 || plain === 0) return true
    const reading = this.#costs.read(tokens) / plain
    this.#reading += reading
    const isTrial = this.#drafted < this.#trialPasses
    if (isTrial || (this.#rate.speedUp - this.#speedUpWithout) * this.#expectedPasses >= reading) return true
    this.#rest()
    this.#restOn()
    return false
  }

  /** Where rows cost nothing beside the disk, every chance is worth having. */
  get leastChance(): number {
    if (this.#passes < this.#leastUntil) return this.#leastChance
    this.#leastUntil = this.#passes + LEAST_EVERY
    const plain = this.#costs.pass(1)
    let cheapest = plain > 0 ? 1 : 0
    for (let n = 1; n <= this.#nodes && cheapest > 0; n += Math.max(1, n >> 1)) {
      cheapest = Math.min(cheapest, (this.#costs.pass(n + 1) - plain) / (n * plain))
    }
    this.#leastChance = LEAST_SHARE * Math.max(0, cheapest)
    return this.#leastChance
  }

  expand(growth: Growth): number {
    const { next, seconds } = growth
    let { rate } = this.#best(this.#take(growth), seconds)
    let best = 0
    // Half of the rows, half of these and so on: a pass of fewer costs less, but how much less only figures tell.
    for (let rows = next.length; rows >= 1; rows = rows > 1 ? (rows + 1) >> 1 : 0) {
      const further = this.#best(this.#takeWithNext(growth, rows), seconds + this.#costs.draftPass(rows))
      if (further.rate <= rate) continue
      rate = further.rate
      best = rows
    }
    return best
  }

  cut(growth: Growth): number {
    const { nodes } = this.#best(this.#take(growth), growth.seconds)
    if (nodes === 0 && growth.size > 0) this.declined++
    return this.#passes % EXPLORE_EVERY === 0 && nodes > 0 ? this.#unseenNear(nodes, growth.size) : nodes
  }

  observe({ tokens, draftSeconds, passSeconds, nodes }: Outcome): void {
    if (nodes === 0 && draftSeconds <= NEGLIGIBLE * passSeconds) return
    const plainPasses = this.#inPlainPasses(nodes, draftSeconds, passSeconds)
    if (plainPasses === undefined) return
    this.#rate.add(tokens, plainPasses)
    this.#drafted++
    this.#hasTried = true
    const { speedUp } = this.#rate
    const isHopeless =
      this.#drafted >= (this.#trial === LATER_TRIAL ? SHORTEST_TRIAL : FIRST_TRIAL) &&
      speedUp < 1 - HOPELESS / Math.sqrt(this.#drafted)
    if (this.#drafted < this.#trialPasses && !isHopeless) return
    if (speedUp >= this.#speedUpWithout) {
      if (this.#drafted >= CONVINCING) this.#nextRest = 0
      this.#reading = 0
      return
    }
    if (speedUp < 1) this.declinedSpeedUp = speedUp
    this.#rest()
  }

  /** No drafting for a while; then it is on trial. */
  #rest(): void {
    const isAtDisk = this.#costs.areDiskBound
    const [first, longest] = isAtDisk ? [FIRST_REST_AT_DISK, LONGEST_REST_AT_DISK] : [FIRST_REST, LONGEST_REST]
    const rest = Math.min(longest, Math.max(first, this.#nextRest))
    this.#nextRest = 2 * rest
    const lost = isAtDisk ? 0 : Math.round(this.#reading / MOST_READING)
    this.#resting = Math.max(rest, Math.min(LONGEST_REST_OF_READING, lost))
    this.#reading = 0
    this.#watched = 1
    this.#trial = LATER_TRIAL
    this.#drafted = 0
    // A trial of few passes says little by itself, so some of what is known stays.
    this.#rate.forget(KEPT)
  }

  #restOn(): void {
    this.#resting--
    if (!this.#hasOthers) this.declined++
  }

  observeWithout({ tokens, draftSeconds, passSeconds, nodes }: Outcome): void {
    const isPlain = nodes === 0 && draftSeconds === 0
    const plainPasses = isPlain ? 1 : this.#inPlainPasses(nodes, draftSeconds, passSeconds)
    if (plainPasses !== undefined) this.#rateWithout.add(tokens, plainPasses)
  }

  /** What drafting has to beat. */
  get #speedUpWithout(): number {
    return Math.max(this.#costs.areDiskBound ? 1 : this.#pays, this.#rateWithout.speedUp)
  }

  /**
   * By what a plain pass takes now: code gets faster while it runs, and machines have better and worse minutes.
   * @returns undefined when that is not known
   */
  #inPlainPasses(nodes: number, draftSeconds: number, passSeconds: number): number | undefined {
    const costs = this.#costs
    const plain = costs.pass(1)
    if (plain === 0) return undefined
    const usual = costs.isSure(nodes + 1) ? costs.pass(nodes + 1) : passSeconds
    return (draftSeconds + Math.min(passSeconds, DISTURBED * usual)) / plain
  }

  watch(chance: number, right: boolean): void {
    if (this.#resting === 0) return
    const ratio = this.#costs.pass(1) / this.#costs.pass(2)
    // A guess that would not seem to pay would not have been made.
    const gain = (1 + chance) * ratio > 1 ? (right ? 2 : 1) * ratio : 1
    this.#watched += (gain - this.#watched) * WATCH_GAIN
    if (!(this.#watched > ROUSING)) return
    // The text is another one now: what was held against drafting was about what came before.
    this.#resting = 0
    this.#rate.forget()
  }

  /** The number of nodes with the most tokens per second, and that rate. @param count of `#chances` */
  #best(count: number, draftSeconds: number): { nodes: number; rate: number } {
    const costs = this.#costs
    let nodes = 0
    let tokens = 1
    let rate = 1 / (draftSeconds + costs.pass(1, draftSeconds))
    for (let n = 1; n <= count; n++) {
      tokens += this.#chances[n - 1]
      const here = tokens / (draftSeconds + costs.pass(n + 1, draftSeconds))
      if (here > rate) {
        rate = here
        nodes = n
      }
    }
    return { nodes, rate }
  }

  #take(growth: Growth): number {
    const count = Math.min(growth.size, this.#nodes)
    for (let place = 0; place < count; place++) this.#chances[place] = growth.chanceAt(place)
    return count
  }

  /** The tree as it should be after a draft pass over the first `rows` of `next`. */
  #takeWithNext({ size, chanceAt, next }: Growth, rows: number): number {
    const hoped = this.#hoped
    let count = 0
    for (const chance of next.slice(0, rows)) {
      for (let rank = 0; rank < EXPECTED_CHILDREN; rank++) hoped[count++] = chance * this.calibration.meanChance(rank)
    }
    const rising = hoped.subarray(0, count).sort()
    let known = 0
    let place = 0
    while (place < this.#nodes && (known < size || count > 0)) {
      const takesKnown = known < size && (count === 0 || chanceAt(known) >= rising[count - 1])
      this.#chances[place++] = takesKnown ? chanceAt(known++) : rising[--count]
    }
    return place
  }

  /** A size close by whose cost is not well known, or the same. */
  #unseenNear(nodes: number, size: number): number {
    const reach = Math.max(2, nodes >> 2)
    for (let distance = 1; distance <= reach; distance++) {
      for (const near of [nodes - distance, nodes + distance]) {
        if (near >= 1 && near <= Math.min(size, this.#nodes) && !this.#costs.isSure(near + 1)) return near
      }
    }
    return nodes
  }
}
