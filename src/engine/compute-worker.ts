/** Entry of a compute thread: its share of every job, until the model is closed. */
import { postToParent, workerData } from '../runtime/workers.ts'
import { serveJobs } from '../tensor/compute.ts'
import { Control } from '../tensor/control.ts'
import { instantiateKernels } from '../tensor/kernels.ts'
import { reportError } from './error-report.ts'
import type { ComputeWorkerData, HelperMessage } from './protocol.ts'

const post = (message: HelperMessage): void => postToParent(message)

try {
  const data = workerData() as ComputeWorkerData
  const kernels = instantiateKernels(data.memory, data.kernels)
  post({ type: 'ready' })
  serveJobs(kernels, new Control(data.control), data.part, data.threads)
} catch (error) {
  post({ type: 'failed', error: reportError(error) })
}
