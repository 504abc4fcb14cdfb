/** Entry of the engine thread: loads, then serves one request at a time, synchronously. */
import { CoppiceError } from '../errors.ts'
import { LoadBoard } from '../memory/load-board.ts'
import { onParentMessage, postToParent, workerData } from '../runtime/workers.ts'
import { createMemory } from '../tensor/arena.ts'
import { Control } from '../tensor/control.ts'
import { Engine, InterruptedCall } from './engine.ts'
import { reportError } from './error-report.ts'
import { prepare } from './prepare.ts'
import type { EngineMessage, EngineWorkerData, FrontMessage } from './protocol.ts'
import type { Progress } from './types.ts'

const post = (message: EngineMessage): void => postToParent(message)
const { model, options, control: controlBuffer } = workerData() as EngineWorkerData
const control = new Control(controlBuffer)
const onProgress = (progress: Progress): void => post({ type: 'progress', progress })

function fail(error: unknown): void {
  if (error instanceof InterruptedCall) post({ type: 'failed', error: reportError(error.cause), partial: error.partial })
  else post({ type: 'failed', error: reportError(error), partial: undefined })
}

/** First half of loading, up to the point where the front must start the other threads. */
function begin(): (() => Engine) | undefined {
  try {
    const preparation = prepare(model, options, { onProgress, isAborted: () => control.abortRequested })
    control.checkpoint()
    const memory = createMemory(preparation.plan.totalBytes)
    const shape = { units: preparation.units, requests: Math.max(2, preparation.plan.slots) }
    const board = new LoadBoard(shape, control)
    const { threads, loaders, mode, plan, target } = preparation
    const finish = (): Engine => {
      const engine = new Engine({
        preparation,
        memory,
        control,
        board,
        kernels: options.kernels,
        sharpening: options.sharpening,
        onProgress,
      })
      const tokenizer = preparation.tokenizer === undefined ? undefined : target.packed.directory
      post({ type: 'loaded', config: engine.config, plan, tokenizer })
      return engine
    }
    // Listening must have begun when the answer comes, so the message goes out last.
    queueMicrotask(() => post({ type: 'prepared', memory, board: board.buffer, shape, threads, loaders, mode }))
    return finish
  } catch (error) {
    fail(error)
    return undefined
  }
}

const finish = begin()
let engine: Engine | undefined

onParentMessage((data) => {
  const message = data as FrontMessage
  try {
    if (message.type === 'start') engine = finish?.()
    else if (engine === undefined) throw new CoppiceError('CLOSED', 'the model is not loaded')
    else if (message.type === 'logits') post({ type: 'logits', logits: engine.logits(message.input) })
    else {
      const completion = engine.generate(message.prompt, message.options, (pieces) => post({ type: 'pieces', pieces }))
      post({ type: 'completed', completion })
    }
  } catch (error) {
    fail(error)
  }
})
