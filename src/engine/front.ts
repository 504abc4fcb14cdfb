/** The asynchronous side of a model: it owns the workers, queues the calls, and never blocks. */
import { CoppiceError } from '../errors.ts'
import { randomSeed } from '../runtime/platform.ts'
import { before, type MessagePort, takeMessage } from '../runtime/workers.ts'
import { Control } from '../tensor/control.ts'
import { Tokenizer } from '../text/tokenizer.ts'
import { fromMessage, type TokenizerMessage } from '../text/tokenizer-data.ts'
import type { ModelConfig } from '../weights/model-config.ts'
import { Crew } from './crew.ts'
import { AbortError, errorFrom } from './error-report.ts'
import type { EngineMessage, FrontMessage } from './protocol.ts'
import { chooseThreads } from './threads.ts'
import type {
  Completion,
  DrafterMemoryUse,
  GenerateOptions,
  KernelInfo,
  LoadOptions,
  Logits,
  LogitsInput,
  Model,
  ModelPlan,
  ModelTokenizer,
  OwnerOptions,
  Piece,
  Progress,
  Prompt,
} from './types.ts'

/**
 * How long a call that was aborted or left waits for the engine, in ms. The engine looks up after every few
 * milliseconds; only a read that does not return keeps it for longer.
 */
const ABORT_GRACE_MS = 4000

type Loaded = Extract<EngineMessage, { type: 'loaded' }>

/**
 * Loads a model: packs it first if need be, plans the memory, starts the threads.
 * @param memoryLimit bytes of one WASM memory at the most, for tests of several
 */
export async function loadModel(model: string, options: LoadOptions, memoryLimit?: number): Promise<ModelFront> {
  const { onProgress, signal, ...engineOptions } = options
  if (signal?.aborted) throw aborted(signal)
  const control = new Control()
  const data = { model, options: engineOptions, control: control.buffer, memoryLimit }
  const threads = chooseThreads(options.threads)
  const crew = sendable(() => new Crew(control, data, threads))
  let giveUp = (_: Error): void => {}
  let timer: ReturnType<typeof setTimeout> | undefined
  const onAbort = (): void => {
    control.requestAbort()
    timer = setTimeout(() => giveUp(aborted(signal)), ABORT_GRACE_MS)
  }
  signal?.addEventListener('abort', onAbort, { once: true })
  try {
    const loaded = await new Promise<Loaded>((resolve, reject) => {
      giveUp = reject
      crew.onFailure = reject
      crew.onMessage = (message) => {
        if (message.type === 'progress') tell(onProgress, message.progress, reject)
        else if (message.type === 'loaded') resolve(message)
        else if (message.type === 'failed') reject(errorFrom(message.error))
        else reject(new Error(`unexpected message "${message.type}" while loading`))
      }
    })
    // What was loaded at one go had no moment to notice the abort.
    if (signal?.aborted) throw aborted(signal)
    return new ModelFront(crew, control, loaded, onProgress)
  } catch (error) {
    // Why it cannot be loaded says more than what is left of it.
    await crew.dismiss().catch(() => {})
    if (signal?.aborted) throw aborted(signal)
    throw error
  } finally {
    clearTimeout(timer)
    signal?.removeEventListener('abort', onAbort)
  }
}

export class ModelFront implements Model {
  readonly plan: ModelPlan
  readonly config: ModelConfig
  readonly kernels: KernelInfo
  /** The threads, for tests that take one away. @internal */
  readonly crew: Crew
  readonly #control: Control
  readonly #onProgress: LoadOptions['onProgress']
  /** Where the tokenizer's data waits until somebody asks for it. */
  #tokenizerLine: MessagePort | undefined
  #tokenizer: Tokenizer | undefined
  /** Settles when the last queued call is over. */
  #tail: Promise<void> = Promise.resolve()
  #closed: Promise<void> | undefined
  #failure: Error | undefined
  readonly #closing = new AbortController()

  constructor(crew: Crew, control: Control, loaded: Loaded, onProgress: LoadOptions['onProgress']) {
    this.crew = crew
    this.#control = control
    this.plan = loaded.plan
    this.config = loaded.config
    this.kernels = loaded.kernels
    this.#tokenizerLine = loaded.tokenizer
    this.#onProgress = onProgress
    crew.onFailure = (error) => {
      this.#failure ??= error
    }
    crew.onMessage = () => {}
    crew.setBusy(false)
  }

  get tokenizer(): ModelTokenizer | undefined {
    if (this.#tokenizer === undefined && this.#tokenizerLine !== undefined) {
      this.#tokenizer = new Tokenizer(fromMessage(takeMessage(this.#tokenizerLine) as TokenizerMessage))
    }
    return this.#tokenizer
  }

  async *generate(prompt: Prompt, options: GenerateOptions = {}): AsyncGenerator<Piece, Completion, undefined> {
    for await (const message of this.#call(writing(prompt, options, true), options.signal)) {
      if (message.type === 'pieces') yield* message.pieces
      else if (message.type === 'completed') return message.completion
    }
    throw new Error('the engine ended the call without a completion')
  }

  async complete(prompt: Prompt, options: GenerateOptions = {}): Promise<Completion> {
    return (await this.#ask(writing(prompt, options, false), 'completed', options.signal)).completion
  }

  async logits(input: LogitsInput): Promise<Logits> {
    return (await this.#ask({ type: 'logits', input }, 'logits')).logits
  }

  async saveDrafterState(file: string, { owner = '' }: OwnerOptions = {}): Promise<void> {
    await this.#ask({ type: 'saveState', file, owner }, 'done')
  }

  async warmDrafters(text: string | readonly number[], { owner = '' }: OwnerOptions = {}): Promise<void> {
    await this.#ask({ type: 'warm', text, owner }, 'done')
  }

  async drafterMemory(): Promise<readonly DrafterMemoryUse[]> {
    return (await this.#ask({ type: 'memories' }, 'memories')).uses
  }

  async forgetOwner(owner: string): Promise<void> {
    await this.#ask({ type: 'forget', owner }, 'done')
  }

  close(): Promise<void> {
    this.#closed ??= this.#shutDown()
    return this.#closed
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  async #shutDown(): Promise<void> {
    this.#closing.abort()
    this.#control.requestAbort()
    this.#tokenizerLine?.close()
    this.#tokenizerLine = undefined
    this.#tokenizer = undefined
    await this.crew.dismiss()
  }

  /** The one message that answers a request. */
  async #ask<T extends EngineMessage['type']>(
    request: FrontMessage,
    answer: T,
    signal?: AbortSignal,
  ): Promise<Extract<EngineMessage, { type: T }>> {
    for await (const message of this.#call(request, signal)) {
      if (message.type === answer) return message as Extract<EngineMessage, { type: T }>
    }
    throw new Error(`the engine ended the call without "${answer}"`)
  }

  /** Sends one request when its turn has come, and yields what the engine answers until it is done. */
  async *#call(request: FrontMessage, signal: AbortSignal | undefined): AsyncGenerator<EngineMessage, void, undefined> {
    this.#checkUsable()
    if (signal?.aborted) throw aborted(signal)
    const previous = this.#tail
    let leave = (): void => {}
    this.#tail = new Promise((resolve) => {
      leave = resolve
    })
    if (!(await comesBefore(previous, [signal, this.#closing.signal]))) {
      // This call never began, so the next one waits for the one before it instead.
      void previous.then(leave)
      this.#checkUsable()
      throw aborted(signal)
    }
    let idle = Promise.resolve()
    try {
      this.#checkUsable()
      const call = new EngineCall(this.#onProgress)
      idle = call.over
      yield* this.#converse(call, request, signal)
    } finally {
      // A call whose read hangs may have been given up before the engine is ready for the next one.
      void idle.then(leave)
    }
  }

  async *#converse(
    call: EngineCall,
    request: FrontMessage,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<EngineMessage, void, undefined> {
    let timer: ReturnType<typeof setTimeout> | undefined
    const onAbort = (): void => {
      this.#control.requestAbort()
      timer = setTimeout(() => call.giveUp(aborted(signal)), ABORT_GRACE_MS)
    }
    const onClose = (): void => call.end(closedError())
    this.#control.clearAbort()
    this.crew.onMessage = (message) => call.put(message)
    this.crew.onFailure = (error) => {
      this.#failure ??= error
      call.end(error)
    }
    this.#closing.signal.addEventListener('abort', onClose)
    signal?.addEventListener('abort', onAbort)
    if (signal?.aborted) onAbort()
    void call.over.then(() => {
      if (this.#closed === undefined) this.crew.setBusy(false)
    })
    try {
      this.#send(call, request)
      for (;;) {
        const message = await call.take()
        if (message.type === 'failed') {
          const error = errorFrom(message.error, message.partial, signal?.reason)
          if (message.error.code === 'WORKER_FAILED') this.#failure ??= error
          throw error
        }
        yield message
        if (message.type !== 'pieces') return
      }
    } finally {
      clearTimeout(timer)
      signal?.removeEventListener('abort', onAbort)
      if (!call.isOver) {
        this.#control.requestAbort()
        // The consumer left early: the engine should be idle before the next call begins.
        if (!call.isGivenUp) await before(call.over, ABORT_GRACE_MS)
      }
      this.#closing.signal.removeEventListener('abort', onClose)
    }
  }

  #send(call: EngineCall, request: FrontMessage): void {
    try {
      sendable(() => this.crew.send(request))
      this.crew.setBusy(true)
    } catch (error) {
      call.end(error as Error)
      throw error
    }
  }

  #checkUsable(): void {
    if (this.#closed !== undefined) throw closedError()
    if (this.#failure !== undefined) throw this.#failure
  }
}

function writing(prompt: Prompt, { signal: _, ...options }: GenerateOptions, streams: boolean): FrontMessage {
  return { type: 'generate', prompt, options: { ...options, seed: options.seed ?? randomSeed() }, streams }
}

/** The engine's messages about one call, in order, for one reader. */
class EngineCall {
  /** Resolves when the engine has nothing more to do for the call, or is gone. */
  readonly over: Promise<void>
  isOver = false
  readonly #onProgress: LoadOptions['onProgress']
  readonly #messages: EngineMessage[] = []
  #failure: Error | undefined
  #wake: (() => void) | undefined
  #finish = (): void => {}

  constructor(onProgress: LoadOptions['onProgress']) {
    this.#onProgress = onProgress
    this.over = new Promise((resolve) => {
      this.#finish = resolve
    })
  }

  put(message: EngineMessage): void {
    if (message.type === 'progress') {
      tell(this.#onProgress, message.progress, (error) => this.giveUp(error))
      return
    }
    this.#messages.push(message)
    if (message.type !== 'pieces') this.#setOver()
    this.#wake?.()
  }

  /** No further message will come. */
  end(error: Error): void {
    this.#setOver()
    this.giveUp(error)
  }

  /** Whether the reader is told of an error, whatever the engine does. */
  get isGivenUp(): boolean {
    return this.#failure !== undefined
  }

  /** The reader is told of an error after the messages that are there, although the engine is not done. */
  giveUp(error: Error): void {
    this.#failure ??= error
    this.#wake?.()
  }

  async take(): Promise<EngineMessage> {
    for (;;) {
      const message = this.#messages.shift()
      if (message !== undefined) return message
      if (this.#failure !== undefined) throw this.#failure
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    }
  }

  #setOver(): void {
    this.isOver = true
    this.#finish()
  }
}

/** @param fail takes what the callback throws: from the listener of a thread it would end the process */
function tell(onProgress: LoadOptions['onProgress'], progress: Progress, fail: (error: Error) => void): void {
  try {
    onProgress?.(progress)
  } catch (error) {
    fail(error as Error)
  }
}

/** Whether `event` comes before any of the signals; leaves no listener behind. */
function comesBefore(event: Promise<void>, signals: readonly (AbortSignal | undefined)[]): Promise<boolean> {
  return new Promise((resolve) => {
    const settle = (inTime: boolean): void => {
      for (const signal of signals) signal?.removeEventListener('abort', onAbort)
      resolve(inTime)
    }
    const onAbort = (): void => settle(false)
    for (const signal of signals) signal?.addEventListener('abort', onAbort)
    if (signals.some((signal) => signal?.aborted)) settle(false)
    else void event.then(() => settle(true))
  })
}

/** @throws CoppiceError INVALID_OPTION when what is sent to another thread cannot be copied */
function sendable<T>(send: () => T): T {
  try {
    return send()
  } catch (cause) {
    throw new CoppiceError(
      'INVALID_OPTION',
      `the prompt or the options hold something that cannot go to another thread, such as a function (${String(cause)}); leave it out`,
      { cause },
    )
  }
}

function aborted(signal: AbortSignal | undefined): AbortError {
  return new AbortError('the call was aborted', undefined, { cause: signal?.reason })
}

function closedError(): CoppiceError {
  return new CoppiceError('CLOSED', 'the model is closed; load it again to use it')
}
