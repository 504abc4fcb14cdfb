/** The text of a call while it grows: detokenised, held back before stop strings, cut into pieces. */
import { CoppiceError } from '../errors.ts'
import { Detokenizer } from '../text/detokenizer.ts'
import type { Tokenizer } from '../text/tokenizer.ts'
import type { DecodedToken } from './decode.ts'
import { StopMatcher } from './stop.ts'

export interface TextPiece {
  /** Text that this token completed; text held back comes with a later token. */
  text: string
  readonly token: number
  readonly drafted: boolean
  readonly logprob?: number
}

export class GeneratedText {
  /** All text that was emitted. */
  text = ''
  /** All tokens, without an end-of-sequence token. */
  readonly tokens: number[] = []
  readonly #detokenizer: Detokenizer | undefined
  readonly #stop: StopMatcher
  readonly #pieces: TextPiece[] = []
  #stopped = false

  /**
   * @param tokenizer undefined: tokens only, all text is empty
   * @param continues the text goes on from the prompt, so a space before its first word belongs to it
   * @throws CoppiceError NO_TOKENIZER when there are stop strings and no tokenizer
   */
  constructor(tokenizer: Tokenizer | undefined, stops: readonly string[], continues: boolean) {
    if (tokenizer === undefined && stops.length > 0) {
      throw new CoppiceError('NO_TOKENIZER', 'stop strings need a tokenizer, which this model does not have')
    }
    this.#detokenizer = tokenizer === undefined ? undefined : new Detokenizer(tokenizer, { continues })
    this.#stop = new StopMatcher(stops)
  }

  /** @returns false when the text ends here, by a stop string */
  push({ token, drafted, isEnd, logprob }: DecodedToken): boolean {
    if (isEnd) return true
    this.tokens.push(token)
    const { text, stopped } = this.#stop.push(this.#detokenizer?.push(token) ?? '')
    this.#stopped = stopped
    this.text += text
    this.#pieces.push(logprob === undefined ? { text, token, drafted } : { text, token, drafted, logprob })
    return !stopped
  }

  /** Adds what was held back to the last piece. */
  finish(): void {
    if (this.#stopped) return
    const { text, stopped } = this.#stop.push(this.#detokenizer?.flush() ?? '')
    const rest = stopped ? text : text + this.#stop.flush()
    this.#stopped = true
    this.text += rest
    const last = this.#pieces.at(-1)
    if (last !== undefined) last.text += rest
  }

  /**
   * The pieces since the last call. While text is held back, the newest piece stays too, so that the
   * text has a piece to go with when the end comes.
   */
  takePieces(): TextPiece[] {
    const holds = !this.#stopped && (this.#detokenizer?.pending === true || this.#stop.holding)
    const ready = holds ? Math.max(0, this.#pieces.length - 1) : this.#pieces.length
    return this.#pieces.splice(0, ready)
  }
}
