/** The text so far in a draft's cache, whatever is guessed after it. */
import type { Transformer } from '../model/transformer.ts'
import type { Context } from './context.ts'

export class DraftText {
  readonly #draft: Transformer
  readonly #vocabulary: number

  /** @param vocabulary tokens that the draft may read and guess, the first ones of its own */
  constructor(draft: Transformer, vocabulary: number) {
    this.#draft = draft
    this.#vocabulary = vocabulary
  }

  /** Whether the draft knows all tokens of the text that it has not read. */
  knows({ tokens, length }: Context): boolean {
    for (let p = this.#draft.cache.length; p < length; p++) if (tokens[p] >= this.#vocabulary) return false
    return true
  }

  /** Reads on up to position `end`, in as many passes as it takes. */
  read({ tokens }: Context, end: number): void {
    const { cache, batch } = this.#draft
    while (cache.length < end) {
      const next = Math.min(cache.length + batch.capacity, end)
      batch.clear()
      for (let p = cache.length; p < next; p++) batch.addPrefixRow(tokens[p], p)
      this.#draft.forward()
      cache.extend(batch.count)
    }
  }

  /** Reads on to the end of the text, of which something is left; its logits are then those of row 0 of the head. */
  finish(context: Context): void {
    this.read(context, context.length)
    this.#draft.head([this.#draft.batch.count - 1])
  }
}
