/**
 * Threads: module workers by way of node:worker_threads, which Node, Deno and Bun share.
 *
 * Measured on Node 20.20 and 24.21, Deno 2.9 and Bun 1.4, all four alike unless noted:
 * - A message reaches the other side at once, also when its sender then stays in a synchronous loop.
 * - `terminate` ends a worker that sleeps in Atomics.wait or spins, within 5 ms, and 'exit' follows with code 1.
 * - An uncaught error or rejection gives 'error' with the error's class and message, then 'exit' with code 1.
 *   Deno also prints it to stderr.
 * - An unreferenced worker lets the process go even while it loops. Node ends with code 13 when its main
 *   module still awaits one, so whoever awaits a worker's message keeps it referenced.
 * - Shared WASM memory passes through worker data and messages; reads from files go straight into it.
 * - A worker's young generation is kept small by `resourceLimits`: left to grow it costs a streaming model 8 to
 *   12 MB of resident memory on Node and Deno. Bun ignores the limit. Nothing here allocates much while it runs.
 * - Node takes 1 (20) or 2 MB (24) less for a worker whose old generation may not grow beyond 1 GB; from 2 GB on,
 *   or left alone, it takes them. Tables and weights are buffers, which that limit does not count.
 */
import {
  MessageChannel,
  type MessagePort as NodePort,
  parentPort,
  workerData as receivedData,
  receiveMessageOnPort,
  Worker,
} from 'node:worker_threads'
import { runtimeName } from './platform.ts'

/** One end of a line; see `createLine`. Our own words, so that users need no type declarations of Node. */
export interface MessagePort {
  postMessage(message: unknown): void
  close(): void
}

/** What a message hands over instead of copying. */
export type Transferable = ArrayBuffer | MessagePort

export interface WorkerHandle {
  post(message: unknown, transfer?: readonly Transferable[]): void
  onMessage(listener: (message: unknown) => void): void
  /** The worker threw, or could not start. Its exit follows. */
  onError(listener: (error: Error) => void): void
  /** The worker is gone, for whatever reason. */
  onExit(listener: (code: number) => void): void
  /**
   * Resolves when the worker is gone. It may leave by itself for `graceMs` before it is stopped.
   *
   * @returns false when it was not gone after `STOP_MS` more
   *
   * Deno never gives back the memory of a worker that it had to stop inside a synchronous loop: 12 MB each,
   * and every WASM memory that the worker knew. One that leaves by itself, or idles, is freed everywhere.
   */
  terminate(graceMs?: number): Promise<boolean>
  /**
   * Waits for a worker that was told to leave, and does not stop it. For those that may be in a system call which
   * does not return, such as a read from a file server that is away: nothing can stop them. Asked to, Node keeps
   * trying, Deno says that they are gone while they hold the memory, and Bun blocks the thread that asks.
   * @returns false when it was not gone after `STOP_MS`
   */
  left(): Promise<boolean>
  /** Keeps the process alive while the worker lives: the state after `spawnWorker`. */
  ref(): void
  unref(): void
}

export interface SpawnOptions {
  /** For debuggers and the messages of a crash. */
  readonly name: string
  /** What `data` hands over instead of copying. */
  readonly transfer?: readonly Transferable[]
}

/** How long the end of a worker may take once it was told to stop, in ms: milliseconds, but for a busy machine. */
const STOP_MS = 5000

/** Whether `terminate` returns for a worker that is in a system call: Bun's blocks until the call is over. */
export const terminateReturns = runtimeName() !== 'bun'

/** The least that V8 takes for short-lived objects. */
const YOUNG_GENERATION_MB = 1

/** The most that still counts as a small heap; hundreds of times what a worker's objects come to. */
const OLD_GENERATION_MB = 1024

/** Starts the module at `url` in a thread of its own; there, `workerData()` returns a copy of `data`. */
export function spawnWorker(url: URL, data: unknown, options: SpawnOptions): WorkerHandle {
  const worker = new Worker(url, {
    workerData: data,
    name: options.name,
    resourceLimits: { maxYoungGenerationSizeMb: YOUNG_GENERATION_MB, maxOldGenerationSizeMb: OLD_GENERATION_MB },
    transferList: transferList(options.transfer),
  })
  const gone = new Promise<void>((resolve) => worker.once('exit', () => resolve()))
  const end = async (): Promise<boolean> => {
    const inTime = await before(gone, STOP_MS)
    if (!inTime) worker.unref()
    return inTime
  }
  return {
    post: (message, transfer) => worker.postMessage(message, transferList(transfer)),
    onMessage: (listener) => void worker.on('message', listener),
    onError: (listener) => void worker.on('error', (error: unknown) => listener(asError(error))),
    onExit: (listener) => void worker.on('exit', listener),
    terminate: async (graceMs = 0) => {
      if (graceMs > 0) {
        worker.ref()
        if (await before(gone, graceMs)) return true
      }
      // Settles with the end of the worker, if that comes.
      void worker.terminate()
      return end()
    },
    left: () => {
      worker.ref()
      return end()
    },
    ref: () => worker.ref(),
    unref: () => worker.unref(),
  }
}

/** In a worker: what its spawner gave it. */
export function workerData(): unknown {
  return receivedData
}

/** In a worker: sends to the spawner's `onMessage`. */
export function postToParent(message: unknown, transfer?: readonly Transferable[]): void {
  parent().postMessage(message, transferList(transfer))
}

/** In a worker: hears the spawner's `post`, and keeps the worker alive for it. */
export function onParentMessage(listener: (message: unknown) => void): void {
  parent().on('message', listener)
}

/** In a worker: leaves now. What was posted before still arrives. */
export function leaveWorker(): never {
  parent()
  // In a worker this ends the thread alone.
  process.exit(0)
}

/**
 * Two ends of a line between two workers, to be given away by `transfer`.
 *
 * A memory that travels over such a line is unknown to the thread that made the line. That matters for shared
 * WASM memory: V8 does not count it as garbage worth collecting, so a long-lived thread that has once held one
 * keeps its bytes long after (Node and Deno: 20 memories of 52 MB, dropped one after the other, left 1.1 GB and
 * 0.4 GB behind). Threads that end with the model free it on every runtime when they end.
 */
export function createLine(): [MessagePort, MessagePort] {
  const { port1, port2 } = new MessageChannel()
  return [port1, port2]
}

/** The next message of a line; then the line is closed. */
export function receiveOnce(line: MessagePort): Promise<unknown> {
  return new Promise((resolve) => {
    const port = line as NodePort
    port.once('message', (message) => {
      line.close()
      resolve(message)
    })
  })
}

/**
 * What waits on a line, at once; `undefined` when nothing does. Until then it costs the receiver nothing, and closing
 * the line frees it: objects that share memory are not even made before somebody wants them. The other end must live.
 */
export function takeMessage(line: MessagePort): unknown {
  return receiveMessageOnPort(line as NodePort)?.message
}

function parent(): NodePort {
  if (parentPort === null) throw new Error('there is no parent thread: this is the main thread')
  return parentPort
}

function transferList(transfer: readonly Transferable[] = []): (ArrayBuffer | NodePort)[] {
  return transfer as (ArrayBuffer | NodePort)[]
}

/** Whether `event` comes within a time. */
export function before(event: Promise<void>, limitMs: number): Promise<boolean> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => resolve(false), limitMs)
    void event.then(() => {
      clearTimeout(timer)
      resolve(true)
    })
  })
}

function asError(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new Error(String(thrown))
}
