/**
 * How fast are the matrix products? One thread, by default with matrices that no cache holds; GB/s of weights matter at M = 1, GFLOP/s from M = 8 on, and the last column compares with
 * the scalar twin of the tests in the same run. Prints a table and one JSON line per case.
 *
 *     npm run bench:gemm [-- --outputs 8192 --columns 2048 --ms 200]
 */
import { cpus } from 'node:os'
import { Bench as Timer } from 'tinybench'
import { BLOCK, groupBytes, isFloat, KINDS, type Kind, matrixBytes, packGroup, TILE } from '../src/tensor/layout.ts'
import { GemmWord, KIND_CODE, Operation, QuantiseWord } from '../src/tensor/operations.ts'
import { Bench, randomFloats } from '../test/tensor/harness.ts'
import { gemmF32, gemmQuantised, quantise } from '../test/tensor/twins/gemm.ts'
import { number } from './report.ts'

const outputs = number('--outputs', 8192)
const columns = number('--columns', 2048)
const time = number('--ms', 200)
const ROWS = [1, 2, 4, 5, 8, 9, 16, 32]
const MOST = Math.max(...ROWS)
/** Outputs that the twin computes; its time is scaled up. */
const TWIN_OUTPUTS = 16

const memory = new Bench(
  Math.ceil((matrixBytes('f32', outputs, columns) * 2) / 2 ** 20) + 16,
  (process.env.COPPICE_KERNELS ?? 'simd128') as 'simd128',
)

/** @returns median milliseconds of one call */
async function medianTime(run: () => void): Promise<number> {
  const timer = new Timer({ time, warmupTime: time / 2 })
  timer.add('case', run)
  await timer.run()
  const { result } = timer.tasks[0]
  if (result.state !== 'completed') throw new Error(`the case ended as "${result.state}"`)
  return result.latency.p50
}

/** @returns a function that multiplies `rows` rows with one matrix of `kind` */
function kernelCase(kind: Kind, rows: number, weights: number): () => void {
  const x = memory.floats(randomFloats(rows * columns, 1))
  const blocks = (rows * columns) / BLOCK
  const words = {
    kind: KIND_CODE[kind],
    rows,
    outputs,
    columns,
    x: x.byteOffset,
    xStride: columns * 4,
    weights,
    y: memory.floats(rows * outputs).byteOffset,
    yStride: outputs * 4,
    bias: 0,
    accumulate: 0,
  }
  if (!isFloat(kind)) {
    words.x = memory.bytes(blocks * 72).byteOffset
    memory.run(Operation.quantise, QuantiseWord, {
      rows,
      columns,
      source: x.byteOffset,
      sourceStride: columns * 4,
      values: words.x,
      kind: words.kind,
    })
  }
  const record = memory.record(Operation.gemm, GemmWord, words)
  return () => memory.kernels.run(record, 0, 1)
}

function twinCase(kind: Kind, rows: number): () => void {
  const x = randomFloats(rows * columns, 1)
  const w = randomFloats(TWIN_OUTPUTS * columns, 2)
  if (isFloat(kind)) return () => void gemmF32(x, w, rows, TWIN_OUTPUTS, columns)
  const xq = quantise(x, rows, columns, columns)
  const wq = quantise(w, TWIN_OUTPUTS, columns, columns)
  return () => void gemmQuantised(xq, wq, rows, TWIN_OUTPUTS, columns)
}

console.log(`${cpus()[0]?.model}, ${process.version}, W[${outputs} x ${columns}], one thread`)
console.log('kind  rows       ms    GB/s  GFLOP/s  against twin')
const lines: string[] = []
for (const kind of KINDS) {
  memory.reset()
  const bytes = matrixBytes(kind, outputs, columns)
  const packed = memory.bytes(bytes)
  const group = randomFloats(TILE * columns, 2, 0.1)
  for (let n = 0; n < outputs; n += TILE) {
    packGroup(kind, columns, group, 0, TILE, packed, (n / TILE) * groupBytes(kind, columns))
  }
  for (const rows of ROWS) {
    const ms = await medianTime(kernelCase(kind, rows, packed.byteOffset))
    const twinMs = rows === 1 || rows === MOST ? (await medianTime(twinCase(kind, rows))) * (outputs / TWIN_OUTPUTS) : 0
    const gigabytes = bytes / ms / 1e6
    const gigaflops = (2 * rows * outputs * columns) / ms / 1e6
    console.log(
      [
        kind.padEnd(4),
        String(rows).padStart(5),
        ms.toFixed(3).padStart(8),
        gigabytes.toFixed(2).padStart(7),
        gigaflops.toFixed(1).padStart(8),
        (twinMs > 0 ? `${(twinMs / ms).toFixed(1)}x` : '').padStart(13),
      ].join(' '),
    )
    lines.push(
      JSON.stringify({
        bench: 'gemm',
        kind,
        rows,
        outputs,
        columns,
        ms,
        gigabytes,
        gigaflops,
        againstTwin: twinMs / ms || null,
      }),
    )
  }
}
console.log(lines.join('\n'))
