/** Writes safetensors files. */
import { CoppiceError } from '../errors.ts'
import { AtomicFile } from '../runtime/atomic-file.ts'
import { Sha256 } from '../runtime/files.ts'
import { showValue } from './json.ts'
import { formatHeader, type TensorLayout, tensorBytes } from './safetensors-header.ts'

/**
 * Writes a safetensors file: first the description of all tensors, then their bytes in the same order.
 * Nothing is there under the final name before `commit`.
 */
export class SafetensorsWriter {
  readonly path: string
  /** Bytes before the data: the length and the header. */
  readonly header: Uint8Array
  /** Size that the finished file will have. */
  readonly bytes: number
  readonly #file: AtomicFile
  readonly #hash = new Sha256()
  #written = 0

  /**
   * @param alignment the data begins at a multiple of this many bytes
   * @throws CoppiceError INVALID_INPUT when the tensors cannot be stored, FILE_SYSTEM
   */
  constructor(
    path: string,
    tensors: readonly TensorLayout[],
    { metadata = {}, alignment = 8 }: { metadata?: Readonly<Record<string, string>>; alignment?: number } = {},
  ) {
    const { bytes, dataBytes } = formatHeader(tensors, metadata, alignment)
    this.path = path
    this.header = bytes
    this.bytes = bytes.length + dataBytes
    this.#file = new AtomicFile(path)
    this.write(bytes)
  }

  /** Appends bytes of data. @throws CoppiceError FILE_SYSTEM */
  write(bytes: Uint8Array): void {
    this.#hash.update(bytes)
    this.#file.write(bytes)
    this.#written += bytes.length
  }

  /**
   * Makes the file durable under its final name.
   * @returns its SHA-256 in hexadecimal
   * @throws CoppiceError INVALID_INPUT when not all bytes were written, FILE_SYSTEM
   */
  commit(): string {
    if (this.#written !== this.bytes) {
      throw new CoppiceError('INVALID_INPUT', `${this.path} needs ${this.bytes} bytes, but got ${this.#written}`)
    }
    this.#file.commit()
    return this.#hash.hex()
  }

  /** Gives up: removes what was written. Does nothing after `commit`. */
  discard(): void {
    this.#file.discard()
  }
}

/**
 * Writes tensors that are in memory to a safetensors file.
 * @throws CoppiceError INVALID_INPUT when a tensor's bytes do not fit its dtype and shape, FILE_SYSTEM
 */
export function writeSafetensors(
  path: string,
  tensors: readonly (TensorLayout & { readonly data: Uint8Array })[],
  metadata: Readonly<Record<string, string>> = {},
): void {
  for (const { name, dtype, shape, data } of tensors) {
    const expected = tensorBytes(dtype, shape)
    if (data.length !== expected) {
      throw new CoppiceError(
        'INVALID_INPUT',
        `tensor ${showValue(name)}, ${dtype} of shape ${showValue(shape)}, takes ${expected} bytes, not ${data.length}`,
      )
    }
  }
  const writer = new SafetensorsWriter(path, tensors, { metadata })
  try {
    for (const { data } of tensors) writer.write(data)
    writer.commit()
  } catch (error) {
    writer.discard()
    throw error
  }
}
