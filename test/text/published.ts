/** Tokenizers and templates for tests: the embedded one, a small one made here, and published ones where they lie beside the repository. */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Test } from 'uvu'
import type { ByteSource } from '../../src/text/json-scanner.ts'
import { Tokenizer } from '../../src/text/tokenizer.ts'
import type { TokenizerFiles } from '../../src/text/tokenizer-data.ts'
import { root } from '../paths.ts'

const read = (path: string): string | undefined => (existsSync(path) ? readFileSync(path, 'utf8') : undefined)

/** A published file that is not part of the repository; undefined where there is none. */
export const published = (path: string): string | undefined => read(join(root, '..', 'shared', path))

/** Registers the test if the published file is there, and counts it as skipped, by name, if not. */
export function testPublished(test: Test, name: string, path: string, body: (content: string) => void): void {
  const content = published(path)
  if (content === undefined) {
    console.warn(`SKIP "${name}" needs ../shared/${path}`)
    test.skip(name, () => {})
  } else {
    test(name, () => body(content))
  }
}

/** A tokenizer's files as texts. */
export type TokenizerTexts = Omit<TokenizerFiles, 'tokenizer'> & { readonly tokenizer: string }

/** A text in the place of an open file. */
export function bytesOf(text: string): ByteSource {
  const bytes = new TextEncoder().encode(text)
  return {
    bytes: bytes.length,
    read: (target, position) => {
      const part = bytes.subarray(position, position + target.length)
      target.set(part)
      return part.length
    },
  }
}

export const filesOfTexts = (texts: TokenizerTexts): TokenizerFiles => ({
  ...texts,
  tokenizer: bytesOf(texts.tokenizer),
})

export const readTexts = (texts: TokenizerTexts): Tokenizer => Tokenizer.read(filesOfTexts(texts))

function filesOf(directory: string): TokenizerTexts | undefined {
  const tokenizer = read(join(directory, 'tokenizer.json'))
  if (tokenizer === undefined) return undefined
  return { tokenizer, config: read(join(directory, 'tokenizer_config.json')), directory }
}

/** The embedded model's: byte-level, 4,096 tokens. */
export const embeddedFiles: TokenizerTexts = filesOf(join(root, 'models', 'target'))!

/** Sentencepiece as Llama 2 has it: words that begin with '▁', bytes for what the vocabulary lacks, a BOS. */
export const smallFiles: TokenizerTexts = (() => {
  const pieces = ['<unk>', '<s>', '</s>']
  for (let byte = 0; byte < 256; byte++) pieces.push(`<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`)
  pieces.push('▁', 'a', 'b', 'é', '你', '▁a', 'ab', '▁ab', '▁▁')
  const special = (id: number): object => ({ id, content: pieces[id], special: true, normalized: false })
  const bos = [{ SpecialToken: { id: '<s>', type_id: 0 } }]
  const text = [{ Sequence: { id: 'A', type_id: 0 } }]
  return {
    directory: 'small',
    config: JSON.stringify({ bos_token: '<s>', eos_token: { content: '</s>' }, unk_token: '<unk>' }),
    tokenizer: JSON.stringify({
      added_tokens: [special(0), special(1), special(2)],
      normalizer: {
        type: 'Sequence',
        normalizers: [
          { type: 'Prepend', prepend: '▁' },
          { type: 'Replace', pattern: { String: ' ' }, content: '▁' },
        ],
      },
      pre_tokenizer: null,
      post_processor: {
        type: 'TemplateProcessing',
        single: [...bos, ...text],
        pair: [...bos, ...text, ...text],
        special_tokens: { '<s>': { id: '<s>', ids: [1], tokens: ['<s>'] } },
      },
      decoder: {
        type: 'Sequence',
        decoders: [
          { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
          { type: 'ByteFallback' },
          { type: 'Fuse' },
          { type: 'Strip', content: ' ', start: 1, stop: 0 },
        ],
      },
      model: {
        type: 'BPE',
        unk_token: '<unk>',
        fuse_unk: true,
        byte_fallback: true,
        vocab: Object.fromEntries(pieces.map((piece, id) => [piece, id])),
        merges: ['▁ a', 'a b', '▁a b', '▁ ▁'],
      },
    }),
  }
})()

export interface NamedFiles {
  readonly name: string
  /** Absent where the published files are not there. */
  readonly files: TokenizerTexts | undefined
}

export const allFiles: readonly NamedFiles[] = [
  { name: 'the embedded tokenizer', files: embeddedFiles },
  { name: 'a small sentencepiece tokenizer', files: smallFiles },
  { name: 'SmolLM2', files: filesOf(join(root, '..', 'shared', 'tokenizers', 'smollm2')) },
  { name: 'Phi-3', files: filesOf(join(root, '..', 'shared', 'tokenizers', 'phi-3')) },
]

/** Registers a test for each tokenizer; those that are not there count as skipped. */
export function testEachTokenizer(
  test: Test,
  name: string,
  body: (tokenizer: Tokenizer, files: TokenizerTexts) => void,
): void {
  for (const { name: which, files } of allFiles) {
    const title = `${name}: ${which}`
    if (files === undefined) {
      console.warn(`SKIP "${title}" needs ../shared/tokenizers`)
      test.skip(title, () => {})
    } else {
      test(title, () => body(readTexts(files), files))
    }
  }
}
