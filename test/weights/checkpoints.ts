/** Checkpoints and files made for tests, and an independent reader of the safetensors format. */
import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { CoppiceError, type ErrorCode } from '../../src/errors.ts'
import { floatToHalf } from '../../src/tensor/half.ts'

/** Runs `use` with a new directory and removes it afterwards. */
export function withDirectory<T>(use: (directory: string) => T): T {
  const directory = mkdtempSync(join(tmpdir(), 'coppice-test-'))
  try {
    return use(directory)
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

/** The same for asynchronous work. */
export async function withDirectoryAsync<T>(use: (directory: string) => Promise<T>): Promise<T> {
  const directory = mkdtempSync(join(tmpdir(), 'coppice-test-'))
  try {
    return await use(directory)
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

/** The error that `act` throws, which must be one of coppice's. */
export function failureOf(act: () => unknown): CoppiceError {
  try {
    act()
  } catch (error) {
    if (error instanceof CoppiceError) return error
    throw new Error(`threw ${String(error)}, which has no code`, { cause: error })
  }
  throw new Error('nothing was thrown')
}

/** Asserts the code of a failure, and that its message has all of `parts`. */
export function expectFailure(act: () => unknown, code: ErrorCode, ...parts: (string | RegExp)[]): void {
  const error = failureOf(act)
  if (error.code !== code) throw new Error(`expected ${code}, got ${error.code}: ${error.message}`)
  for (const part of parts) {
    const found = typeof part === 'string' ? error.message.includes(part) : part.test(error.message)
    if (!found) throw new Error(`expected ${String(part)} in: ${error.message}`)
  }
}

export interface PlainTensor {
  readonly dtype: string
  readonly shape: readonly number[]
  readonly data: Uint8Array
}

/** A safetensors file in memory, from a header as text and the bytes after it. */
export function rawFile(header: string | Uint8Array, data: Uint8Array = new Uint8Array(0)): Uint8Array {
  const json = typeof header === 'string' ? new TextEncoder().encode(header) : header
  const out = new Uint8Array(8 + json.length + data.length)
  new DataView(out.buffer).setBigUint64(0, BigInt(json.length), true)
  out.set(json, 8)
  out.set(data, 8 + json.length)
  return out
}

/** Reads a safetensors file the simplest way there is: it trusts everything. */
export function readPlain(path: string): { tensors: Map<string, PlainTensor>; metadata: Record<string, string> } {
  const bytes = new Uint8Array(readFileSync(path))
  const length = Number(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true))
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + length)))
  const { __metadata__: metadata = {}, ...entries } = header
  const tensors = new Map<string, PlainTensor>()
  for (const [name, entry] of Object.entries(entries)) {
    const { dtype, shape, data_offsets: offsets } = entry as { dtype: string; shape: number[]; data_offsets: number[] }
    tensors.set(name, { dtype, shape, data: bytes.slice(8 + length + offsets[0], 8 + length + offsets[1]) })
  }
  return { tensors, metadata }
}

/** Writes a safetensors file without the code under test. */
export function writePlain(path: string, tensors: ReadonlyMap<string, PlainTensor>): void {
  let end = 0
  const entries: [string, unknown][] = []
  for (const [name, { dtype, shape, data }] of tensors) {
    entries.push([name, { dtype, shape, data_offsets: [end, end + data.length] }])
    end += data.length
  }
  const data = new Uint8Array(end)
  end = 0
  for (const tensor of tensors.values()) {
    data.set(tensor.data, end)
    end += tensor.data.length
  }
  writeFileSync(path, rawFile(JSON.stringify(Object.fromEntries(entries)), data))
}

export const f32Bytes = (values: Float32Array): Uint8Array =>
  new Uint8Array(values.buffer, values.byteOffset, values.byteLength)

/** The values of an F32 tensor. */
export const f32Values = ({ data }: PlainTensor): Float32Array => new Float32Array(data.slice().buffer)

/** An F32 tensor as F16, to the nearest. */
export function asF16(tensor: PlainTensor): PlainTensor {
  const halves = Uint16Array.from(f32Values(tensor), floatToHalf)
  return { dtype: 'F16', shape: tensor.shape, data: new Uint8Array(halves.buffer) }
}

/** Copies a checkpoint and lets `change` alter its tensors and config before they are written. */
export function copyCheckpoint(
  from: string,
  to: string,
  change: (tensors: Map<string, PlainTensor>, config: Record<string, unknown>) => void = () => {},
): string {
  mkdirSync(to, { recursive: true })
  for (const name of readdirSync(from)) {
    if (name.endsWith('.json') && name !== 'expected.json') copyFileSync(join(from, name), join(to, name))
  }
  const { tensors } = readPlain(join(from, 'model.safetensors'))
  const config = JSON.parse(readFileSync(join(from, 'config.json'), 'utf8'))
  change(tensors, config)
  writePlain(join(to, 'model.safetensors'), tensors)
  writeFileSync(join(to, 'config.json'), JSON.stringify(config))
  return to
}

/** Splits the checkpoint in `directory` into shards with an index. */
export function shardCheckpoint(directory: string, shards: number): void {
  const single = join(directory, 'model.safetensors')
  const { tensors } = readPlain(single)
  rmSync(single)
  const parts = Array.from({ length: shards }, () => new Map<string, PlainTensor>())
  const weightMap: Record<string, string> = {}
  for (const [i, [name, tensor]] of [...tensors].entries()) {
    parts[i % shards].set(name, tensor)
    weightMap[name] = shardName((i % shards) + 1, shards)
  }
  parts.forEach((part, i) => {
    writePlain(join(directory, shardName(i + 1, shards)), part)
  })
  writeFileSync(
    join(directory, 'model.safetensors.index.json'),
    JSON.stringify({ metadata: {}, weight_map: weightMap }),
  )
}

export const shardName = (number: number, shards: number): string =>
  `model-${String(number).padStart(5, '0')}-of-${String(shards).padStart(5, '0')}.safetensors`

/** All files of a directory by name. */
export const filesOf = (directory: string): Map<string, Buffer> =>
  new Map(
    readdirSync(directory)
      .sort()
      .map((name) => [name, readFileSync(join(directory, name))]),
  )

/** Copies a checkpoint with tied bf16 embeddings, its vocabulary padded with rows of zeros. */
export function padVocabulary(from: string, to: string, rows: number): void {
  mkdirSync(to, { recursive: true })
  for (const name of readdirSync(from)) copyFileSync(join(from, name), join(to, name))
  const config = JSON.parse(readFileSync(join(from, 'config.json'), 'utf8'))
  writeFileSync(join(to, 'config.json'), JSON.stringify({ ...config, vocab_size: config.vocab_size + rows }))
  const file = readFileSync(join(from, 'model.safetensors'))
  const headerBytes = Number(file.readBigUInt64LE(0))
  const header = JSON.parse(file.subarray(8, 8 + headerBytes).toString())
  const data = file.subarray(8 + headerBytes)
  const embedding = header['model.embed_tokens.weight']
  const [begin, end] = embedding.data_offsets
  // At the end, so that nothing else moves but what lay behind it.
  for (const tensor of Object.values<{ data_offsets: [number, number] }>(header)) {
    if (tensor.data_offsets?.[0] >= end)
      tensor.data_offsets = tensor.data_offsets.map((at) => at - (end - begin)) as [number, number]
  }
  const kept = Buffer.concat([data.subarray(0, begin), data.subarray(end)])
  const padded = Buffer.concat([data.subarray(begin, end), Buffer.alloc(rows * embedding.shape[1] * 2)])
  embedding.shape[0] += rows
  embedding.data_offsets = [kept.length, kept.length + padded.length]
  writeFileSync(join(to, 'model.safetensors'), rawFile(JSON.stringify(header), Buffer.concat([kept, padded])))
}
