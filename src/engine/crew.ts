/**
 * All workers of one model. The front starts and watches every one of them, because a thread that
 * sleeps in Atomics.wait hears nothing of its children's end.
 */
import { CoppiceError } from '../errors.ts'
import {
  createLine,
  type MessagePort,
  spawnWorker,
  type Transferable,
  terminateReturns,
  type WorkerHandle,
} from '../runtime/workers.ts'
import type { Control } from '../tensor/control.ts'
import { errorFrom } from './error-report.ts'
import type {
  ComputeWorkerData,
  EngineMessage,
  EngineWorkerData,
  FrontMessage,
  HelperMessage,
  LineMessage,
  LoaderWorkerData,
  Prepared,
} from './protocol.ts'

/** How long the engine may take to notice a dead helper by itself, in ms. */
const FAULT_GRACE_MS = 400

/** How long a worker may take to leave by itself, in ms: those that do free their memory on every runtime. */
const LEAVE_MS = 500

export interface CrewMember {
  readonly role: 'engine' | 'compute' | 'loader'
  readonly worker: WorkerHandle
  /** A helper is in its loop, which it leaves by itself when the control block says so. */
  serves: boolean
}

export class Crew {
  readonly members: CrewMember[] = []
  /** Messages of the engine other than 'prepared', which the crew answers itself. */
  onMessage: (message: EngineMessage) => void = () => {}
  /** A worker is gone for good. The engine may still report the same first, in a 'failed' message. */
  onFailure: (error: Error) => void = () => {}
  readonly #control: Control
  readonly #engine: WorkerHandle
  /** The engine's ends of the helpers' lines, until it gets them. */
  #lines: MessagePort[] = []
  #dismissed = false
  #waitingFor = 0

  /** @param threads that compute, the engine's included: they start together, since starting takes longest */
  constructor(control: Control, data: EngineWorkerData, threads: number) {
    this.#control = control
    this.#engine = this.#hire('engine', new URL('./engine-worker.js', import.meta.url), data).worker
    this.#engine.onMessage((message) => {
      const engineMessage = message as EngineMessage
      if (engineMessage.type === 'prepared') this.#completeCrew(engineMessage)
      else this.onMessage(engineMessage)
    })
    for (let i = 1; i < threads; i++) {
      const url = new URL('./compute-worker.js', import.meta.url)
      this.#hireHelper('compute', url, (line): ComputeWorkerData => ({ line, control: control.buffer, threads }))
    }
  }

  send(message: FrontMessage, transfer: readonly Transferable[] = []): void {
    this.#engine.post(message, transfer)
  }

  /** While busy the process stays alive for the engine; idle models do not keep it. */
  setBusy(busy: boolean): void {
    if (busy) this.#engine.ref()
    else this.#engine.unref()
  }

  /**
   * Ends all workers and waits until they are gone.
   * @throws CoppiceError WORKER_FAILED when one does not end
   */
  async dismiss(): Promise<void> {
    this.#dismissed = true
    this.#control.requestAbort()
    this.#control.stop()
    this.#engine.post({ type: 'leave' } satisfies FrontMessage)
    for (const line of this.#lines) line.postMessage(undefined satisfies LineMessage)
    const ends = this.members.map(async ({ role, worker, serves }) => {
      const mayHang = (role === 'loader' && serves) || (role === 'engine' && !terminateReturns)
      if (mayHang) return (await worker.left()) ? [] : [role]
      return (await worker.terminate(LEAVE_MS)) ? [] : [role]
    })
    const stuck = (await Promise.all(ends)).flat()
    this.members.length = 0
    if (stuck.length === 0) return
    throw new CoppiceError(
      'WORKER_FAILED',
      `the model is closed, but of its threads the following did not end: ${stuck.join(', ')}. They wait for the system, most likely for a read from a disk or server that does not answer; the model's memory is free when that read is over`,
    )
  }

  #hire(role: CrewMember['role'], url: URL, data: unknown, transfer: readonly Transferable[] = []): CrewMember {
    const worker = spawnWorker(url, data, { name: `coppice ${role}`, transfer })
    const member: CrewMember = { role, worker, serves: false }
    this.members.push(member)
    worker.onError((error) => this.#lost(role, error.message))
    worker.onExit((code) => this.#lost(role, `it exited with code ${code}`))
    return member
  }

  #completeCrew({ board, shape, files, timeline, loaders }: Prepared): void {
    if (this.#dismissed) return
    const control = this.#control.buffer
    for (let i = 0; i < loaders; i++) {
      const url = new URL('./loader-worker.js', import.meta.url)
      const data = { control, board, shape, files, timeline, loader: i }
      this.#hireHelper('loader', url, (line): LoaderWorkerData => ({ line, ...data }))
    }
    const lines = this.#lines
    this.#lines = []
    this.send({ type: 'helpers', lines }, lines)
    if (this.#waitingFor === 0) this.send({ type: 'start' })
  }

  /** @param data what the helper is born with, its end of a line to the engine among it */
  #hireHelper(role: CrewMember['role'], url: URL, data: (line: MessagePort) => unknown): void {
    const [engineEnd, line] = createLine()
    this.#lines.push(engineEnd)
    this.#waitingFor++
    const member = this.#hire(role, url, data(line), [line])
    member.worker.unref()
    member.worker.onMessage((message) => {
      const helperMessage = message as HelperMessage
      if (helperMessage.type === 'failed') {
        this.onFailure(errorFrom(helperMessage.error))
        return
      }
      member.serves = true
      if (--this.#waitingFor === 0) this.send({ type: 'start' })
    })
  }

  #lost(role: CrewMember['role'], reason: string): void {
    if (this.#dismissed) return
    this.#control.raiseFault()
    const error = new CoppiceError(
      'WORKER_FAILED',
      `the ${role} thread of this model ended unexpectedly (${reason}), so the call cannot finish; close the model and load it again`,
    )
    // A living engine reports the fault in words of its own; one that is dead or stuck does not.
    if (role === 'engine') this.onFailure(error)
    else setTimeout(() => this.onFailure(error), FAULT_GRACE_MS).unref?.()
  }
}
