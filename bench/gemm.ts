/**
 * How fast are the matrix products? All matrices of a pass through a model, each layer with weights of its own, so
 * that they come from memory and not from a cache. Beside them, in the same run: the memory's read bandwidth,
 * onnxruntime-node and onnxruntime-web (`npm run install:bench`), and the scalar twins of the tests. Prints a table
 * and JSON lines.
 * onnxruntime-web is called once, on fewer layers: its figure is an upper bound of its time.
 *
 *     npm run bench:gemm [-- --shape 1.1B --kinds q4,q8 --rows 1,8,9,32,33,64 --threads 1,2 --ms 150
 *                            --baselines node,web --json FILE]
 *
 * `ms` is the time for the whole model. Below 8 rows, where bandwidth counts, 640 MB of weights are multiplied or the
 * whole model; from 8 rows on, where arithmetic does, fewer layers, and the time is scaled.
 */
import { Arena, createMemory } from '../src/tensor/arena.ts'
import { KINDS, type Kind, matrixBytes } from '../src/tensor/layout.ts'
import type { ModelConfig } from '../src/weights/model-config.ts'
import { quantisationOf } from '../src/weights/packed-layout.ts'
import { randomFloats } from '../test/tensor/harness.ts'
import { gemmF32, gemmQuantised, quantise } from '../test/tensor/twins/gemm.ts'
import { disagreement, TOLERANCE } from './agreement.ts'
import { allocateMatrices, headOutputs, layerBytes, MatrixPass, passBytes, readJob, Team } from './harness.ts'
import { chainModel, isOnnxKind, madeUpMatrix, type OnnxKind } from './onnx.ts'
import { Baseline, type BaselineName, type LoadedChain } from './onnxruntime.ts'
import { type Contestant, defaultThreads, number, numbers, Report, race, ratio, words } from './report.ts'
import { layerMatrices, SHAPE_NAMES, SHAPES, type ShapeName } from './shapes.ts'

const kinds = words<Kind>('--kinds', KINDS, ['q4', 'q8'])
const rowCounts = numbers('--rows', [1, 8, 9, 32, 33, 64])
const threadCounts = numbers('--threads', defaultThreads())
const shapes = words('--shape', SHAPE_NAMES, ['1.1B'])
const wanted = words<BaselineName | 'none'>('--baselines', ['node', 'web', 'none'], ['node', 'web'])
const time = number('--ms', 150)

/** Below this many rows the weights' bytes decide, above their number. */
const MANY_ROWS = 8
/** Weights for few rows: no more than these unless the model is small, no fewer than the second. */
const FEW_ROWS_BYTES = 640e6
const LEAST_BYTES = 256e6
const MANY_ROWS_BYTES = 96e6
/** Outputs that the twin computes. */
const TWIN_OUTPUTS = 16
/** The scalar twins' speed does not depend on more rows than this. */
const TWIN_ROWS = 8

/** accuracy_level of MatMulNBits: products in f32 or in int8. For few rows f32 was always far slower. */
type Level = 0 | 4

const report = new Report('gemm')
const baselines: Baseline[] = []
for (const name of ['node', 'web'] as const) {
  if (!wanted.includes(name)) continue
  const baseline = await Baseline.open(name)
  if (typeof baseline === 'string') report.note(baseline)
  else baselines.push(baseline)
}
for (const kind of kinds) await checkAgreement(kind)
for (const shape of shapes) for (const kind of kinds) await measure(shape, kind)
report.end()

async function checkAgreement(kind: Kind): Promise<void> {
  if (!isOnnxKind(kind)) return
  for (const baseline of baselines) {
    const found: string[] = []
    for (const level of levelsOf(baseline, kind)) {
      const difference = await disagreement(baseline, kind, level)
      if (!(difference < TOLERANCE)) {
        throw new Error(`${baseline.version} differs from ours by ${difference} (${kind}, ${levelName(level)})`)
      }
      found.push(`${(difference * 100).toFixed(2)} % (${levelName(level)})`)
    }
    report.note(`${baseline.version}, ${kind}: results differ from ours by at most ${found.join(', ')}`)
  }
}

/** The web build has no int8 products of its own and does the same for both. */
function levelsOf(baseline: Baseline, kind: OnnxKind): Level[] {
  if (kind === 'f32') return [0]
  return baseline.name === 'node' ? [4, 0] : [4]
}

function levelName(level: Level): string {
  return level === 4 ? 'int8' : 'f32'
}

interface Part {
  readonly pass: MatrixPass
  readonly layers: number
  /** The weights lie in one region from here on. */
  readonly pointer: number
  readonly few: boolean
  readonly rowCounts: readonly number[]
}

async function measure(shape: ShapeName, kind: Kind): Promise<void> {
  const config = SHAPES[shape]
  const edges = quantisationOf(kind).edges
  const perLayer = layerBytes(config, kind) + matrixBytes(edges, config.vocabulary, config.hidden) / config.layers
  const whole = config.layers * perLayer
  const fewBytes = Math.min(FEW_ROWS_BYTES, Math.max(LEAST_BYTES, whole))
  const sizes = [
    { few: true, layers: Math.max(1, Math.floor(fewBytes / perLayer)) },
    { few: false, layers: Math.ceil(MANY_ROWS_BYTES / perLayer) },
  ]
    .map((size) => ({ ...size, rowCounts: rowCounts.filter((rows) => rows < MANY_ROWS === size.few) }))
    .filter((size) => size.rowCounts.length > 0)
    .map((size) => ({ ...size, rows: Math.max(...size.rowCounts) }))
  const bytes = sizes.reduce((sum, size) => sum + passBytes(config, kind, size), 0)
  const arena = new Arena(createMemory(bytes + threadCounts.length * 65536 + (1 << 20)))
  const parts = sizes.map((size): Part => {
    const matrices = allocateMatrices(arena, config, kind, size.layers)
    return { ...size, pointer: matrices[0].pointer, pass: new MatrixPass(arena, matrices, size.rows) }
  })
  const layers = parts.map(({ layers }) => layers).join(' or ')
  report.table(`${shape}, ${kind} weights, ${edges} head; measured: ${layers} of ${config.layers} layers`, [
    'threads',
    'rows',
    '     ms',
    ' GB/s',
    'of read',
    'GFLOP/s',
    'speed-up',
    'against node',
    'against web',
    'against twin',
  ])
  const fewest = Math.min(...parts.map(({ layers }) => layers))
  const twins = new Map<number, number>()
  const alone = new Map<number, number>()
  for (const threads of threadCounts) {
    const team = await Team.start(arena, threads)
    const webs = await loadChains(shape, kind, 'web', fewest, threads, [4])
    for (const part of parts) {
      const nodes = await loadChains(shape, kind, 'node', part.layers, threads, part.few ? [4] : [4, 0])
      for (const rows of part.rowCounts) {
        const reading = part.few ? readJob(team, arena, part.pointer, part.pass.bytes) : undefined
        const contestants: Contestant[] = [
          ...(reading === undefined ? [] : [{ name: 'read', run: reading.run }]),
          { name: 'ours', run: () => part.pass.run(team.operators, rows) },
          ...[...nodes, ...webs].map((chain) => contestant(chain, rows)),
        ]
        const times = await race(contestants, time)
        const twinRows = Math.min(rows, TWIN_ROWS)
        if (!twins.has(twinRows)) twins.set(twinRows, await twinSpeed(kind, twinRows))
        const baselineMs = modelTimes(config, times, [...nodes, ...webs])
        const twin = twins.get(twinRows)!
        show({ shape, kind, threads, rows, part, times, baselineMs, reading: reading?.bytes, twin, alone })
      }
      for (const { chain } of nodes) await chain.release()
    }
    for (const { chain } of webs) await chain.release()
    await team.close()
  }
}

interface Chain {
  readonly name: string
  readonly layers: number
  readonly chain: LoadedChain
}

/** @returns the baseline at those accuracy levels that it has for the kind; none when it is not installed */
async function loadChains(
  shape: ShapeName,
  kind: Kind,
  name: BaselineName,
  layers: number,
  threads: number,
  levels: readonly Level[],
): Promise<Chain[]> {
  const config = SHAPES[shape]
  const edges = quantisationOf(kind).edges
  const baseline = baselines.find((found) => found.name === name)
  if (baseline === undefined || !isOnnxKind(kind) || !isOnnxKind(edges)) return []
  // The web build starts its threads once, so only the largest number is measured.
  if (name === 'web' && threads !== Math.max(...threadCounts)) return []
  const layer = layerMatrices(config).map(({ outputs, columns }) => madeUpMatrix(kind, outputs, columns))
  const outputs = headOutputs(config, layers)
  const head = madeUpMatrix(edges, outputs, config.hidden)
  const matrices = [...Array.from({ length: layers }, () => layer).flat(), head]
  const input = randomFloats(Math.max(...rowCounts) * config.hidden, 1)
  const chains: Chain[] = []
  for (const level of levelsOf(baseline, kind).filter((level) => kind === 'f32' || levels.includes(level))) {
    const chain = await baseline.load(chainModel(matrices, level), threads, input, config.hidden, outputs)
    chains.push({ name: `${name} ${levelName(level)}`, layers, chain })
  }
  return chains
}

function contestant({ name, chain }: Chain, rows: number): Contestant {
  const run = chain.run(rows)
  return { name, run: async () => void (await run()), once: name.startsWith('web') }
}

/** @returns ms for the whole model, by contestant */
function modelTimes(config: ModelConfig, times: ReadonlyMap<string, number>, chains: readonly Chain[]) {
  return new Map(chains.map(({ name, layers }) => [name, (times.get(name)! * config.layers) / layers]))
}

/** @returns multiplications per ms of the scalar twin */
async function twinSpeed(kind: Kind, rows: number): Promise<number> {
  const columns = 2048
  const x = randomFloats(rows * columns, 1)
  const w = randomFloats(TWIN_OUTPUTS * columns, 2)
  const quantised = [quantise(x, rows, columns, columns), quantise(w, TWIN_OUTPUTS, columns, columns)]
  const run =
    kind === 'f32' || kind === 'f16'
      ? () => void gemmF32(x, w, rows, TWIN_OUTPUTS, columns)
      : () => void gemmQuantised(quantised[0], quantised[1], rows, TWIN_OUTPUTS, columns)
  const times = await race([{ name: 'twin', run }], time / 3, 1)
  return (rows * TWIN_OUTPUTS * columns) / times.get('twin')!
}

interface Measured {
  readonly shape: ShapeName
  readonly kind: Kind
  readonly threads: number
  readonly rows: number
  readonly part: Part
  readonly times: ReadonlyMap<string, number>
  /** For the whole model. */
  readonly baselineMs: ReadonlyMap<string, number>
  /** Bytes that the contestant "read" read. */
  readonly reading: number | undefined
  /** Multiplications per ms. */
  readonly twin: number
  /** Times of one thread by rows. */
  readonly alone: Map<number, number>
}

function show({ shape, kind, threads, rows, part, times, baselineMs, reading, twin, alone }: Measured): void {
  const { pass } = part
  const ours = times.get('ours')!
  if (threads === 1) alone.set(rows, ours)
  const ms = (ours * SHAPES[shape].layers) / part.layers
  const gigabytes = pass.bytes / ours / 1e6
  const readGigabytes = reading === undefined ? undefined : reading / times.get('read')! / 1e6
  const node = (['node int8', 'node f32'] as const)
    .filter((name) => baselineMs.has(name))
    .sort((a, b) => baselineMs.get(a)! - baselineMs.get(b)!)[0]
  const nodeMs = baselineMs.get(node)
  const webMs = [...baselineMs].find(([name]) => name.startsWith('web'))?.[1]
  const figures = {
    shape,
    kind,
    threads,
    rows,
    ms,
    gigabytes,
    readGigabytes,
    shareOfRead: readGigabytes === undefined ? undefined : gigabytes / readGigabytes,
    gigaflops: (2 * rows * pass.products) / ours / 1e6,
    speedUp: threads > 1 && alone.has(rows) ? alone.get(rows)! / ours : undefined,
    node: node?.slice('node '.length),
    nodeMs,
    againstNode: nodeMs === undefined ? undefined : nodeMs / ms,
    webMs,
    againstWeb: webMs === undefined ? undefined : webMs / ms,
    againstTwin: (rows * pass.products) / twin / ours,
  }
  report.row(
    [
      String(threads),
      String(rows),
      ms.toFixed(1),
      gigabytes.toFixed(1),
      figures.shareOfRead?.toFixed(2) ?? '-',
      figures.gigaflops.toFixed(1),
      ratio(figures.speedUp),
      figures.againstNode === undefined ? '-' : `${ratio(figures.againstNode)} ${figures.node}`,
      ratio(figures.againstWeb),
      ratio(figures.againstTwin, 0),
    ],
    figures,
  )
}
