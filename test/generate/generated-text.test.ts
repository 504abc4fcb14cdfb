import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { readTokenizer } from '../../src/engine/tokenizer-files.ts'
import { CoppiceError } from '../../src/errors.ts'
import { GeneratedText } from '../../src/generate/generated-text.ts'
import { TARGET } from '../e2e/models.ts'

const tokenizer = readTokenizer(TARGET)
const decoded = (token: number) => ({ token, drafted: token % 2 === 0, isEnd: false, logprob: undefined })

/** Pushes tokens until the text ends by itself, taking pieces after every `every` tokens. */
function write(tokens: readonly number[], stops: readonly string[] = [], every = 1) {
  const text = new GeneratedText(tokenizer, stops, true)
  const pieces = []
  let ended = false
  for (let i = 0; i < tokens.length && !ended; i++) {
    ended = !text.push(decoded(tokens[i]))
    if ((i + 1) % every === 0) pieces.push(...text.takePieces())
  }
  text.finish()
  pieces.push(...text.takePieces())
  return { text: text.text, tokens: text.tokens, pieces, ended }
}

const test = suite('generated text')
const STORY = 'It is 30 °C — “naïve” café 日本語 🙂 done.'
const story = tokenizer.encode(STORY)

test('pieces join to the text, one per token, wherever they are taken', () => {
  for (const every of [1, 2, 3, 100]) {
    const { text, tokens, pieces, ended } = write(story, [], every)
    assert.is(text, STORY)
    assert.equal(tokens, story)
    assert.not(ended)
    assert.is(pieces.map((piece) => piece.text).join(''), STORY)
    assert.equal(
      pieces.map((piece) => piece.token),
      story,
    )
    assert.equal(
      pieces.map((piece) => piece.drafted),
      story.map((token) => token % 2 === 0),
    )
  }
})

test('no piece holds half a character', () => {
  const { pieces } = write(story)
  for (const { text } of pieces) assert.not.match(text, /\uFFFD|[\uD800-\uDBFF]$/)
})

test('a character that never ends becomes U+FFFD with the last piece', () => {
  const emoji = tokenizer.encode('🙂')
  assert.ok(emoji.length > 1, 'the character takes several tokens')
  const { text, pieces } = write(emoji.slice(0, -1))
  assert.match(text, /^\uFFFD+$/)
  assert.is(pieces.at(-1)!.text, text)
})

test('a stop string ends the text before it, at the token that completes it', () => {
  for (let start = 0; start < STORY.length - 4; start++) {
    const stop = STORY.slice(start, start + 4)
    if (STORY.indexOf(stop) !== start || /[\uD800-\uDFFF]/.test(stop)) continue
    const { text, tokens, ended, pieces } = write(story, [stop], 4)
    assert.ok(ended, stop)
    assert.is(text, STORY.slice(0, start))
    assert.is(pieces.map((piece) => piece.text).join(''), text)
    const whole = tokenizer.decode(tokens)
    assert.match(whole, stop)
    assert.not.match(tokenizer.decode(tokens.slice(0, -1)), stop)
    assert.is(pieces.length, tokens.length)
  }
})

test('what might begin a stop string is held back, and comes out when it does not', () => {
  const text = new GeneratedText(tokenizer, [' done.!'], true)
  for (const token of story) assert.ok(text.push(decoded(token)))
  const before = text.text
  assert.ok(before.length < STORY.length)
  const early = text.takePieces()
  assert.ok(early.length < story.length, 'the newest piece waits for its text')
  text.finish()
  assert.is(text.text, STORY)
  assert.is([...early, ...text.takePieces()].map((piece) => piece.text).join(''), STORY)
})

test('an end-of-sequence token adds nothing and is not counted', () => {
  const text = new GeneratedText(tokenizer, [], true)
  text.push(decoded(story[0]))
  assert.ok(text.push({ token: 4095, drafted: false, isEnd: true, logprob: undefined }))
  text.finish()
  assert.equal(text.tokens, [story[0]])
  assert.is(text.takePieces().length, 1)
})

test('log-probabilities go with their pieces, and are absent otherwise', () => {
  const text = new GeneratedText(tokenizer, [], true)
  text.push({ ...decoded(story[0]), logprob: -0.25 })
  text.push(decoded(story[1]))
  text.finish()
  const [first, second] = text.takePieces()
  assert.is(first.logprob, -0.25)
  assert.not('logprob' in second)
})

test('without a tokenizer tokens come without text, and stop strings are refused', () => {
  const text = new GeneratedText(undefined, [], true)
  text.push(decoded(5))
  text.finish()
  assert.equal(text.takePieces(), [{ text: '', token: 5, drafted: false }])
  assert.throws(
    () => new GeneratedText(undefined, ['x'], true),
    (error: unknown) => error instanceof CoppiceError && error.code === 'NO_TOKENIZER',
  )
})

test.run()
