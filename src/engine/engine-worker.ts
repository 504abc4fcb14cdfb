/** Entry of the engine thread: loads, then serves one request at a time, synchronously. */
import { CoppiceError } from '../errors.ts'
import { LoadBoard } from '../memory/load-board.ts'
import { Timeline } from '../memory/timeline.ts'
import {
  createLine,
  leaveWorker,
  type MessagePort,
  onParentMessage,
  postToParent,
  workerData,
} from '../runtime/workers.ts'
import { createMemory } from '../tensor/arena.ts'
import { Control } from '../tensor/control.ts'
import { type TokenizerData, toMessage } from '../text/tokenizer-data.ts'
import { Engine, InterruptedCall } from './engine.ts'
import { reportError } from './error-report.ts'
import { chooseKernels } from './kernel-choice.ts'
import { addTokenizer, planModel } from './prepare.ts'
import type { EngineMessage, EngineWorkerData, FrontMessage, MemoryMessage } from './protocol.ts'
import { planWithExpectation } from './speed.ts'
import type { Piece, Progress } from './types.ts'

const post = (message: EngineMessage): void => postToParent(message)
const { model, options, control: controlBuffer, memoryLimit } = workerData() as EngineWorkerData
const control = new Control(controlBuffer)
const onProgress = (progress: Progress): void => post({ type: 'progress', progress })

function fail(error: unknown): void {
  if (error instanceof InterruptedCall)
    post({ type: 'failed', error: reportError(error.cause), partial: error.partial })
  else post({ type: 'failed', error: reportError(error), partial: undefined })
}

interface Beginning {
  /** Gives the memories to the helpers. */
  share(lines: readonly MessagePort[]): void
  finish(): Engine
}

/** First half of loading, up to the point where the other threads must be there. */
function begin(): Beginning | undefined {
  try {
    const hooks = { onProgress, isAborted: () => control.abortRequested }
    const planned = planModel(model, options, hooks, undefined, memoryLimit)
    control.checkpoint()
    const { board: shape } = planned
    const board = new LoadBoard(shape, control)
    const { loaders, files } = planned
    const timeline = new Timeline(loaders)
    // The loaders start while this thread goes on.
    post({ type: 'prepared', board: board.buffer, shape, timeline: timeline.buffer, loaders, files })
    const { module: kernels, ...kernelInfo } = chooseKernels(options.kernels)
    const memories = planned.plan.banks.map(({ bytes }) => createMemory(bytes))
    const preparation = addTokenizer(planned)
    control.checkpoint()
    return {
      share: (lines) => {
        const message: MemoryMessage = { memories, kernels }
        for (const line of lines) line.postMessage(message)
      },
      finish: () => {
        const engine = new Engine({ preparation, memories, control, board, timeline, kernels, onProgress })
        const tokenizer = preparation.tokenizer && lineWith(preparation.tokenizer.data)
        const transfer = tokenizer === undefined ? [] : [tokenizer]
        const plan = planWithExpectation(preparation, kernelInfo.variant)
        const loaded = { type: 'loaded', config: engine.config, plan, kernels: kernelInfo, tokenizer } as const
        postToParent(loaded satisfies EngineMessage, transfer)
        return engine
      },
    }
  } catch (error) {
    fail(error)
    return undefined
  }
}

/** A line for the front, with a message that is there when it looks. */
function lineWith(data: TokenizerData): MessagePort {
  const [own, line] = createLine()
  own.postMessage(toMessage(data))
  return line
}

let beginning: Beginning | undefined
let engine: Engine | undefined

function handle(message: FrontMessage): void {
  switch (message.type) {
    case 'helpers':
      beginning?.share(message.lines)
      return
    case 'start':
      engine = beginning?.finish()
      return
    case 'leave':
      engine?.close()
      leaveWorker()
      return
  }
  if (engine === undefined) throw new CoppiceError('CLOSED', 'the model is not loaded')
  post(answer(engine, message))
}

type Call = Exclude<FrontMessage, { type: 'helpers' | 'start' | 'leave' }>

function answer(engine: Engine, message: Call): EngineMessage {
  switch (message.type) {
    case 'generate': {
      const emit = (pieces: Piece[]): void => {
        if (message.streams) post({ type: 'pieces', pieces })
      }
      return { type: 'completed', completion: engine.generate(message.prompt, message.options, emit) }
    }
    case 'logits':
      return { type: 'logits', logits: engine.logits(message.input) }
    case 'memories':
      return { type: 'memories', uses: engine.memories.uses() }
    case 'saveState':
      engine.memories.save(message.file, message.owner)
      break
    case 'warm':
      engine.warm(message.text, message.owner)
      break
    case 'forget':
      engine.memories.forget(message.owner)
      break
  }
  return { type: 'done' }
}

onParentMessage((data) => {
  try {
    handle(data as FrontMessage)
  } catch (error) {
    fail(error)
  }
})
// Only now that somebody listens for the front's answers.
beginning = begin()
