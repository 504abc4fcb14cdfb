/** Entry of a compute thread: its share of every job, until the model is closed. */
import { cores } from '../runtime/platform.ts'
import { leaveWorker, postToParent, receiveOnce, workerData } from '../runtime/workers.ts'
import { serveJobs } from '../tensor/compute.ts'
import { Control } from '../tensor/control.ts'
import { instantiateKernels } from '../tensor/kernels.ts'
import { reportError } from './error-report.ts'
import type { ComputeWorkerData, HelperMessage, LineMessage } from './protocol.ts'

const post = (message: HelperMessage): void => postToParent(message)

try {
  const data = workerData() as ComputeWorkerData
  const message = (await receiveOnce(data.line)) as LineMessage
  if (message !== undefined) {
    const kernels = message.memories.map((memory) => instantiateKernels(memory, message.kernels))
    post({ type: 'ready' })
    serveJobs({ kernels, control: new Control(data.control), threads: data.threads, cores: cores() })
  }
} catch (error) {
  post({ type: 'failed', error: reportError(error) })
}
leaveWorker()
