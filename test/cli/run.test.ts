import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { Completion, ModelPlan, Stats } from '../../src/index.ts'
import { DRAFT, TARGET } from '../e2e/models.ts'
import { openInline, scratch } from '../engine/harness.ts'
import { coppice } from './cli-process.ts'

const PROMPT = 'The old house stood at the end of the lane, and'
const BASE = ['--weights', 'q8', '--ctx-size', '256', '--threads', '1', '--nodes', '12']
const RUN = ['run', ...BASE, 'embedded', PROMPT, '--temp', '0', '-n', '24']
const ESCAPE = '\u001b'

const test = suite('coppice run')
let text = ''

test.before(() => {
  text = openInline(TARGET, { weights: 'q8', draft: 'none', context: 256 }).generate(PROMPT, {
    temperature: 0,
    maxTokens: 24,
  }).text
})

test('the text goes to stdout, what it cost to stderr, without escape codes', async () => {
  const { code, stdout, stderr } = await coppice(RUN)
  assert.is(code, 0, stderr)
  assert.is(stdout, `${text}\n`)
  assert.not.match(stdout + stderr, ESCAPE)
  assert.match(stderr, /24 tokens in \d+ passes: \d+\.\d\d tokens per pass/)
  assert.match(stderr, /drafter tree: \d+ of \d+ guesses accepted/)
  assert.match(stderr, /resident/)
  assert.match(stderr, /trees: \d+\.\d guesses per pass; passes by depth \d+:\d+/)
  assert.match(stderr, /accepted by rank of tree, in %: 1:\d+ 2:\d+/)
  assert.match(stderr, /\nverdict: resident: .*\d+\s+nodes/)
})

test('--json writes one object with the text, the statistics and the plan', async () => {
  const { code, stdout, stderr } = await coppice([...RUN, '--json'])
  assert.is(code, 0, stderr)
  const written = JSON.parse(stdout) as Completion & { plan: ModelPlan }
  assert.is(written.text, text)
  assert.is(written.tokens.length, 24)
  assert.is(written.finishReason, 'length')
  assert.ok(written.stats.passes > 0 && written.stats.passes < 24)
  const { passes, tokens, acceptedHistogram } = written.stats
  assert.is(tokens, 24)
  // Every pass adds one token of the target's own, but for the last, which the limit may cut.
  const accepted = acceptedHistogram.reduce((sum, count, guesses) => sum + count * guesses, 0)
  assert.ok([tokens - passes, tokens - passes + 1].includes(accepted))
  assert.is(written.plan.nodes, 12)
  assert.is(written.plan.context, 256)
})

test('the prompt may come from stdin, without the line break at its end', async () => {
  const piped = await coppice(['run', ...BASE, 'embedded', '--temp', '0', '-n', '24'], { input: `${PROMPT}\n` })
  assert.is(piped.code, 0, piped.stderr)
  assert.is(piped.stdout, `${text}\n`)
})

test('FORCE_COLOR tints accepted guesses green and changes nothing else; NO_COLOR does nothing here', async () => {
  const { stdout } = await coppice(RUN, { environment: { FORCE_COLOR: '1' } })
  const green = stdout.split(`${ESCAPE}[32m`).length - 1
  assert.ok(green > 0, 'something is green')
  assert.is(stdout.replaceAll(`${ESCAPE}[32m`, '').replaceAll(`${ESCAPE}[39m`, ''), `${text}\n`)
  assert.is(stdout.split(`${ESCAPE}[39m`).length - 1, green)
  const plain = await coppice(RUN, { environment: { NO_COLOR: '1' } })
  assert.is(plain.stdout, `${text}\n`)
})

test('the same seed writes the same text with and without a draft', async () => {
  const sampled = ['run', ...BASE, '--temp', '0.8', '--seed', '7', '-n', '16', 'embedded', PROMPT]
  const drafted = await coppice(sampled)
  const plain = await coppice([...sampled, '--nodes', '0'])
  assert.is(drafted.code, 0, drafted.stderr)
  assert.is(plain.stdout, drafted.stdout)
  assert.match(plain.stderr, /1\.00 tokens per pass/)
})

test('--verify residual writes a text of its own, which --compare does not call wrong; other rules are refused', async () => {
  const sampled = ['run', ...BASE, '--temp', '0.8', '--seed', '7', '-n', '16', 'embedded', PROMPT]
  const residual = await coppice([...sampled, '--verify', 'residual', '--compare'])
  assert.is(residual.code, 0, residual.stderr)
  assert.match(residual.stderr, /the two texts differ, as they may under the residual rule/)
  assert.not.match(residual.stdout, (await coppice(sampled)).stdout)
  const refused = await coppice([...sampled, '--verify', 'typical'])
  assert.is(refused.code, 2)
  assert.match(refused.stderr, /verify must be 'exact' or 'residual', not "typical"/)
})

test('a model and its draft may be given as paths', async () => {
  const { code, stdout, stderr } = await coppice([
    ...['run', ...BASE, TARGET, PROMPT, '--draft', DRAFT],
    ...['--temp', '0', '-n', '24'],
  ])
  assert.is(code, 0, stderr)
  assert.is(stdout, `${text}\n`)
})

test('--compare writes the text again without the draft and shows both costs', async () => {
  const { code, stdout, stderr } = await coppice([...RUN, '--compare'])
  assert.is(code, 0, stderr)
  assert.is(stdout, `${text}\n`)
  assert.match(stderr, /drafted +\d/)
  assert.match(stderr, /plain +1\.00/)
  assert.match(stderr, 'both wrote the same tokens')
  const json = await coppice([...RUN, '--compare', '--json'])
  assert.is((JSON.parse(json.stdout) as { plain: Stats }).plain.passes, 24)
})

test('--stop ends the text before the string, environment variables stand in for flags', async () => {
  const stop = text.slice(10, 14)
  const stopped = await coppice([...RUN, '--stop', stop])
  assert.is(stopped.stdout, `${text.slice(0, text.indexOf(stop))}\n`)
  const byVariable = await coppice(['run', ...BASE, 'embedded', PROMPT, '-n', '24'], {
    environment: { COPPICE_TEMP: '0', COPPICE_STOP: stop },
  })
  assert.is(byVariable.stdout, stopped.stdout)
})

test('a budget that is too small names the least that works, which then works, and a page less does not', async () => {
  const streamed = ['--weights', 'f32', '--ctx-size', '256', '--threads', '2', '--nodes', '12']
  const call = ['run', ...streamed, 'embedded', PROMPT, '--temp', '0', '-n', '4']
  const refused = await coppice([...call, '--memory', '5MB'])
  assert.is(refused.code, 1)
  assert.is(refused.stdout, '')
  assert.match(refused.stderr, /\[OUT_OF_BUDGET\]/)
  const least = Number(/at least (\d+) bytes/.exec(refused.stderr)![1])
  const works = await coppice([...call, '--memory', String(least)])
  assert.is(works.code, 0, works.stderr)
  assert.match(works.stderr, /8 of 8 layers( and the output\s+head)?\s+stream/)
  const page = await coppice([...call, '--memory', String(least - 65536)])
  assert.is(page.code, 1)
  assert.match(page.stderr, new RegExp(`at least ${least} bytes`))
})

test('mistakes end with a message, a code and an exit code, and leave stdout empty', async () => {
  const cases: [string[], number, RegExp][] = [
    [['run', '/no/such/model', 'x'], 1, /no\/such\/model.*\[MODEL_NOT_FOUND\]/s],
    [['run', ...BASE, 'embedded', 'x', '--tmep', '1'], 2, /there is no flag --tmep; did you mean --temp\?/],
    [['run', ...BASE, 'embedded', 'x', '--sed', '1'], 2, /did you mean --seed\?/],
    [['run', ...BASE, 'embedded', 'x', '-n', 'many'], 2, /-n needs a whole number/],
    [['run', ...BASE, 'embedded', 'x', '--temp', '-1'], 2, /--temp|temperature must be/],
    [['run', ...BASE, 'embedded', 'x', 'y'], 2, /"y" is one argument too many/],
    [['run'], 2, /an argument is missing; usage: coppice run/],
    [['run', ...BASE, 'embedded', 'x', '-n', '900'], 1, /\[CONTEXT_OVERFLOW\]/],
    [['run', ...BASE, 'embedded', 'x', '--draft', '/no/draft'], 1, /no\/draft.*\[MODEL_NOT_FOUND\]/s],
    [['walk', 'embedded'], 2, /there is no command "walk"/],
  ]
  for (const [args, expected, message] of cases) {
    const { code, stdout, stderr } = await coppice(args)
    const what = `coppice ${args.join(' ')}: ${stderr}`
    assert.is(code, expected, what)
    assert.match(stderr, message, what)
    assert.is(stdout, '', what)
    assert.not.match(stderr, /\n +at /, what)
  }
})

test('an empty stdin is an empty prompt, which is refused', async () => {
  const { code, stderr } = await coppice(['run', ...BASE, 'embedded'])
  assert.is(code, 1)
  assert.match(stderr, /\[INVALID_INPUT\]/)
})

test('Ctrl-C in the middle ends the text, prints the statistics so far and exits with 130', async () => {
  const long = ['run', '--weights', 'f32', '--ctx-size', '1024', 'embedded', PROMPT, '--temp', '0', '--ignore-eos']
  let interrupted = false
  const { code, stdout, stderr } = await coppice([...long, '-n', '1000'], {
    onStdout: (_, child) => {
      if (!interrupted) child.kill('SIGINT')
      interrupted = true
    },
  })
  assert.is(code, 130, stderr)
  assert.ok(stdout.startsWith(text.slice(0, 4)))
  const [, tokens] = /(\d+) tokens in \d+ passes/.exec(stderr)!
  assert.ok(Number(tokens) > 0 && Number(tokens) < 1000, `${tokens} tokens`)
  assert.ok(stdout.endsWith('\n'))
})

interface TraceFile {
  readonly traceEvents: readonly { readonly cat?: string }[]
  readonly otherData: { readonly seconds: Stats['seconds'] }
}

const traceIn = (file: string): TraceFile => JSON.parse(readFileSync(file, 'utf8')) as TraceFile
const passesIn = ({ traceEvents }: TraceFile): number => traceEvents.filter(({ cat }) => cat === 'pass').length

test('--trace writes a timeline of the passes and leaves the rest of the output alone', async () => {
  const file = join(scratch, 'trace.json')
  const { code, stdout, stderr } = await coppice([...RUN, '--trace', file, '--json'])
  assert.is(code, 0, stderr)
  const written = JSON.parse(stdout) as Completion
  assert.is(written.text, text)
  assert.not('trace' in written)
  assert.is(passesIn(traceIn(file)), written.stats.passes)
  assert.equal(traceIn(file).otherData.seconds, written.stats.seconds)
})

test('--trace writes what there is when Ctrl-C ends the text', async () => {
  const file = join(scratch, 'interrupted.json')
  const long = ['run', '--weights', 'f32', '--ctx-size', '1024', 'embedded', PROMPT, '--temp', '0', '--ignore-eos']
  let interrupted = false
  const { code, stderr } = await coppice([...long, '-n', '1000', '--trace', file], {
    onStdout: (_, child) => {
      if (!interrupted) child.kill('SIGINT')
      interrupted = true
    },
  })
  assert.is(code, 130, stderr)
  assert.ok(passesIn(traceIn(file)) > 0)
  assert.not.ok(readdirSync(scratch).some((name) => name.endsWith('.tmp')))
})

test('--trace FILE that cannot be written is refused before anything is loaded', async () => {
  for (const file of [join(scratch, 'no-such-directory', 'trace.json'), scratch]) {
    const { code, stdout, stderr } = await coppice([...RUN, '--trace', file])
    assert.is(code, 2, stderr)
    assert.match(stderr, '--trace')
    assert.is(stdout, '')
  }
  assert.not.ok(existsSync(join(scratch, 'no-such-directory')))
})

test('a reader that leaves ends the command quietly', async () => {
  const { code, stderr } = await coppice([...RUN, '--ignore-eos', '-n', '200'], {
    onStdout: (_, child) => child.stdout?.destroy(),
  })
  assert.is(code, 0, stderr)
  assert.not.match(stderr, /EPIPE|\n +at /)
})

test.run()
