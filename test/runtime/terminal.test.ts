import { spawn, spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { coloursAllowed, displayWidth, fitColumns, ProgressLine, type TextOutput } from '../../src/runtime/terminal.ts'
import { selfCommand } from './self-command.ts'

const test = suite('terminal')

class Collector implements TextOutput {
  text = ''
  readonly isTerminal: boolean
  columns: number

  constructor(isTerminal: boolean, columns = 80) {
    this.isTerminal = isTerminal
    this.columns = columns
  }

  write(text: string): void {
    this.text += text
  }

  /** What a person sees in the last line: its last drawing. */
  get visible(): string {
    return this.text.split('\r\x1b[2K').at(-1) ?? ''
  }
}

const program = fileURLToPath(new URL('./terminal-program.js', import.meta.url))
const environment = (extra: Record<string, string> = {}): NodeJS.ProcessEnv => {
  const { NO_COLOR, FORCE_COLOR, COLUMNS, ...rest } = process.env
  return { ...rest, ...extra }
}

function run(mode: string, input = '', extra: Record<string, string> = {}) {
  const [binary, ...args] = selfCommand(program, mode)
  return spawnSync(binary, args, { encoding: 'utf8', input, env: environment(extra), timeout: 60_000, maxBuffer: 1e8 })
}

test('everything written reaches the reader of a pipe in order, although the process ends at once', () => {
  const { stdout, stderr, status } = run('write')
  assert.is(stdout, Array.from({ length: 20_000 }, (_, i) => `line ${i} äöü\n`).join(''))
  assert.is(stderr, 'written\n')
  assert.is(status, 3)
})

test('a reader that goes away ends the process without a word', async () => {
  const [binary, ...args] = selfCommand(program, 'flood')
  const child = spawn(binary, args, { env: environment(), stdio: ['ignore', 'pipe', 'pipe'] })
  let complaint = ''
  child.stderr.on('data', (chunk) => {
    complaint += chunk
  })
  const ended = new Promise((resolve) => child.once('close', (code, signal) => resolve([code, signal])))
  await new Promise((resolve) => child.stdout.once('data', resolve))
  child.stdout.destroy()
  assert.equal(await ended, [0, null])
  assert.is(complaint, '')
})

test('stdin is read to its end as UTF-8, whatever its length', () => {
  const text = `Zwölf Boxkämpfer, 日本語 🙂\n${'x'.repeat(300_000)}\n`
  const { stdout, status } = run('read', text)
  assert.equal(JSON.parse(stdout), { text, terminal: false })
  assert.is(status, 4)
})

test('no stdin is an empty stdin', () => {
  const [binary, ...args] = selfCommand(program, 'read')
  const { stdout } = spawnSync(binary, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] })
  assert.equal(JSON.parse(stdout), { text: '', terminal: false })
})

test('a pipe is no terminal: 80 columns unless told otherwise, and no colours', () => {
  assert.equal(JSON.parse(run('describe').stdout), { terminal: false, columns: 80, colours: false })
  assert.is(JSON.parse(run('describe', '', { COLUMNS: '40' }).stdout).columns, 40)
  assert.is(JSON.parse(run('describe', '', { COLUMNS: 'wide' }).stdout).columns, 80)
  assert.is(JSON.parse(run('describe', '', { FORCE_COLOR: '1' }).stdout).colours, true)
})

test('colours: FORCE_COLOR, then NO_COLOR, then a dumb terminal, then whether it is a terminal', () => {
  const allowed = (isTerminal: boolean, variables: Record<string, string>): boolean =>
    coloursAllowed(new Collector(isTerminal), (name) => variables[name])
  assert.is(allowed(true, {}), true)
  assert.is(allowed(false, {}), false)
  assert.is(allowed(true, { NO_COLOR: '1' }), false)
  assert.is(allowed(true, { TERM: 'dumb' }), false)
  assert.is(allowed(true, { TERM: 'xterm-256color' }), true)
  assert.is(allowed(false, { FORCE_COLOR: '1' }), true)
  assert.is(allowed(true, { FORCE_COLOR: '0' }), false)
  assert.is(allowed(false, { FORCE_COLOR: '1', NO_COLOR: '1', TERM: 'dumb' }), true)
})

if (process.platform !== 'win32') {
  for (const mode of ['obey', 'refuse']) {
    const what = mode === 'obey' ? 'the first Ctrl-C is a request' : 'the second Ctrl-C is an order'
    test(what, async () => {
      const [binary, ...args] = selfCommand(program, 'interrupt', mode)
      const child = spawn(binary, args, { env: environment(), stdio: ['ignore', 'pipe', 'inherit'] })
      const ended = new Promise((resolve) => child.once('exit', (code, signal) => resolve([code, signal])))
      let text = ''
      const said = (word: string): Promise<void> =>
        new Promise((resolve) => {
          const look = (chunk: Uint8Array | string): void => {
            text += chunk
            if (!text.includes(word)) return
            child.stdout.off('data', look)
            resolve()
          }
          child.stdout.on('data', look)
        })
      await said('ready')
      // Not child.kill: on Deno that decides what 'exit' will report, whatever the child makes of the signal.
      process.kill(child.pid!, 'SIGINT')
      await said('interrupted')
      if (mode === 'refuse') process.kill(child.pid!, 'SIGINT')
      assert.equal(await ended, mode === 'refuse' ? [null, 'SIGINT'] : [0, null])
    })
  }
}

test('on a terminal progress is one line that is rewritten, and gone at the end', () => {
  const output = new Collector(true)
  let time = 0
  const line = new ProgressLine({ output, clock: () => time, term: 'xterm' })
  line.update('layer 1 of 12')
  time = 100
  line.update('layer 2 of 12')
  assert.is(output.visible, 'layer 2 of 12')
  assert.not.match(output.text, '\n')
  line.clear()
  assert.is(output.visible, '')
  const before = output.text
  line.clear()
  assert.is(output.text, before)
})

test('a terminal is redrawn neither too often nor without a change', () => {
  const output = new Collector(true)
  let time = 0
  const line = new ProgressLine({ output, clock: () => time, term: 'xterm' })
  line.update('a')
  time = 10
  line.update('b')
  assert.is(output.visible, 'a')
  time = 1000
  const before = output.text
  line.update('a')
  assert.is(output.text, before)
  line.clear()
  line.update('c')
  assert.is(output.visible, 'c')
})

test('the line fits a terminal of 40 columns, and one that shrinks', () => {
  const output = new Collector(true, 40)
  let time = 0
  const line = new ProgressLine({ output, clock: () => time, term: 'xterm' })
  line.update('packing layer 3 of 12: model.layers.3.mlp.down_proj.weight')
  assert.is(output.visible, 'packing layer 3 of 12: model.layers.3.…')
  assert.is(displayWidth(output.visible), 39)
  output.columns = 10
  time = 100
  line.update('packing layer 4 of 12')
  assert.is(output.visible, 'packing …')
})

test('elsewhere progress is a plain line every few seconds, and nothing for short work', () => {
  for (const [isTerminal, term] of [
    [false, 'xterm'],
    [true, 'dumb'],
  ] as const) {
    const output = new Collector(isTerminal, 40)
    let time = 1e6
    const line = new ProgressLine({ output, clock: () => time, term })
    for (let i = 0; i < 120; i++) {
      line.update(`\x1b[1mstep\x1b[0m\n${i}`)
      time += 100
    }
    line.clear()
    assert.is(output.text, 'step 50\nstep 100\n')
  }
})

test('text is cut by columns, not by characters', () => {
  assert.is(fitColumns('abcdef', 6), 'abcdef')
  assert.is(fitColumns('abcdefg', 6), 'abcde…')
  assert.is(fitColumns('日本語日本', 10), '日本語日本')
  assert.is(fitColumns('日本語日本', 6), '日本…')
  assert.is(fitColumns('e\u0301e\u0301e\u0301', 3), 'e\u0301e\u0301e\u0301')
  assert.is(fitColumns('🙂🙂', 3), '🙂…')
  assert.is(fitColumns('abc', 0), '')
})

test.run()
