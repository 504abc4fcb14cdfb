/**
 * Text of a growing list of tokens, emitted as soon as it can no longer change and never half a
 * character. What a token adds is the difference of two decodings of a short window, so the rules of
 * any tokenizer (leading spaces, byte fallback, skipped specials) hold without knowing them.
 */
import type { Tokenizer } from './tokenizer.ts'

/** What a decoder writes for bytes that are not (yet) a character. */
const REPLACEMENT = '\uFFFD'

export class Detokenizer {
  readonly #tokenizer: Pick<Tokenizer, 'decode'>
  #window: number[] = []
  /** Tokens of the window whose text is out already. They are there for context. */
  #emitted = 0
  #emittedText = ''

  constructor(tokenizer: Pick<Tokenizer, 'decode'>) {
    this.#tokenizer = tokenizer
  }

  /** True while some token's text is not out yet. */
  get pending(): boolean {
    return this.#window.length > this.#emitted
  }

  /** Takes a token; returns the text that is complete with it. */
  push(token: number): string {
    this.#window.push(token)
    const text = this.#tokenizer.decode(this.#window)
    if (text.length <= this.#emittedText.length || text.endsWith(REPLACEMENT)) return ''
    return this.#advance(text)
  }

  /** The rest, at the end: bytes that never became a character are written as U+FFFD. */
  flush(): string {
    if (this.#window.length === this.#emitted) return ''
    return this.#advance(this.#tokenizer.decode(this.#window))
  }

  #advance(text: string): string {
    const added = text.slice(this.#emittedText.length)
    // The tokens that were new become the context of the next ones.
    this.#window = this.#window.slice(this.#emitted)
    this.#emitted = this.#window.length
    this.#emittedText = this.#tokenizer.decode(this.#window)
    return added
  }
}
