/**
 * What drafters have learnt, as a file between runs. Little-endian:
 *
 *     8 bytes   "COPDRAFT"
 *     u32       version of the format
 *     u32       bytes of the header
 *     header    JSON: `vocabulary` and `tokens`, which say what token ids mean, and `sections` with `source` and `bytes`
 *     sections  one behind the other, in the order of the header; each as its source saves and checks it
 *     64 bytes  SHA-256 of all that comes before, in hexadecimal digits
 */
import { CoppiceError } from '../errors.ts'
import { Sha256 } from '../runtime/files.ts'
import { isJsonObject, parseJsonObject, showValue } from '../weights/json.ts'
import { SOURCES, type SourceName } from './drafter.ts'

const MAGIC = new TextEncoder().encode('COPDRAFT')
export const STATE_VERSION = 1
const HEAD_BYTES = MAGIC.length + 8
const DIGEST_BYTES = 64
/** Sources are bounded, so more than this was never saved; and nothing longer is read into memory. */
export const MOST_STATE_BYTES = 1 << 28
/** As of tokenizers: far above any vocabulary, and no table of this length is out of reach. */
const MOST_TOKENS = 1 << 24

/** What token ids stand for: what was learnt of some is nonsense of others. */
export interface TokenMeaning {
  /** Tokens that the model knows. */
  readonly vocabulary: number
  /** Digest of the tokens by id; 'unknown' of a model without a tokenizer. */
  readonly tokens: string
}

/** What one source has learnt. */
export interface StateSection {
  readonly source: SourceName
  /** As `Source.save` returned them. */
  readonly bytes: Uint8Array
}

export interface DrafterState {
  readonly meaning: TokenMeaning
  /** At most one of each source. */
  readonly sections: readonly StateSection[]
}

/** The content of a state file. */
export function encodeState({ meaning, sections }: DrafterState): Uint8Array {
  const listed = sections.map(({ source, bytes }) => ({ source, bytes: bytes.length }))
  const header = new TextEncoder().encode(JSON.stringify({ ...meaning, sections: listed }))
  const length = HEAD_BYTES + header.length + listed.reduce((sum, { bytes }) => sum + bytes, 0)
  const out = new Uint8Array(length + DIGEST_BYTES)
  out.set(MAGIC)
  const view = new DataView(out.buffer)
  view.setUint32(MAGIC.length, STATE_VERSION, true)
  view.setUint32(MAGIC.length + 4, header.length, true)
  out.set(header, HEAD_BYTES)
  let at = HEAD_BYTES + header.length
  for (const { bytes } of sections) {
    out.set(bytes, at)
    at += bytes.length
  }
  out.set(digestOf(out.subarray(0, length)), length)
  return out
}

/**
 * @param file its name, for messages
 * @returns sections that are views of `bytes`
 * @throws CoppiceError CORRUPT_FILE when a byte is not as it was written; UNSUPPORTED_FORMAT for a newer version
 */
export function decodeState(bytes: Uint8Array, file: string): DrafterState {
  const corrupt = (what: string): CoppiceError => brokenState(file, what)
  if (MAGIC.some((byte, i) => bytes[i] !== byte)) {
    throw corrupt('it should begin with "COPDRAFT" and does not, so it is no drafter state')
  }
  if (bytes.length < HEAD_BYTES + DIGEST_BYTES) throw corrupt(`it ends after ${bytes.length} bytes`)
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const version = view.getUint32(MAGIC.length, true)
  if (version > STATE_VERSION) {
    throw new CoppiceError(
      'UNSUPPORTED_FORMAT',
      `the drafter state ${file} has format version ${version}, and this coppice reads up to ${STATE_VERSION}; use the coppice that wrote it, or delete it to begin anew`,
    )
  }
  const end = bytes.length - DIGEST_BYTES
  const expected = digestOf(bytes.subarray(0, end))
  if (expected.some((byte, i) => bytes[end + i] !== byte)) {
    throw corrupt(`the SHA-256 at its end is not that of its ${end} bytes before, so it is cut off or changed`)
  }
  if (version < 1) throw corrupt(`it has format version ${version}; the first was 1`)
  const headerEnd = HEAD_BYTES + view.getUint32(MAGIC.length + 4, true)
  if (headerEnd > end) throw corrupt(`its header should end at byte ${headerEnd}, behind its own end`)
  const { meaning, listed } = readHeader(bytes.subarray(HEAD_BYTES, headerEnd), file)
  let at = headerEnd
  const sections = listed.map(({ source, length }): StateSection => {
    const section = { source, bytes: bytes.subarray(at, Math.min(end, at + length)) }
    at += length
    return section
  })
  if (at !== end) throw corrupt(`its sections should end at byte ${at}, and end at ${end}`)
  return { meaning, sections }
}

/** @throws CoppiceError INCOMPATIBLE_STATE when token ids do not mean the same */
export function checkMeaning(file: string, found: TokenMeaning, wanted: TokenMeaning): void {
  if (found.vocabulary === wanted.vocabulary && found.tokens === wanted.tokens) return
  const [theirs, ours] =
    found.vocabulary === wanted.vocabulary
      ? [`tokens with the digest ${found.tokens}`, `tokens with the digest ${wanted.tokens}`]
      : [`a vocabulary of ${found.vocabulary} tokens`, `${wanted.vocabulary}`]
  throw new CoppiceError(
    'INCOMPATIBLE_STATE',
    `the drafter state ${file} was learnt with another vocabulary: it is of ${theirs}, the model has ${ours}; use it with the model that it was written for, or name another file`,
  )
}

export const brokenState = (file: string, what: string, cause?: unknown): CoppiceError =>
  new CoppiceError(
    'CORRUPT_FILE',
    `the drafter state ${file} cannot be used: ${what}; take a copy that is whole, or delete it to begin anew`,
    { cause },
  )

interface Header {
  readonly meaning: TokenMeaning
  readonly listed: readonly { readonly source: SourceName; readonly length: number }[]
}

/** @throws CoppiceError CORRUPT_FILE | UNSUPPORTED_FORMAT */
function readHeader(bytes: Uint8Array, file: string): Header {
  const wrong = (name: string, wanted: string, value: unknown): CoppiceError =>
    brokenState(file, `"${name}" in its header should be ${wanted}, and is ${showValue(value)}`)
  let header: ReturnType<typeof parseJsonObject>
  try {
    header = parseJsonObject(new TextDecoder().decode(bytes))
  } catch (cause) {
    throw brokenState(file, `its header ${(cause as Error).message}`, cause)
  }
  const { vocabulary, tokens, sections } = header
  if (!isCount(vocabulary) || vocabulary < 1 || vocabulary > MOST_TOKENS) {
    throw wrong('vocabulary', `a number from 1 to ${MOST_TOKENS}`, vocabulary)
  }
  if (typeof tokens !== 'string' || tokens === '') throw wrong('tokens', 'a text', tokens)
  if (!Array.isArray(sections)) throw wrong('sections', 'a list', sections)
  const seen = new Set<unknown>()
  const listed = sections.map((section: unknown) => {
    const { source, bytes: length } = isJsonObject(section) ? section : {}
    if (typeof source !== 'string') throw wrong('source', 'a name', source)
    if (!isCount(length)) throw wrong('bytes', 'a whole number', length)
    if (seen.has(source)) throw brokenState(file, `it has two sections "${source}"`)
    seen.add(source)
    return { source: knownSource(source, file), length }
  })
  return { meaning: { vocabulary, tokens }, listed }
}

function knownSource(name: string, file: string): SourceName {
  const known = SOURCES.find((source) => source === name)
  if (known !== undefined) return known
  throw new CoppiceError(
    'UNSUPPORTED_FORMAT',
    `the drafter state ${file} has a section ${showValue(name)}, and this coppice knows ${SOURCES.join(', ')}; use the coppice that wrote it, or delete it to begin anew`,
  )
}

const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0

const digestOf = (bytes: Uint8Array): Uint8Array => new TextEncoder().encode(new Sha256().update(bytes).hex())
