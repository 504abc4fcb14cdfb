import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { CoppiceError, type ErrorCode } from '../../src/errors.ts'
import { compareVocabularies, type Tokenizer } from '../../src/text/tokenizer.ts'
import {
  embeddedFiles,
  published,
  readTexts,
  smallFiles,
  type TokenizerTexts,
  testEachTokenizer,
  testPublished,
} from './published.ts'

const test = suite('tokenizer')

const embedded = readTexts(embeddedFiles)

/** The small tokenizer with parts of its files replaced. */
function changed(tokenizer: Record<string, unknown>, config: Record<string, unknown> = {}): TokenizerTexts {
  return {
    directory: 'changed',
    tokenizer: JSON.stringify({ ...JSON.parse(smallFiles.tokenizer), ...tokenizer }),
    config: JSON.stringify({ ...JSON.parse(smallFiles.config!), ...config }),
  }
}

function throwsCode(run: () => unknown, code: ErrorCode, message: RegExp): void {
  assert.throws(
    run,
    (error: unknown) => error instanceof CoppiceError && error.code === code && message.test(error.message),
  )
}

const text = (tokenizer: Tokenizer, ids: readonly number[]): (string | undefined)[] =>
  ids.map((id) => tokenizer.vocabulary.text(id))

test('text becomes the tokens of the vocabulary', () => {
  assert.equal(text(embedded, embedded.encode('The old house')), ['The', 'Ġold', 'Ġhouse'])
  assert.equal(text(readTexts(smallFiles), readTexts(smallFiles).encode('ab a')), ['<s>', '▁ab', '▁a'])
  assert.equal(embedded.encode(''), [])
})

test('the vocabulary is known by size, text, bytes and special tokens', () => {
  assert.is(embedded.vocabularySize, 4096)
  assert.equal(embedded.vocabulary.specialIds, [4093, 4094, 4095])
  assert.is(embedded.vocabulary.text(4095), '<|im_end|>')
  assert.is(embedded.vocabulary.text(4096), undefined)
  assert.equal([...embedded.tokenBytes(embedded.encode(' old')[0])], [0x20, 0x6f, 0x6c, 0x64])
  assert.is(embedded.tokenBytes(99999).length, 0)
  const small = readTexts(smallFiles)
  assert.equal(small.vocabulary.specialIds, [0, 1, 2])
  assert.equal([...small.tokenBytes(3 + 0xe9)], [0xe9], 'a byte token is its byte')
})

testEachTokenizer(test, 'the bytes of all ordinary tokens are the text, whatever the tokenizer', (tokenizer) => {
  const ids = tokenizer.encode('Grüße, 世界! 1 2', { addBos: false })
  const bytes = ids.flatMap((id) => [...tokenizer.tokenBytes(id)])
  assert.is(new TextDecoder().decode(Uint8Array.from(bytes)).trimStart(), 'Grüße, 世界! 1 2')
})

test('the post-processor adds the BOS unless the config or the caller says otherwise', () => {
  const bare = { post_processor: null }
  assert.is(readTexts(smallFiles).encode('a')[0], 1)
  assert.is(readTexts(changed({}, { add_bos_token: false })).encode('a')[0], 264)
  assert.is(readTexts(changed(bare)).encode('a')[0], 264)
  assert.is(readTexts(changed(bare, { add_bos_token: true })).encode('a')[0], 1)
  assert.is(readTexts(smallFiles).encode('a', { addBos: false })[0], 264)
  assert.is(readTexts(changed(bare)).encode('a', { addBos: true })[0], 1)
})

test('a text that begins with the BOS does not get a second one', () => {
  for (const files of [smallFiles, changed({ post_processor: null }, { add_bos_token: true })]) {
    assert.equal(readTexts(files).encode('<s>a'), [1, 264])
  }
})

test('a conversation gets exactly the special tokens that the template writes', () => {
  const template = '{{ bos_token }}{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}'
  const messages = [{ role: 'user', content: 'a' }]
  assert.equal(readTexts(changed({}, { chat_template: template })).encodeChat(messages), [1, 264, 2])
  const bare = template.replace('{{ bos_token }}', '')
  assert.equal(readTexts(changed({}, { chat_template: bare })).encodeChat(messages), [264, 2])
  assert.equal(text(embedded, embedded.encodeChat([{ role: 'user', content: 'Hi' }])).slice(0, 4), [
    '<|im_start|>',
    'us',
    'er',
    'Ċ',
  ])
})

test('chat_template.jinja wins over the template in the config', () => {
  const files = { ...changed({}, { chat_template: 'b' }), chatTemplate: 'a' }
  assert.equal(readTexts(files).encodeChat([]), [264])
})

test('special tokens may be named by the config alone, as text or as an object', () => {
  const tokenizer = readTexts(changed({ added_tokens: [] }))
  assert.equal(tokenizer.vocabulary.specialIds, [0, 1, 2])
  assert.equal(tokenizer.encode('a</s>', { addBos: false }), [264, 2])
  const later = readTexts(changed({}, { added_tokens_decoder: { 300: { content: '<turn>', special: true } } }))
  assert.equal(later.encode('a<turn>', { addBos: false }), [264, 300])
  assert.is(later.vocabularySize, 301)
})

test('fields that tokenizer.json may leave out may be left out', () => {
  const { model } = JSON.parse(smallFiles.tokenizer)
  const tokenizer = readTexts({ directory: 'bare', tokenizer: JSON.stringify({ model }) })
  assert.equal(text(tokenizer, tokenizer.encode('ab')), ['ab'])
  assert.is(tokenizer.decode(tokenizer.encode('aab')), 'a ab', 'without a decoder tokens are joined by spaces')
})

test('spaces before punctuation stay, whatever clean_up_tokenization_spaces says', () => {
  const files = { ...embeddedFiles, config: JSON.stringify({ clean_up_tokenization_spaces: true }) }
  const tokenizer = readTexts(files)
  assert.is(tokenizer.decode(tokenizer.encode('Who , me ?')), 'Who , me ?')
})

test('files that cannot be read are named', () => {
  throwsCode(
    () => readTexts({ tokenizer: '{', directory: 'dir' }),
    'CORRUPT_FILE',
    /^tokenizer.json in dir is not JSON/,
  )
  throwsCode(
    () => readTexts({ tokenizer: '[]', directory: 'dir' }),
    'CORRUPT_FILE',
    /tokenizer.json in dir is not a JSON object/,
  )
  throwsCode(() => readTexts({ tokenizer: '{}', directory: 'dir' }), 'CORRUPT_FILE', /has no vocabulary/)
  throwsCode(
    () => readTexts({ ...smallFiles, config: 'x' }),
    'CORRUPT_FILE',
    /tokenizer_config.json in small is not JSON/,
  )
  const vocab = { type: 'BPE', merges: [], vocab: { a: 1e12 } }
  throwsCode(() => readTexts(changed({ model: vocab })), 'CORRUPT_FILE', /token "a" the id 1000000000000/)
})

test('what is not supported is named', () => {
  throwsCode(() => readTexts(changed({ decoder: { type: 'CTC' } })), 'UNSUPPORTED_FORMAT', /its decoder uses CTC/)
  throwsCode(() => readTexts(changed({ normalizer: { type: 'Mystery' } })), 'UNSUPPORTED_FORMAT', /Mystery/)
})

test('a Metaspace decoder drops the space that its encoder prepends', () => {
  const decoder = (scheme: string): Tokenizer =>
    readTexts(changed({ decoder: { type: 'Metaspace', replacement: '▁', prepend_scheme: scheme } }))
  const ids = decoder('always').encode('ab a', { addBos: false })
  assert.is(decoder('always').decode(ids), 'ab a')
  assert.is(decoder('never').decode(ids), ' ab a')
})

test('vocabularies agree when every id means the same', () => {
  const small = readTexts(smallFiles)
  assert.equal(compareVocabularies(small.vocabulary, readTexts(smallFiles).vocabulary), [])
  assert.is(small.vocabulary.fingerprint(), readTexts(smallFiles).vocabulary.fingerprint())
  const longer = readTexts(changed({}, { added_tokens_decoder: { 300: { content: '<turn>', special: true } } }))
  assert.equal(
    compareVocabularies(small.vocabulary, longer.vocabulary),
    [],
    'tokens that only one has at its end do no harm',
  )
  assert.is.not(small.vocabulary.fingerprint(), longer.vocabulary.fingerprint())
})

test('the first differences of vocabularies are told', () => {
  const model = JSON.parse(smallFiles.tokenizer).model
  const vocab = { ...model.vocab, a: model.vocab.b, b: model.vocab.a }
  const swapped = readTexts(changed({ model: { ...model, vocab } }))
  const small = readTexts(smallFiles)
  assert.equal(compareVocabularies(small.vocabulary, swapped.vocabulary), [
    'token 260 is "a" in the target and "b" in the draft',
    'token 261 is "b" in the target and "a" in the draft',
  ])
  assert.is.not(small.vocabulary.fingerprint(), swapped.vocabulary.fingerprint())
  assert.is(compareVocabularies(small.vocabulary, embedded.vocabulary).length, 3)
})

testPublished(
  test,
  "Phi-3's tokens are those of llama.cpp's test cases",
  'tokenizers/phi-3/tokenizer.json',
  (tokenizer) => {
    const phi3 = readTexts({
      directory: 'phi-3',
      tokenizer,
      config: published('tokenizers/phi-3/tokenizer_config.json'),
    })
    const cases = published('tokenizers/gguf-vocab/ggml-vocab-phi-3.gguf.inp')!.split('\n__ggml_vocab_test__\n')
    const answers = published('tokenizers/gguf-vocab/ggml-vocab-phi-3.gguf.out')!.split('\n')
    assert.ok(cases.length > 40)
    cases.forEach((input, i) => {
      assert.is(phi3.encode(input, { addBos: false }).join(' '), answers[i].trim(), JSON.stringify(input))
    })
  },
)

test.run()
