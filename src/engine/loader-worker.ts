/** Entry of a loader thread: reads pieces of files into memory, until the model is closed. */
import { LoadBoard } from '../memory/load-board.ts'
import { Loader, serveLoads } from '../memory/loader.ts'
import { SpanRing } from '../memory/timeline.ts'
import { leaveWorker, postToParent, receiveOnce, workerData } from '../runtime/workers.ts'
import { Control } from '../tensor/control.ts'
import { instantiateKernels } from '../tensor/kernels.ts'
import { reportError } from './error-report.ts'
import type { HelperMessage, LoaderWorkerData, MemoryMessage } from './protocol.ts'

const post = (message: HelperMessage): void => postToParent(message)

try {
  const data = workerData() as LoaderWorkerData
  const control = new Control(data.control)
  const { memory } = (await receiveOnce(data.line)) as MemoryMessage
  const board = new LoadBoard(data.shape, control, data.board)
  const spans = new SpanRing(data.timeline, data.loader)
  const loader = new Loader(board, instantiateKernels(memory, data.kernels), memory, data.mode, spans)
  post({ type: 'ready' })
  serveLoads(loader, board, control)
  loader.close()
} catch (error) {
  post({ type: 'failed', error: reportError(error) })
}
leaveWorker()
