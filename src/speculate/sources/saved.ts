/**
 * The head of a saved table, little-endian: a mark that names the kind of table, the version of its layout, the
 * vocabulary and the number of rows, 4 bytes each. The rows follow.
 */
import { CoppiceError } from '../../errors.ts'

export const HEAD_BYTES = 16

export interface Kind {
  /** How messages name the table. */
  readonly name: string
  /** Four letters. */
  readonly mark: string
  readonly version: number
}

/** Bytes for the head, which is written, and `bytes` of rows, which are not. */
export function startSaving(kind: Kind, vocabulary: number, rows: number, bytes: number): DataView {
  const view = new DataView(new ArrayBuffer(HEAD_BYTES + bytes))
  for (let i = 0; i < 4; i++) view.setUint8(i, kind.mark.charCodeAt(i))
  view.setUint32(4, kind.version, true)
  view.setUint32(8, vocabulary, true)
  view.setUint32(12, rows, true)
  return view
}

/** Rows that a table says to have, of which the head was read before. */
export const savedRows = ({ buffer, byteOffset }: Uint8Array): number =>
  new DataView(buffer, byteOffset).getUint32(12, true)

/** @returns the number of rows that the head speaks of @throws Error in words when the head is another table's */
export function readHead(kind: Kind, vocabulary: number, bytes: Uint8Array): { view: DataView; rows: number } {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (bytes.length < HEAD_BYTES)
    throw broken(kind, `it has ${bytes.length} bytes, and its head alone takes ${HEAD_BYTES}`)
  const mark = String.fromCharCode(...bytes.subarray(0, 4))
  if (mark !== kind.mark) throw broken(kind, `it begins with ${JSON.stringify(mark)}, not "${kind.mark}"`)
  const version = view.getUint32(4, true)
  if (version !== kind.version)
    throw broken(kind, `its layout is version ${version}, and ${kind.version} is known here`)
  const saved = view.getUint32(8, true)
  if (saved !== vocabulary) throw broken(kind, `it is for ${saved} tokens, and the model has ${vocabulary}`)
  return { view, rows: view.getUint32(12, true) }
}

export const broken = ({ name }: Kind, what: string): CoppiceError =>
  new CoppiceError('CORRUPT_FILE', `the saved ${name} cannot be used: ${what}; delete it, and it is learned anew`)
