/** Parameters of drafters without a model, checked: what their papers leave to whoever uses them. */
import { CoppiceError } from '../../errors.ts'
import { SOURCES, type SourceName } from '../drafter.ts'
import type { JacobiOptions } from './jacobi.ts'
import type { NgramOptions } from './ngram.ts'
import { MOST_GUESSES, SHOWN } from './source.ts'
import { TRIE_MODES, type TrieOptions } from './trie.ts'
import type { TrigramOptions } from './trigram.ts'

/** By drafter; `recycle` has none. */
export interface SourceOptions {
  readonly trie?: Omit<TrieOptions, 'vocabulary'>
  readonly trigram?: TrigramOptions
  readonly ngram?: NgramOptions
  readonly jacobi?: JacobiOptions
}

/** What a value may be: whole numbers or any, from the first to the last of two, or one of some words. */
type Limits =
  | { readonly whole: readonly [number, number] }
  | { readonly number: readonly [number, number] }
  | { readonly words: readonly string[] }

type LimitsOf<T> = { readonly [K in keyof Required<T>]: Limits }

const LIMITS: { readonly [K in keyof Required<SourceOptions>]: LimitsOf<NonNullable<SourceOptions[K]>> } = {
  trie: {
    branchLength: { whole: [2, 64] },
    promptWeight: { number: [1e-3, 1e6] },
    // Room for whole branches, also while some are dropped.
    capacity: { whole: [4096, 2 ** 24] },
    decay: { number: [0.01, 0.9] },
    mode: { words: TRIE_MODES },
    enough: { whole: [1, 1024] },
  },
  trigram: { pairs: { whole: [1, 2 ** 22] }, promptPairs: { whole: [1, 2 ** 22] } },
  ngram: { most: { whole: [1, SHOWN] }, copied: { whole: [1, 64] }, recent: { whole: [1, MOST_GUESSES] } },
  jacobi: {
    window: { whole: [1, 256] },
    ngram: { whole: [2, SHOWN] },
    guesses: { whole: [1, MOST_GUESSES] },
    keys: { whole: [1, 2 ** 16] },
  },
}

/**
 * @param options as a user gave them @param names drafters that they may be for
 * @throws CoppiceError INVALID_OPTION for anything that is no parameter, or out of its limits
 */
export function checkSourceOptions(options: unknown, names: readonly SourceName[]): SourceOptions {
  for (const [name, given] of entriesOf('drafterOptions', options)) {
    if (!Object.hasOwn(LIMITS, name)) {
      const known = SOURCES.some((source) => source === name) ? `"${name}" has no options` : `there is no "${name}"`
      throw refused(`drafterOptions: ${known}; known: ${Object.keys(LIMITS).join(', ')}`)
    }
    if (!names.some((source) => source === name)) {
      throw refused(`drafterOptions has some for "${name}", which is not among the drafters; name it there, too`)
    }
    const limits: Readonly<Record<string, Limits>> = LIMITS[name as keyof typeof LIMITS]
    for (const [key, value] of entriesOf(`drafterOptions.${name}`, given)) {
      if (!Object.hasOwn(limits, key)) {
        throw refused(`drafterOptions.${name} has no "${key}"; known: ${Object.keys(limits).join(', ')}`)
      }
      checkValue(`drafterOptions.${name}.${key}`, value, limits[key])
    }
  }
  return options as SourceOptions
}

function entriesOf(what: string, value: unknown): [string, unknown][] {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
    return Object.entries(value).filter(([, one]) => one !== undefined)
  }
  throw refused(`${what} must be an object, not ${JSON.stringify(value)}`)
}

function checkValue(what: string, value: unknown, limits: Limits): void {
  if ('words' in limits) {
    if (limits.words.some((word) => word === value)) return
    throw refused(`${what} must be one of ${limits.words.join(', ')}, not ${JSON.stringify(value)}`)
  }
  const isWhole = 'whole' in limits
  const [least, most] = isWhole ? limits.whole : limits.number
  const isNumber = isWhole ? Number.isInteger(value) : typeof value === 'number'
  if (isNumber && (value as number) >= least && (value as number) <= most) return
  const kind = isWhole ? 'an integer' : 'a number'
  throw refused(`${what} must be ${kind} from ${least} to ${most}, not ${JSON.stringify(value)}`)
}

const refused = (message: string): CoppiceError => new CoppiceError('INVALID_OPTION', message)
