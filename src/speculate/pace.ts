/** How often to do what is of use in any pass but takes time. */

export class Pace {
  /** What it took last, and what passes took since. */
  #cost = 0
  #since = 0

  /** Due at once. */
  reset(): void {
    this.#cost = 0
    this.#since = 0
  }

  /** @param share of the time of all passes that it may take */
  isDue(share: number): boolean {
    return this.#cost <= share * this.#since
  }

  /** It is done in the coming pass, or was in the one that has not been counted yet. */
  begin(seconds: number): void {
    this.#cost = seconds
    this.#since = 0
  }

  observePass(seconds: number): void {
    this.#since += seconds
  }
}
