/**
 * Does a model of which only a part fits run at the disk's speed with compute hidden under it? Passes of packed models
 * of made-up weights, by the engine's own assembly in processes of their own, for several shares of the weights that
 * stay in memory: beside the disk alone, which fio times, beside the same passes with all weights resident, and beside
 * load-then-compute, and beside what overlap the machine allows at best (stream-beside.ts). Then plain decoding by
 * `load()` under a control group's memory limit, and llama.cpp under the same limit where it is given. Prints tables
 * and JSON lines.
 *
 *     npm run bench:stream [-- --shape 1.1B,8B --kind q4 --residency 100,50,25,0 --rows 1,8,32,64 --threads 2
 *                              --passes 10 --prefix 512 --tokens 16 --fio-gb 4 --io direct --scratch DIR --json FILE]
 */
import { mkdirSync, rmSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { EngineOptions } from '../src/engine/protocol.ts'
import type { ModelPlan } from '../src/engine/types.ts'
import { freeDiskBytes, type OpenMode, refusalOfDirectReads } from '../src/runtime/files.ts'
import { cores } from '../src/runtime/platform.ts'
import { formatBytes } from '../src/runtime/sizes.ts'
import { KINDS, type Kind } from '../src/tensor/layout.ts'
import type { ModelConfig } from '../src/weights/model-config.ts'
import { EDGES_NAME, layerFileName } from '../src/weights/packed-layout.ts'
import { root } from '../test/paths.ts'
import { selfCommand } from '../test/runtime/self-command.ts'
import { runLimited } from './cgroup.ts'
import { atEnd } from './cleanup.ts'
import { betterDepth, describeDisk, dropCaches, type FioSpeed, fioSpeeds } from './disk.ts'
import { findLlama, type Llama, readAhead, runLlama, SMALL_READ_AHEAD, setReadAhead } from './llama.ts'
import { isInstalled, run } from './processes.ts'
import { median, number, numbers, Report, ratio, text, words } from './report.ts'
import { SHAPE_NAMES, SHAPES, type ShapeName, withLayers } from './shapes.ts'
import { type Beside, measureBeside, possibleMs } from './stream-beside.ts'
import { Compute } from './stream-compute.ts'
import type { DecodeAnswer, DecodeRequest } from './stream-decode.ts'
import { freeMemory, planOf, type StreamModel } from './stream-model.ts'
import { type PassesAnswer, PassProcess } from './stream-process.ts'
import { syntheticBytes, writeSyntheticModel } from './synthetic-files.ts'

const kind = words<Kind>('--kind', KINDS, ['q4'])[0]
const shapes = words('--shape', SHAPE_NAMES, ['1.1B', '8B'])
const residencies = numbers('--residency', [100, 50, 25, 0], 0)
const rowCounts = numbers('--rows', [1, 8, 32, 64])
const threads = number('--threads', Math.min(cores(), 8))
const passes = number('--passes', 10)
const prefix = number('--prefix', 512)
const tokens = number('--tokens', 16)
const fioBytes = number('--fio-gb', 4) * 1e9
const io = words<OpenMode>('--io', ['direct', 'buffered'], ['direct'])[0]
const scratch = text('--scratch', join(root, '.bench'))
/** As the engine has them by default. */
const MOST_ROWS = 64
if (Math.max(...rowCounts) > MOST_ROWS) throw new Error(`--rows: a pass takes ${MOST_ROWS} rows at the most`)

/** All contestants have their turn in each round, so that a disturbance of the machine does not hit one alone. */
const ROUNDS = 2
/** One round must do where a pass takes longer. */
const LONG_PASS_MS = 60_000
/** What stays free on the disk. */
const DISK_RESERVE = 512e6
/** A model of fewer layers would be all head. */
const LEAST_LAYERS = 4
/** What a process may take besides the budget and the tokenizer. */
const BESIDES_ALLOWED = 120e6
const DECODE_TIMEOUT_MS = 1_800_000
/** Files whose sizes differ by more do not hold the same weights in a comparable form. */
const COMPARABLE_BYTES = 0.1

const report = new Report('stream')
mkdirSync(scratch, { recursive: true })
const disk = describeDisk(scratch)
report.note(`${disk.device}, ${disk.fileSystem}`)
if (disk.fileSystem === 'tmpfs')
  report.note('NOT A DISK: tmpfs keeps files in memory; name another place with --scratch')
const hasFio = await isInstalled('fio')
if (!hasFio) {
  report.note(
    'MISSING: fio, so the disk alone and every figure that refers to it; install it (apt-get install fio, brew install fio)',
  )
}
const llama = findLlama()
if (typeof llama === 'string') report.note(`WITHOUT llama.cpp: ${llama}`)

/** What all cases of a model share. */
interface Case {
  readonly shape: ShapeName
  readonly layers: number
  readonly model: StreamModel
  readonly files: readonly string[]
  readonly mode: OpenMode
}

for (const shape of shapes) {
  const config = scaled(shape)
  if (config === undefined) continue
  const directory = join(scratch, `stream-${shape}-${kind}`)
  const remove = atEnd(() => rmSync(directory, { recursive: true, force: true }))
  report.note(`\nwriting ${shape} in ${kind}, ${formatBytes(syntheticBytes(config, kind))}, to ${directory}`)
  await writeSyntheticModel(directory, config, kind, 'written')
  const files = [...Array.from({ length: config.layers }, (_, i) => layerFileName(i)), EDGES_NAME]
  const paths = files.map((file) => join(directory, file))
  const mode = io === 'direct' && refusalOfDirectReads(paths[0]) === undefined ? 'direct' : 'buffered'
  report.note(coldness(mode))
  const model = { directory, options: { draft: 'none', threads, io: mode, context: prefix } satisfies EngineOptions }
  const all = { shape, layers: config.layers, model, files: paths, mode } as const
  const plans = residencies.map((percent) => [percent, planOf(model, percent / 100)] as const)
  for (const [percent, plan] of plans) {
    if (typeof plan === 'string') report.note(`SKIPPED: ${percent} % of ${shape} resident: ${plan}`)
  }
  const possible = plans.filter((entry): entry is [number, ModelPlan] => typeof entry[1] !== 'string')
  await measureAllPasses(all, possible)
  await measureDecoding(all, possible)
  remove()
}
report.end()

/** The model's shape, with fewer layers where the disk has no room for all; undefined where it has none at all. */
function scaled(shape: ShapeName): ModelConfig | undefined {
  const config = SHAPES[shape]
  const bytesOf = (layers: number): number => syntheticBytes({ ...config, layers }, kind)
  const room = freeDiskBytes(scratch) - DISK_RESERVE
  if (bytesOf(config.layers) <= room) return config
  const layers = Math.floor((room - bytesOf(0)) / (bytesOf(1) - bytesOf(0)))
  const needed = `${shape} in ${kind} needs ${formatBytes(bytesOf(config.layers))}, ${scratch} has room for ${formatBytes(Math.max(0, room))}`
  if (layers < LEAST_LAYERS) {
    report.note(`\nSKIPPED: ${needed}; name another place with --scratch`)
    return undefined
  }
  report.note(`\nSCALED DOWN: ${needed}: ${layers} of ${config.layers} layers`)
  return withLayers(config, layers)
}

function coldness(mode: OpenMode): string {
  if (mode === 'direct') return 'cold reads: direct, past the page cache'
  const reason = io === 'direct' ? 'the file system refuses direct reads' : 'buffered, as asked for'
  return dropCaches()
    ? `cold reads: ${reason}; caches are dropped before every pass`
    : `NOT COLD: ${reason}, and caches cannot be dropped here (run as root); figures of the disk mean little`
}

async function measureAllPasses(all: Case, plans: readonly [number, ModelPlan][]): Promise<void> {
  const compute = new Compute(all.model, all.layers, prefix)
  report.note(compute.description)
  report.table(`${all.shape}, ${kind} weights, passes, ${prefix} positions before the rows, ${threads} threads`, [
    'resident',
    '  budget',
    'rows',
    'wall ms',
    'disk ms',
    'compute ms',
    'overlap',
    'possible',
    '  bound',
    'MB/s',
    'of fio',
    'load, then compute',
    'gain',
    'at best',
    'peak MB',
    'passes',
  ])
  for (const [percent, plan] of plans) await measurePasses(all, compute, percent, plan)
  for (const process of compute.processes) await process.close()
}

async function measurePasses(all: Case, compute: Compute, percent: number, plan: ModelPlan): Promise<void> {
  const { model } = all
  const streams = plan.streamedBytesPerPass > 0
  const request = { model, prefix }
  const ahead = new PassProcess('streaming', plan, { ...request, readAhead: true })
  const alternating = new PassProcess('load, then compute', plan, { ...request, readAhead: false })
  const own = streams ? [ahead, alternating] : [ahead]
  const processes = [...compute.processes, ...own]
  const missing = processes.filter(({ isOpen }) => !isOpen)
  const together = missing.reduce((sum, { bytes }) => sum + bytes, 0) <= freeMemory()
  if (!together) report.note('one process after the other: together they do not fit in memory')
  for (const rows of rowCounts) {
    const answers = new Map<PassProcess, PassesAnswer[]>(processes.map((process) => [process, []]))
    const speeds: FioSpeed[] = []
    for (let round = 0; round < ROUNDS; round++) {
      if (hasFio && streams) speeds.push(...(await fioSpeeds(all.files, all.mode === 'direct', fioBytes)))
      for (const process of processes) {
        // Streaming is what must be steady; the others tell as much in fewer passes.
        const count = Math.ceil(passes / ROUNDS / (process === ahead ? 1 : 2))
        answers.get(process)!.push(await process.passes({ rows, count, cold: all.mode === 'buffered' && streams }))
        if (!together) await process.close()
      }
      if (median(answers.get(ahead)![0].ms) > LONG_PASS_MS) break
    }
    const timesOf = (process: PassProcess): number[] => answers.get(process)!.flatMap(({ ms }) => ms)
    const fio = betterDepth(speeds)
    const [resident] = compute.processes
    const command = { rows, count: Math.ceil(passes / ROUNDS / 2), cold: false }
    const beside =
      fio !== undefined && all.mode === 'direct'
        ? await measureBeside(all.files, resident, command, median(timesOf(resident)), fio)
        : undefined
    if (!together) await resident.close()
    reportPasses(all, percent, plan, rows, {
      wall: timesOf(ahead),
      compute: compute.ms(compute.processes.map(timesOf)),
      alternating: streams ? median(timesOf(alternating)) : undefined,
      bytesPerPass: answers.get(ahead)![0].bytesPerPass,
      waitMs: median(answers.get(ahead)!.map(({ waitMsPerPass }) => waitMsPerPass)),
      fio,
      beside,
      logits: answers.get(ahead)![0].logits,
      peakBytes: ahead.peakBytes,
    })
    checkLogits(all, rows, compute.isWhole ? processes : own, answers)
  }
  for (const process of own) await process.close()
}

interface Times {
  /** Of each pass, in ms. */
  readonly wall: readonly number[]
  readonly compute: number
  readonly alternating: number | undefined
  readonly bytesPerPass: number
  readonly waitMs: number
  readonly fio: FioSpeed | undefined
  readonly beside: Beside | undefined
  /** Checksum of the last row's, to be compared between machines. */
  readonly logits: number
  readonly peakBytes: number
}

function reportPasses(all: Case, percent: number, plan: ModelPlan, rows: number, times: Times): void {
  const { shape, layers, mode } = all
  const { compute, alternating, bytesPerPass, fio, beside, peakBytes } = times
  const wall = median(times.wall)
  const streams = plan.streamedBytesPerPass > 0
  const diskMs = !streams ? 0 : fio === undefined ? undefined : (bytesPerPass * 1000) / fio.bytesPerSecond
  const speed = streams ? (bytesPerPass * 1000) / wall : undefined
  const longer = diskMs === undefined ? undefined : Math.max(diskMs, compute)
  const possible = diskMs === undefined || beside === undefined ? undefined : possibleMs(diskMs, compute, beside)
  const figures = {
    ...{ shape, kind, layers, threads, prefix, rows, percent, mode },
    ...{ device: disk.device, fileSystem: disk.fileSystem },
    residency: plan.residency,
    budgetBytes: plan.totalBytes,
    bytesPerPass,
    passes: times.wall.length,
    wallMsOfPasses: times.wall.map((ms) => Math.round(ms * 10) / 10),
    wallMs: wall,
    diskMs,
    computeMs: compute,
    waitMs: times.waitMs,
    overlap: longer === undefined ? undefined : wall / longer,
    computeBesideFio: beside?.compute,
    fioBesideCompute: beside?.disk,
    possibleMs: possible,
    overlapAtBest: longer === undefined || possible === undefined ? undefined : possible / longer,
    bytesPerSecond: speed,
    fioBytesPerSecond: fio?.bytesPerSecond,
    fioDepth: fio?.depth,
    shareOfFio: speed === undefined || fio === undefined ? undefined : speed / fio.bytesPerSecond,
    alternatingMs: alternating,
    gain: alternating === undefined ? undefined : alternating / wall,
    gainAtBest: longer === undefined || !streams ? undefined : (diskMs! + compute) / (possible ?? longer),
    logits: times.logits,
    peakBytes,
  }
  const ms = (value: number | undefined): string => (value === undefined ? '-' : value.toFixed(value < 100 ? 1 : 0))
  report.row(
    [
      `${(plan.residency * 100).toFixed(0)} %`,
      formatBytes(plan.totalBytes),
      String(rows),
      ms(wall),
      ms(diskMs),
      ms(compute),
      ratio(figures.overlap),
      ratio(figures.overlapAtBest),
      diskMs === undefined ? '-' : diskMs > compute ? 'disk' : 'compute',
      speed === undefined ? '-' : (speed / 1e6).toFixed(0),
      figures.shareOfFio?.toFixed(2) ?? '-',
      ms(alternating),
      ratio(figures.gain),
      ratio(figures.gainAtBest),
      (peakBytes / 1e6).toFixed(0),
      String(times.wall.length),
    ],
    figures,
  )
}

/** No budget and no order of reading may change a bit. */
function checkLogits(
  all: Case,
  rows: number,
  processes: readonly PassProcess[],
  answers: ReadonlyMap<PassProcess, readonly PassesAnswer[]>,
): void {
  const found = processes.flatMap((process) => answers.get(process)!.map(({ logits }) => ({ process, logits })))
  const different = found.find(({ logits }) => logits !== found[0].logits)
  if (different === undefined) return
  report.note(
    `DIFFERENT LOGITS: ${all.shape}, ${rows} rows: "${different.process.name}" against "${found[0].process.name}"`,
  )
  process.exitCode = 1
}

async function measureDecoding(all: Case, plans: readonly [number, ModelPlan][]): Promise<void> {
  const { shape, layers, model, mode } = all
  const fileBytes = all.files.reduce((sum, file) => sum + statSync(file).size, 0)
  report.table(
    `${shape}, ${kind} weights, plain decoding through load(), the process limited to its budget, 120 MB and the tokenizer`,
    ['resident', '  budget', '   limit', 'limited', 'tokens/s', 'read per token', 'peak MB', 'over budget MB'],
  )
  for (const [percent, plan] of plans) {
    const { totalBytes } = plan
    const limitBytes = totalBytes + BESIDES_ALLOWED + plan.process.tokenizer
    const request: DecodeRequest = {
      directory: model.directory,
      options: { ...model.options, memory: totalBytes },
      tokens,
    }
    const script = fileURLToPath(new URL('./stream-decode.js', import.meta.url))
    const command = selfCommand(script, JSON.stringify(request))
    if (mode === 'buffered') dropCaches()
    const limited = await runLimited(limitBytes, command, { timeoutMs: DECODE_TIMEOUT_MS })
    if (typeof limited === 'string') report.note(`NOT LIMITED: ${limited}`)
    const ended = typeof limited === 'string' ? await run(command, { timeoutMs: DECODE_TIMEOUT_MS }) : limited
    if (ended.status !== 0) {
      const reason = typeof limited !== 'string' && limited.outOfMemory ? 'out of memory' : `status ${ended.status}`
      report.note(`DIED (${reason}) at ${percent} % under ${formatBytes(limitBytes)}: ${ended.stderr}`)
      process.exitCode = 1
      continue
    }
    const answer = JSON.parse(ended.stdout) as DecodeAnswer
    const figures = {
      ...{
        shape,
        kind,
        layers,
        threads,
        percent,
        mode,
        residency: plan.residency,
        budgetBytes: totalBytes,
        limitBytes,
      },
      limited: typeof limited !== 'string',
      chargedBytes: typeof limited === 'string' ? undefined : limited.peakBytes,
      readBytes: ended.readBytes,
      ...answer,
    }
    report.row(
      [
        `${(plan.residency * 100).toFixed(0)} %`,
        formatBytes(totalBytes),
        formatBytes(limitBytes),
        figures.limited ? 'yes' : 'NO',
        answer.tokensPerSecond.toFixed(2),
        formatBytes(answer.bytesPerToken),
        (answer.peakBytes / 1e6).toFixed(0),
        ((answer.peakBytes - totalBytes) / 1e6).toFixed(0),
      ],
      figures,
    )
    if (typeof llama !== 'string') await measureLlama(llama, limitBytes, answer.tokensPerSecond, fileBytes)
  }
}

/** @param bytesRatio size of llama.cpp's file over ours */
function comparison(speedRatio: number, bytesRatio: number): string {
  if (Math.abs(bytesRatio - 1) <= COMPARABLE_BYTES) return `; coppice has ${ratio(speedRatio)} of it`
  return `; NOT COMPARABLE: its file is ${bytesRatio.toFixed(2)} times the size of ours`
}

/** @param ours tokens per second @param ourBytes of our files */
async function measureLlama(setup: Llama, limitBytes: number, ours: number, ourBytes: number): Promise<void> {
  const ggufDisk = describeDisk(dirname(setup.gguf))
  const own = readAhead(ggufDisk.readAheadFile)
  for (const kilobytes of new Set([own, SMALL_READ_AHEAD])) {
    const undo = kilobytes === undefined || kilobytes === own ? () => {} : setReadAhead(ggufDisk, kilobytes)
    if (typeof undo === 'string') {
      report.note(`llama.cpp without a read-ahead of ${kilobytes} KiB: ${undo}`)
      continue
    }
    const speed = await runLlama(setup, limitBytes, threads, tokens)
    undo()
    if (typeof speed === 'string') {
      report.note(`llama.cpp could not run: ${speed}`)
      continue
    }
    const { tokensPerSecond, end, readBytes } = speed
    report.line({ llama: setup.gguf, ggufBytes: setup.bytes, limitBytes, readAheadKiB: kilobytes, threads, ...speed })
    const figure = tokensPerSecond === undefined ? end : `${tokensPerSecond.toFixed(2)} tokens/s`
    const read = readBytes === undefined ? 'an unknown number of bytes' : formatBytes(readBytes)
    const compared = tokensPerSecond === undefined ? '' : comparison(ours / tokensPerSecond, setup.bytes / ourBytes)
    report.note(
      `  llama.cpp, ${formatBytes(setup.bytes)} under ${formatBytes(limitBytes)}, read-ahead ${kilobytes ?? 'unknown'} KiB: ${figure}, read ${read}${compared}`,
    )
  }
}
