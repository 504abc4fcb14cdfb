/** How fast the chosen kernels multiply on this machine, with the threads that a model would have. */
import { cores, now } from '../runtime/platform.ts'
import { Arena, createMemory, roundUp } from '../tensor/arena.ts'
import { Compute } from '../tensor/compute.ts'
import { Control } from '../tensor/control.ts'
import { instantiateKernels } from '../tensor/kernels.ts'
import { groupBytes, type Kind, TILE } from '../tensor/layout.ts'
import { JOB_BYTES, type Matrix, type Operand, Operators, quantisedBytes } from '../tensor/operators.ts'
import { Rows } from '../tensor/rows.ts'
import { startWorkers } from './start-workers.ts'

/** Rows whose products are timed: between them, time grows nearly evenly. */
export const MEASURED_ROWS: readonly number[] = [1, 8, 17, 64]

/** Seconds per byte of weights, by rows as in `MEASURED_ROWS`. */
export type KernelSpeed = readonly number[]

/** More than processors keep in their caches, as weights come from memory. */
const WEIGHTS_BYTES = 64 * 1024 * 1024
const COLUMNS = 2048
/** Bytes of one product; with more rows it takes longer, so less will do. */
const productBytes = (rows: number): number => (rows < 8 ? WEIGHTS_BYTES : WEIGHTS_BYTES / 8)

/** Long enough for engines to optimise the code that is timed; the fastest product counts. */
const TIME_MS = 100
const LEAST_RUNS = 4

const MOST_ROWS = Math.max(...MEASURED_ROWS)

/** Takes half a second per kind. @throws CoppiceError WORKER_FAILED */
export async function measureKernelSpeed(
  module: WebAssembly.Module,
  threads: number,
  kinds: readonly Kind[],
): Promise<KernelSpeed[]> {
  const control = new Control()
  const groups = Math.floor(WEIGHTS_BYTES / groupBytes('q4', COLUMNS))
  const outputBytes = roundUp(groups * TILE * 4 * 8, 64)
  const memory = createMemory(WEIGHTS_BYTES + outputBytes + MOST_ROWS * COLUMNS * 16 + (1 << 20))
  const data = { control: control.buffer, threads }
  const helpers = Array.from({ length: threads - 1 }, () => ({ role: 'compute', data }) as const)
  const workers = await startWorkers([memory], module, helpers)
  try {
    const arena = new Arena(memory)
    const kernels = instantiateKernels(memory, module)
    const compute = new Compute({ kernels: [kernels], control, threads, cores: cores() })
    const operators = new Operators(kernels, compute, arena, arena.allocate('job records', JOB_BYTES))
    const stride = COLUMNS * 4 + 64
    const input: Operand = {
      rows: new Rows(arena.allocate('input', MOST_ROWS * stride), stride, COLUMNS),
      quantised: arena.allocate('quantised', quantisedBytes(MOST_ROWS, COLUMNS)),
    }
    arena.f32(input.rows.pointer, (MOST_ROWS * stride) / 4).fill(1)
    const output = arena.allocate('output', outputBytes)
    const weights = arena.allocate('weights', WEIGHTS_BYTES)
    // Of every kind some ordinary numbers.
    arena.u8(weights, WEIGHTS_BYTES).fill(0x2c)
    return kinds.map((kind) => MEASURED_ROWS.map((rows) => timeOf(kind, rows)))

    function timeOf(kind: Kind, rows: number): number {
      const group = groupBytes(kind, COLUMNS)
      const outputs = Math.floor(productBytes(rows) / group) * TILE
      const bytes = (outputs / TILE) * group
      const target = new Rows(output, outputs * 4, outputs)
      operators.quantise(input, rows, kind)
      operators.run()
      let best = Number.POSITIVE_INFINITY
      const began = now()
      for (let run = 0; run < LEAST_RUNS || now() - began < TIME_MS; run++) {
        const at = (run * bytes) % (Math.floor(WEIGHTS_BYTES / bytes) * bytes)
        const matrix: Matrix = { kind, rows: outputs, columns: COLUMNS, pointer: weights + at }
        const start = now()
        operators.matmul(input, rows, matrix, target)
        operators.run()
        best = Math.min(best, (now() - start) / 1000)
      }
      return best / bytes
    }
  } finally {
    control.stop()
    await Promise.all(workers.map((worker) => worker.terminate(500)))
  }
}

/** Seconds of the products of `rows` rows with so many bytes of weights: between the measured ones, a straight line. */
export function productSeconds(speed: KernelSpeed, bytes: number, rows: number): number {
  const last = MEASURED_ROWS.length - 1
  if (rows >= MEASURED_ROWS[last]) return (bytes * speed[last] * rows) / MEASURED_ROWS[last]
  const above = Math.max(
    1,
    MEASURED_ROWS.findIndex((measured) => measured >= rows),
  )
  const [from, to] = [MEASURED_ROWS[above - 1], MEASURED_ROWS[above]]
  const share = (rows - from) / (to - from)
  return bytes * (speed[above - 1] * (1 - share) + speed[above] * share)
}
