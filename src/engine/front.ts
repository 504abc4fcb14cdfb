/** The asynchronous side of a model: it owns the workers, queues the calls, and never blocks. */
import { CoppiceError } from '../errors.ts'
import { randomSeed } from '../runtime/platform.ts'
import { type MessagePort, takeMessage } from '../runtime/workers.ts'
import { Control } from '../tensor/control.ts'
import { Tokenizer } from '../text/tokenizer.ts'
import type { TokenizerData } from '../text/tokenizer-data.ts'
import type { ModelConfig } from '../weights/model-config.ts'
import { Crew } from './crew.ts'
import { AbortError, errorFrom } from './error-report.ts'
import type { EngineMessage, FrontMessage } from './protocol.ts'
import { chooseThreads } from './threads.ts'
import type {
  Completion,
  GenerateOptions,
  KernelInfo,
  LoadOptions,
  Logits,
  LogitsInput,
  Model,
  ModelPlan,
  ModelTokenizer,
  Piece,
  Prompt,
} from './types.ts'

type Loaded = Extract<EngineMessage, { type: 'loaded' }>

/** Loads a model: packs it first if need be, plans the memory, starts the threads. */
export async function loadModel(model: string, options: LoadOptions): Promise<ModelFront> {
  const { onProgress, signal, ...engineOptions } = options
  if (signal?.aborted) throw aborted(signal)
  const control = new Control()
  const data = { model, options: engineOptions, control: control.buffer }
  const threads = chooseThreads(options.threads)
  const crew = sendable(() => new Crew(control, data, threads))
  const onAbort = (): void => control.requestAbort()
  signal?.addEventListener('abort', onAbort, { once: true })
  try {
    const loaded = await new Promise<Loaded>((resolve, reject) => {
      crew.onFailure = reject
      crew.onMessage = (message) => {
        if (message.type === 'progress') onProgress?.(message.progress)
        else if (message.type === 'loaded') resolve(message)
        else if (message.type === 'failed') reject(errorFrom(message.error))
        else reject(new Error(`unexpected message "${message.type}" while loading`))
      }
    })
    // What was loaded at one go had no moment to notice the abort.
    if (signal?.aborted) throw aborted(signal)
    return new ModelFront(crew, control, loaded, onProgress)
  } catch (error) {
    await crew.dismiss()
    if (signal?.aborted) throw aborted(signal)
    throw error
  } finally {
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
      this.#tokenizer = new Tokenizer(takeMessage(this.#tokenizerLine) as TokenizerData)
    }
    return this.#tokenizer
  }

  async *generate(prompt: Prompt, options: GenerateOptions = {}): AsyncGenerator<Piece, Completion, undefined> {
    const { signal, ...rest } = options
    const seed = options.seed ?? randomSeed()
    const call = this.#call({ type: 'generate', prompt, options: { ...rest, seed } }, signal)
    for await (const message of call) {
      if (message.type === 'pieces') yield* message.pieces
      else if (message.type === 'completed') return message.completion
    }
    throw new Error('the engine ended the call without a completion')
  }

  async complete(prompt: Prompt, options: GenerateOptions = {}): Promise<Completion> {
    const pieces = this.generate(prompt, options)
    for (;;) {
      const next = await pieces.next()
      if (next.done) return next.value
    }
  }

  async logits(input: LogitsInput): Promise<Logits> {
    for await (const message of this.#call({ type: 'logits', input }, undefined)) {
      if (message.type === 'logits') return message.logits
    }
    throw new Error('the engine ended the call without logits')
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

  /** Sends one request when its turn has come, and yields what the engine answers until it is done. */
  async *#call(request: FrontMessage, signal: AbortSignal | undefined): AsyncGenerator<EngineMessage, void, undefined> {
    this.#checkUsable()
    if (signal?.aborted) throw aborted(signal)
    const before = this.#tail
    let leave = (): void => {}
    this.#tail = new Promise((resolve) => {
      leave = resolve
    })
    if (!(await comesBefore(before, [signal, this.#closing.signal]))) {
      // This call never began, so the next one waits for the one before it instead.
      void before.then(leave)
      this.#checkUsable()
      throw aborted(signal)
    }
    try {
      this.#checkUsable()
      yield* this.#converse(request, signal)
    } finally {
      leave()
    }
  }

  async *#converse(
    request: FrontMessage,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<EngineMessage, void, undefined> {
    const inbox = new Inbox()
    const onAbort = (): void => this.#control.requestAbort()
    this.#control.clearAbort()
    this.crew.onMessage = (message) => {
      if (message.type === 'progress') this.#onProgress?.(message.progress)
      else inbox.put(message)
    }
    this.crew.onFailure = (error) => {
      this.#failure ??= error
      inbox.fail(error)
    }
    const onClose = (): void => inbox.fail(closedError())
    this.#closing.signal.addEventListener('abort', onClose)
    signal?.addEventListener('abort', onAbort)
    if (signal?.aborted) onAbort()
    let finished = true
    try {
      sendable(() => this.crew.send(request))
      finished = false
      this.crew.setBusy(true)
      while (!finished) {
        const message = await inbox.take()
        finished = message.type !== 'pieces'
        if (message.type === 'failed') {
          const error = errorFrom(message.error, message.partial, signal?.reason)
          if (message.error.code === 'WORKER_FAILED') this.#failure ??= error
          throw error
        }
        yield message
      }
    } finally {
      if (!finished && this.#failure === undefined && this.#closed === undefined) {
        // The consumer left early: the engine must be idle before the next call begins.
        this.#control.requestAbort()
        while (!finished) {
          finished = await inbox.take().then(
            (m) => m.type !== 'pieces',
            () => true,
          )
        }
      }
      signal?.removeEventListener('abort', onAbort)
      this.#closing.signal.removeEventListener('abort', onClose)
      if (this.#closed === undefined) this.crew.setBusy(false)
    }
  }

  #checkUsable(): void {
    if (this.#closed !== undefined) throw closedError()
    if (this.#failure !== undefined) throw this.#failure
  }
}

/** Messages in order, for one reader. */
class Inbox {
  readonly #messages: EngineMessage[] = []
  #failure: Error | undefined
  #wake: (() => void) | undefined

  put(message: EngineMessage): void {
    this.#messages.push(message)
    this.#wake?.()
  }

  fail(error: Error): void {
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
