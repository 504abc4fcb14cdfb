/** tokenizer.json and its companions as data that threads hand to each other, the large parts in shared memory. */
import { CoppiceError } from '../errors.ts'
import { type MergeData, MergeList } from './byte-pairs.ts'
import { type ByteSource, JsonScanner, OPEN_LIST, OPEN_OBJECT } from './json-scanner.ts'
import { BadEntry, LEAST_ENTRY_BYTES, TokenTable, TokenTableBuilder, type TokenTableData } from './token-table.ts'

export interface TokenizerFiles {
  /** tokenizer.json. */
  readonly tokenizer: ByteSource
  /** Content of tokenizer_config.json. */
  readonly config?: string | undefined
  /** Content of chat_template.jinja. */
  readonly chatTemplate?: string | undefined
  /** Where they come from, for messages. */
  readonly directory: string
}

const SPACE = 0x20

type JsonObject = Record<string, unknown>

/** What a vocabulary is made of. */
export interface VocabularyData {
  /** tokenizer.json without `model`. */
  readonly definition: JsonObject
  /** tokenizer_config.json. */
  readonly config: JsonObject
  readonly directory: string
  readonly tokens: TokenTableData
}

export interface TokenizerData extends VocabularyData {
  readonly chatTemplate: string | undefined
  /** `model` of tokenizer.json without vocabulary and merges. */
  readonly model: JsonObject
  /** Of byte pair encoding, unless affixes of its tokens change what a merge makes. */
  readonly merges: MergeData | undefined
  /** The same for the library: left and right by rank. */
  readonly pairs: readonly (readonly [number, number])[] | undefined
  /** By id, when the vocabulary is a list of tokens with scores (Unigram). */
  readonly scores: readonly number[] | undefined
}

/** A table as its buffer and how many elements it has there: to receive a view, Deno takes a dozen times its bytes. */
type Part = readonly [buffer: ArrayBufferLike, length: number]

/** What goes to another thread. */
export interface TokenizerMessage extends Omit<TokenizerData, 'tokens' | 'merges'> {
  readonly tokens: { readonly [Name in keyof TokenTableData]: Part }
  readonly merges: { readonly [Name in keyof MergeData]: Part } | undefined
}

const part = ({ buffer, length }: Uint8Array | Uint32Array | Int32Array): Part => [buffer, length]

export function toMessage({ tokens, merges, ...rest }: TokenizerData): TokenizerMessage {
  const { bytes, starts, limits, index } = tokens
  return {
    ...rest,
    tokens: { bytes: part(bytes), starts: part(starts), limits: part(limits), index: part(index) },
    merges: merges && { words: part(merges.words), index: part(merges.index) },
  }
}

export function fromMessage({ tokens, merges, ...rest }: TokenizerMessage): TokenizerData {
  const words = ([buffer, length]: Part): Int32Array => new Int32Array(buffer, 0, length)
  return {
    ...rest,
    tokens: {
      bytes: new Uint8Array(tokens.bytes[0], 0, tokens.bytes[1]),
      starts: new Uint32Array(tokens.starts[0], 0, tokens.starts[1]),
      limits: new Uint32Array(tokens.limits[0], 0, tokens.limits[1]),
      index: words(tokens.index),
    },
    merges: merges && { words: words(merges.words), index: words(merges.index) },
  }
}

/** @throws CoppiceError CORRUPT_FILE */
export function readTokenizerData(files: TokenizerFiles): TokenizerData {
  const { directory, chatTemplate } = files
  const { tokens, merges, scores, ...json } = scan(files.tokenizer, directory)
  const { type, continuing_subword_prefix: prefix, end_of_word_suffix: suffix } = json.model
  const compact = type === 'BPE' && !prefix && !suffix && merges !== undefined
  return {
    ...json,
    config: readConfig(files),
    directory,
    chatTemplate,
    tokens: tokens.data,
    merges: compact ? blaming(directory, () => merges.finish(tokens)) : undefined,
    pairs: compact ? undefined : merges?.pairs(),
    scores,
  }
}

/** The vocabulary alone, to compare it with another. @throws CoppiceError CORRUPT_FILE */
export function readVocabularyData(files: TokenizerFiles): VocabularyData {
  const { definition, tokens } = scan(files.tokenizer, files.directory)
  return { definition, config: readConfig(files), directory: files.directory, tokens: tokens.data }
}

/** Bytes of the tables. */
export const tableBytes = ({ tokens, merges }: TokenizerData): number =>
  new TokenTable(tokens).byteLength + (merges === undefined ? 0 : merges.words.byteLength + merges.index.byteLength)

/** `model` of tokenizer.json as it was, for the kinds of models that only the library knows. */
export function libraryModel({ model, tokens: data, pairs, scores }: TokenizerData): JsonObject {
  const tokens = new TokenTable(data)
  const texts = Array.from({ length: tokens.size }, (_, id) => tokens.text(id))
  const merges = pairs?.map((pair) => pair.map((id) => texts[id]))
  const vocab =
    scores === undefined
      ? Object.fromEntries(texts.flatMap((text, id) => (text === undefined ? [] : [[text, id]])))
      : texts.map((text, id) => [text, scores[id]])
  return { ...model, vocab, ...(merges && { merges }) }
}

interface Scan {
  readonly definition: JsonObject
  readonly model: JsonObject
  readonly tokens: TokenTable
  readonly merges: MergeList | undefined
  readonly scores: readonly number[] | undefined
}

function scan(source: ByteSource, directory: string): Scan {
  const reader = new TokenizerReader(source)
  const { tokens, ...rest } = blaming(directory, () => reader.read())
  if (tokens !== undefined) return { ...rest, tokens }
  throw new CoppiceError(
    'CORRUPT_FILE',
    `tokenizer.json in ${directory} has no vocabulary (model.vocab); fetch it again`,
  )
}

/** Takes a tokenizer.json apart: tokens and merges into tables, the rest as JSON. */
class TokenizerReader {
  readonly #scanner: JsonScanner
  readonly #builder: TokenTableBuilder
  readonly #merges: MergeList
  #hasMerges = false
  #tokens: TokenTable | undefined
  #scores: number[] | undefined
  /** The two tokens of a merge, one behind the other. */
  #joined = new Uint8Array(256)
  /** Where the merges begin, if they come before the tokens that they merge. */
  #mergesAt = -1

  constructor(source: ByteSource) {
    this.#scanner = new JsonScanner(source)
    this.#builder = new TokenTableBuilder(source.bytes)
    this.#merges = new MergeList(Math.ceil(source.bytes / LEAST_ENTRY_BYTES))
  }

  /** @throws SyntaxError when it is not JSON; BadEntry when the JSON makes no sense */
  read(): Omit<Scan, 'tokens'> & { tokens: TokenTable | undefined } {
    const scanner = this.#scanner
    const members: string[] = []
    const model: string[] = []
    const member = (key: string): string => `${JSON.stringify(key)}:${scanner.raw()}`
    if (scanner.peek() !== OPEN_OBJECT) {
      JSON.parse(scanner.raw())
      scanner.end()
      throw new BadEntry('is not a JSON object')
    }
    scanner.object(() => {
      const key = scanner.value()
      if (key !== 'model' || scanner.peek() !== OPEN_OBJECT) {
        members.push(member(key))
        return
      }
      scanner.object(() => {
        const inner = scanner.value()
        const first = scanner.peek()
        if (inner === 'vocab' && (first === OPEN_OBJECT || first === OPEN_LIST)) this.#readTokens(first)
        else if (inner === 'merges' && first === OPEN_LIST) this.#readMerges()
        else model.push(member(inner))
      })
    })
    scanner.end()
    if (this.#mergesAt >= 0 && this.#tokens !== undefined) {
      scanner.position = this.#mergesAt
      this.#readMerges()
    }
    return {
      definition: JSON.parse(`{${members.join()}}`),
      model: JSON.parse(`{${model.join()}}`),
      tokens: this.#tokens,
      merges: this.#hasMerges ? this.#merges : undefined,
      scores: this.#scores,
    }
  }

  #readTokens(first: number): void {
    const scanner = this.#scanner
    if (this.#tokens !== undefined) throw new BadEntry('has two vocabularies')
    if (first === OPEN_OBJECT) {
      scanner.object(() => this.#add(scanner.number()))
    } else {
      const scores: number[] = []
      scanner.list(() => this.#readScored(scores))
      this.#scores = scores
    }
    this.#tokens = this.#builder.finish()
  }

  /** `["token", score]` */
  #readScored(scores: number[]): void {
    const scanner = this.#scanner
    let values = 0
    scanner.list(() => {
      if (values++ === 0) scanner.string()
      else scores.push(scanner.number())
    })
    if (values !== 2) throw new BadEntry(`has a token ${scores.length} that is not a text with a score`)
    this.#add(scores.length - 1)
  }

  /** Puts the token that the scanner has read into the table. */
  #add(id: number): void {
    const scanner = this.#scanner
    try {
      this.#builder.add(scanner.text, scanner.length, id)
    } catch (cause) {
      if (!(cause instanceof BadEntry)) throw cause
      throw new BadEntry(`${cause.message} (model.vocab, before byte ${scanner.position})`, { cause })
    }
  }

  #readMerges(): void {
    const scanner = this.#scanner
    this.#hasMerges = true
    if (this.#tokens === undefined) {
      scanner.peek()
      this.#mergesAt = scanner.position
      scanner.skip()
      return
    }
    scanner.list(() => {
      if (scanner.peek() === OPEN_LIST) this.#readMergeOfTwo()
      else this.#readMergeInOne()
    })
  }

  /** `"left right"` */
  #readMergeInOne(): void {
    const scanner = this.#scanner
    scanner.string()
    const { text, length } = scanner
    let space = 0
    while (space < length && text[space] !== SPACE) space++
    if (space === length) this.#refuseMerge()
    const left = this.#find(text, 0, space)
    const right = this.#find(text, space + 1, length)
    for (let i = space + 1; i < length; i++) text[i - 1] = text[i]
    this.#merges.add(left, right, this.#tokens!.find(text, 0, length - 1))
  }

  /** `["left", "right"]` */
  #readMergeOfTwo(): void {
    const scanner = this.#scanner
    let read = 0
    let middle = 0
    let end = 0
    scanner.list(() => {
      scanner.string()
      middle = end
      end += scanner.length
      if (end > this.#joined.length) {
        const larger = new Uint8Array(2 * end)
        larger.set(this.#joined)
        this.#joined = larger
      }
      for (let i = 0; i < scanner.length; i++) this.#joined[middle + i] = scanner.text[i]
      read++
    })
    if (read !== 2) this.#refuseMerge()
    const left = this.#find(this.#joined, 0, middle)
    const right = this.#find(this.#joined, middle, end)
    this.#merges.add(left, right, this.#tokens!.find(this.#joined, 0, end))
  }

  #refuseMerge(): never {
    throw new BadEntry(`has a merge ${this.#merges.length} that is not of two tokens`)
  }

  #find(text: Uint8Array, from: number, to: number): number {
    const id = this.#tokens!.find(text, from, to)
    if (id >= 0) return id
    const token = JSON.stringify(new TextDecoder().decode(text.subarray(from, to)))
    throw new BadEntry(`merges ${token}, which is not in its vocabulary`)
  }
}

/** @throws CoppiceError CORRUPT_FILE for what `read` finds wrong */
function blaming<T>(directory: string, read: () => T): T {
  try {
    return read()
  } catch (cause) {
    const problem =
      cause instanceof SyntaxError
        ? `is not JSON (${cause.message})`
        : cause instanceof BadEntry
          ? cause.message
          : undefined
    if (problem === undefined) throw cause
    throw new CoppiceError('CORRUPT_FILE', `tokenizer.json in ${directory} ${problem}; fetch it again`, { cause })
  }
}

function readConfig({ config = '{}', directory }: TokenizerFiles): JsonObject {
  let parsed: unknown
  try {
    parsed = JSON.parse(config)
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new CoppiceError(
      'CORRUPT_FILE',
      `tokenizer_config.json in ${directory} is not JSON (${reason}); fetch it again`,
      { cause },
    )
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) {
    throw new CoppiceError('CORRUPT_FILE', `tokenizer_config.json in ${directory} is not a JSON object; fetch it again`)
  }
  return parsed as JsonObject
}
