/**
 * Runs the compiled tests, each file in a process of its own under a watchdog.
 *
 *     node scripts/run-tests.mjs [--runtime node20|node24|deno|bun] ... [--build DIR] [--json FILE]
 *                                [--jobs N] [--timeout SECONDS] [FILTER ...]
 *
 * Several --runtime: one after the other. None: the runtime that runs this script. FILTER: part of a file's
 * path; several mean any of them. --json, or else the variable COPPICE_TEST_COUNTS, names a file for the counts.
 * A file that crashes, hangs, or runs no test counts as one failed test. Lines of a test's output that
 * begin with SKIP are repeated at the end.
 */
import { spawn, spawnSync } from 'node:child_process'
import { closeSync, existsSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join, relative } from 'node:path'
import { parseArgs, stripVTControlCharacters } from 'node:util'
import { root, runtimeCommand, runtimeEnvironment } from './runtimes.mjs'

const { values: flags, positionals: filters } = parseArgs({
  allowPositionals: true,
  options: {
    runtime: { type: 'string', multiple: true },
    build: { type: 'string', default: '.build' },
    json: { type: 'string', default: process.env.COPPICE_TEST_COUNTS },
    jobs: { type: 'string', default: '3' },
    timeout: { type: 'string', default: '180' },
  },
})

let commands
try {
  commands = (flags.runtime ?? [undefined]).map((runtime) => ({ runtime, command: runtimeCommand(runtime) }))
} catch (error) {
  console.error(error.message)
  process.exit(2)
}

/**
 * Run by the runtime of this script alone: benchmarks, which are programs for Node; what guesses are worth and what
 * drafters remember, and where memory lies, which is arithmetic; what is wrong with files that were read; help and
 * reports; what becomes of killed commands. That threads, memory, files and commands work with a runtime is the matter
 * of others (exactness-machines, memory, read-faults, run).
 */
const ONCE = [
  'test/bench/',
  'test/cli/bench',
  'test/cli/commands',
  'test/cli/drafter',
  'test/cli/help',
  'test/cli/kill',
  'test/cli/report',
  'test/e2e/quality',
  'test/engine/banks',
  'test/engine/damaged-files',
  'test/engine/drafter-',
  'test/engine/threads',
  'test/generate/exactness-long',
  'test/generate/residual',
  'test/speculate/acceptance',
  'test/speculate/drafters/',
  'test/speculate/planner',
  'test/speculate/residual',
  'test/speculate/sources/',
  'test/weights/pack-crash',
]
const timeoutMs = positive('timeout', flags.timeout) * 1000
const files = testFiles()
if (files.length === 0) {
  console.error(`no test file matches ${filters.join(' ') || 'test/**/*.test.ts'}`)
  process.exit(1)
}

const scratch = mkdtempSync(join(tmpdir(), 'coppice-tests-'))
const running = new Set()
// An interrupted run leaves no test process behind.
for (const signal of ['SIGINT', 'SIGTERM']) {
  process.on(signal, () => {
    for (const child of running) killTree(child)
    rmSync(scratch, { recursive: true, force: true })
    process.exit(130)
  })
}

const totals = { passed: 0, failed: 0, skipped: 0 }
const skipLines = []
const failedFiles = []
for (const { runtime, command } of commands) {
  const where = runtime === undefined ? '' : ` [${runtime}]`
  const queue = files.filter((file) => runtime === undefined || !ONCE.some((part) => file.startsWith(part)))
  const worker = async () => {
    for (let file = queue.shift(); file !== undefined; file = queue.shift()) {
      report(file, where, await run(file, command, runtime))
    }
  }
  await Promise.all(Array.from({ length: positive('jobs', flags.jobs) }, worker))
}
rmSync(scratch, { recursive: true, force: true })

for (const line of skipLines) console.log(line)
for (const line of failedFiles) console.log(`FAILED ${line}`)
if (flags.json !== undefined) writeFileSync(flags.json, `${JSON.stringify(totals)}\n`)
console.log(`${totals.passed} passed, ${totals.failed} failed, ${totals.skipped} skipped`)
process.exitCode = totals.failed > 0 ? 1 : 0

/** Sources decide what runs: a compiled test whose source is gone is not run, one that was not compiled fails. */
function testFiles() {
  const found = readdirSync(join(root, 'test'), { recursive: true, encoding: 'utf8' })
    .map((file) => file.replaceAll('\\', '/'))
    .filter((file) => file.endsWith('.test.ts') && !file.startsWith('fixtures/'))
    .map((file) => `test/${file}`)
    .filter((file) => filters.length === 0 || filters.some((filter) => file.includes(filter)))
  // The long ones first, so that none of them runs alone at the end.
  const rank = (file) => (file.startsWith('test/e2e/') ? 0 : file.startsWith('test/engine/') ? 1 : 2)
  return found.sort((a, b) => rank(a) - rank(b) || (a < b ? -1 : 1))
}

/** @returns what happened: the process's end, its output, how long it took. */
function run(file, command, runtime) {
  const script = join(root, flags.build, file.replace(/\.ts$/, '.js'))
  if (!existsSync(script)) {
    const hint = `${relative(root, script)} is missing; run: npm run build:test`
    return { end: 'was not compiled', output: hint, seconds: 0 }
  }
  const name = file.replaceAll('/', '-')
  const outputPath = join(scratch, `${name}.log`)
  // One file for both streams keeps their lines in order, and is whole even when the process is killed.
  const output = openSync(outputPath, 'w')
  const started = performance.now()
  const environment = { ...runtimeEnvironment(), NO_COLOR: '1', COPPICE_CACHE: join(scratch, `${name}-cache`) }
  // Some tests are shorter where another runtime has run all of them.
  if (runtime !== undefined) environment.COPPICE_TEST_RUNTIME = runtime
  delete environment.FORCE_COLOR
  const child = spawn(command[0], [...command.slice(1), script], {
    cwd: root,
    env: environment,
    stdio: ['ignore', output, output],
    // A process group of its own, so that the watchdog reaches what the test has started.
    detached: process.platform !== 'win32',
  })
  closeSync(output)
  running.add(child)
  return new Promise((resolve) => {
    let end = ''
    const watchdog = setTimeout(() => {
      end = `was killed after ${flags.timeout} s`
      killTree(child)
    }, timeoutMs)
    const finish = (how) => {
      clearTimeout(watchdog)
      running.delete(child)
      // Whatever a test leaves running would disturb the next ones.
      killTree(child)
      const text = readFileSync(outputPath, 'utf8')
      rmSync(join(scratch, `${name}-cache`), { recursive: true, force: true })
      resolve({ end: end || how, output: text, seconds: (performance.now() - started) / 1000 })
    }
    child.once('error', (error) => finish(`could not start: ${error.message}`))
    child.once('exit', (code, signal) => finish(code === 0 ? '' : signal ? `died of ${signal}` : `exited with ${code}`))
  })
}

function report(file, where, { end, output, seconds }) {
  const plain = stripVTControlCharacters(output)
  const [total, passed, skipped] = ['Total', 'Passed', 'Skipped'].map((word) => summary(plain, word))
  let failed = total - passed
  const reasons = []
  if (end !== '' && (failed === 0 || !end.startsWith('exited'))) {
    failed++
    reasons.push(end)
  } else if (total + skipped === 0) {
    failed++
    reasons.push('ran no test')
  }
  totals.passed += passed
  totals.failed += failed
  totals.skipped += skipped
  const counts = `${passed} passed${failed > 0 ? `, ${failed} failed` : ''}${skipped > 0 ? `, ${skipped} skipped` : ''}`
  const line = `${file}${where}: ${[counts, ...reasons].join(', ')}`
  console.log(`${failed > 0 ? 'FAIL' : 'ok  '} ${line} (${seconds.toFixed(1)} s)`)
  if (failed > 0) {
    failedFiles.push(line)
    console.log(output.trimEnd().replace(/^/gm, '     '))
  }
  const skips = plain.split('\n').filter((text) => text.startsWith('SKIP'))
  if (skipped > 0 && skips.length === 0) skips.push('SKIP without a reason given')
  for (const text of skips) skipLines.push(`${text} [${basename(file)}]${where}`)
}

/** A number of uvu's closing summary; 0 when it never came. */
function summary(output, word) {
  const match = output.match(new RegExp(`^  ${word}: +(\\d+)$`, 'm'))
  return match === null ? 0 : Number(match[1])
}

function killTree(child) {
  if (process.platform === 'win32') {
    spawnSync('taskkill', ['/pid', String(child.pid), '/T', '/F'], { stdio: 'ignore' })
    return
  }
  try {
    if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL')
  } catch (error) {
    if (error.code !== 'ESRCH') throw error
  }
}

function positive(flag, text) {
  const value = Number(text)
  if (!(value > 0)) throw new Error(`--${flag} must be a number above 0, not "${text}"`)
  return value
}
