import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { type Flags, flagName, flagVariable, helpText, parseArguments } from '../../src/runtime/arguments.ts'
import { displayWidth } from '../../src/runtime/terminal.ts'
import { assertFails } from './failures.ts'

const test = suite('command-line arguments')

const flags = {
  temp: { type: 'number', help: 'temperature of sampling', default: 0.8 },
  topK: { type: 'integer', help: 'keep the K likeliest tokens' },
  maxTokens: { type: 'integer', name: 'predict', short: 'n', help: 'tokens to write', value: 'COUNT' },
  memory: { type: 'bytes', short: 'm', help: 'budget for everything the engine keeps in memory', default: 22e6 },
  draft: { type: 'string', help: 'draft model' },
  json: { type: 'boolean', help: 'answer in JSON', default: false },
  help: { type: 'boolean', short: 'h', help: 'show this text', env: false },
} as const satisfies Flags

const parse = (args: string[], environment: Record<string, string> = {}) => parseArguments(flags, args, environment)
const refused = (args: string[], environment: Record<string, string> = {}) =>
  assertFails(() => parse(args, environment), 'INVALID_OPTION').message

test('values have the type of their flag', () => {
  const { values } = parse(['--temp', '0.25', '--top-k=40', '--memory', '1.5GiB', '--draft', 'none', '--json'])
  assert.is(values.temp, 0.25)
  assert.is(values.topK, 40)
  assert.is(values.memory, 1.5 * 1024 ** 3)
  assert.is(values.draft, 'none')
  assert.is(values.json, true)
  assert.is(values.help, undefined)
})

test('what is not given has its default, or is undefined', () => {
  const { values, positionals } = parse([])
  assert.is(values.temp, 0.8)
  assert.is(values.memory, 22e6)
  assert.is(values.json, false)
  assert.is(values.topK, undefined)
  assert.equal(positionals, [])
})

test('positional arguments may stand anywhere, and after -- nothing is a flag', () => {
  assert.equal(parse(['model', '--temp', '0', 'once upon', '--', '--json', '-n']).positionals, [
    'model',
    'once upon',
    '--json',
    '-n',
  ])
})

test('short flags take their value attached or apart', () => {
  assert.is(parse(['-n', '12']).values.maxTokens, 12)
  assert.is(parse(['-n12']).values.maxTokens, 12)
  assert.is(parse(['--predict', '12']).values.maxTokens, 12)
})

test('the last of a repeated flag counts', () => {
  assert.is(parse(['--temp', '1', '--temp', '0']).values.temp, 0)
})

test('a negative number is a value, not a flag', () => {
  assert.is(parse(['--temp', '-1.5']).values.temp, -1.5)
  assert.is(parse(['--top-k=-1']).values.topK, -1)
})

test('a boolean flag can be undone and be given a value', () => {
  assert.is(parse(['--json', '--no-json']).values.json, false)
  assert.is(parse(['--json=false']).values.json, false)
  assert.is(parse(['--json=true']).values.json, true)
  assert.match(refused(['--json=maybe']), '--json needs true or false, not "maybe"')
})

test('the environment sets what the command line does not', () => {
  const environment = {
    COPPICE_TEMP: '0.1',
    COPPICE_TOP_K: '7',
    COPPICE_JSON: 'yes',
    COPPICE_PREDICT: '9',
    COPPICE_MEMORY: '1GB',
  }
  const { values } = parse(['--temp', '0.3'], environment)
  assert.is(values.temp, 0.3)
  assert.is(values.topK, 7)
  assert.is(values.json, true)
  assert.is(values.maxTokens, 9)
  assert.is(values.memory, 1e9)
  assert.is(parse(['--no-json'], environment).values.json, false)
})

test('an empty variable is an unset one, and a flag can be without variable', () => {
  assert.is(parse([], { COPPICE_TEMP: '', COPPICE_HELP: '1' }).values.temp, 0.8)
  assert.is(parse([], { COPPICE_HELP: '1' }).values.help, undefined)
})

test('an unsuitable variable is refused by its own name', () => {
  assert.match(refused([], { COPPICE_TOP_K: 'many' }), 'COPPICE_TOP_K needs a whole number, not "many"')
  assert.match(refused([], { COPPICE_MEMORY: 'some' }), 'COPPICE_MEMORY: "some" is not a size')
})

test('an unknown flag is refused with the nearest known one', () => {
  assert.match(refused(['--tmep', '1']), 'there is no flag --tmep; did you mean --temp?')
  assert.match(refused(['--topk=3']), 'did you mean --top-k?')
  assert.match(refused(['--mem', '3']), 'did you mean --memory?')
  assert.match(refused(['--zzzzzzzz']), 'there is no flag --zzzzzzzz; --help lists all')
  assert.match(refused(['-x']), 'there is no flag -x; --help lists all')
  assert.match(refused(['--no-temp']), 'there is no flag --no-temp')
})

test('a flag without its value is refused', () => {
  assert.match(refused(['--draft']), '--draft needs a value, but none follows')
  assert.match(refused(['--draft=']), '--draft needs a value, but none follows')
  assert.match(refused(['--draft', '--json']), 'it is followed by --json; write --draft=--json if that is meant')
  assert.is(parse(['--draft=--json']).values.draft, '--json')
})

test('values that do not fit are refused with flag and value', () => {
  assert.match(refused(['--temp', 'hot']), '--temp needs a number, not "hot"')
  assert.match(refused(['--temp', 'Infinity']), '--temp needs a number, not "Infinity"')
  assert.match(refused(['--top-k', '1.5']), '--top-k needs a whole number, not "1.5"')
  assert.match(refused(['-n', '1e3']), '-n needs a whole number, not "1e3"')
  assert.match(refused(['--memory', 'lots']), '--memory: "lots" is not a size')
})

test('names follow from the key', () => {
  assert.is(flagName('topK', flags.topK), '--top-k')
  assert.is(flagVariable('topK', flags.topK), 'COPPICE_TOP_K')
  assert.is(flagName('maxTokens', flags.maxTokens), '--predict')
  assert.is(flagVariable('help', flags.help), undefined)
})

const help = (columns: number): string =>
  helpText(
    {
      usage: 'coppice run [flags] MODEL PROMPT',
      summary:
        'Writes text with a model that may be larger than memory, and says how many passes through it that took.',
      flags,
      examples: ["coppice run models/target 'Once upon a time' --temp 0 --memory 22MB"],
    },
    columns,
  )

test('the help fits 80 columns and every narrower terminal', () => {
  for (const columns of [200, 80, 79, 60, 59, 40, 30]) {
    for (const line of help(columns).split('\n')) {
      assert.ok(displayWidth(line) <= Math.min(columns, 80), `${columns}: ${line}`)
      assert.is(line, line.trimEnd())
    }
  }
})

test('the help names flags, values, defaults and variables', () => {
  const text = help(80)
  assert.match(text, /^Usage: coppice run /)
  assert.match(text, /^ {2}-n, --predict COUNT {2,}tokens to write$/m)
  assert.match(text, /^ {6}--temp N {2,}temperature of sampling \(default: 0.8\)$/m)
  assert.match(text, '(default: 22.0 MB)')
  assert.match(text, /^ {6}--json {2,}answer in JSON$/m)
  assert.match(text, /COPPICE_TEMP\s+is\s+--temp/)
  assert.match(text, "\n  coppice run models/target 'Once upon a time'")
})

test('on a narrow terminal an explanation stands under its flag', () => {
  assert.match(help(40), /^ {2}-n, --predict COUNT\n {6}tokens to write$/m)
})

test.run()
