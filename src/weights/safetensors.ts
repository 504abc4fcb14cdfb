/**
 * Safetensors files (https://github.com/huggingface/safetensors), read tensor by tensor or row by row,
 * so that a checkpoint larger than memory can be worked through, and written in one go.
 *
 * ```ts
 * import { openSafetensors } from 'coppice/safetensors'
 *
 * const checkpoint = openSafetensors('path/to/model')       // a file, or a directory, sharded or not
 * for (const { name, dtype, shape } of checkpoint.tensors.values()) console.log(name, dtype, shape)
 * const norm = checkpoint.read('model.norm.weight')          // Float32Array
 * checkpoint.close()
 * ```
 *
 * Files may come from anywhere: whatever is wrong with one is reported as a `CoppiceError` with the
 * code `CORRUPT_FILE` or `UNSUPPORTED_FORMAT` when it is opened, before anything is read from it.
 */
import { CoppiceError } from '../errors.ts'
import { isPlainFileName, joinPath, ReadableFile, readText, statPath } from '../runtime/files.ts'
import { bfloatsToFloats, halvesToFloats } from '../tensor/half.ts'
import { isJsonObject, parseJsonObject, showValue } from './json.ts'
import {
  type Dtype,
  HEADER_LIMIT_BYTES,
  type Header,
  headerLength,
  PREFIX_BYTES,
  parseHeader,
} from './safetensors-header.ts'

export { CoppiceError, type ErrorCode } from '../errors.ts'
export type { Dtype, TensorLayout } from './safetensors-header.ts'
export { SafetensorsWriter, writeSafetensors } from './safetensors-writer.ts'

/** File names that a checkpoint directory is searched for, in this order. */
export const SINGLE_FILE_NAME = 'model.safetensors'
export const INDEX_FILE_NAME = 'model.safetensors.index.json'

/** A tensor in a file. */
export interface TensorInfo {
  readonly name: string
  readonly dtype: Dtype
  /** Outermost dimension first; empty for a single value. */
  readonly shape: readonly number[]
  /** Path of the file that holds it. */
  readonly file: string
  /** First byte in that file. */
  readonly offset: number
  readonly bytes: number
}

/** Bytes that are read and converted at a time. */
const BLOCK_BYTES = 1 << 20

/** One safetensors file, or the shards of one checkpoint. */
export class Safetensors {
  /** The path that was opened. */
  readonly path: string
  /** Paths of the files that hold tensors. */
  readonly files: readonly string[]
  /** All tensors by name. */
  readonly tensors: ReadonlyMap<string, TensorInfo>
  /** `__metadata__` of the file; with shards, of the first shard that has a key. */
  readonly metadata: ReadonlyMap<string, string>
  readonly #open: ReadonlyMap<string, ReadableFile>

  /** Use `openSafetensors`. */
  private constructor(path: string, shards: readonly Shard[]) {
    const tensors = new Map<string, TensorInfo>()
    const metadata = new Map<string, string>()
    for (const { file, header, dataOffset } of shards) {
      for (const { name, dtype, shape, start, bytes } of header.tensors) {
        tensors.set(name, { name, dtype, shape, file: file.path, offset: dataOffset + start, bytes })
      }
      for (const [key, text] of header.metadata) if (!metadata.has(key)) metadata.set(key, text)
    }
    this.path = path
    this.files = shards.map((shard) => shard.file.path)
    this.tensors = tensors
    this.metadata = metadata
    this.#open = new Map(shards.map((shard) => [shard.file.path, shard.file]))
  }

  /** @see openSafetensors */
  static open(path: string): Safetensors {
    const shards: Shard[] = []
    try {
      if (statPath(path)?.kind !== 'directory') shards.push(openShard(path))
      else if (statPath(joinPath(path, SINGLE_FILE_NAME)) !== undefined) {
        shards.push(openShard(joinPath(path, SINGLE_FILE_NAME)))
      } else openIndexed(path, shards)
      return new Safetensors(path, shards)
    } catch (error) {
      for (const { file } of shards) file.close()
      throw error
    }
  }

  /**
   * A tensor's description.
   * @throws CoppiceError INVALID_INPUT when there is none of that name
   */
  info(name: string): TensorInfo {
    const info = this.tensors.get(name)
    if (info === undefined) {
      throw new CoppiceError('INVALID_INPUT', `${this.path} has no tensor ${showValue(name)}; \`tensors\` lists them`)
    }
    return info
  }

  /**
   * A whole tensor as 32-bit floats, in the order it is stored: row-major.
   * @throws CoppiceError INVALID_INPUT | UNSUPPORTED_FORMAT when its dtype is not F32, F16 or BF16 | CORRUPT_FILE
   */
  read(name: string): Float32Array {
    return this.readRows(name, 0, rowsOf(this.info(name)))
  }

  /**
   * Rows `[first, first + count)` of a tensor, the outermost dimension being the rows, as 32-bit floats.
   * @param target where they go; made when absent. At least as many elements as the rows have.
   * @returns the elements of these rows, at the start of `target` if given
   * @throws CoppiceError INVALID_INPUT | UNSUPPORTED_FORMAT when its dtype is not F32, F16 or BF16 | CORRUPT_FILE
   */
  readRows(name: string, first: number, count: number, target?: Float32Array): Float32Array {
    const info = this.info(name)
    if (info.dtype !== 'F32' && info.dtype !== 'F16' && info.dtype !== 'BF16') {
      throw new CoppiceError(
        'UNSUPPORTED_FORMAT',
        `${info.file}: tensor ${showValue(name)} is ${info.dtype}; only F32, F16 and BF16 can be read as floats`,
      )
    }
    const { position, bytes } = placeOfRows(info, first, count)
    const elements = bytes / (info.dtype === 'F32' ? 4 : 2)
    const out = target === undefined ? new Float32Array(elements) : target.subarray(0, elements)
    if (out.length < elements) {
      throw new CoppiceError('INVALID_INPUT', `${count} rows of ${name} need ${elements} elements, not ${out.length}`)
    }
    if (info.dtype === 'F32') this.#fill(info, new Uint8Array(out.buffer, out.byteOffset, elements * 4), position)
    else this.#widen(info, out, position, info.dtype === 'F16' ? halvesToFloats : bfloatsToFloats)
    return out
  }

  /**
   * A tensor's bytes as they are stored, whatever its dtype.
   * @throws CoppiceError INVALID_INPUT | CORRUPT_FILE
   */
  readBytes(name: string): Uint8Array {
    const info = this.info(name)
    const bytes = new Uint8Array(info.bytes)
    this.#fill(info, bytes, info.offset)
    return bytes
  }

  /**
   * Rows `[first, first + count)` of a tensor as they are stored, whatever its dtype.
   * @param target where they go, from its start on
   * @returns how many bytes these rows have
   * @throws CoppiceError INVALID_INPUT | CORRUPT_FILE
   */
  readRowBytes(name: string, first: number, count: number, target: Uint8Array): number {
    const info = this.info(name)
    const { position, bytes } = placeOfRows(info, first, count)
    if (target.length < bytes) {
      throw new CoppiceError('INVALID_INPUT', `${count} rows of ${name} need ${bytes} bytes, not ${target.length}`)
    }
    this.#fill(info, target.subarray(0, bytes), position)
    return bytes
  }

  /** Closes the files. Tensors cannot be read afterwards. */
  close(): void {
    for (const file of this.#open.values()) file.close()
  }

  /** Reads 16-bit floats from `position` on and widens them into `out`. */
  #widen(
    info: TensorInfo,
    out: Float32Array,
    position: number,
    convert: (source: Uint16Array, target: Float32Array) => void,
  ): void {
    const buffer = new Uint16Array(Math.min(out.length, BLOCK_BYTES / 2))
    for (let done = 0; done < out.length; done += buffer.length) {
      const block = buffer.subarray(0, out.length - done)
      this.#fill(info, new Uint8Array(block.buffer, 0, block.length * 2), position + done * 2)
      convert(block, out.subarray(done, done + block.length))
    }
  }

  #fill(info: TensorInfo, target: Uint8Array, position: number): void {
    const file = this.#open.get(info.file)!
    for (let done = 0; done < target.length; done += BLOCK_BYTES) {
      const block = target.subarray(done, done + BLOCK_BYTES)
      const got = file.read(block, position + done)
      if (got < block.length) {
        throw new CoppiceError(
          'CORRUPT_FILE',
          `${info.file} ended at byte ${position + done + got} while ${showValue(info.name)} was read; it was cut short after it was opened`,
        )
      }
    }
  }
}

/**
 * Opens a safetensors file, or the checkpoint in a directory: `model.safetensors`, else the shards
 * that `model.safetensors.index.json` lists. Reads and checks all headers; reads no tensor.
 * @throws CoppiceError MODEL_NOT_FOUND when there is none, CORRUPT_FILE or UNSUPPORTED_FORMAT when
 *   a file is not what it should be, FILE_SYSTEM when it cannot be read
 */
export function openSafetensors(path: string): Safetensors {
  return Safetensors.open(path)
}

const rowsOf = ({ shape }: TensorInfo): number => (shape.length === 0 ? 1 : shape[0])

/** Where rows lie in their file. */
function placeOfRows(info: TensorInfo, first: number, count: number): { position: number; bytes: number } {
  const rows = rowsOf(info)
  if (!Number.isInteger(first) || !Number.isInteger(count) || first < 0 || count < 0 || first + count > rows) {
    throw new CoppiceError('INVALID_INPUT', `${info.name} has ${rows} rows; ${count} from ${first} on cannot be read`)
  }
  const rowBytes = rows === 0 ? 0 : info.bytes / rows
  return { position: info.offset + first * rowBytes, bytes: count * rowBytes }
}

interface Shard {
  readonly file: ReadableFile
  readonly header: Header
  /** Where the data begins. */
  readonly dataOffset: number
}

function openShard(path: string): Shard {
  // A pipe or a device would make the open or the read wait for ever.
  const kind = statPath(path)?.kind
  if (kind !== undefined && kind !== 'file') {
    throw new CoppiceError('UNSUPPORTED_FORMAT', `${path} should be a safetensors file, but is not a file`)
  }
  const file = new ReadableFile(path)
  try {
    const { bytes } = file.stamp()
    const prefix = new Uint8Array(PREFIX_BYTES)
    const length = headerLength(prefix.subarray(0, file.read(prefix, 0)), bytes, path)
    const json = new Uint8Array(length)
    if (file.read(json, PREFIX_BYTES) < length) {
      throw new CoppiceError(
        'CORRUPT_FILE',
        `${path} was cut short while its header of ${length} bytes was read; download it again`,
      )
    }
    const dataOffset = PREFIX_BYTES + length
    return { file, header: parseHeader(json, bytes - dataOffset, path), dataOffset }
  } catch (error) {
    file.close()
    throw error
  }
}

/** Opens the shards that the index of `directory` names, and adds them to `shards` as they are opened. */
function openIndexed(directory: string, shards: Shard[]): void {
  const indexPath = joinPath(directory, INDEX_FILE_NAME)
  const found = statPath(indexPath)
  if (found?.kind !== 'file') {
    throw new CoppiceError(
      'MODEL_NOT_FOUND',
      `${directory} holds no safetensors checkpoint: looked for ${SINGLE_FILE_NAME} and ${INDEX_FILE_NAME}`,
    )
  }
  const map = readWeightMap(indexPath, found.stamp.bytes)
  const holder = new Map<string, string>()
  for (const name of [...new Set(map.values())].sort()) {
    const path = joinPath(directory, name)
    if (statPath(path) === undefined) {
      throw new CoppiceError('MODEL_NOT_FOUND', `${indexPath} names the shard ${name}, but ${path} does not exist`)
    }
    const shard = openShard(path)
    shards.push(shard)
    for (const { name: tensor } of shard.header.tensors) {
      const other = holder.get(tensor)
      if (other !== undefined) {
        throw new CoppiceError(
          'CORRUPT_FILE',
          `tensor ${showValue(tensor)} is in two shards of ${directory}: ${other} and ${name}`,
        )
      }
      holder.set(tensor, name)
      if (map.get(tensor) !== name) {
        const expected = map.has(tensor) ? `says it is in ${map.get(tensor)}` : 'does not know it'
        throw new CoppiceError(
          'CORRUPT_FILE',
          `${path} holds tensor ${showValue(tensor)}, but ${INDEX_FILE_NAME} ${expected}`,
        )
      }
    }
  }
  for (const [tensor, name] of map) {
    if (holder.get(tensor) !== name) {
      throw new CoppiceError(
        'CORRUPT_FILE',
        `${indexPath} says that tensor ${showValue(tensor)} is in ${name}, but it is not`,
      )
    }
  }
}

/** Tensor name -> file name in the index's own directory. */
function readWeightMap(indexPath: string, bytes: number): ReadonlyMap<string, string> {
  const corrupt = (what: string, cause?: unknown) => new CoppiceError('CORRUPT_FILE', `${indexPath} ${what}`, { cause })
  if (bytes > HEADER_LIMIT_BYTES) throw corrupt(`has ${bytes} bytes; at most ${HEADER_LIMIT_BYTES} are allowed`)
  let weightMap: unknown
  try {
    weightMap = parseJsonObject(readText(indexPath)).weight_map
  } catch (cause) {
    if (cause instanceof CoppiceError) throw cause
    throw corrupt((cause as Error).message, cause)
  }
  if (!isJsonObject(weightMap)) throw corrupt(`should have an object "weight_map", not ${showValue(weightMap)}`)
  const map = new Map<string, string>()
  for (const [tensor, name] of Object.entries(weightMap)) {
    if (typeof name !== 'string' || !isPlainFileName(name)) {
      throw corrupt(`should give a file name for ${showValue(tensor)}, without a path, not ${showValue(name)}`)
    }
    map.set(tensor, name)
  }
  return map
}
