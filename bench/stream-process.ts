/** The benchmark's side of a process that runs passes (stream-passes.ts). */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import type { ModelPlan } from '../src/engine/types.ts'
import { selfCommand } from '../test/runtime/self-command.ts'
import { atEnd } from './cleanup.ts'
import type { StreamModel } from './stream-model.ts'

export interface PassesRequest {
  /** Its context is `prefix`, or more. The budget is the plan's. */
  readonly model: StreamModel
  /** Committed positions that every row sees. */
  readonly prefix: number
  /** Whether the next unit is read while one is computed with. */
  readonly readAhead: boolean
}

/** Asks for passes of `rows` rows, of which `count` are timed. */
export interface PassCommand {
  readonly rows: number
  readonly count: number
  /** Whether the system must forget what it read before each pass. */
  readonly cold: boolean
}

export interface PassesAnswer {
  /** Of each pass. */
  readonly ms: readonly number[]
  readonly bytesPerPass: number
  readonly waitMsPerPass: number
  /** Checksum of the last row's logits. */
  readonly logits: number
  readonly peakBytes: number
}

interface Conversation {
  readonly child: ChildProcess
  readonly lines: AsyncIterator<string>
  readonly kill: () => void
  errors: string
}

/** Of a process beside its budget, with some air. */
const BESIDES_BYTES = 150e6

/** Opened when it is first asked, and again after `close`. */
export class PassProcess {
  readonly name: string
  /** What it takes when it is open, about. */
  readonly bytes: number
  /** The most bytes that it has had resident. */
  peakBytes = 0
  readonly #request: PassesRequest
  #conversation: Conversation | undefined

  constructor(name: string, plan: ModelPlan, request: PassesRequest) {
    const { model } = request
    this.name = name
    this.bytes = plan.totalBytes + BESIDES_BYTES
    this.#request = { ...request, model: { ...model, options: { ...model.options, memory: plan.totalBytes } } }
  }

  get isOpen(): boolean {
    return this.#conversation !== undefined
  }

  async passes(command: PassCommand): Promise<PassesAnswer> {
    const conversation = this.#conversation ?? (await this.#open())
    conversation.child.stdin!.write(`${JSON.stringify(command)}\n`)
    return this.#answer(conversation)
  }

  /** Ends the process; the next command starts another one. */
  async close(): Promise<void> {
    const conversation = this.#conversation
    if (conversation === undefined) return
    this.#conversation = undefined
    const gone = once(conversation.child, 'close')
    conversation.child.stdin!.end()
    await gone
    conversation.kill()
  }

  async #open(): Promise<Conversation> {
    const script = fileURLToPath(new URL('./stream-passes.js', import.meta.url))
    const [command, ...args] = selfCommand(script, JSON.stringify(this.#request))
    const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'pipe'] })
    const lines = createInterface(child.stdout)[Symbol.asyncIterator]()
    const conversation: Conversation = { child, lines, kill: atEnd(() => child.kill('SIGKILL')), errors: '' }
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      conversation.errors += text
    })
    this.#conversation = conversation
    await this.#answer(conversation)
    return conversation
  }

  async #answer({ child, lines, errors }: Conversation): Promise<PassesAnswer> {
    const { value, done } = await lines.next()
    if (done) {
      if (child.exitCode === null && child.signalCode === null) await once(child, 'close')
      const end = child.exitCode ?? child.signalCode
      throw new Error(`the process of "${this.name}" ended with ${end}: ${this.#conversation?.errors ?? errors}`)
    }
    const answer = JSON.parse(value) as PassesAnswer
    this.peakBytes = Math.max(this.peakBytes, answer.peakBytes)
    return answer
  }
}
