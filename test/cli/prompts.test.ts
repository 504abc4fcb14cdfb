import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { parsePrompts } from '../../src/cli/prompts.ts'
import { CoppiceError } from '../../src/errors.ts'

const test = suite('files of prompts')

const refusal = (text: string, name: string): string => {
  try {
    parsePrompts(text, name)
  } catch (error) {
    if (error instanceof CoppiceError && error.code === 'INVALID_INPUT') return error.message
    throw error
  }
  throw new Error('nothing was thrown')
}

test('every line that is not empty is a prompt, as it stands', () => {
  assert.equal(parsePrompts('\ufeffOnce upon\r\n\n  a time \n \n', 'p.txt'), [
    { prompt: 'Once upon', line: 1 },
    { prompt: '  a time ', line: 3 },
  ])
})

test('lines that are objects have a prompt or messages, and may have more', () => {
  const messages = [{ role: 'user', content: 'Why?' }]
  const lines = [JSON.stringify({ prompt: 'a\nb', id: 7 }), '', JSON.stringify({ messages })]
  for (const name of ['p.jsonl', 'p', 'stdin']) {
    assert.equal(parsePrompts(lines.join('\n'), name), [
      { prompt: 'a\nb', line: 1 },
      { prompt: messages, line: 3 },
    ])
  }
})

test('a brace begins a text where the name says that it is one, or the first line does', () => {
  assert.equal(parsePrompts('{"prompt": 1}', 'p.txt'), [{ prompt: '{"prompt": 1}', line: 1 }])
  assert.equal(parsePrompts('x\n{y', 'p')[1], { prompt: '{y', line: 2 })
})

test('a line that cannot be is refused by its number', () => {
  assert.match(refusal('{"prompt": "a"}\n\n{"prompt": "b"', 'p.jsonl'), /^p\.jsonl, line 3 is not JSON: /)
  for (const line of [
    ...['7', 'null', '[]', '{}', '{"prompt": 3}', '{"prompt": "a", "messages": []}', '{"messages": []}'],
    ...['{"messages": [null]}', '{"messages": [{"role": "user"}]}', '{"messages": "a"}'],
  ]) {
    assert.match(refusal(`{"prompt": "a"}\n${line}`, 'p.jsonl'), /^p\.jsonl, line 2 must be an object with either/)
  }
})

test('a file without prompts is refused', () => {
  for (const text of ['', '\n \r\n', '\ufeff']) assert.match(refusal(text, 'p.txt'), /^p\.txt has no prompts/)
})

test.run()
