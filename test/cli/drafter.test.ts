import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { Completion } from '../../src/index.ts'
import { decodeState } from '../../src/speculate/state-file.ts'
import { TARGET } from '../e2e/models.ts'
import { scratch } from '../engine/harness.ts'
import { fixtures } from '../paths.ts'
import { coppice } from './cli-process.ts'

const PROMPT = 'The old house stood at the end of the lane, and'
const BASE = ['--weights', 'q8', '--ctx-size', '256', '--threads', '1', '--draft', 'none']
/** What a planner chooses depends on the machine. */
const FIXED = ['--nodes', '12']
const RUN = ['run', ...BASE, '--drafter', 'hybrid', TARGET, PROMPT, '--temp', '0', '-n', '32', '--ignore-eos', ...FIXED]
const file = (name: string): string => join(scratch, name)

interface Inspected {
  readonly version: number
  readonly vocabulary: number
  readonly tokens: string
  readonly bytes: number
  readonly sections: readonly { readonly source: string; readonly bytes: number; readonly entries: number }[]
}

const inspect = async (name: string): Promise<Inspected> => {
  const { code, stdout, stderr } = await coppice(['drafter', 'inspect', name, '--json'])
  assert.is(code, 0, stderr)
  return JSON.parse(stdout) as Inspected
}

const passes = ({ stdout }: { stdout: string }): number => (JSON.parse(stdout) as Completion).stats.passes

const test = suite('what drafters learn between runs')
const state = file('run.state')
let text = ''

test('a run makes the state, and the next one begins with it', async () => {
  const cold = await coppice([...RUN, '--drafter-state', state, '--json'])
  assert.is(cold.code, 0, cold.stderr)
  text = (JSON.parse(cold.stdout) as Completion).text
  const first = await inspect(state)
  assert.equal(
    first.sections.map(({ source }) => source),
    ['trie', 'trigram', 'recycle'],
  )
  for (const { source, bytes, entries } of first.sections) assert.ok(bytes > 0 && entries > 0, source)
  const warm = await coppice([...RUN, '--drafter-state', state, '--json'])
  assert.is((JSON.parse(warm.stdout) as Completion).text, text)
  assert.ok(passes(warm) < passes(cold), `${passes(warm)} of ${passes(cold)} passes`)
  assert.equal(
    readdirSync(scratch).filter((name) => name.endsWith('.tmp')),
    [],
  )
})

test('drafters are named with commas; what others had learnt stays in the state', async () => {
  const before = await inspect(state)
  const args = [...BASE, '--drafter', 'ngram, trie', TARGET, PROMPT, '--temp', '0', '-n', '8', '--drafter-state', state]
  const { code, stdout, stderr } = await coppice(['run', ...args, '--json'])
  assert.is(code, 0, stderr)
  for (const name of Object.keys((JSON.parse(stdout) as Completion).stats.perDrafter)) {
    assert.ok(name === 'ngram' || name === 'trie', name)
  }
  const after = await inspect(state)
  assert.equal(after.sections.slice(1), before.sections.slice(1))
  const mistakes: [string[], RegExp][] = [
    [['--drafter', 'trie,oracle'], /there is no drafter "oracle"/],
    [['--drafter', ''], /--drafter needs a value/],
    [['--drafter', 'trie', '--drafter-options', '{"trie":'], /--drafter-options takes JSON/],
    [['--drafter', 'trie', '--drafter-options', '{"trie":{"mode":"bush"}}'], /one of tree, parallel, single/],
  ]
  for (const [flags, message] of mistakes) {
    const wrong = await coppice(['run', ...BASE, ...flags, TARGET, PROMPT])
    assert.is(wrong.code, 2)
    assert.match(wrong.stderr, message)
  }
})

test('options of a drafter shape what it guesses', async () => {
  const again = Array(4).fill(PROMPT).join(' ')
  const args = ['run', ...BASE, '--drafter', 'trie', TARGET, again, '--temp', '0', '-n', '24', ...FIXED, '--json']
  const deepest = async (...options: string[]): Promise<number> => {
    const { code, stdout, stderr } = await coppice([...args, ...options])
    assert.is(code, 0, stderr)
    return (JSON.parse(stdout) as Completion).stats.depths.length - 1
  }
  const usual = await deepest()
  const short = await deepest('--drafter-options', '{"trie":{"branchLength":2}}')
  assert.ok(usual > 1 && short === 1, `${usual} levels, ${short} in branches of two tokens`)
})

test('Ctrl-C keeps what was learnt until then', async () => {
  const learnt = file('interrupted.state')
  let interrupted = false
  const longest = ['--ctx-size', '1024', '-n', '900', '--ignore-eos']
  const long = ['run', ...BASE, ...longest, '--drafter', 'trie', TARGET, PROMPT, '--temp', '0']
  const { code, stderr } = await coppice([...long, '--drafter-state', learnt], {
    onStdout: (written, child) => {
      if (!interrupted && written.length > 60) {
        interrupted = true
        child.kill('SIGINT')
      }
    },
  })
  assert.is(code, 130, stderr)
  assert.ok((await inspect(learnt)).sections[0].entries > 20)
})

test('inspect tells what is in a state in words', async () => {
  const { code, stdout, stderr } = await coppice(['drafter', 'inspect', state])
  assert.is(code, 0, stderr)
  const { vocabulary, tokens } = await inspect(state)
  for (const part of [
    'version 1, sound',
    `${vocabulary} tokens, digest ${tokens}`,
    / trie? +[\d,]+ nodes/,
    /[\d,]+ pairs/,
  ])
    assert.match(` ${stdout.replaceAll('\n', '\n ')}`, part)
})

test('warm teaches a text without the model’s weights, and a run guesses it', async () => {
  const story = file('story.txt')
  writeFileSync(story, `${PROMPT}${text}\n`)
  const warm = file('warm.state')
  const made = await coppice(['drafter', 'warm', TARGET, story, '--output', warm, '--json'])
  assert.is(made.code, 0, made.stderr)
  const { tokens, bytes } = JSON.parse(made.stdout) as { tokens: number; bytes: number }
  assert.ok(tokens > 32)
  assert.is(readFileSync(warm).length, bytes)
  // As much of the model as there may be: without a single weight.
  const bare = file('bare')
  mkdirSync(bare)
  for (const name of ['config.json', 'tokenizer.json', 'tokenizer_config.json']) {
    writeFileSync(join(bare, name), readFileSync(join(TARGET, name)))
  }
  writeFileSync(join(bare, 'model.safetensors'), '')
  const bareState = file('bare.state')
  const made2 = await coppice(['drafter', 'warm', bare, story, '-o', bareState])
  assert.is(made2.code, 0, made2.stderr)
  assert.match(made2.stderr, 'tokens read')
  assert.equal(readFileSync(bareState), readFileSync(warm))

  const cold = await coppice([...RUN, '--json'])
  const guessed = await coppice([...RUN, '--drafter-state', warm, '--json'])
  assert.ok(passes(guessed) < passes(cold), `${passes(guessed)} of ${passes(cold)} passes`)
})

test('warm goes on from a state, and keeps what is not a text’s to teach', async () => {
  const more = file('more.txt')
  writeFileSync(more, 'Quite another text about boats and the sea.\n')
  const { code, stderr } = await coppice([
    ...['drafter', 'warm', TARGET, more, '--drafter-state', state, '--output', file('more.state')],
  ])
  assert.is(code, 0, stderr)
  const [before, after] = [await inspect(state), await inspect(file('more.state'))]
  const entries = ({ sections }: Inspected, name: string) => sections.find(({ source }) => source === name)!.entries
  assert.ok(entries(after, 'trie') > entries(before, 'trie'))
  assert.ok(entries(after, 'trigram') > entries(before, 'trigram'))
  assert.is(entries(after, 'recycle'), entries(before, 'recycle'))
})

test('mistakes are named, cost no work, and leave files alone', async () => {
  const bytes = readFileSync(state)
  writeFileSync(file('cut.state'), bytes.subarray(0, bytes.length >> 1))
  writeFileSync(file('text.state'), 'not a state')
  mkdirSync(file('directory.state'))
  const { sections } = decodeState(bytes, 'state')
  assert.is(sections.length, 3)
  const some = file('story.txt')
  const missing = file('missing')
  const llama = join(fixtures, 'llama')
  const run = ['run', ...BASE, '--drafter', 'trie', TARGET, PROMPT, '-n', '1', '--drafter-state']
  const cases: [string[], number, RegExp][] = [
    [['drafter', 'inspect'], 2, /an argument is missing/],
    [['drafter', 'inspect', missing], 1, /missing is not there.*\[FILE_SYSTEM\]/s],
    [['drafter', 'inspect', file('directory.state')], 1, /is a directory.*\[FILE_SYSTEM\]/s],
    [['drafter', 'inspect', file('cut.state')], 1, /cut\.state cannot be used.*\[CORRUPT_FILE\]/s],
    [['drafter', 'inspect', file('text.state')], 1, /should begin with "COPDRAFT".*\[CORRUPT_FILE\]/s],
    [['drafter', 'warm', TARGET, some], 2, /--output FILE is missing/],
    [['drafter', 'warm', TARGET, '-o', missing], 2, /an argument is missing/],
    [['drafter', 'warm', TARGET, missing, '-o', missing], 2, /the text .*missing is not there/],
    [['drafter', 'warm', TARGET, scratch, '-o', missing], 2, /is a directory; name text files/],
    [['drafter', 'warm', missing, some, '-o', missing], 1, /\[MODEL_NOT_FOUND\]/],
    [['drafter', 'warm', llama, some, '-o', missing], 1, /\[NO_TOKENIZER\]/],
    [['drafter', 'warm', TARGET, some, '-o', scratch], 2, /--output .* cannot be written/],
    [['drafter', 'warm', TARGET, some, '-o', missing, '--drafter-state', file('cut.state')], 1, /\[CORRUPT_FILE\]/],
    [[...run, file('cut.state')], 1, /\[CORRUPT_FILE\]/],
    [[...run, file('directory.state')], 2, /--drafter-state .* cannot be written/],
    [[...run, join(missing, 'x')], 2, /directory that exists/],
    [['run', '--drafter', 'trie', llama, 'x', '--drafter-state', state], 1, /\[INCOMPATIBLE_STATE\]/],
    [['run', ...BASE, TARGET, PROMPT, '-n', '1', '--drafter-state', missing], 2, /no drafter of this model learns/],
    [['run', ...BASE, TARGET, PROMPT, '-n', '1', '--drafter-state', state], 2, /no drafter here learns from texts/],
  ]
  for (const [args, expected, message] of cases) {
    const { code, stdout, stderr } = await coppice(args)
    const what = `coppice ${args.join(' ')}: ${stderr}`
    assert.is(code, expected, what)
    assert.match(stderr, message, what)
    assert.is(stdout, '', what)
    assert.not.match(stderr, /\n +at /, what)
  }
  assert.not.ok(existsSync(missing))
  assert.equal(readFileSync(state), bytes)
  assert.is(readFileSync(file('text.state'), 'utf8'), 'not a state')
})

test.run()
