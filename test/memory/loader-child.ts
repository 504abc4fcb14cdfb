/** A loader thread whose files fail as a test says. */
import { parentPort, workerData } from 'node:worker_threads'
import { type BoardShape, LoadBoard } from '../../src/memory/load-board.ts'
import { Loader, serveLoads } from '../../src/memory/loader.ts'
import type { FileAccesses } from '../../src/memory/packed-reader.ts'
import { Control } from '../../src/tensor/control.ts'
import { compileKernels } from '../../src/tensor/kernel-modules.ts'
import { instantiateKernels } from '../../src/tensor/kernels.ts'
import { FaultSwitch } from './faulty-files.ts'

export interface LoaderChildData {
  readonly shape: BoardShape
  readonly board: SharedArrayBuffer
  readonly control: SharedArrayBuffer
  readonly memory: WebAssembly.Memory
  readonly files: FileAccesses
  readonly faults: SharedArrayBuffer
}

const data = workerData as LoaderChildData
const control = new Control(data.control)
const board = new LoadBoard(data.shape, control, data.board)
const kernels = instantiateKernels(data.memory, compileKernels('simd128'))
const loader = new Loader(board, [{ memory: data.memory, kernels }], data.files, {
  open: new FaultSwitch(data.faults).open,
})
parentPort?.postMessage('ready')
serveLoads(loader, board, control)
loader.close()
