import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { root } from '../paths.ts'
import { coppice } from './cli-process.ts'

const COMMANDS = ['run', 'bench', 'pack', 'verify', 'inspect', 'plan', 'logits', 'drafter inspect', 'drafter warm']
const widest = (text: string): number => Math.max(...text.split('\n').map((line) => line.length))

const test = suite('coppice --help')

test('the overview names every command and every line fits in 40 columns', async () => {
  for (const args of [['--help'], ['-h'], ['help']]) {
    const { code, stdout } = await coppice(args, { environment: { COLUMNS: '40' } })
    assert.is(code, 0)
    for (const command of COMMANDS) assert.match(stdout, new RegExp(`^ +${command}\\b`, 'm'))
    assert.ok(widest(stdout) <= 40, stdout)
  }
})

test('without a command the overview is shown and the exit code says that something is missing', async () => {
  const { code, stdout, stderr } = await coppice([])
  assert.is(code, 2)
  assert.match(stdout + stderr, 'coppice COMMAND')
})

for (const command of COMMANDS) {
  test(`${command} --help explains every flag, gives examples, and fits in 40 and 80 columns`, async () => {
    for (const columns of [40, 80]) {
      const { code, stdout } = await coppice([...command.split(' '), '--help'], {
        environment: { COLUMNS: String(columns) },
      })
      assert.is(code, 0)
      assert.ok(widest(stdout) <= columns, stdout)
      assert.match(stdout, `Usage: coppice ${command}`)
      assert.match(stdout, '--help')
      assert.match(stdout, 'Examples:')
    }
  })
}

test('a word that several commands begin with shows these, and asks for the next one', async () => {
  const shown = await coppice(['drafter', '--help'], { environment: { COLUMNS: '40' } })
  assert.is(shown.code, 0)
  assert.match(shown.stdout, 'drafter inspect')
  assert.match(shown.stdout, 'drafter warm')
  assert.not.match(shown.stdout, 'bench')
  for (const args of [['drafter'], ['drafter', 'walk']]) {
    const { code, stderr } = await coppice(args)
    assert.is(code, 2)
    assert.match(stderr, `there is no command "${args.join(' ')}"; there are drafter inspect, drafter warm`)
  }
})

test('run has the flags that users of other engines know', async () => {
  const { stdout } = await coppice(['run', '--help'])
  for (const flag of [
    ...['--draft', '--nodes', '--memory', '--weights', '--threads', '--temp', '--top-k', '--top-p', '--min-p'],
    ...['--drafter', '--drafter-state', '--repeat-penalty', '--seed', '-n', '--ctx-size', '--json', '--help'],
  ]) {
    assert.match(stdout, flag)
  }
})

test('--version tells the version of the package', async () => {
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string }
  for (const flag of ['--version', '-V']) assert.match((await coppice([flag])).stdout, version)
})

test.run()
