import fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { parseJsonObject, showValue } from '../../src/weights/json.ts'

const test = suite('json')

test('an object without duplicate keys is read as JSON.parse reads it', () => {
  const key = fc.oneof(fc.string(), fc.constantFrom('"', '\\', '\\"', '{', '}', ',', ':', '\u2028', '__proto__'))
  const object = fc.dictionary(key, fc.jsonValue(), { maxKeys: 5 })
  fc.assert(
    fc.property(object, fc.constantFrom(undefined, 1, '\t'), (value, space) => {
      const text = JSON.stringify(value, undefined, space)
      assert.equal(parseJsonObject(text), JSON.parse(text))
    }),
    { numRuns: 500 },
  )
})

test('a key that an object has twice is found at any depth, however it is escaped', () => {
  fc.assert(
    fc.property(fc.string(), fc.nat(5), fc.boolean(), fc.jsonValue(), (key, depth, escaped, value) => {
      const plain = JSON.stringify(key)
      const other = escaped
        ? `"${[...key].map((c) => [...Array(c.length).keys()].map((i) => `\\u${c.charCodeAt(i).toString(16).padStart(4, '0')}`).join('')).join('')}"`
        : plain
      let text = `{${plain}: ${JSON.stringify(value)} ,\n${other}:0}`
      for (let i = 0; i < depth; i++) text = i % 2 === 0 ? `{"x":[1,${text}]}` : `{"y":${text},"z":{}}`
      assert.throws(() => parseJsonObject(text), /twice/)
    }),
    { numRuns: 500 },
  )
})

test('what is not a JSON object is refused', () => {
  for (const text of ['', '[]', '"x"', '7', 'null', '{', '{"a"}', '{"a":1}}']) {
    assert.throws(
      () => parseJsonObject(text),
      (error: unknown) => error instanceof SyntaxError,
    )
  }
})

test('values are shown short, and never fail to be shown', () => {
  assert.is(showValue('x"y'), '"x\\"y"')
  assert.is(showValue(undefined), 'nothing')
  assert.is(showValue('x'.repeat(1000)).length, 120)
  let deep: unknown = 1
  for (let i = 0; i < 100_000; i++) deep = [deep]
  // Some engines can write this out and some cannot.
  assert.ok(['a list', `${'['.repeat(117)}...`].includes(showValue(deep)))
})

test.run()
