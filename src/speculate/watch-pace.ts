/**
 * How often to see what a guess would have been worth while guessing rests: texts that begin to repeat what was read
 * should not go by unseen, and looking takes time.
 */
import { Pace } from './pace.ts'

/** Passes are watched as often as takes no more than this share of their time. */
const SHARE = 0.005
/** The same after so many watched passes in a row whose guess, if there was one, was wrong. */
const SELDOM_SHARE = 0.00125
const FRUITLESS = 12
/** What watching takes beside the look-up: learning from it, and what both displace from the processor's caches. */
const BESIDE_SECONDS = 5e-5

export class WatchPace {
  readonly #pace = new Pace()
  #fruitless = 0

  /** What came of watching the last text is no matter of this one's, which may be another owner's. */
  startText(): void {
    this.#pace.reset()
    this.#fruitless = 0
  }

  /** Whether the coming pass is to be watched. */
  get isDue(): boolean {
    return this.#pace.isDue(this.#fruitless < FRUITLESS ? SHARE : SELDOM_SHARE)
  }

  /** @param lookSeconds that looking up a guess for the coming pass took */
  begin(lookSeconds: number): void {
    this.#pace.begin(lookSeconds + BESIDE_SECONDS)
  }

  /** @param right whether the guess turned out right */
  observeGuess(right: boolean): void {
    this.#fruitless = right ? 0 : this.#fruitless + 1
  }

  /** A pass, whether it was watched or not. */
  observePass(seconds: number): void {
    this.#pace.observePass(seconds)
  }
}
