import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { Stats } from '../../src/index.ts'
import { scratch } from '../engine/harness.ts'
import { coppice, type Surroundings } from './cli-process.ts'

const BASE = ['bench', '--weights', 'q8', '--ctx-size', '256', '--threads', '1', '--nodes', '6', 'embedded']
const file = (name: string, text: string): string => {
  const path = join(scratch, name)
  writeFileSync(path, text)
  return path
}
const bench = (prompts: string, args: readonly string[] = [], surroundings?: Surroundings) =>
  coppice([...BASE, '--prompts', prompts, ...args], surroundings)

interface Report {
  readonly interrupted: boolean
  readonly verdict: string
  readonly medians: Readonly<Record<string, number>>
  readonly stats: Stats
  readonly plain?: Stats
  readonly prompts: readonly {
    readonly line: number
    readonly tokens: number
    readonly speedUp?: number
    readonly same?: boolean
    readonly stats: Stats
    readonly plain?: Stats
  }[]
}

const test = suite('coppice bench')
const TWO = file('two.txt', 'The old house stood at the end of the lane, and\n\nShe said that\n')

test('a line per prompt, the medians, and what they say together, in 40 columns', async () => {
  const { code, stdout, stderr } = await bench(TWO, ['-n', '12'], { environment: { COLUMNS: '40' } })
  assert.is(code, 0, stderr)
  const lines = stdout.split('\n')
  assert.ok(
    lines.every((line) => line.length <= 40),
    stdout,
  )
  assert.match(lines[1], /^ +tokens +tok\/pass +drafted +plain +ratio$/)
  assert.match(lines[2], /^ +1 +12 +\d+\.\d\d +[\d.]+ +[\d.]+ +\d+\.\d\dx$/)
  assert.match(lines[3], /^ +2 +12 /)
  assert.match(lines[4], /^med +\d+\.\d\d +[\d.]+ +[\d.]+ +\d+\.\d\dx$/)
  for (const text of [
    'both wrote the same tokens',
    /drafter tree: \d+ of \d+/,
    /accepted guesses per pass: \d+:\d+/,
    /passes by\s+depth \d+:\d+/,
    /accepted by rank\s+of tree, in %: 1:\d+/,
    /drafting: [\d.]+ s hidden/,
    /verdict: resident: /,
  ]) {
    assert.match(stdout, text)
  }
})

test('--json writes one object, with sums that agree with the prompts, sampling with the seeds that were drawn', async () => {
  const lines = [{ prompt: 'She said' }, { messages: [{ role: 'user', content: 'Where is it?' }], id: 2 }]
  const { code, stdout, stderr } = await bench(
    file('two.jsonl', lines.map((line) => JSON.stringify(line)).join('\n')),
    [...['-n', '10', '--temp', '0.9', '--drafter', 'tree', '--json']],
  )
  assert.is(code, 0, stderr)
  const { interrupted, verdict, medians, stats, plain, prompts } = JSON.parse(stdout) as Report
  assert.is(interrupted, false)
  assert.is(verdict, stats.verdict)
  assert.equal(
    prompts.map(({ line, same }) => [line, same]),
    [
      [1, true],
      [2, true],
    ],
  )
  // Whatever the seeds are: a text may end before its tenth token.
  const tokens = prompts.reduce((sum, prompt) => sum + prompt.tokens, 0)
  assert.ok(tokens >= 2 && tokens <= 20, `${tokens} tokens`)
  assert.is(stats.tokens, tokens)
  assert.is(plain?.tokens, tokens)
  assert.is(plain?.passes, tokens)
  assert.ok(Math.abs(medians.speedUp - (prompts[0].speedUp! + prompts[1].speedUp!) / 2) < 1e-9)
  const { proposed, accepted, ranks } = stats.perDrafter.tree
  assert.is(
    ranks.reduce((sum, rank) => sum + rank.accepted, 0),
    accepted,
  )
  assert.is(stats.nodesPerPass, proposed / stats.passes)
})

test('prompts may come from stdin', async () => {
  const { code, stdout, stderr } = await bench('-', ['-n', '4'], { input: 'She said\n' })
  assert.is(code, 0, stderr)
  assert.match(stdout, /^ +1 +4 /m)
})

test('mistakes are told before anything is loaded', async () => {
  const cases: [string[], number, RegExp][] = [
    [[...BASE], 2, /--prompts FILE is missing/],
    [[...BASE, '--prompts', join(scratch, 'no-such-file')], 2, /no-such-file is not there/],
    [[...BASE, '--prompts', scratch], 2, /is a directory/],
    [[...BASE, '--prompts', file('empty.txt', '\n')], 1, /empty\.txt has no prompts.*\[INVALID_INPUT\]/],
    [[...BASE, '--prompts', file('bad.jsonl', '{"prompt": "a"}\n{')], 1, /bad\.jsonl, line 2 is not JSON/],
    [[...BASE, '--prompts', TWO, '--nodes', '0'], 2, /nothing guesses here; leave out --nodes 0/],
    [[...BASE, '--prompts', TWO, '--draft', 'none'], 2, /nothing guesses here/],
  ]
  for (const [args, expected, message] of cases) {
    const { code, stdout, stderr } = await coppice(args)
    assert.is(code, expected, stderr)
    assert.match(stderr, message)
    assert.is(stdout, '')
  }
})

test('a prompt that cannot be written on from is told by its line', async () => {
  const { code, stdout, stderr } = await bench(file('long.txt', `x\n${'word '.repeat(300)}\n`), ['-n', '4'])
  assert.is(code, 1)
  assert.match(stderr, /the prompt of line 2: .*\[CONTEXT_OVERFLOW\]/)
  assert.is(stdout, '')
})

test('Ctrl-C shows what there is and exits with 130', async () => {
  // Long enough to be interrupted within the first half.
  let killed = false
  const many = file('many.txt', 'She said that\n'.repeat(400))
  const { code, stdout, stderr } = await bench(many, ['-n', '100', '--ignore-eos', '--json'], {
    onStderr: (_, child) => {
      if (!killed) child.kill('SIGINT')
      killed = true
    },
  })
  assert.is(code, 130, stderr)
  const { interrupted, prompts, medians, verdict } = JSON.parse(stdout) as Report
  assert.is(interrupted, true)
  assert.ok(prompts.length > 0 && prompts.length < 400)
  assert.ok(prompts.every(({ plain, same }) => plain === undefined && same === undefined))
  assert.not('speedUp' in medians)
  assert.type(verdict, 'string')
})

test.run()
