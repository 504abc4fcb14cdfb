/**
 * coppice.json as text. It may come from anywhere, so reading it checks every number against the
 * layout that the config implies.
 */
import { CoppiceError } from '../errors.ts'
import { Sha256 } from '../runtime/files.ts'
import { KINDS, type Kind } from '../tensor/layout.ts'
import { parseModelConfig } from './config-check.ts'
import { isJsonObject, type JsonObject, parseJsonObject, showValue } from './json.ts'
import { FORMAT_VERSION, type Manifest, type PackedFile, type PackedTensor, type Segment } from './manifest.ts'
import {
  chunkCount,
  type DataLayout,
  EDGES_NAME,
  edgesLayout,
  FILE_ALIGNMENT,
  layerFileName,
  layerLayout,
} from './packed-layout.ts'
import { parameterCount } from './tensor-names.ts'

/** Files that a packed directory takes over from its source when they are there. */
export const COPIED_NAMES: readonly string[] = [
  'tokenizer.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'generation_config.json',
  'chat_template.jinja',
  'chat_template.json',
]

/** The text of coppice.json: the manifest, and last the digest of all that stands before it. */
export function formatManifest(manifest: Manifest): string {
  return `${JSON.stringify({ ...manifest, digest: digestOf(manifest) })}\n`
}

const digestOf = (value: object): string => new Sha256().update(JSON.stringify(value)).hex()

/**
 * @param where path of the file, for messages
 * @throws CoppiceError CORRUPT_FILE, or UNSUPPORTED_FORMAT for another version of the format
 */
export function parseManifest(text: string, where: string): Manifest {
  try {
    return readManifest(parseJsonObject(text), where)
  } catch (cause) {
    if (cause instanceof SyntaxError) {
      throw new CoppiceError('CORRUPT_FILE', `${where} ${cause.message}; pack the model again`, { cause })
    }
    if (cause instanceof TypeError) {
      throw new CoppiceError('CORRUPT_FILE', `${where}: ${cause.message}; pack the model again`, { cause })
    }
    if (cause instanceof RangeError) {
      throw new CoppiceError('CORRUPT_FILE', `${where} is nested too deeply; pack the model again`, { cause })
    }
    throw cause
  }
}

function readManifest(object: JsonObject, where: string): Manifest {
  expect(object.format, 'coppice', 'format')
  if (object.version !== FORMAT_VERSION) {
    throw new CoppiceError(
      'UNSUPPORTED_FORMAT',
      `${where} has version ${showValue(object.version)} of the format, but this program reads version ${FORMAT_VERSION}; pack the model again`,
    )
  }
  const { digest, ...rest } = object
  if (digest !== digestOf(rest))
    throw new TypeError('its digest does not match, so it was changed after it was written')
  const config = within('config', () => parseModelConfig(object.config))
  const quantisation = asObject(object.quantisation, 'quantisation')
  const layersKind = asKind(quantisation.layers, 'quantisation.layers')
  const edgesKind = asKind(quantisation.edges, 'quantisation.edges')
  const parameters = parameterCount(config)
  expect(object.parameters, parameters, 'parameters')
  const source = asObject(object.source, 'source')
  const layers = asList(object.layers, 'layers')
  expect(layers.length, config.layers, 'the number of layers')
  const layout = layerLayout(config, layersKind)
  return {
    format: 'coppice',
    version: FORMAT_VERSION,
    config,
    quantisation: { layers: layersKind, edges: edgesKind },
    parameters,
    source: { name: asText(source.name, 'source.name'), revision: asText(source.revision, 'source.revision') },
    edges: parsePackedFile(object.edges, EDGES_NAME, edgesLayout(config, edgesKind)),
    layers: layers.map((file, layer) => parsePackedFile(file, layerFileName(layer), layout)),
    copies: asList(object.copies, 'copies').map(parseCopy),
  }
}

/**
 * Reads the description of one packed file and compares it with what it must be.
 * @throws TypeError that says which entry is wrong
 */
export function parsePackedFile(value: unknown, name: string, layout: DataLayout): PackedFile {
  return within(name, () => {
    const file = asObject(value, 'the entry')
    expect(file.name, name, 'name')
    const dataOffset = asCount(file.dataOffset, 'dataOffset')
    if (dataOffset === 0 || dataOffset % FILE_ALIGNMENT !== 0) {
      throw new TypeError(`dataOffset should be a positive multiple of ${FILE_ALIGNMENT}, not ${dataOffset}`)
    }
    expect(file.bytes, dataOffset + layout.bytes, 'bytes')
    const tensors = asList(file.tensors, 'tensors')
    expect(tensors.length, layout.tensors.length, 'the number of tensors')
    for (const [i, tensor] of layout.tensors.entries()) expectTensor(tensors[i], tensor)
    const segments = asList(file.segments, 'segments')
    expect(segments.length, layout.segments.length, 'the number of segments')
    return {
      name,
      bytes: dataOffset + layout.bytes,
      sha256: asSha256(file.sha256, 'sha256'),
      dataOffset,
      headerChecksum: asChecksum(file.headerChecksum, 'headerChecksum'),
      tensors: layout.tensors,
      segments: layout.segments.map((segment, i) => parseSegment(segments[i], segment)),
    }
  })
}

function expectTensor(value: unknown, tensor: PackedTensor): void {
  within(`tensor ${tensor.name}`, () => {
    const found = asObject(value, 'the entry')
    for (const [field, expected] of Object.entries(tensor)) {
      if (field === 'parts') expect(JSON.stringify(found.parts), JSON.stringify(expected), field)
      else expect(found[field], expected, field)
    }
  })
}

function parseSegment(value: unknown, segment: Omit<Segment, 'checksums'>): Segment {
  return within(`segment ${segment.name}`, () => {
    const found = asObject(value, 'the entry')
    for (const [field, expected] of Object.entries(segment)) expect(found[field], expected, field)
    const checksums = asList(found.checksums, 'checksums').map((sum) => asChecksum(sum, 'checksums'))
    expect(checksums.length, chunkCount(segment), 'the number of checksums')
    return { ...segment, checksums }
  })
}

function parseCopy(value: unknown): Manifest['copies'][number] {
  const copy = asObject(value, 'copies')
  const name = asText(copy.name, 'copies.name')
  if (!COPIED_NAMES.includes(name)) throw new TypeError(`should not have a copy of ${showValue(name)}`)
  return { name, bytes: asCount(copy.bytes, `bytes of ${name}`), sha256: asSha256(copy.sha256, `sha256 of ${name}`) }
}

/** Puts the name of what was read before the message of a failure. */
function within<T>(what: string, read: () => T): T {
  try {
    return read()
  } catch (cause) {
    throw cause instanceof TypeError ? new TypeError(`${what}: ${cause.message}`, { cause }) : cause
  }
}

function expect(found: unknown, expected: unknown, what: string): void {
  if (found !== expected) throw new TypeError(`${what} should be ${showValue(expected)}, not ${showValue(found)}`)
}

function asObject(value: unknown, what: string): JsonObject {
  if (!isJsonObject(value)) throw new TypeError(`${what} should be an object, not ${showValue(value)}`)
  return value
}

function asList(value: unknown, what: string): unknown[] {
  if (!Array.isArray(value)) throw new TypeError(`${what} should be a list, not ${showValue(value)}`)
  return value
}

function asText(value: unknown, what: string): string {
  if (typeof value !== 'string') throw new TypeError(`${what} should be text, not ${showValue(value)}`)
  return value
}

function asKind(value: unknown, what: string): Kind {
  const kind = KINDS.find((known) => known === value)
  if (kind === undefined) throw new TypeError(`${what} should be one of ${KINDS.join(', ')}, not ${showValue(value)}`)
  return kind
}

function asCount(value: unknown, what: string): number {
  if (!Number.isSafeInteger(value) || (value as number) < 0) {
    throw new TypeError(`${what} should be a non-negative integer, not ${showValue(value)}`)
  }
  return value as number
}

function asChecksum(value: unknown, what: string): number {
  const sum = asCount(value, what)
  if (sum >= 2 ** 32) throw new TypeError(`${what} should fit in 32 bits, not ${sum}`)
  return sum
}

function asSha256(value: unknown, what: string): string {
  if (typeof value !== 'string' || !/^[0-9a-f]{64}$/.test(value)) {
    throw new TypeError(`${what} should be a SHA-256 in hexadecimal, not ${showValue(value)}`)
  }
  return value
}
