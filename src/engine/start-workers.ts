/** Compute and loader threads on their own, for measurements. */
import { createLine, spawnWorker, type WorkerHandle } from '../runtime/workers.ts'
import { errorFrom } from './error-report.ts'
import type { ComputeWorkerData, HelperMessage, LoaderWorkerData, MemoryMessage } from './protocol.ts'

/** A thread to be started, with what it is born with. */
export type Helper =
  | { readonly role: 'compute'; readonly data: Omit<ComputeWorkerData, 'line'> }
  | { readonly role: 'loader'; readonly data: Omit<LoaderWorkerData, 'line'> }

/** Starts threads that serve memories, without a model and its crew. @returns them when all are ready */
export async function startWorkers(
  memories: readonly WebAssembly.Memory[],
  kernels: WebAssembly.Module,
  helpers: readonly Helper[],
): Promise<WorkerHandle[]> {
  const workers = helpers.map(({ role, data }) => {
    const [end, line] = createLine()
    const url = new URL(`./${role}-worker.js`, import.meta.url)
    const worker = spawnWorker(url, { ...data, line }, { name: role, transfer: [line] })
    end.postMessage({ memories, kernels } satisfies MemoryMessage)
    return worker
  })
  await Promise.all(workers.map(isReady))
  for (const worker of workers) worker.unref()
  return workers
}

function isReady(worker: WorkerHandle): Promise<void> {
  return new Promise((resolve, reject) => {
    worker.onError(reject)
    worker.onMessage((message) => {
      const answer = message as HelperMessage
      if (answer.type === 'ready') resolve()
      else reject(errorFrom(answer.error))
    })
  })
}
