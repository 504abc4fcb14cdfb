import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { CoppiceError, type ErrorCode } from '../../src/errors.ts'
import { ChatTemplate, type Message } from '../../src/text/chat.ts'
import { testPublished } from './published.ts'

const test = suite('chat template')

const user = (content: string): Message => ({ role: 'user', content })
const noon = new Date(2026, 2, 7, 12, 5, 4)

const render = (source: string, messages: Message[] = [user('Hi')], config: Record<string, unknown> = {}): string =>
  new ChatTemplate(source, config, 'dir').render(messages, noon)

function throwsCode(run: () => unknown, code: ErrorCode, message: RegExp): void {
  assert.throws(
    run,
    (error: unknown) => error instanceof CoppiceError && error.code === code && message.test(error.message),
  )
}

test('a template sees the messages, the generation prompt and the special tokens', () => {
  const source =
    "{{ bos_token }}{% for m in messages %}[{{ m['role'] }}]{{ m.content }}{{ eos_token }}{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
  const config = { bos_token: '<s>', eos_token: { content: '</s>', lstrip: false } }
  assert.is(render(source, [user('Hi'), user('you')], config), '<s>[user]Hi</s>[user]you</s>[assistant]')
})

test('a special token that the config has not is undefined, and empty as text', () => {
  const source = '({{ bos_token }}){% if bos_token is defined %}defined{% endif %}'
  assert.is(render(source, [], { bos_token: null }), '()')
})

test('tools and documents are none', () => {
  assert.is(
    render('{% if tools is none and documents is none and none is none and None is none %}none{% endif %}'),
    'none',
  )
})

test('blocks are trimmed as Hugging Face does: no newline after a block, no indentation before it', () => {
  assert.is(render('a\n  {% if true %}\n  b\n  {% endif %}\nc\n'), 'a\n  b\nc')
})

test('range counts as in Python', () => {
  assert.is(render('{% for i in range(3) %}{{ i }}{% endfor %}'), '012')
  assert.is(render('{% for i in range(5, 0, -2) %}{{ i }}{% endfor %}'), '531')
})

test('the date is given from outside and in English', () => {
  assert.is(
    render("{{ strftime_now('%d %b %Y, %A %B %-d %H:%M:%S %I %p %y %%') }}"),
    '07 Mar 2026, Saturday March %-d 12:05:04 12 PM 26 %',
  )
})

test('a template that refuses the messages says why', () => {
  throwsCode(
    () => render("{{ raise_exception('No system role') }}"),
    'INVALID_INPUT',
    /in dir refuses these messages: No system role/,
  )
})

test('a message without a role or a content is refused', () => {
  throwsCode(() => render('x', [{ role: 'user' } as Message]), 'INVALID_INPUT', /message 0/)
  throwsCode(() => render('x', [user('a'), null as unknown as Message]), 'INVALID_INPUT', /message 1/)
})

test('the template comes from its file, a string in the config, or the default of a list there', () => {
  const from = (file: string | undefined, chat_template: unknown): string =>
    new ChatTemplate(file, { chat_template }, 'dir').render([])
  assert.is(from('file', 'config'), 'file')
  assert.is(from(undefined, 'config'), 'config')
  const list = [
    { name: 'tool_use', template: 'tools' },
    { name: 'default', template: 'plain' },
  ]
  assert.is(from(undefined, list), 'plain')
  assert.is(from(undefined, list.slice(0, 1)), 'tools')
})

test('a model without a template says so', () => {
  const other = [
    { name: 'a', template: '' },
    { name: 'b', template: '' },
  ]
  for (const chat_template of [undefined, null, [], other]) {
    throwsCode(
      () => new ChatTemplate(undefined, { chat_template }, 'dir'),
      'NO_CHAT_TEMPLATE',
      /model in dir has no chat template/,
    )
  }
})

test('a template that is none is refused', () => {
  throwsCode(
    () => new ChatTemplate('{% for %}', {}, 'dir'),
    'UNSUPPORTED_FORMAT',
    /chat template in dir cannot be read/,
  )
})

const system: Message = { role: 'system', content: ' Be brief. ' }
const talk: Message[] = [user('Hi <b>\n'), { role: 'assistant', content: 'Hello' }, user('Ünïcode "q" 你')]
const config = { bos_token: '<BOS>', eos_token: '<EOS>' }

/** What Jinja 3 with Hugging Face's settings renders, made with Python. */
const PUBLISHED: readonly [file: string, withSystem: string | RegExp, without: string][] = [
  [
    'Qwen-Qwen2.5-7B-Instruct.jinja',
    '<|im_start|>system\n Be brief. <|im_end|>\n<|im_start|>user\nHi <b>\n<|im_end|>\n<|im_start|>assistant\nHello<|im_end|>\n<|im_start|>user\nÜnïcode "q" 你<|im_end|>\n<|im_start|>assistant\n',
    '<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n<|im_start|>user\nHi <b>\n<|im_end|>\n<|im_start|>assistant\nHello<|im_end|>\n<|im_start|>user\nÜnïcode "q" 你<|im_end|>\n<|im_start|>assistant\n',
  ],
  [
    'google-gemma-2-2b-it.jinja',
    /System role not supported/,
    '<BOS><start_of_turn>user\nHi <b><end_of_turn>\n<start_of_turn>model\nHello<end_of_turn>\n<start_of_turn>user\nÜnïcode "q" 你<end_of_turn>\n<start_of_turn>model\n',
  ],
  [
    'meta-llama-Llama-3.1-8B-Instruct.jinja',
    '<BOS><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\nBe brief.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nHi <b><|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nHello<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nÜnïcode "q" 你<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n',
    '<BOS><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nHi <b><|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nHello<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nÜnïcode "q" 你<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n',
  ],
  [
    'microsoft-Phi-3.5-mini-instruct.jinja',
    '<|system|>\n Be brief. <|end|>\n<|user|>\nHi <b>\n<|end|>\n<|assistant|>\nHello<|end|>\n<|user|>\nÜnïcode "q" 你<|end|>\n<|assistant|>\n',
    '<|user|>\nHi <b>\n<|end|>\n<|assistant|>\nHello<|end|>\n<|user|>\nÜnïcode "q" 你<|end|>\n<|assistant|>\n',
  ],
  [
    'mistralai-Mistral-Nemo-Instruct-2407.jinja',
    '<BOS>[INST]Hi <b>\n[/INST]Hello<EOS>[INST] Be brief. \n\nÜnïcode "q" 你[/INST]',
    '<BOS>[INST]Hi <b>\n[/INST]Hello<EOS>[INST]Ünïcode "q" 你[/INST]',
  ],
]

for (const [file, withSystem, without] of PUBLISHED) {
  testPublished(test, `renders as Jinja does: ${file}`, `chat-templates/${file}`, (source) => {
    assert.is(render(source, talk, config), without)
    if (typeof withSystem === 'string') assert.is(render(source, [system, ...talk], config), withSystem)
    else throwsCode(() => render(source, [system, ...talk], config), 'INVALID_INPUT', withSystem)
  })
}

test.run()
