/** Sources by name. */
import type { SourceName } from '../drafter.ts'
import type { TableBytes } from './growth.ts'
import { JacobiSource, jacobiBytes } from './jacobi.ts'
import { NgramSource, ngramBytes } from './ngram.ts'
import { RecycleSource, recycleBytes } from './recycle.ts'
import type { Source } from './source.ts'
import type { SourceOptions } from './source-options.ts'
import { TrieSource, trieSourceBytes } from './trie.ts'
import { TrigramSource, trigramSourceBytes } from './trigram.ts'

/** Those that save what they know. */
export const SAVING: readonly SourceName[] = ['trie', 'trigram', 'recycle']

/** @param vocabulary of the target @param options as `checkSourceOptions` returns them */
export function makeSource(name: SourceName, vocabulary: number, options: SourceOptions = {}): Source {
  switch (name) {
    case 'trie':
      return new TrieSource({ ...options.trie, vocabulary })
    case 'trigram':
      return new TrigramSource(vocabulary, options.trigram)
    case 'recycle':
      return new RecycleSource(vocabulary)
    case 'ngram':
      return new NgramSource(options.ngram)
    case 'jacobi':
      return new JacobiSource(options.jacobi)
  }
}

/** What the bytes of sources depend on beside their options. */
export interface SourceSizes {
  /** Of the target. */
  readonly vocabulary: number
  /** Tokens of the longest text. */
  readonly context: number
  /** Of the largest tree that a source proposes by itself; 0 where several are asked together. */
  readonly proposed: number
}

/** Bytes that a source takes at the most. */
export function sourceBytes(
  name: SourceName,
  { vocabulary, context, proposed }: SourceSizes,
  options: SourceOptions = {},
): TableBytes {
  switch (name) {
    case 'trie':
      return trieSourceBytes(proposed, options.trie)
    case 'trigram':
      return trigramSourceBytes(options.trigram)
    case 'recycle':
      return { held: recycleBytes(vocabulary), moving: 0 }
    case 'ngram':
      return ngramBytes(context, options.ngram)
    case 'jacobi':
      return { held: jacobiBytes(options.jacobi), moving: 0 }
  }
}
