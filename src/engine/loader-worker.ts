/** Entry of a loader thread: reads pieces of files into memory, until the model is closed. */
import { LoadBoard } from '../memory/load-board.ts'
import { Loader, serveLoads } from '../memory/loader.ts'
import { SpanRing } from '../memory/timeline.ts'
import { leaveWorker, postToParent, receiveOnce, workerData } from '../runtime/workers.ts'
import { Control } from '../tensor/control.ts'
import { instantiateKernels } from '../tensor/kernels.ts'
import { reportError } from './error-report.ts'
import type { HelperMessage, LineMessage, LoaderWorkerData } from './protocol.ts'

const post = (message: HelperMessage): void => postToParent(message)

try {
  const data = workerData() as LoaderWorkerData
  const control = new Control(data.control)
  const message = (await receiveOnce(data.line)) as LineMessage
  if (message !== undefined) {
    const { memories, kernels } = message
    const board = new LoadBoard(data.shape, control, data.board)
    const banks = memories.map((memory) => ({ memory, kernels: instantiateKernels(memory, kernels) }))
    const loader = new Loader(board, banks, data.files, { spans: new SpanRing(data.timeline, data.loader) })
    post({ type: 'ready' })
    serveLoads(loader, board, control)
    loader.close()
  }
} catch (error) {
  post({ type: 'failed', error: reportError(error) })
}
leaveWorker()
