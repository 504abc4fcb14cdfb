/** What is left of a drafted pass in the running rate after another one. */
const RATE_DECAY = 0.95

/** Tokens by plain passes that would take as long, of the newest passes above all. */
export class Rate {
  #tokens = 0
  #plainPasses = 0

  add(tokens: number, plainPasses: number): void {
    this.#tokens = this.#tokens * RATE_DECAY + tokens
    this.#plainPasses = this.#plainPasses * RATE_DECAY + plainPasses
  }

  /** @param share of what is known that stays */
  forget(share = 0): void {
    this.#tokens *= share
    this.#plainPasses *= share
  }

  /** As a multiple of plain decoding; 1 when nothing is known. */
  get speedUp(): number {
    return this.#plainPasses > 0 ? this.#tokens / this.#plainPasses : 1
  }
}
