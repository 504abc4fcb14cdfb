/**
 * UTF-8 that arrives in parts, by the WHATWG Encoding Standard (section 8.1.1, "UTF-8 decoder"): a
 * character comes out with its last byte, and what can never become one is U+FFFD as soon as that is
 * certain. `TextDecoder` with `stream` promises the same, but engines have got its edges wrong.
 */

const REPLACEMENT = '\uFFFD'

export class Utf8Decoder {
  #codePoint = 0
  /** Continuation bytes that the character begun still needs. */
  #missing = 0
  /** Range of the next continuation byte: narrower after some first bytes (overlong forms, surrogates). */
  #lower = 0x80
  #upper = 0xbf

  /** True while the bytes so far end inside a character. */
  get pending(): boolean {
    return this.#missing > 0
  }

  /** Takes bytes; returns the characters that are complete with them. */
  push(bytes: Uint8Array): string {
    let text = ''
    for (let i = 0; i < bytes.length; i++) {
      const byte = bytes[i]
      if (this.#missing === 0) {
        text += this.#begin(byte)
      } else if (byte < this.#lower || byte > this.#upper) {
        // The byte does not continue the character, so it is looked at again as a first byte.
        text += this.flush()
        i--
      } else {
        this.#lower = 0x80
        this.#upper = 0xbf
        this.#codePoint = (this.#codePoint << 6) | (byte & 0x3f)
        if (--this.#missing === 0) text += String.fromCodePoint(this.#codePoint)
      }
    }
    return text
  }

  /** The end: an incomplete character is written as U+FFFD. */
  flush(): string {
    const text = this.pending ? REPLACEMENT : ''
    this.#missing = 0
    this.#lower = 0x80
    this.#upper = 0xbf
    return text
  }

  #begin(byte: number): string {
    if (byte < 0x80) return String.fromCharCode(byte)
    if (byte < 0xc2 || byte > 0xf4) return REPLACEMENT
    if (byte < 0xe0) {
      this.#missing = 1
      this.#codePoint = byte & 0x1f
    } else if (byte < 0xf0) {
      if (byte === 0xe0) this.#lower = 0xa0
      if (byte === 0xed) this.#upper = 0x9f
      this.#missing = 2
      this.#codePoint = byte & 0xf
    } else {
      if (byte === 0xf0) this.#lower = 0x90
      if (byte === 0xf4) this.#upper = 0x8f
      this.#missing = 3
      this.#codePoint = byte & 0x7
    }
    return ''
  }
}
