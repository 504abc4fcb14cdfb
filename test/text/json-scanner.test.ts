import * as fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { type ByteSource, JsonScanner, OPEN_LIST, OPEN_OBJECT } from '../../src/text/json-scanner.ts'
import { bytesOf } from './published.ts'

const test = suite('JSON scanner')

/** Everything in a source, by the methods that tables are filled with. */
function readAll(source: ByteSource): unknown {
  const scanner = new JsonScanner(source)
  const value = (): unknown => {
    const first = scanner.peek()
    if (first === 0x22) {
      scanner.string()
      return scanner.value()
    }
    if (first === OPEN_LIST) {
      const list: unknown[] = []
      scanner.list(() => list.push(value()))
      return list
    }
    if (first === OPEN_OBJECT) {
      const members: [string, unknown][] = []
      scanner.object(() => {
        const key = scanner.value()
        members.push([key, value()])
      })
      return Object.fromEntries(members)
    }
    if ([0x74, 0x66, 0x6e].includes(first)) return JSON.parse(scanner.raw())
    return scanner.number()
  }
  const whole = value()
  scanner.end()
  return whole
}

/** A source that gives few bytes at a time would be wrong: only the end of a file is short. */
const read = (text: string): unknown => readAll(bytesOf(text))

const json = fc.jsonValue({ stringUnit: 'binary', maxDepth: 4 })

test('what it reads is what JSON.parse reads, however it is spaced', () => {
  fc.assert(
    fc.property(json, fc.constantFrom(undefined, 2, '\t'), (value, space) => {
      const text = JSON.stringify(value, undefined, space)
      assert.equal(read(text), JSON.parse(text))
      assert.equal(JSON.parse(new JsonScanner(bytesOf(text)).raw()), JSON.parse(text))
    }),
    { numRuns: 300 },
  )
})

test('escapes are the characters that they stand for', () => {
  const text = '"\\u0041\\u00e9\\u4f60\\ud83e\\udd99\\" \\\\ \\/ \\b\\f\\n\\r\\t"'
  assert.is(read(text), JSON.parse(text))
})

test('numbers of every form are read', () => {
  for (const text of ['0', '-0', '7', '128000', '-1', '0.5', '1e3', '-2.5E-2', '0e+1', '12345678901234567890']) {
    assert.is(read(text), JSON.parse(text), text)
  }
})

test('a byte order mark before the text is passed over, and one within a string is a character', () => {
  assert.equal(read('\ufeff ["\ufeff", "\ufeffa"]'), ['\ufeff', '\ufeffa'])
  const scanner = new JsonScanner(bytesOf('"\ufeff"'))
  assert.is(JSON.parse(scanner.raw()), '\ufeff')
})

test('every part of a file is read once, however its numbers are written', () => {
  const scores = Array.from({ length: 30_000 }, (_, i) => [`t${i}`, -i / 7])
  const source = bytesOf(JSON.stringify(scores))
  let asked = 0
  const counting: ByteSource = {
    bytes: source.bytes,
    read: (target, position) => {
      asked++
      return source.read(target, position)
    },
  }
  assert.equal(readAll(counting), scores)
  // One more for the end, and one for a number that lies on each border.
  assert.ok(asked <= 3 * Math.ceil(source.bytes / 65_536) + 1, `${asked} reads of ${source.bytes} bytes`)
})

test('what lies on the border of two windows is read whole', () => {
  const token = 'é\\n你🦙'
  for (let before = 65520; before < 65545; before++) {
    const text = `["${'x'.repeat(before)}","${token}",123456]`
    assert.equal(read(text), JSON.parse(text), `${before}`)
  }
})

test('reading can go back to an earlier place', () => {
  const scanner = new JsonScanner(bytesOf(`{"skipped": [1, 2, 3], "more": "${'y'.repeat(100_000)}"}`))
  let at = 0
  scanner.object(() => {
    if (scanner.value() === 'skipped') at = scanner.position
    scanner.raw()
  })
  scanner.position = at
  const list: number[] = []
  scanner.list(() => list.push(scanner.number()))
  assert.equal(list, [1, 2, 3])
})

test('what is not JSON is refused with the place', () => {
  const wrong = [
    ...['', ' ', '{', '[', '[1', '[1,]', '[,1]', '[1 2]', '{"a"}', '{"a":}', '{"a":1,}', '{a:1}', '{"a":1 "b":2}'],
    ...['"', '"a', '"\\x"', '"\\u12"', '"\\u12g4"', '"\\ud800"', '"\\ud800\\u0041"', '"\\udc00"', '"a\nb"'],
    ...['01', '-01', '00', '1.', '.5', '1e', '0x10', '+1', '[01]', '{"a": 1.}', '\ufeff\ufeff1', '1\ufeff'],
    ...['-', 'x', '1x', '--1', '1 2', '[1]]', '{}}'],
  ]
  for (const text of wrong) {
    assert.throws(
      () => read(text),
      (error: unknown) => error instanceof SyntaxError,
      text,
    )
  }
  assert.throws(() => read('[1, "abc'), /does not end at byte 8/)
  assert.throws(() => read('[1, 0x10]'), /a number as JSON writes them was expected, not 0x10, at byte 4/)
})

test.run()
