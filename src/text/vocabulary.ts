/** The tokens of a tokenizer by id. */
import { CoppiceError } from '../errors.ts'
import { TokenTable } from './token-table.ts'
import type { VocabularyData } from './tokenizer-data.ts'

/** An entry of `added_tokens`, as tokenizer.json has it. */
export interface AddedToken {
  readonly id: number
  readonly content: string
  readonly special?: boolean
  readonly [flag: string]: unknown
}

export class Vocabulary {
  /** Added tokens in order of their ids. */
  readonly added: readonly AddedToken[]
  readonly #tokens: TokenTable
  readonly #addedTexts: ReadonlyMap<number, string>
  readonly #specialIds: ReadonlySet<number>

  constructor(tokens: TokenTable, added: readonly AddedToken[], special: ReadonlySet<number>) {
    this.added = added
    this.#tokens = tokens
    this.#addedTexts = new Map(added.map(({ id, content }) => [id, content]))
    this.#specialIds = special
  }

  /** One more than the largest id. */
  get size(): number {
    return Math.max(this.#tokens.size, 1 + (this.added.at(-1)?.id ?? -1))
  }

  get specialIds(): readonly number[] {
    return [...this.#specialIds].sort((a, b) => a - b)
  }

  /** The token as the vocabulary spells it, not as text. */
  text(token: number): string | undefined {
    return this.#addedTexts.get(token) ?? this.#tokens.text(token)
  }

  isAdded(token: number): boolean {
    return this.#addedTexts.has(token)
  }

  isSpecial(token: number): boolean {
    return this.#specialIds.has(token)
  }

  /** 64 bits, as 16 hexadecimal digits, of all ids with their tokens and of the special ids (FNV-1a, two lanes). */
  fingerprint(): string {
    let a = 0x811c9dc5
    let b = 0x1b873593
    const add = (word: number): void => {
      a = Math.imul(a ^ word, 0x01000193)
      b = Math.imul(b ^ word ^ (a >>> 15), 0x85ebca6b)
    }
    for (let id = 0; id < this.size; id++) {
      const text = this.text(id)
      if (text === undefined) continue
      add(id)
      for (let i = 0; i < text.length; i++) add(text.charCodeAt(i))
    }
    for (const id of this.specialIds) add(~id)
    return [a, b].map((word) => (word >>> 0).toString(16).padStart(8, '0')).join('')
  }
}

/** A special token in tokenizer_config.json: a string, or an object with `content`. */
export function specialToken(value: unknown): string | undefined {
  if (typeof value === 'string') return value
  if (typeof value === 'object' && value !== null && 'content' in value && typeof value.content === 'string') {
    return value.content
  }
  return undefined
}

/** @throws CoppiceError CORRUPT_FILE */
export function readVocabulary({ definition, config, directory, tokens: data }: VocabularyData): Vocabulary {
  const tokens = new TokenTable(data)
  const added = readAdded(definition, config)
  for (const { id, content } of added) {
    if (typeof content === 'string' && Number.isInteger(id) && id >= 0) continue
    throw new CoppiceError(
      'CORRUPT_FILE',
      `the tokenizer in ${directory} gives the added token ${JSON.stringify(content)} the id ${JSON.stringify(id)}; expected a string and an integer; fetch it again`,
    )
  }
  const named = namedTokens(config)
  for (const content of named) {
    // Named in the config only: Hugging Face makes it an added token when it loads the tokenizer.
    const id = added.some((token) => token.content === content) ? -1 : tokens.idOf(content)
    if (id >= 0) added.push({ id, content, special: true })
  }
  added.sort((a, b) => a.id - b.id)
  const special = added.filter((token) => token.special === true || named.has(token.content))
  return new Vocabulary(tokens, added, new Set(special.map(({ id }) => id)))
}

/** `added_tokens_decoder` of tokenizer_config.json completes `added_tokens`. */
function readAdded(json: Record<string, unknown>, config: Record<string, unknown>): AddedToken[] {
  const byId = new Map<number, AddedToken>()
  const decoder = config.added_tokens_decoder
  if (typeof decoder === 'object' && decoder !== null) {
    for (const [id, token] of Object.entries(decoder))
      byId.set(Number(id), { ...(token as AddedToken), id: Number(id) })
  }
  if (Array.isArray(json.added_tokens)) {
    for (const token of json.added_tokens as AddedToken[]) byId.set(token.id, token)
  }
  return [...byId.values()]
}

/** The special tokens that tokenizer_config.json names (`eos_token` and so on). */
function namedTokens(config: Record<string, unknown>): Set<string> {
  const additional = Array.isArray(config.additional_special_tokens) ? config.additional_special_tokens : []
  const values = Object.entries(config)
    .filter(([name]) => name.endsWith('_token'))
    .map(([, value]) => value)
  return new Set([...values, ...additional].map(specialToken).filter((text) => text !== undefined))
}
