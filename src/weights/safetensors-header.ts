/**
 * The header of a safetensors file: eight bytes that say how long the header is, JSON that lists the
 * tensors, then the tensors' bytes without a gap. Format: https://github.com/huggingface/safetensors
 */
import { CoppiceError } from '../errors.ts'
import { isJsonObject, type JsonObject, parseJsonObject, showValue } from './json.ts'

/** Bits of one element by element type. */
const DTYPE_BITS = {
  BOOL: 8,
  F4: 4,
  F6_E2M3: 6,
  F6_E3M2: 6,
  U8: 8,
  I8: 8,
  F8_E5M2: 8,
  F8_E4M3: 8,
  F8_E8M0: 8,
  F8_E4M3FNUZ: 8,
  F8_E5M2FNUZ: 8,
  I16: 16,
  U16: 16,
  F16: 16,
  BF16: 16,
  I32: 32,
  U32: 32,
  F32: 32,
  C64: 64,
  F64: 64,
  I64: 64,
  U64: 64,
} as const

/** Element types that the format defines. */
export type Dtype = keyof typeof DTYPE_BITS

/** What a header says about one tensor. */
export interface TensorEntry {
  readonly name: string
  readonly dtype: Dtype
  /** Outermost dimension first; empty for a single value. */
  readonly shape: readonly number[]
  /** Bytes from the start of the data. */
  readonly start: number
  readonly bytes: number
}

export interface Header {
  /** In the order of their data. */
  readonly tensors: readonly TensorEntry[]
  readonly metadata: ReadonlyMap<string, string>
}

/** The reference implementation's limit. */
export const HEADER_LIMIT_BYTES = 100_000_000
/** Bytes of the length that comes before the header. */
export const PREFIX_BYTES = 8
/** How a pointer begins that Git LFS leaves in place of a file that was not downloaded. */
const LARGE_FILE_POINTER = 'version '
const METADATA_KEY = '__metadata__'

/** Bytes of a tensor. `undefined` when they are not a whole number that JavaScript counts exactly. */
export function tensorBytes(dtype: Dtype, shape: readonly number[]): number | undefined {
  // A zero anywhere makes the tensor empty, however large the other dimensions are.
  if (shape.includes(0)) return 0
  let bits: number = DTYPE_BITS[dtype]
  for (const dimension of shape) bits *= dimension
  return bits % 8 === 0 && bits <= Number.MAX_SAFE_INTEGER ? bits / 8 : undefined
}

/**
 * The length of the header from the file's first 8 bytes.
 * @param fileBytes size of the whole file
 * @throws CoppiceError CORRUPT_FILE
 */
export function headerLength(prefix: Uint8Array, fileBytes: number, file: string): number {
  if (prefix.length < PREFIX_BYTES) {
    throw corrupt(file, `a safetensors file begins with ${PREFIX_BYTES} bytes of length, but it has ${fileBytes} bytes`)
  }
  if (new TextDecoder().decode(prefix) === LARGE_FILE_POINTER) {
    throw corrupt(file, 'it is a Git LFS pointer, not the file itself; download the file (`git lfs pull`)')
  }
  const view = new DataView(prefix.buffer, prefix.byteOffset, PREFIX_BYTES)
  const length = view.getUint32(4, true) * 2 ** 32 + view.getUint32(0, true)
  if (length > HEADER_LIMIT_BYTES) {
    throw corrupt(file, `its header claims ${length} bytes; at most ${HEADER_LIMIT_BYTES} are allowed`)
  }
  if (PREFIX_BYTES + length > fileBytes) {
    throw corrupt(file, `its header claims ${length} bytes, but the file has ${fileBytes}; it is cut short`)
  }
  return length
}

/**
 * Reads and checks a header.
 * @param json the header's bytes, without the length
 * @param dataBytes bytes of the file after the header; the tensors must cover them exactly
 * @throws CoppiceError CORRUPT_FILE, or UNSUPPORTED_FORMAT for an element type that is not known
 */
export function parseHeader(json: Uint8Array, dataBytes: number, file: string): Header {
  let text: string
  try {
    // The byte order mark is kept so that it fails the test for '{' below.
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(json)
  } catch (cause) {
    throw new CoppiceError('CORRUPT_FILE', `${file}: its header is not valid UTF-8`, { cause })
  }
  if (!text.startsWith('{')) throw corrupt(file, `its header should begin with "{", not ${showValue(text.slice(0, 1))}`)
  let object: JsonObject
  try {
    object = parseJsonObject(text)
  } catch (cause) {
    throw new CoppiceError('CORRUPT_FILE', `${file}: its header ${(cause as Error).message}`, { cause })
  }
  let metadata: ReadonlyMap<string, string> = new Map()
  const tensors: TensorEntry[] = []
  for (const [key, value] of Object.entries(object)) {
    if (key === METADATA_KEY) metadata = parseMetadata(value, file)
    else tensors.push(parseEntry(key, value, file))
  }
  tensors.sort((a, b) => a.start - b.start || a.bytes - b.bytes)
  checkCover(tensors, dataBytes, file)
  return { tensors, metadata }
}

function parseMetadata(value: unknown, file: string): ReadonlyMap<string, string> {
  if (!isJsonObject(value))
    throw corrupt(file, `${METADATA_KEY} should be an object of strings, not ${showValue(value)}`)
  const metadata = new Map<string, string>()
  for (const [key, text] of Object.entries(value)) {
    if (typeof text !== 'string') {
      throw corrupt(file, `${METADATA_KEY} should hold strings only, but ${showValue(key)} is ${showValue(text)}`)
    }
    metadata.set(key, text)
  }
  return metadata
}

function parseEntry(name: string, value: unknown, file: string): TensorEntry {
  const fail = (what: string): never => {
    throw corrupt(file, `tensor ${showValue(name)}: ${what}`)
  }
  if (!isJsonObject(value)) return fail(`should be an object, not ${showValue(value)}`)
  const { dtype, shape, data_offsets: offsets } = value
  if (typeof dtype !== 'string') return fail(`dtype should be a string, not ${showValue(dtype)}`)
  if (!isDtype(dtype)) {
    throw new CoppiceError(
      'UNSUPPORTED_FORMAT',
      `${file}: tensor ${showValue(name)} has the unknown dtype ${showValue(dtype)}; known: ${Object.keys(DTYPE_BITS).join(', ')}`,
    )
  }
  if (!isCounts(shape)) return fail(`shape should be a list of non-negative integers, not ${showValue(shape)}`)
  if (!isCounts(offsets) || offsets.length !== 2) {
    return fail(`data_offsets should be two non-negative integers, not ${showValue(offsets)}`)
  }
  const [start, end] = offsets
  if (end < start) fail(`data_offsets are reversed: ${start} to ${end}`)
  const bytes = tensorBytes(dtype, shape)
  if (bytes === undefined) fail(`${dtype} of shape ${showValue(shape)} is not a countable number of bytes`)
  if (bytes !== end - start) {
    fail(`${dtype} of shape ${showValue(shape)} takes ${bytes} bytes, but data_offsets span ${end - start}`)
  }
  return { name, dtype, shape: [...shape], start, bytes: end - start }
}

const isDtype = (text: string): text is Dtype => Object.hasOwn(DTYPE_BITS, text)

const isCounts = (value: unknown): value is number[] =>
  Array.isArray(value) && value.every((n) => Number.isSafeInteger(n) && n >= 0)

/** Tensors in the order of their data follow one another without hole or overlap and end with the file. */
function checkCover(tensors: readonly TensorEntry[], dataBytes: number, file: string): void {
  let end = 0
  for (const { name, start, bytes } of tensors) {
    if (start !== end) {
      const what = start > end ? 'leaves a hole' : 'overlaps the one before'
      throw corrupt(file, `tensor ${showValue(name)} ${what}: it begins at ${start}, expected ${end}`)
    }
    end = start + bytes
  }
  if (end > dataBytes) {
    throw corrupt(file, `its tensors take ${end} bytes, but only ${dataBytes} follow the header; it is cut short`)
  }
  if (end < dataBytes) {
    throw corrupt(file, `its tensors take ${end} bytes, but ${dataBytes} follow the header; nothing may follow them`)
  }
}

/** What `formatHeader` needs to know of a tensor. */
export interface TensorLayout {
  readonly name: string
  readonly dtype: Dtype
  readonly shape: readonly number[]
}

export interface FormattedHeader {
  /** Length and JSON, padded with spaces: everything before the data. */
  readonly bytes: Uint8Array
  readonly dataBytes: number
}

/**
 * The header of a file that holds `tensors` one after the other.
 * @param alignment the data begins at a multiple of this many bytes
 * @throws CoppiceError INVALID_INPUT for a name twice, a reserved name, or a shape that has no byte count
 */
export function formatHeader(
  tensors: readonly TensorLayout[],
  metadata: Readonly<Record<string, string>>,
  alignment: number,
): FormattedHeader {
  const names = new Set([METADATA_KEY])
  // Not JSON.stringify of one object: that would reorder names such as "0" and lose "__proto__".
  const fields: string[] = []
  const pairs = Object.entries(metadata).map(([key, text]) => `${JSON.stringify(key)}:${JSON.stringify(text)}`)
  if (pairs.length > 0) fields.push(`"${METADATA_KEY}":{${pairs.join(',')}}`)
  let end = 0
  for (const { name, dtype, shape } of tensors) {
    const bytes = isCounts(shape) ? tensorBytes(dtype, shape) : undefined
    if (names.has(name) || bytes === undefined) {
      throw new CoppiceError(
        'INVALID_INPUT',
        `cannot store tensor ${showValue(name)}, ${dtype} of shape ${showValue(shape)}: ${bytes === undefined ? 'it has no exact number of bytes' : 'the name is taken'}`,
      )
    }
    names.add(name)
    fields.push(
      `${JSON.stringify(name)}:{"dtype":"${dtype}","shape":${JSON.stringify(shape)},"data_offsets":[${end},${end + bytes}]}`,
    )
    end += bytes
  }
  const json = new TextEncoder().encode(`{${fields.join(',')}}`)
  const total = Math.ceil((PREFIX_BYTES + json.length) / alignment) * alignment
  const bytes = new Uint8Array(total).fill(0x20)
  new DataView(bytes.buffer).setUint32(0, total - PREFIX_BYTES, true)
  bytes.fill(0, 4, PREFIX_BYTES)
  bytes.set(json, PREFIX_BYTES)
  return { bytes, dataBytes: end }
}

const corrupt = (file: string, what: string): CoppiceError => new CoppiceError('CORRUPT_FILE', `${file}: ${what}`)
