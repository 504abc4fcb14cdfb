/**
 * JSON read byte by byte from a file: what is large goes straight into tables, without a text of the whole
 * file and without an object per entry. A vocabulary of 128 thousand tokens costs `JSON.parse` ten times its size.
 */

/** Where the bytes come from, such as an open file. */
export interface ByteSource {
  /** How many there are. */
  readonly bytes: number
  /** Fills `target` from byte `position` on. @returns bytes read; fewer than asked for only at the end */
  read(target: Uint8Array, position: number): number
}

const WINDOW_BYTES = 1 << 16

const QUOTE = 0x22
const BACKSLASH = 0x5c
const COMMA = 0x2c
const COLON = 0x3a
const ZERO = 0x30
const NINE = 0x39
export const OPEN_OBJECT = 0x7b
const CLOSE_OBJECT = 0x7d
export const OPEN_LIST = 0x5b
const CLOSE_LIST = 0x5d
const END = -1

/** What editors of some systems put in front of a text: U+FEFF, which is no part of it. */
const BYTE_ORDER_MARK = [0xef, 0xbb, 0xbf]

/** In strings U+FEFF is a character as any other. */
const decoder = new TextDecoder('utf-8', { ignoreBOM: true })

const NUMBER = /^-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?$/

/** Integers of so many digits are added up without rounding. */
const EXACT_DIGITS = 15

/** What follows a backslash, besides `u`. */
const ESCAPES: ReadonlyMap<number, number> = new Map(
  [...'"\\/bfnrt'].map((letter, i) => [letter.charCodeAt(0), '"\\/\b\f\n\r\t'.charCodeAt(i)]),
)

const isSpace = (byte: number): boolean => byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09
const endsScalar = (byte: number): boolean =>
  byte === END || byte === COMMA || byte === CLOSE_OBJECT || byte === CLOSE_LIST || isSpace(byte)

/** Every method throws a SyntaxError, whose message says what is wrong and where, when the bytes are not JSON. */
export class JsonScanner {
  /** The string that `string` read last, as UTF-8 in the first `length` bytes. */
  text = new Uint8Array(256)
  length = 0
  readonly #source: ByteSource
  readonly #window = new Uint8Array(WINDOW_BYTES)
  /** Where in the source the window begins. */
  #start = 0
  #at = 0
  #end = 0

  constructor(source: ByteSource) {
    this.#source = source
    if (this.#refill() && BYTE_ORDER_MARK.every((byte, i) => this.#window[i] === byte)) this.#at = 3
  }

  get position(): number {
    return this.#start + this.#at
  }

  set position(position: number) {
    // Numbers that are looked at twice would else have the window read again for each of them.
    if (position >= this.#start && position <= this.#start + this.#end) {
      this.#at = position - this.#start
      return
    }
    this.#start = position
    this.#at = 0
    this.#end = 0
  }

  /** The next byte after white space, which stays to be read; -1 at the end. */
  peek(): number {
    for (;;) {
      if (this.#at === this.#end && !this.#refill()) return END
      const byte = this.#window[this.#at]
      if (!isSpace(byte)) return byte
      this.#at++
    }
  }

  /** Calls `member` for each member of an object. It finds the key in `text` and must read the value. */
  object(member: () => void): void {
    this.#expect(OPEN_OBJECT)
    if (this.#follows(CLOSE_OBJECT)) return
    do {
      this.string()
      this.#expect(COLON)
      member()
    } while (!this.#endsWith(CLOSE_OBJECT))
  }

  /** Calls `item` for each value of a list, which it must read. */
  list(item: () => void): void {
    this.#expect(OPEN_LIST)
    if (this.#follows(CLOSE_LIST)) return
    do item()
    while (!this.#endsWith(CLOSE_LIST))
  }

  /** Reads a string into `text`. */
  string(): void {
    this.#expect(QUOTE)
    let length = 0
    for (;;) {
      if (this.#at === this.#end && !this.#refill()) this.#fail('a string does not end')
      const byte = this.#window[this.#at++]
      if (byte === QUOTE) break
      if (byte < 0x20) this.#fail('a control character stands in a string')
      // An escaped character has up to four bytes.
      if (length + 4 > this.text.length) this.#grow()
      if (byte === BACKSLASH) length = this.#escaped(length)
      else this.text[length++] = byte
    }
    this.length = length
  }

  /** What `string` read last, as a string. */
  value(): string {
    return decoder.decode(this.text.subarray(0, this.length))
  }

  number(): number {
    const lead = this.peek()
    const first = this.position
    let value = 0
    let byte = this.#next()
    for (; byte >= ZERO && byte <= NINE; byte = this.#next()) value = value * 10 + (byte - ZERO)
    const digits = this.position - first - (byte === END ? 0 : 1)
    if (endsScalar(byte) && digits > 0 && digits <= EXACT_DIGITS && (lead !== ZERO || digits === 1)) {
      if (byte !== END) this.#at--
      return value
    }
    this.position = first
    const text = this.raw()
    if (NUMBER.test(text)) return Number(text)
    this.position = first
    this.#fail(`a number as JSON writes them was expected, not ${text.slice(0, 20)},`)
  }

  /** Reads a value of any kind. @returns its JSON, which may be wrong inside */
  raw(): string {
    const bytes: number[] = []
    this.#pass((byte) => bytes.push(byte))
    return decoder.decode(Uint8Array.from(bytes))
  }

  /** Passes over a value of any kind, which may be wrong inside. */
  skip(): void {
    this.#pass(() => {})
  }

  #pass(put: (byte: number) => void): void {
    const first = this.peek()
    let depth = 0
    do {
      const byte = this.#next()
      if (byte === END) this.#fail('a value is missing or does not end')
      put(byte)
      if (byte === QUOTE) this.#passString(put)
      else if (byte === OPEN_OBJECT || byte === OPEN_LIST) depth++
      else if (byte === CLOSE_OBJECT || byte === CLOSE_LIST) depth--
      else if (depth === 0) {
        while (!endsScalar(this.#peekByte())) put(this.#next())
      }
    } while (depth > 0)
    if (depth < 0 || first === COMMA) this.#fail('a value is missing')
  }

  /** Nothing but white space may follow. */
  end(): void {
    if (this.peek() !== END) this.#fail('something follows the last value')
  }

  #passString(put: (byte: number) => void): void {
    for (;;) {
      const byte = this.#next()
      if (byte === END) this.#fail('a string does not end')
      put(byte)
      if (byte === QUOTE) return
      if (byte === BACKSLASH) put(this.#next())
    }
  }

  #escaped(length: number): number {
    const letter = this.#next()
    let code = ESCAPES.get(letter)
    if (code === undefined) {
      if (letter !== 0x75) this.#fail('an unknown escape stands in a string')
      code = this.#hexadecimal()
      if (code >= 0xd800 && code < 0xe000) {
        const paired = code < 0xdc00 && this.#next() === BACKSLASH && this.#next() === 0x75
        const low = paired ? this.#hexadecimal() : 0
        if (low < 0xdc00 || low > 0xdfff) this.#fail('half a surrogate pair stands in a string')
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00)
      }
    }
    return putCodePoint(code, this.text, length)
  }

  #hexadecimal(): number {
    let code = 0
    for (let i = 0; i < 4; i++) {
      const digit = Number.parseInt(String.fromCharCode(this.#next()), 16)
      if (Number.isNaN(digit)) this.#fail('an escape in a string is not hexadecimal')
      code = code * 16 + digit
    }
    return code
  }

  #expect(byte: number): void {
    if (this.peek() !== byte) this.#fail(`${JSON.stringify(String.fromCharCode(byte))} was expected`)
    this.#at++
  }

  #follows(byte: number): boolean {
    if (this.peek() !== byte) return false
    this.#at++
    return true
  }

  #endsWith(byte: number): boolean {
    if (this.#follows(byte)) return true
    this.#expect(COMMA)
    return false
  }

  #next(): number {
    if (this.#at === this.#end && !this.#refill()) return END
    return this.#window[this.#at++]
  }

  #peekByte(): number {
    if (this.#at === this.#end && !this.#refill()) return END
    return this.#window[this.#at]
  }

  #refill(): boolean {
    this.#start += this.#end
    this.#at = 0
    this.#end = this.#source.read(this.#window, this.#start)
    return this.#end > 0
  }

  #grow(): void {
    const larger = new Uint8Array(2 * this.text.length)
    larger.set(this.text)
    this.text = larger
  }

  #fail(problem: string): never {
    throw new SyntaxError(`${problem} at byte ${this.position}`)
  }
}

/** Writes a code point, surrogates too, as UTF-8 would. @returns where the next one goes */
export function putCodePoint(code: number, target: Uint8Array, at: number): number {
  if (code < 0x80) {
    target[at] = code
    return at + 1
  }
  const following = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3
  const marker = following === 1 ? 0xc0 : following === 2 ? 0xe0 : 0xf0
  target[at] = marker | (code >>> (6 * following))
  for (let i = 1; i <= following; i++) target[at + i] = 0x80 | ((code >>> (6 * (following - i))) & 0x3f)
  return at + 1 + following
}
