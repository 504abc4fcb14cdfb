/** Text to token ids and back, by the model's own tokenizer.json. */
import { Tokenizer as HfTokenizer } from '@huggingface/tokenizers'
import { CoppiceError } from '../errors.ts'
import { ChatTemplate, type Message } from './chat.ts'

export interface TokenizerFiles {
  /** Content of tokenizer.json. */
  readonly tokenizer: string
  /** Content of tokenizer_config.json. */
  readonly config?: string | undefined
  /** Content of chat_template.jinja. */
  readonly chatTemplate?: string | undefined
  /** Where they come from, for messages. */
  readonly directory: string
}

export class Tokenizer {
  readonly #inner: HfTokenizer
  readonly #config: Record<string, unknown>
  readonly #files: TokenizerFiles
  readonly #bos: number | undefined
  #chat: ChatTemplate | undefined
  #tokens: Map<number, string> | undefined

  /** @throws CoppiceError CORRUPT_FILE | UNSUPPORTED_FORMAT */
  constructor(files: TokenizerFiles) {
    this.#files = files
    const tokenizer = parseObject(files.tokenizer, 'tokenizer.json', files.directory)
    this.#config = parseObject(files.config ?? '{}', 'tokenizer_config.json', files.directory)
    try {
      this.#inner = new HfTokenizer(tokenizer, this.#config)
    } catch (cause) {
      const reason = cause instanceof Error ? cause.message : String(cause)
      throw new CoppiceError(
        'UNSUPPORTED_FORMAT',
        `the tokenizer in ${files.directory} cannot be used: ${reason}; use the model with { tokens }, or another tokenizer.json`,
        { cause },
      )
    }
    const bos = tokenText(this.#config.bos_token)
    this.#bos = bos === undefined ? undefined : this.#inner.token_to_id(bos)
  }

  /** Entries of the vocabulary, added tokens included: one more than the largest id. */
  get vocabularySize(): number {
    return Math.max(...this.#byId().keys()) + 1
  }

  /** Token ids of raw text, with the special tokens that the tokenizer puts around it. */
  encode(text: string): number[] {
    const ids = this.#inner.encode(text, { add_special_tokens: true }).ids
    const addBos = this.#config.add_bos_token
    if (this.#bos === undefined || typeof addBos !== 'boolean') return ids
    if (addBos && ids[0] !== this.#bos) return [this.#bos, ...ids]
    if (!addBos && ids[0] === this.#bos && !text.startsWith(this.#inner.id_to_token(this.#bos) ?? '\0')) {
      return ids.slice(1)
    }
    return ids
  }

  /** Token ids of a conversation, ready for the assistant's answer. @throws CoppiceError NO_CHAT_TEMPLATE | INVALID_INPUT */
  encodeChat(messages: readonly Message[]): number[] {
    this.#chat ??= new ChatTemplate(this.#files.chatTemplate, this.#config, this.#files.directory)
    return this.#inner.encode(this.#chat.render(messages), { add_special_tokens: false }).ids
  }

  /** Text of token ids; special tokens are left out, unknown ids too. */
  decode(tokens: readonly number[]): string {
    const known = tokens.filter((token) => this.#inner.id_to_token(token) !== undefined)
    if (known.length === 0) return ''
    return this.#inner.decode(known, { skip_special_tokens: true, clean_up_tokenization_spaces: false })
  }

  /** Token texts by id, as the vocabulary spells them. */
  vocabulary(): ReadonlyMap<number, string> {
    return this.#byId()
  }

  #byId(): Map<number, string> {
    if (this.#tokens === undefined) {
      this.#tokens = new Map()
      for (const [text, id] of this.#inner.get_vocab(true)) this.#tokens.set(id, text)
    }
    return this.#tokens
  }
}

/** What two vocabularies do not agree about, the first few; empty when every id means the same. */
export function compareVocabularies(target: Tokenizer, draft: Tokenizer): string[] {
  const mostReported = 3
  const a = target.vocabulary()
  const b = draft.vocabulary()
  const differences: string[] = []
  if (a.size !== b.size) differences.push(`the target's tokenizer has ${a.size} tokens, the draft's ${b.size}`)
  for (const [id, text] of a) {
    if (differences.length >= mostReported) break
    const other = b.get(id)
    if (other !== text) {
      differences.push(`token ${id} is ${show(text)} in the target and ${show(other)} in the draft`)
    }
  }
  return differences
}

const show = (text: string | undefined): string => (text === undefined ? 'absent' : JSON.stringify(text))

/** A special token's text: a string, or an object with `content`. */
export function tokenText(value: unknown): string | undefined {
  if (typeof value === 'string') return value
  if (typeof value === 'object' && value !== null && 'content' in value && typeof value.content === 'string') {
    return value.content
  }
  return undefined
}

function parseObject(text: string, name: string, directory: string): Record<string, unknown> {
  let parsed: unknown
  try {
    parsed = JSON.parse(text)
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new CoppiceError('CORRUPT_FILE', `${name} in ${directory} is not JSON (${reason}); fetch it again`, { cause })
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) {
    throw new CoppiceError('CORRUPT_FILE', `${name} in ${directory} is not a JSON object; fetch it again`)
  }
  return parsed as Record<string, unknown>
}
