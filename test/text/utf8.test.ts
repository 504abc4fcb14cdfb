import * as fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { Utf8Decoder } from '../../src/text/utf8.ts'

const test = suite('UTF-8 in parts')

/** Bytes that are often nearly UTF-8: random ones, pieces of real text, and the special lead bytes. */
const bytes = fc
  .array(
    fc.oneof(
      fc.uint8Array({ maxLength: 3 }),
      fc.string({ unit: 'binary', maxLength: 3 }).map((text) => new TextEncoder().encode(text)),
      fc
        .constantFrom(0xc0, 0xc1, 0xe0, 0xed, 0xef, 0xbb, 0xbf, 0xf0, 0xf4, 0xf5, 0x80, 0x8f, 0x90, 0x9f, 0xa0)
        .map((b) => Uint8Array.of(b)),
    ),
    { maxLength: 12 },
  )
  .map((parts) => Uint8Array.from(parts.flatMap((part) => [...part])))

test('however the bytes are cut, the text is that of a decoder that sees them at once', () => {
  const whole = new TextDecoder('utf-8', { ignoreBOM: true })
  fc.assert(
    fc.property(bytes, fc.array(fc.nat(5)), (input, cuts) => {
      const decoder = new Utf8Decoder()
      let text = ''
      let at = 0
      for (const size of [...cuts, input.length]) {
        text += decoder.push(input.subarray(at, at + size))
        at += size
        assert.ok(!/[\uD800-\uDBFF]$/.test(text), 'never half of a surrogate pair')
      }
      assert.is(text + decoder.flush(), whole.decode(input))
    }),
    { numRuns: 5000 },
  )
})

test('a character comes out with its last byte', () => {
  const decoder = new Utf8Decoder()
  const steps = [...new TextEncoder().encode('a€🦙')].map((byte) => [
    decoder.push(Uint8Array.of(byte)),
    decoder.pending,
  ])
  assert.equal(steps, [
    ['a', false],
    ['', true],
    ['', true],
    ['€', false],
    ['', true],
    ['', true],
    ['', true],
    ['🦙', false],
  ])
})

test('what can no longer become a character comes out as U+FFFD at once', () => {
  const decoder = new Utf8Decoder()
  assert.is(decoder.push(Uint8Array.of(0xff)), '\uFFFD')
  assert.is(decoder.push(Uint8Array.of(0xe2, 0x82)), '')
  assert.is(decoder.push(Uint8Array.of(0x41)), '\uFFFDA')
  assert.is(decoder.push(Uint8Array.of(0xe2, 0x82)), '')
  assert.is(decoder.flush(), '\uFFFD')
  assert.is(decoder.flush(), '')
})

test('a byte order mark is a character like any other', () => {
  assert.is(new Utf8Decoder().push(Uint8Array.of(0xef, 0xbb, 0xbf, 0x41)), '\uFEFFA')
})

test.run()
