/**
 * How long does a packed model take to load? Each load is a process of its own, with the kernels' self-test cached and
 * the files in the page cache: to the end of `load()`, to the first layer's compute, and to the first token. Cases: the
 * embedded pair, with and without streaming, and a made-up model with 128 thousand tokens. Prints a table and JSON lines.
 *
 *     npm run bench:load [-- --runtimes node20,node24,deno,bun --rounds 9 --threads 2 --json FILE]
 *
 * Without --runtimes: the one that runs the benchmark. Others come with `npm run install:runtimes`.
 */
import { spawnSync } from 'node:child_process'
import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import type { LoadOptions } from '../src/index.ts'
import { packModel } from '../src/weights/pack.ts'
import { root } from '../test/paths.ts'
import { selfCommand } from '../test/runtime/self-command.ts'
import { syntheticTokenizer } from '../test/text/synthetic.ts'
import type { LoadTask, LoadTimes } from './load-child.ts'
import { defaultThreads, median, number, Report, text } from './report.ts'
import { SHAPES } from './shapes.ts'
import { writeSyntheticModel } from './synthetic-files.ts'

const rounds = number('--rounds', 9)
const threads = number('--threads', Math.max(...defaultThreads()))
const named = text('--runtimes', '')
const VOCABULARY = 128_000
const TIMES = ['imported', 'ready', 'compute', 'token', 'processor'] as const
/** Holds the draft and what is fixed, and streams most of the target. */
const STREAMING_BUDGET = '22MB'

const child = fileURLToPath(new URL('./load-child.js', import.meta.url))
const directory = join(root, '.bench', 'load')
const { runtimeCommand, runtimeEnvironment } = await import(pathToFileURL(join(root, 'scripts', 'runtimes.mjs')).href)

/** How to run a script on a runtime. */
const commands: readonly (readonly string[])[] =
  named === '' ? [selfCommand(child)] : named.split(',').map((name) => [...runtimeCommand(name), child])

const cases: Readonly<Record<string, LoadTask>> = await prepareCases()
try {
  const report = new Report('load')
  report.table(`median (least) of ${rounds} loads in ms, ${threads} threads`, [
    '       runtime',
    '              model',
    '     import',
    '      load()',
    'first layer',
    'first token',
    ' processor',
    'resident MB',
  ])
  for (const [command, ...args] of commands) {
    // The first of each fills the caches; then they take turns, so that a busy machine disturbs all alike.
    const runs = Array.from({ length: rounds + 1 }, () =>
      Object.entries(cases).map(([name, task]) => ({ name, times: measure(command, [...args, JSON.stringify(task)]) })),
    ).slice(1)
    for (const name of Object.keys(cases)) {
      const all = runs.flatMap((run) => run.filter((one) => one.name === name).map(({ times }) => times))
      const values = (key: Exclude<keyof LoadTimes, 'runtime'>): number[] => all.map((times) => times[key])
      const shown = (key: (typeof TIMES)[number]): string =>
        `${median(values(key)).toFixed(0)} (${Math.min(...values(key)).toFixed(0)})`
      const figures = Object.fromEntries(
        ([...TIMES, 'resident'] as const).map((key) => [
          key,
          { median: median(values(key)), least: Math.min(...values(key)) },
        ]),
      )
      report.row([all[0].runtime, name, ...TIMES.map(shown), (median(values('resident')) / 1e6).toFixed(0)], {
        model: name,
        threads,
        rounds,
        loadedBy: all[0].runtime,
        ...figures,
      })
    }
  }
  report.end()
} finally {
  rmSync(directory, { recursive: true })
}

function measure(command: string, args: readonly string[]): LoadTimes {
  const { status, stdout, stderr } = spawnSync(command, args, {
    encoding: 'utf8',
    cwd: root,
    env: { ...runtimeEnvironment(), COPPICE_CACHE: join(directory, 'cache') },
    timeout: 60_000,
  })
  if (status !== 0) throw new Error(`${command} ${args.join(' ')} ended with ${status}: ${stderr}`)
  return JSON.parse(stdout.trim().split('\n').at(-1)!) as LoadTimes
}

/** Packs what is loaded, so that no load packs. */
async function prepareCases(): Promise<Record<string, LoadTask>> {
  rmSync(directory, { recursive: true, force: true })
  const pack = (name: string): string =>
    packModel(join(root, 'models', name), join(directory, name), { weights: 'f32' }).directory
  const large = join(directory, 'large')
  const windows = [0, 0, 0, 0]
  const sizes = { vocabulary: VOCABULARY, hidden: 64, layers: windows.length, intermediate: 192, windows }
  await writeSyntheticModel(large, { ...SHAPES['135M'], ...sizes }, 'q8')
  writeFileSync(join(large, 'tokenizer.json'), syntheticTokenizer(VOCABULARY))
  const model = pack('target')
  const options: LoadOptions = { threads, context: 512, draft: pack('draft') }
  return {
    'pair, resident': { model, options },
    'pair, streaming': { model, options: { ...options, memory: STREAMING_BUDGET } },
    '128k tokens': { model: large, options: { threads, context: 512 } },
  }
}
