/** Tables that begin small and double until they have their whole length. */

import { discard } from '../../runtime/platform.ts'

/** Bytes that a source takes at the most. */
export interface TableBytes {
  readonly held: number
  /**
   * Beside them for a moment, when a table moves into a larger one or its rows get other places. What is replaced is
   * counted until the new table is filled, as the collector need not come sooner.
   */
  readonly moving: number
}

/** @param whole length in the end @param most of the first table */
export function firstLength(whole: number, most: number): number {
  let length = whole
  while (length > most) length = halved(length)
  return length
}

/** The length after this one. Each but the first is at most twice the one before it: of no table half is spare. */
export function nextLength(length: number, whole: number): number {
  let next = whole
  while (halved(next) > length) next = halved(next)
  return next
}

/** The length before the whole one. */
export const halved = (whole: number): number => Math.ceil(whole / 2)

type Table = Uint8Array | Uint16Array | Int32Array | Float32Array | Float64Array

/** Moves the content of a table into a larger one, which takes its place. */
export function moved<T extends Table>(from: T, to: T): T {
  to.set(from)
  discard(from)
  return to
}
