/** State files of drafters on disk, and for which model they are. */
import { CoppiceError } from '../errors.ts'
import { writeFileAtomically } from '../runtime/atomic-file.ts'
import { absolutePath, readBytes, statPath } from '../runtime/files.ts'
import {
  brokenState,
  checkMeaning,
  type DrafterState,
  decodeState,
  encodeState,
  MOST_STATE_BYTES,
  type TokenMeaning,
} from '../speculate/state-file.ts'
import type { Vocabulary } from '../text/vocabulary.ts'

/**
 * What the token ids of a model mean. Of 128 thousand tokens it takes some 70 ms.
 * @param size tokens that the model knows @param vocabulary of its tokenizer, if it has one
 */
export const tokenMeaning = (size: number, vocabulary: Vocabulary | undefined): TokenMeaning => ({
  vocabulary: size,
  tokens: vocabulary?.fingerprint() ?? 'unknown',
})

/** @throws CoppiceError FILE_SYSTEM | CORRUPT_FILE | UNSUPPORTED_FORMAT */
export function readState(file: string): DrafterState {
  const found = statPath(file)
  if (found?.kind !== 'file') {
    const what = found === undefined ? 'is not there' : found.kind === 'directory' ? 'is a directory' : 'is no file'
    throw new CoppiceError(
      'FILE_SYSTEM',
      `the drafter state ${file} ${what}; expected a file that saveDrafterState or \`coppice drafter warm\` wrote: check the path`,
    )
  }
  if (found.stamp.bytes > MOST_STATE_BYTES) {
    throw brokenState(file, `it has ${found.stamp.bytes} bytes, and none is longer than ${MOST_STATE_BYTES}`)
  }
  return decodeState(readBytes(file), file)
}

/** @throws CoppiceError FILE_SYSTEM | CORRUPT_FILE | UNSUPPORTED_FORMAT | INCOMPATIBLE_STATE */
export function readStateFor(file: string, meaning: TokenMeaning): DrafterState {
  const state = readState(file)
  checkMeaning(file, state.meaning, meaning)
  return state
}

/** @returns bytes of the file @throws CoppiceError FILE_SYSTEM; then what was there before is still there */
export function writeState(file: string, state: DrafterState): number {
  const path = absolutePath(file)
  if (statPath(path)?.kind === 'directory') {
    throw new CoppiceError(
      'FILE_SYSTEM',
      `the drafter state cannot be written to ${file}: it is a directory; name a file`,
    )
  }
  const bytes = encodeState(state)
  writeFileAtomically(path, bytes)
  return bytes.length
}
