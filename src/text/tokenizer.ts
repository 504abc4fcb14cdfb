/** Text to token ids and back, by the model's own tokenizer.json. */
import { Tokenizer as HfTokenizer } from '@huggingface/tokenizers'
import { CoppiceError } from '../errors.ts'
import { BytePairs } from './byte-pairs.ts'
import { ChatTemplate, type Message } from './chat.ts'
import { Detokenizer, type TokenTexts } from './detokenizer.ts'
import { readTokenDecoder, type TokenDecoder, UnknownDecoder } from './token-decoder.ts'
import { TokenTable } from './token-table.ts'
import { libraryModel, readTokenizerData, type TokenizerData, type TokenizerFiles } from './tokenizer-data.ts'
import { readVocabulary, specialToken, type Vocabulary } from './vocabulary.ts'

export interface EncodeOptions {
  /**
   * Whether the beginning-of-sequence token comes first. Default: as `add_bos_token` in
   * tokenizer_config.json says, else as the post-processor in tokenizer.json does.
   */
  readonly addBos?: boolean
}

export class Tokenizer implements TokenTexts {
  readonly vocabulary: Vocabulary
  readonly #data: TokenizerData
  readonly #inner: HfTokenizer
  readonly #decoder: TokenDecoder
  readonly #bos: number | undefined
  readonly #addsBos: boolean
  readonly #processorAddsBos: boolean
  #chat: ChatTemplate | undefined

  /** @throws CoppiceError CORRUPT_FILE | UNSUPPORTED_FORMAT */
  static read(files: TokenizerFiles): Tokenizer {
    return new Tokenizer(readTokenizerData(files))
  }

  /** @throws CoppiceError CORRUPT_FILE | UNSUPPORTED_FORMAT */
  constructor(data: TokenizerData) {
    this.#data = data
    this.vocabulary = readVocabulary(data)
    try {
      this.#decoder = readTokenDecoder(data.definition.decoder)
      this.#inner = encoderOf(data, this.vocabulary)
    } catch (cause) {
      const reason = cause instanceof Error ? cause.message : String(cause)
      const what = cause instanceof UnknownDecoder ? `its decoder uses ${reason}` : reason
      throw new CoppiceError(
        'UNSUPPORTED_FORMAT',
        `tokenizer.json in ${data.directory} cannot be used: ${what}; use the model with { tokens }, or another tokenizer.json`,
        { cause },
      )
    }
    const bos = specialToken(data.config.bos_token)
    this.#bos = bos === undefined ? undefined : this.#inner.token_to_id(bos)
    this.#processorAddsBos = this.#bos !== undefined && this.#inner.encode('').ids[0] === this.#bos
    const { add_bos_token: addBos } = data.config
    this.#addsBos = typeof addBos === 'boolean' ? addBos : this.#processorAddsBos
  }

  /** What another thread can make the same tokenizer of; its tables are shared, not copied. */
  get data(): TokenizerData {
    return this.#data
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
    const text = this.vocabulary.text(token)
    return text === undefined ? new Uint8Array(0) : this.#decoder.bytes(text, this.vocabulary.isAdded(token))
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
    this.#chat ??= new ChatTemplate(this.#data.chatTemplate, this.#data.config, this.#data.directory)
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
export function compareVocabularies(target: Vocabulary, draft: Vocabulary): string[] {
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

/** The library's pipeline, on our own tables where the model is byte pair encoding. */
function encoderOf(data: TokenizerData, { added }: Vocabulary): HfTokenizer {
  const { normalizer = null, pre_tokenizer = null, post_processor = null } = data.definition
  // Decoding is not its job here, so a decoder that it does not know does no harm.
  const parts = { normalizer, pre_tokenizer, post_processor, decoder: null, added_tokens: added }
  const config = plainConfig(data.config)
  if (data.merges === undefined) return new HfTokenizer({ ...parts, model: libraryModel(data) }, config)
  const encoder = new HfTokenizer({ ...parts, model: { type: 'BPE', vocab: {}, merges: [] } }, config)
  const pairs = new BytePairs(data.model, new TokenTable(data.tokens), data.merges)
  for (const { content, id } of added) pairs.ids.set(content, id)
  const unknown = pairs.unknownToken
  encoder.model = Object.assign((words: readonly string[]) => pairs.encode(words), {
    tokens_to_ids: pairs.ids,
    unk_token_id: unknown === undefined ? undefined : pairs.ids.get(unknown),
  })
  return encoder
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
