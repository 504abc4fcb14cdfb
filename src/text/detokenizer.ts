/**
 * Text of a growing list of tokens: what a token adds comes out at once, but never half a character
 * and never anything that a later token could still change.
 */
import { Utf8Decoder } from './utf8.ts'

/** What the detokeniser has to know of a vocabulary. */
export interface TokenTexts {
  /** Bytes that a token adds to the text; none for ids that the tokenizer does not know. */
  tokenBytes(token: number): Uint8Array
  isSpecial(token: number): boolean
  /** Spaces that a text loses at its beginning. */
  readonly leadingSpaces: number
}

export interface DetokenizerOptions {
  /** Leave special tokens out. Default true. */
  readonly skipSpecial?: boolean
  /**
   * The tokens go on with a text instead of beginning one, so that a first sentencepiece token keeps
   * the space before its word. Default false.
   */
  readonly continues?: boolean
}

export class Detokenizer {
  readonly #texts: TokenTexts
  readonly #skipSpecial: boolean
  readonly #utf8 = new Utf8Decoder()
  /** Spaces that may still be dropped; 0 once anything else came. */
  #leadingSpaces: number

  constructor(texts: TokenTexts, options: DetokenizerOptions = {}) {
    this.#texts = texts
    this.#skipSpecial = options.skipSpecial ?? true
    this.#leadingSpaces = options.continues === true ? 0 : texts.leadingSpaces
  }

  /** True while a character has begun whose end has not come. */
  get pending(): boolean {
    return this.#utf8.pending
  }

  /** Takes a token; returns the text that is complete with it. */
  push(token: number): string {
    if (this.#skipSpecial && this.#texts.isSpecial(token)) return ''
    return this.#trim(this.#utf8.push(this.#texts.tokenBytes(token)))
  }

  /** The rest, at the end: bytes that never became a character are written as U+FFFD. */
  flush(): string {
    return this.#trim(this.#utf8.flush())
  }

  #trim(text: string): string {
    if (this.#leadingSpaces === 0 || text === '') return text
    let start = 0
    while (start < this.#leadingSpaces && text[start] === ' ') start++
    this.#leadingSpaces = start === text.length ? this.#leadingSpaces - start : 0
    return text.slice(start)
  }
}
