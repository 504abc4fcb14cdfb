/**
 * How fast does a checkpoint become a packed model, and how much memory does that take? Made-up bf16 weights in the
 * shapes of a real model are packed in every kind, each in a process of its own, and every byte of the result is
 * checked (`coppice verify`). Beside it, in the same run: what the disk takes in (written in 1 MiB pieces, then
 * synced, as packing does), and SHA-256. The checkpoint is in the page cache; all output is synced within its time.
 * Packing and checking work on as many threads as they find of use; source/core counts the seconds of all of them.
 *
 *     npm run bench:pack [-- --model 1.1B --layers 8 --kinds q8,q4 --rounds 3 --scratch DIR --json FILE]
 */
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { closeSync, fsyncSync, mkdirSync, mkdtempSync, openSync, rmSync, statfsSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { KINDS, type Kind } from '../src/tensor/layout.ts'
import { packModel } from '../src/weights/pack.ts'
import { verifyPacked } from '../src/weights/packed.ts'
import { parameterCount } from '../src/weights/tensor-names.ts'
import { root } from '../test/paths.ts'
import { atEnd } from './cleanup.ts'
import { median, number, Report, text, words } from './report.ts'
import { peakResidentBytes } from './resident.ts'
import { SHAPE_NAMES, SHAPES, withLayers } from './shapes.ts'
import { writeSyntheticCheckpoint } from './synthetic-checkpoint.ts'

const COLUMNS = [
  'kind',
  'source',
  'output',
  'disk writes',
  'output/disk',
  'source/disk',
  'source/core',
  'sha256',
  'verify',
  'peak',
]

const mega = (bytes: number): string => (bytes / 1e6).toFixed(0)

interface Packed {
  readonly packMs: number
  /** Of the processor, user and system: what packing takes of one core while others use the rest. */
  readonly cpuMs: number
  readonly verifyMs: number
  readonly bytes: number
  readonly peakBytes: number
}

const [mode, source, output, kind] = process.argv.slice(2)
if (mode === 'pack') packOnce(source, output, kind as Kind)
else await compare()

/** In a process of its own, since the peak of its memory is asked for. */
function packOnce(source: string, output: string, weights: Kind): void {
  const cpuBefore = process.cpuUsage()
  const begun = performance.now()
  const { directory, manifest } = packModel(source, output, { weights })
  const packed = performance.now()
  const { user, system } = process.cpuUsage(cpuBefore)
  const peakBytes = peakResidentBytes()
  const { problems } = verifyPacked(directory)
  if (problems.length > 0) throw new Error(JSON.stringify(problems))
  const bytes = [...manifest.layers, manifest.edges].reduce((sum, file) => sum + file.bytes, 0)
  const found: Packed = {
    packMs: packed - begun,
    cpuMs: (user + system) / 1e3,
    verifyMs: performance.now() - packed,
    bytes,
    peakBytes,
  }
  console.log(JSON.stringify(found))
}

async function compare(): Promise<void> {
  const [name] = words('--model', SHAPE_NAMES, ['1.1B'])
  const shape = SHAPES[name]
  const layers = number('--layers', Math.min(8, shape.layers))
  const rounds = number('--rounds', 3)
  const kinds = words<Kind>('--kinds', KINDS, KINDS)
  const place = text('--scratch', join(root, '.bench'))
  mkdirSync(place, { recursive: true })
  const scratch = mkdtempSync(join(place, 'pack-'))
  atEnd(() => rmSync(scratch, { recursive: true, force: true }))
  const plain = { theta: shape.rope.theta, scaling: { type: 'none' } } as const
  const config = { ...withLayers(shape, layers), rope: plain }
  const { bavail, bsize } = statfsSync(scratch)
  // Source, the largest output, and as much for the disk's own speed.
  const needed = 5 * 2 * parameterCount(config)
  if (bavail * bsize < needed) throw new Error(`${scratch} needs ${needed} free bytes; give fewer --layers`)

  const report = new Report('pack')
  const checkpoint = join(scratch, 'checkpoint')
  const sourceBytes = await writeSyntheticCheckpoint(checkpoint, config)
  report.note(`${name} with ${layers} layers: ${mega(sourceBytes)} MB of bf16 in the page cache, in ${scratch}`)
  report.table('medians; MB/s, peak in MB', COLUMNS)
  for (const kind of kinds) {
    const writes: number[] = []
    const hashes: number[] = []
    const runs: Packed[] = []
    for (let round = 0; round < rounds; round++) {
      const run = packInChild(checkpoint, join(scratch, 'packed'), kind)
      runs.push(run)
      writes.push(writeSpeed(join(scratch, 'written'), run.bytes))
      hashes.push(hashSpeed())
    }
    const packMs = median(runs.map((run) => run.packMs))
    const cpuMs = median(runs.map((run) => run.cpuMs))
    const verifyMs = median(runs.map((run) => run.verifyMs))
    const { bytes } = runs[0]
    const figures = {
      kind,
      sourceBytes,
      bytes,
      sourceSpeed: sourceBytes / packMs / 1e3,
      outputSpeed: bytes / packMs / 1e3,
      /** Per second of processor time. */
      sourcePerCore: sourceBytes / cpuMs / 1e3,
      writeSpeed: median(writes),
      sha256Speed: median(hashes),
      verifySpeed: bytes / verifyMs / 1e3,
      peakBytes: Math.max(...runs.map((run) => run.peakBytes)),
    }
    report.row(
      [
        kind,
        figures.sourceSpeed.toFixed(0),
        figures.outputSpeed.toFixed(0),
        figures.writeSpeed.toFixed(0),
        (figures.outputSpeed / figures.writeSpeed).toFixed(2),
        (figures.sourceSpeed / figures.writeSpeed).toFixed(2),
        figures.sourcePerCore.toFixed(0),
        figures.sha256Speed.toFixed(0),
        figures.verifySpeed.toFixed(0),
        mega(figures.peakBytes),
      ],
      { model: name, layers, ...figures },
    )
  }
  report.end()
}

function packInChild(source: string, output: string, kind: Kind): Packed {
  rmSync(output, { recursive: true, force: true })
  const child = spawnSync(process.execPath, [...process.execArgv, process.argv[1], 'pack', source, output, kind])
  if (child.status !== 0) throw new Error(`packing ${kind} failed: ${child.stderr.toString()}`)
  return JSON.parse(child.stdout.toString()) as Packed
}

/** MB/s of writing and syncing so many bytes. */
function writeSpeed(path: string, bytes: number): number {
  const block = new Uint8Array(1 << 20).fill(7)
  const file = openSync(path, 'w')
  const begun = performance.now()
  for (let left = bytes; left > 0; left -= block.length) writeSync(file, block, 0, Math.min(left, block.length))
  fsyncSync(file)
  const ms = performance.now() - begun
  closeSync(file)
  rmSync(path)
  return bytes / ms / 1e3
}

function hashSpeed(): number {
  const block = new Uint8Array(1 << 20).fill(7)
  const hash = createHash('sha256')
  const begun = performance.now()
  for (let i = 0; i < 128; i++) hash.update(block)
  hash.digest()
  return (128 * block.length) / (performance.now() - begun) / 1e3
}
