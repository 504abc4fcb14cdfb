/** A prompt and what was written after it, up to a point. */
export interface TextSoFar {
  /** At least `length`. */
  readonly tokens: Int32Array
  /** Tokens of the prompt. */
  readonly promptLength: number
  readonly length: number
}

/** The committed tokens of a call: prompt and output so far. The last one is the root of the next tree. */
export class Context implements TextSoFar {
  readonly tokens: Int32Array
  readonly promptLength: number
  length: number

  /** @param capacity tokens that the context can ever hold */
  constructor(prompt: ArrayLike<number>, capacity: number) {
    this.tokens = new Int32Array(capacity)
    this.tokens.set(prompt)
    this.promptLength = prompt.length
    this.length = prompt.length
  }

  get root(): number {
    return this.tokens[this.length - 1]
  }

  push(token: number): void {
    this.tokens[this.length++] = token
  }
}
