/**
 * The `decoder` of a tokenizer.json, understood as "each token stands for some bytes, and the text is
 * those bytes in a row, less a space at its beginning". That holds for every decoder that language
 * models use, and it is what makes text come out token by token.
 */

/** The part of a tokenizer.json decoder that matters for one token. */
export interface TokenDecoder {
  /**
   * @param token as the vocabulary spells it
   * @param isAdded added tokens are literal text where ordinary ones are in the byte-level alphabet
   */
  bytes(token: string, isAdded: boolean): Uint8Array
  /** Spaces that the beginning of a text loses: sentencepiece puts one before the first word. */
  readonly leadingSpaces: number
}

/** Thrown for decoders that do not fit; the caller knows the file's name. */
export class UnknownDecoder extends Error {}

interface Step {
  readonly type: string
  readonly [field: string]: unknown
}

const encoder = new TextEncoder()

/**
 * @param config the value of `decoder`; null: tokens are joined by spaces
 * @throws UnknownDecoder
 */
export function readTokenDecoder(config: unknown): TokenDecoder {
  if (config === null || config === undefined) {
    return { bytes: (token) => encoder.encode(` ${token}`), leadingSpaces: 1 }
  }
  const steps = flatten(config)
  if (steps.some((step) => step.type === 'ByteLevel')) {
    if (steps.length > 1) throw new UnknownDecoder(`ByteLevel together with ${otherTypes(steps, 'ByteLevel')}`)
    return { bytes: (token, isAdded) => (isAdded ? encoder.encode(token) : byteLevelBytes(token)), leadingSpaces: 0 }
  }
  return readPieceDecoder(steps)
}

/** Sentencepiece and its relatives: replacements in each token, bytes written as `<0x0A>`, a leading space. */
function readPieceDecoder(steps: readonly Step[]): TokenDecoder {
  const rewrites: ((token: string) => string)[] = []
  let byteFallback = false
  let fused = false
  let leadingSpaces = 0
  for (const step of steps) {
    switch (step.type) {
      case 'Replace':
        rewrites.push(readReplace(step, fused))
        break
      case 'ByteFallback':
        byteFallback = true
        break
      case 'Fuse':
        fused = true
        break
      case 'Strip':
        if (!fused || step.content !== ' ' || typeof step.start !== 'number' || (step.stop ?? 0) !== 0) {
          throw new UnknownDecoder('Strip of other things than spaces at the beginning of the text')
        }
        leadingSpaces = step.start
        break
      case 'Metaspace': {
        const replacement = typeof step.replacement === 'string' ? step.replacement : '▁'
        rewrites.push((token) => token.replaceAll(replacement, ' '))
        leadingSpaces = step.prepend_scheme === 'never' || step.add_prefix_space === false ? 0 : 1
        break
      }
      default:
        throw new UnknownDecoder(step.type)
    }
  }
  return {
    bytes: (token) => {
      const byte = byteFallback ? /^<0x([0-9A-Fa-f]{2})>$/.exec(token) : null
      if (byte !== null) return Uint8Array.of(Number.parseInt(byte[1], 16))
      return encoder.encode(rewrites.reduce((text, rewrite) => rewrite(text), token))
    },
    leadingSpaces,
  }
}

function readReplace(step: Step, fused: boolean): (token: string) => string {
  const pattern = step.pattern as { String?: unknown } | undefined
  const from = pattern?.String
  const to = step.content
  if (typeof from !== 'string' || from === '' || typeof to !== 'string' || (fused && from.length > 1)) {
    // A regular expression, or a string that may lie across tokens, would need text that is not there yet.
    throw new UnknownDecoder(`Replace of ${JSON.stringify(pattern)}`)
  }
  return (token) => token.replaceAll(from, to)
}

function flatten(config: unknown): Step[] {
  const step = config as Partial<Step> | null
  if (typeof step !== 'object' || step === null || typeof step.type !== 'string') {
    throw new UnknownDecoder(JSON.stringify(config))
  }
  if (step.type !== 'Sequence') return [step as Step]
  return Array.isArray(step.decoders) ? step.decoders.flatMap(flatten) : []
}

const otherTypes = (steps: readonly Step[], type: string): string =>
  steps
    .filter((step) => step.type !== type)
    .map((step) => step.type)
    .join(', ')

/**
 * GPT-2's alphabet for bytes: printable Latin-1 characters are themselves, the other 68 bytes in
 * ascending order are the characters from U+0100 on.
 */
const BYTE_OF_CHARACTER: ReadonlyMap<string, number> = (() => {
  const isPrintable = (byte: number): boolean =>
    (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae
  const map = new Map<string, number>()
  let next = 0x100
  for (let byte = 0; byte < 256; byte++) map.set(String.fromCharCode(isPrintable(byte) ? byte : next++), byte)
  return map
})()

function byteLevelBytes(token: string): Uint8Array {
  const bytes = new Uint8Array(token.length)
  for (let i = 0; i < token.length; i++) {
    const byte = BYTE_OF_CHARACTER.get(token[i])
    // A token with a character outside the alphabet is literal as a whole, as in Hugging Face's tokenizers.
    if (byte === undefined) return encoder.encode(token)
    bytes[i] = byte
  }
  return bytes
}
