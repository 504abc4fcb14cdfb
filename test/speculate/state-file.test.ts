import fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { CoppiceError } from '../../src/errors.ts'
import { Sha256 } from '../../src/runtime/files.ts'
import { SOURCES } from '../../src/speculate/drafter.ts'
import { checkMeaning, type DrafterState, decodeState, encodeState } from '../../src/speculate/state-file.ts'
import { assertFails } from '../runtime/failures.ts'

const HEAD_BYTES = 16
const DIGEST_BYTES = 64
const FILE = 'some.state'

const states: fc.Arbitrary<DrafterState> = fc
  .tuple(
    fc.record({ vocabulary: fc.integer({ min: 1, max: 1 << 24 }), tokens: fc.string({ minLength: 1 }) }),
    fc.shuffledSubarray([...SOURCES]),
    fc.array(fc.uint8Array({ maxLength: 40 }), { minLength: SOURCES.length, maxLength: SOURCES.length }),
  )
  .map(([meaning, names, contents]) => ({
    meaning: { ...meaning },
    sections: names.map((source, i) => ({ source, bytes: contents[i] })),
  }))

const STATE: DrafterState = {
  meaning: { vocabulary: 4096, tokens: '0123456789abcdef' },
  sections: [
    { source: 'trie', bytes: Uint8Array.of(1, 2, 3) },
    { source: 'recycle', bytes: new Uint8Array(0) },
  ],
}

/** A file that is whole, with any header. */
function sealed(header: string, content: Uint8Array = new Uint8Array(0), version = 1): Uint8Array {
  const text = new TextEncoder().encode(header)
  const bytes = new Uint8Array(HEAD_BYTES + text.length + content.length + DIGEST_BYTES)
  bytes.set(new TextEncoder().encode('COPDRAFT'))
  const view = new DataView(bytes.buffer)
  view.setUint32(8, version, true)
  view.setUint32(12, text.length, true)
  bytes.set(text, HEAD_BYTES)
  bytes.set(content, HEAD_BYTES + text.length)
  const end = bytes.length - DIGEST_BYTES
  bytes.set(new TextEncoder().encode(new Sha256().update(bytes.subarray(0, end)).hex()), end)
  return bytes
}

const header = (changes: object): string => JSON.stringify({ vocabulary: 4096, tokens: 'x', sections: [], ...changes })

/** A file that is not what was written is refused, and the message names it and says what to do. */
function refused(bytes: Uint8Array): CoppiceError {
  try {
    decodeState(bytes, FILE)
  } catch (error) {
    assert.instance(error, CoppiceError)
    const { code, message } = error as CoppiceError
    assert.ok(code === 'CORRUPT_FILE' || code === 'UNSUPPORTED_FORMAT', `${code}: ${message}`)
    assert.match(message, FILE)
    assert.match(message, 'delete it')
    return error as CoppiceError
  }
  throw new Error(`accepted: ${bytes}`)
}

const test = suite('the state of drafters as a file')

test('what was written is read', () => {
  fc.assert(fc.property(states, (state) => assert.equal(decodeState(encodeState(state), FILE), state)))
})

test('any flipped bit is refused, and any truncation, and anything behind the end', () => {
  fc.assert(
    fc.property(states, fc.nat(), fc.nat(7), (state, place, bit) => {
      const bytes = encodeState(state)
      const flipped = bytes.slice()
      flipped[place % bytes.length] ^= 1 << bit
      refused(flipped)
      refused(bytes.slice(0, place % bytes.length))
      refused(Uint8Array.of(...bytes, bit))
    }),
  )
})

test('every byte counts', () => {
  const bytes = encodeState(STATE)
  for (let i = 0; i < bytes.length; i++) {
    for (const change of [1, 0x20, 0x80, 0xff]) {
      const flipped = bytes.slice()
      flipped[i] ^= change
      refused(flipped)
    }
    assertFails(() => decodeState(bytes.subarray(0, i), FILE), 'CORRUPT_FILE')
  }
})

test('a file of another kind is none, and a newer one says which version it has', () => {
  assert.match(refused(new TextEncoder().encode('{"a": 1}'.repeat(30))).message, 'should begin with "COPDRAFT"')
  const newer = assertFails(() => decodeState(sealed(header({}), undefined, 2), FILE), 'UNSUPPORTED_FORMAT')
  assert.match(newer.message, 'format version 2, and this coppice reads up to 1')
  assertFails(() => decodeState(sealed(header({}), undefined, 0), FILE), 'CORRUPT_FILE')
})

test('sections of sources that are not known are refused by name', () => {
  const unknown = sealed(header({ sections: [{ source: 'oracle', bytes: 0 }] }))
  const { message } = assertFails(() => decodeState(unknown, FILE), 'UNSUPPORTED_FORMAT')
  assert.match(message, 'a section "oracle", and this coppice knows trie, trigram')
})

test('a header that makes no sense is refused, also where the sum is right', () => {
  const wrong: [string, RegExp][] = [
    ['', /header is not valid JSON/],
    ['[]', /header should be a JSON object/],
    ['{"vocabulary":1,"vocabulary":1}', /"vocabulary" twice/],
    [header({ vocabulary: 0 }), /"vocabulary" in its header should be a number from 1/],
    [header({ vocabulary: 1e9 }), /"vocabulary"/],
    [header({ vocabulary: 1.5 }), /"vocabulary"/],
    [header({ tokens: '' }), /"tokens" in its header/],
    [header({ tokens: 3 }), /"tokens" in its header/],
    [header({ sections: {} }), /"sections" in its header/],
    [header({ sections: [null] }), /"source" in its header/],
    [header({ sections: [{ source: 'trie', bytes: -1 }] }), /"bytes" in its header/],
    [header({ sections: [{ source: 'trie', bytes: 1 }] }), /sections should end at byte/],
    [header({ sections: [{ source: 'trie', bytes: Number.MAX_SAFE_INTEGER }] }), /sections should end at byte/],
    [
      header({
        sections: [
          { source: 'trie', bytes: 0 },
          { source: 'trie', bytes: 0 },
        ],
      }),
      /two sections "trie"/,
    ],
  ]
  for (const [text, message] of wrong) {
    const error = assertFails(() => decodeState(sealed(text), FILE), 'CORRUPT_FILE')
    assert.match(error.message, message)
  }
  const unlisted = sealed(header({}), Uint8Array.of(1))
  assert.match(assertFails(() => decodeState(unlisted, FILE), 'CORRUPT_FILE').message, /and end at/)
  const long = sealed(header({}))
  new DataView(long.buffer).setUint32(12, 1e6, true)
  const end = long.length - DIGEST_BYTES
  long.set(new TextEncoder().encode(new Sha256().update(long.subarray(0, end)).hex()), end)
  assert.match(assertFails(() => decodeState(long, FILE), 'CORRUPT_FILE').message, /its header should end at/)
})

test('a state of other tokens is refused, and says what both have', () => {
  const meaning = { vocabulary: 100, tokens: 'aa' }
  checkMeaning(FILE, meaning, { ...meaning })
  const larger = assertFails(() => checkMeaning(FILE, meaning, { ...meaning, vocabulary: 200 }), 'INCOMPATIBLE_STATE')
  assert.match(larger.message, 'it is of a vocabulary of 100 tokens, the model has 200')
  const other = assertFails(() => checkMeaning(FILE, meaning, { ...meaning, tokens: 'bb' }), 'INCOMPATIBLE_STATE')
  assert.match(other.message, 'digest aa, the model has tokens with the digest bb')
})

test.run()
