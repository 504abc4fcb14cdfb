/**
 * Stop strings: found wherever tokens and passes happen to cut the text.
 *
 * The text ends with the first stop string to be completed, whatever the pieces it comes in: of
 * several in one piece that is the one with the earliest end, and of those the longest. The caller
 * pushes the text of one token at a time, so the push that reports the match names the token that
 * completed it: tokens after it do not count, also when the same pass accepted them. Text kept back
 * belongs to the piece of the later token with which it comes out.
 */

export interface StopResult {
  /** Text that may be shown now. */
  readonly text: string
  /** True when a stop string was completed; it and everything after it is not in `text`. */
  readonly stopped: boolean
}

export class StopMatcher {
  readonly #stops: readonly string[]
  #held = ''

  /** @param stops non-empty strings */
  constructor(stops: readonly string[]) {
    this.#stops = stops
  }

  /** True while text is kept back. */
  get holding(): boolean {
    return this.#held !== ''
  }

  /** Takes more text; keeps back what might be the beginning of a stop string. */
  push(text: string): StopResult {
    const all = this.#held + text
    let start = -1
    let end = Infinity
    for (const stop of this.#stops) {
      const at = all.indexOf(stop)
      if (at < 0 || at + stop.length > end) continue
      start = at + stop.length < end ? at : Math.min(at, start)
      end = at + stop.length
    }
    if (start >= 0) {
      this.#held = ''
      return { text: all.slice(0, start), stopped: true }
    }
    const keep = this.#possibleStart(all)
    this.#held = all.slice(all.length - keep)
    return { text: all.slice(0, all.length - keep), stopped: false }
  }

  /** What was kept back, when the text ends without a stop string. */
  flush(): string {
    const rest = this.#held
    this.#held = ''
    return rest
  }

  /** Length of the longest end of `text` that a stop string begins with. */
  #possibleStart(text: string): number {
    let longest = 0
    for (const stop of this.#stops) {
      for (let length = Math.min(stop.length - 1, text.length); length > longest; length--) {
        if (stop.startsWith(text.slice(text.length - length))) longest = length
      }
    }
    return longest
  }
}
