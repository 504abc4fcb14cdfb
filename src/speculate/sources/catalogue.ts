/** Sources by name. */
import type { SourceName } from '../drafter.ts'
import { JacobiSource, jacobiBytes } from './jacobi.ts'
import { NgramSource, ngramBytes } from './ngram.ts'
import { RecycleSource, recycleBytes } from './recycle.ts'
import type { Source } from './source.ts'
import type { SourceOptions } from './source-options.ts'
import { TRIE_NODES, TrieSource } from './trie.ts'
import { mostTrieBytes } from './trie-table.ts'
import { PAIRS, PROMPT_PAIRS, TrigramSource } from './trigram.ts'
import { trigramBytes } from './trigram-table.ts'

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

/** What sources need beside their tables. */
const SCRATCH = 2e5

/**
 * Bytes that a source comes to hold at the most.
 * @param vocabulary of the target @param context tokens of the longest text
 */
export function mostSourceBytes(
  name: SourceName,
  { vocabulary, context }: { readonly vocabulary: number; readonly context: number },
  options: SourceOptions = {},
): number {
  switch (name) {
    case 'trie':
      return mostTrieBytes(options.trie?.capacity ?? TRIE_NODES) + SCRATCH
    case 'trigram': {
      const { pairs = PAIRS, promptPairs = PROMPT_PAIRS } = options.trigram ?? {}
      return trigramBytes(pairs) + trigramBytes(promptPairs) + SCRATCH
    }
    case 'recycle':
      return recycleBytes(vocabulary)
    case 'ngram':
      return ngramBytes(context, options.ngram)
    case 'jacobi':
      return jacobiBytes(options.jacobi)
  }
}
