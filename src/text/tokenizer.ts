/** Text to token ids and back, by the model's own tokenizer.json. */
import { Tokenizer as HfTokenizer } from '@huggingface/tokenizers'
import { CoppiceError } from '../errors.ts'
import { ChatTemplate, type Message } from './chat.ts'
import { Detokenizer, type TokenTexts } from './detokenizer.ts'
import { readTokenDecoder, type TokenDecoder, UnknownDecoder } from './token-decoder.ts'
import { readVocabulary, specialToken, type Vocabulary } from './vocabulary.ts'

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

export interface EncodeOptions {
  /**
   * Whether the beginning-of-sequence token comes first. Default: as `add_bos_token` in
   * tokenizer_config.json says, else as the post-processor in tokenizer.json does.
   */
  readonly addBos?: boolean
}

export class Tokenizer implements TokenTexts {
  readonly vocabulary: Vocabulary
  readonly #inner: HfTokenizer
  readonly #decoder: TokenDecoder
  readonly #config: Record<string, unknown>
  readonly #files: TokenizerFiles
  readonly #bos: number | undefined
  readonly #addsBos: boolean
  readonly #processorAddsBos: boolean
  readonly #bytes: (Uint8Array | undefined)[] = []
  #chat: ChatTemplate | undefined

  /** @throws CoppiceError CORRUPT_FILE | UNSUPPORTED_FORMAT */
  constructor(files: TokenizerFiles) {
    this.#files = files
    const json = parseObject(files.tokenizer, 'tokenizer.json', files.directory)
    this.#config = parseObject(files.config ?? '{}', 'tokenizer_config.json', files.directory)
    this.vocabulary = readVocabulary(json, this.#config, files.directory)
    try {
      this.#decoder = readTokenDecoder(json.decoder)
      this.#inner = new HfTokenizer(encoderPart(json, this.vocabulary), plainConfig(this.#config))
    } catch (cause) {
      const reason = cause instanceof Error ? cause.message : String(cause)
      const what = cause instanceof UnknownDecoder ? `its decoder uses ${reason}` : reason
      throw new CoppiceError(
        'UNSUPPORTED_FORMAT',
        `tokenizer.json in ${files.directory} cannot be used: ${what}; use the model with { tokens }, or another tokenizer.json`,
        { cause },
      )
    }
    const bos = specialToken(this.#config.bos_token)
    this.#bos = bos === undefined ? undefined : this.#inner.token_to_id(bos)
    this.#processorAddsBos = this.#bos !== undefined && this.#inner.encode('').ids[0] === this.#bos
    const { add_bos_token: addBos } = this.#config
    this.#addsBos = typeof addBos === 'boolean' ? addBos : this.#processorAddsBos
  }

  /** Entries of the vocabulary, added tokens included: one more than the largest id. The model may have more rows. */
  get vocabularySize(): number {
    return this.vocabulary.size
  }

  get leadingSpaces(): number {
    return this.#decoder.leadingSpaces
  }

  /** Special tokens (beginning, end, turns of a chat): left out of text. */
  isSpecial(token: number): boolean {
    return this.vocabulary.isSpecial(token)
  }

  /** Bytes that a token adds to the text; none for ids that the tokenizer does not know (padding of the vocabulary). */
  tokenBytes(token: number): Uint8Array {
    let bytes = this.#bytes[token]
    if (bytes === undefined) {
      const text = this.vocabulary.text(token)
      bytes = text === undefined ? new Uint8Array(0) : this.#decoder.bytes(text, this.vocabulary.isAdded(token))
      if (text !== undefined) this.#bytes[token] = bytes
    }
    return bytes
  }

  /**
   * Token ids of raw text, with the special tokens that the tokenizer puts around it. The text of a
   * special token within it becomes that token.
   */
  encode(text: string, options: EncodeOptions = {}): number[] {
    const { ids } = this.#inner.encode(text, { add_special_tokens: true })
    const bos = this.#bos
    if (bos === undefined) return ids
    const addBos = options.addBos ?? this.#addsBos
    if (this.#processorAddsBos) {
      // A text that begins with the token itself does not get it twice.
      return addBos && ids[1] !== bos ? ids : ids.slice(1)
    }
    return addBos && ids[0] !== bos ? [bos, ...ids] : ids
  }

  /**
   * Token ids of a conversation, ready for the assistant's answer. The template alone decides about
   * special tokens, as in Hugging Face's apply_chat_template.
   * @throws CoppiceError NO_CHAT_TEMPLATE | UNSUPPORTED_FORMAT | INVALID_INPUT
   */
  encodeChat(messages: readonly Message[]): number[] {
    this.#chat ??= new ChatTemplate(this.#files.chatTemplate, this.#config, this.#files.directory)
    return this.#inner.encode(this.#chat.render(messages), { add_special_tokens: false }).ids
  }

  /**
   * Text of token ids, exactly as the tokens spell it (`clean_up_tokenization_spaces` is ignored: it
   * would change text that is already out). Ids that the tokenizer does not know add nothing.
   * @param options.skipSpecial leave special tokens out; default true
   */
  decode(tokens: readonly number[], options: { readonly skipSpecial?: boolean } = {}): string {
    const detokenizer = new Detokenizer(this, options)
    let text = ''
    for (const token of tokens) text += detokenizer.push(token)
    return text + detokenizer.flush()
  }
}

/**
 * Where two vocabularies give the same id different meanings: the first few, as text for a message;
 * empty when they agree. Ids beyond the end of one of them are no difference: the tokenizers of one
 * family's models often differ in unused tokens at the end, which its smaller model pads.
 */
export function compareVocabularies({ vocabulary: target }: Tokenizer, { vocabulary: draft }: Tokenizer): string[] {
  const mostReported = 3
  const differences: string[] = []
  const shared = Math.min(target.size, draft.size)
  for (let id = 0; id < shared && differences.length < mostReported; id++) {
    const a = target.text(id)
    const b = draft.text(id)
    if (a !== b) differences.push(`token ${id} is ${show(a)} in the target and ${show(b)} in the draft`)
  }
  return differences
}

const show = (text: string | undefined): string => (text === undefined ? 'absent' : JSON.stringify(text))

/** What the encoder needs of tokenizer.json, with nulls where the file leaves out what it may leave out. */
function encoderPart(json: Record<string, unknown>, vocabulary: Vocabulary): Record<string, unknown> {
  const { model, normalizer = null, pre_tokenizer = null, post_processor = null } = json
  // Decoding is not its job here, so a decoder that it does not know does no harm.
  return { model, normalizer, pre_tokenizer, post_processor, decoder: null, added_tokens: vocabulary.added }
}

/** The encoder takes special tokens as strings only. */
function plainConfig(config: Record<string, unknown>): Record<string, unknown> {
  const { additional_special_tokens: additional, ...rest } = config
  const plain: Record<string, unknown> = {}
  for (const [name, value] of Object.entries(rest)) {
    plain[name] = name.endsWith('_token') ? (specialToken(value) ?? value) : value
  }
  if (Array.isArray(additional)) plain.additional_special_tokens = additional.map(specialToken)
  return plain
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
