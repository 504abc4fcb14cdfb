/** Byte pair encoding on typed arrays beside the library's own, which keeps strings. */
import { Tokenizer as Library } from '@huggingface/tokenizers'
import * as fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { CoppiceError } from '../../src/errors.ts'
import { TokenTable } from '../../src/text/token-table.ts'
import { Tokenizer } from '../../src/text/tokenizer.ts'
import { tableBytes } from '../../src/text/tokenizer-data.ts'
import { filesOfTexts, readTexts, smallFiles, type TokenizerTexts, testEachTokenizer } from './published.ts'
import { syntheticTokenizer } from './synthetic.ts'

const test = suite('byte pairs')

/** What the library alone makes of a text, without special tokens around it. */
function libraryEncoder(files: TokenizerTexts): (text: string) => number[] {
  const library = new Library({ ...JSON.parse(files.tokenizer), decoder: null }, {})
  return (text) => library.encode(text, { add_special_tokens: false }).ids
}

const own = (tokenizer: Tokenizer) => (text: string) => tokenizer.encode(text, { addBos: false })

const words = fc.array(
  fc.oneof(
    fc.constantFrom(
      'the',
      ' the',
      ' house',
      'ing',
      '\n\n',
      '  ',
      'é',
      '你好',
      '🦙',
      '1234',
      '▁',
      '<unk>',
      '\u0000',
      '\ufeff',
    ),
    fc.string({ unit: 'binary', maxLength: 6 }),
    fc.string({ unit: fc.constantFrom('a', 'b', ' ', 'e', 't'), maxLength: 30 }),
  ),
  { maxLength: 12 },
)

testEachTokenizer(test, "any text becomes the library's tokens", (tokenizer, files) => {
  const expected = libraryEncoder(files)
  const encode = own(tokenizer)
  fc.assert(
    fc.property(words, (list) => {
      const text = list.join('')
      assert.equal(encode(text), expected(text), JSON.stringify(text))
    }),
    { numRuns: 300 },
  )
})

test('a token that begins with U+FEFF, or is nothing else, keeps it', () => {
  const files = withModel({
    vocab: { '<unk>': 0, '▁': 1, '\ufeff': 2, a: 3, '\ufeffa': 4, '▁\ufeffa': 5 },
    merges: ['\ufeff a', '▁ \ufeffa'],
    byte_fallback: false,
  })
  const tokenizer = readTexts(files)
  const expected = libraryEncoder(files)
  for (const text of ['\ufeff', '\ufeffa', 'a\ufeff', '\ufeff\ufeffa'])
    assert.equal(own(tokenizer)(text), expected(text), JSON.stringify(text))
  assert.equal(new TokenTable(tokenizer.data.tokens).text(4), '\ufeffa')
})

/** The small tokenizer with fields of its model replaced. */
function withModel(fields: Record<string, unknown>): TokenizerTexts {
  const json = JSON.parse(smallFiles.tokenizer)
  return { ...smallFiles, tokenizer: JSON.stringify({ ...json, model: { ...json.model, ...fields } }) }
}

/** A vocabulary of random merges of 'a' to 'd' in random order, so that ties and overlaps are common. */
const randomModels = fc.array(fc.tuple(fc.nat(), fc.nat()), { maxLength: 40 }).chain((picks) => {
  const tokens = ['a', 'b', 'c', 'd', '<unk>']
  const merges: [string, string][] = []
  for (const [left, right] of picks) {
    const pair: [string, string] = [tokens[left % tokens.length], tokens[right % tokens.length]]
    if (pair.includes('<unk>')) continue
    merges.push(pair)
    if (!tokens.includes(pair.join(''))) tokens.push(pair.join(''))
  }
  return fc.record({
    tokens: fc.constant(tokens),
    merges: fc.shuffledSubarray(merges, { minLength: merges.length }),
  })
})

test("random vocabularies, in both spellings of merges, give the library's tokens", () => {
  fc.assert(
    fc.property(
      randomModels,
      fc.string({ unit: fc.constantFrom('a', 'b', 'c', 'd', 'e', ' '), maxLength: 40 }),
      fc.record({ inOne: fc.boolean(), fuse_unk: fc.boolean(), ignore_merges: fc.boolean(), unknown: fc.boolean() }),
      ({ tokens, merges }, text, { inOne, unknown, ...flags }) => {
        const json = {
          added_tokens: [],
          normalizer: null,
          pre_tokenizer: { type: 'WhitespaceSplit' },
          post_processor: null,
          decoder: null,
          model: {
            type: 'BPE',
            unk_token: unknown ? '<unk>' : null,
            ...flags,
            vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
            merges: inOne ? merges.map((pair) => pair.join(' ')) : merges,
          },
        }
        const files = { directory: 'random', tokenizer: JSON.stringify(json) }
        assert.equal(own(readTexts(files))(text), libraryEncoder(files)(text))
      },
    ),
    { numRuns: 500 },
  )
})

test('a text of one long word is cut into its tokens', () => {
  const ids = own(readTexts(smallFiles))('ab a'.repeat(20_000))
  assert.is(ids.length, 40_000)
})

test('merges that come before the vocabulary are merges all the same', () => {
  const { model, ...json } = JSON.parse(smallFiles.tokenizer)
  const { vocab, merges, ...rest } = model
  const turned = { ...smallFiles, tokenizer: JSON.stringify({ ...json, model: { merges, ...rest, vocab } }) }
  assert.equal(readTexts(turned).encode('ab a'), readTexts(smallFiles).encode('ab a'))
})

test('models that only the library knows still work', () => {
  const suffixed = withModel({
    end_of_word_suffix: '</w>',
    vocab: { '<unk>': 0, a: 1, b: 2, 'b</w>': 3, 'ab</w>': 4, '▁': 5, '▁ab</w>': 6 },
    merges: ['a b</w>', '▁ ab</w>'],
    byte_fallback: false,
  })
  const unigram = withModel({
    type: 'Unigram',
    unk_id: 0,
    vocab: ['<unk>', '<s>', '</s>', '▁', 'a', 'b', '▁a', 'ab'].map((token, i) => [token, -i]),
    merges: undefined,
  })
  for (const files of [suffixed, unigram]) {
    const tokenizer = readTexts(files)
    assert.equal(own(tokenizer)('ab'), libraryEncoder(files)('ab'))
    assert.is(tokenizer.data.merges, undefined)
  }
})

test('merges that make no sense are refused', () => {
  const cases: [unknown[], RegExp][] = [
    [['a'], /a merge 0 that is not of two tokens/],
    [[['a', 'b', 'b']], /a merge 0 that is not of two tokens/],
    [['a b', 'a zz'], /merges "zz", which is not in its vocabulary/],
    [['é b'], /merges "é" and "b" into what is no token/],
  ]
  for (const [merges, message] of cases) {
    assert.throws(
      () => readTexts(withModel({ merges })),
      (error: unknown) => error instanceof CoppiceError && error.code === 'CORRUPT_FILE' && message.test(error.message),
      JSON.stringify(merges),
    )
  }
  assert.throws(
    () => readTexts(withModel({ vocab: { a: 1, b: 1 }, merges: [] })),
    /gives the id 1 to two tokens, "a" and "b" \(model\.vocab, before byte \d+\)/,
  )
})

test('what a tokenizer is made of can be sent to another thread, and its tables are shared', () => {
  const first = Tokenizer.read(filesOfTexts({ directory: 'made up', tokenizer: syntheticTokenizer(3000) }))
  const sent = structuredClone(first.data)
  const second = new Tokenizer(sent)
  const text = 'The old house stood at the end of the lane.'
  assert.equal(second.encode(text), first.encode(text))
  assert.is(second.decode(first.encode(text)), text)
  for (const [one, other] of [
    [first.data.tokens.bytes, sent.tokens.bytes],
    [first.data.merges!.words, sent.merges!.words],
  ]) {
    const before = other[0]
    one[0]++
    assert.is(other[0], one[0], 'a change shows in both')
    one[0] = before
  }
})

test('tables take some tens of bytes per token', () => {
  const tokens = 20_000
  const bytes = tableBytes(
    Tokenizer.read(filesOfTexts({ directory: 'made up', tokenizer: syntheticTokenizer(tokens) })).data,
  )
  assert.ok(bytes / tokens > 15 && bytes / tokens < 70, `${bytes / tokens} bytes per token`)
})

test.run()
