/** Sources by name. */
import type { SourceName } from '../drafter.ts'
import { JacobiSource } from './jacobi.ts'
import { NgramSource } from './ngram.ts'
import { RecycleSource } from './recycle.ts'
import type { Source } from './source.ts'
import { TrieSource } from './trie.ts'
import { TrigramSource } from './trigram.ts'

/** @param vocabulary of the target */
export function makeSource(name: SourceName, vocabulary: number): Source {
  switch (name) {
    case 'trie':
      return new TrieSource({ vocabulary })
    case 'trigram':
      return new TrigramSource(vocabulary)
    case 'recycle':
      return new RecycleSource(vocabulary)
    case 'ngram':
      return new NgramSource()
    case 'jacobi':
      return new JacobiSource()
  }
}

/** Bytes that a source comes to hold at the most: of its tables when they are full, as measured. */
export function mostSourceBytes(name: SourceName, vocabulary: number): number {
  switch (name) {
    case 'trie':
      return 9.5e6
    case 'trigram':
      return 8.7e6
    case 'recycle':
      return 34 * vocabulary + 2000
    case 'ngram':
    case 'jacobi':
      return 0.4e6
  }
}
