/** Messages between the front and the engine worker, and what helper workers are born with. */
import type { ErrorCode } from '../errors.ts'
import type { BoardShape } from '../memory/load-board.ts'
import type { FileAccesses } from '../memory/packed-reader.ts'
import type { MessagePort } from '../runtime/workers.ts'
import type { ModelConfig } from '../weights/model-config.ts'
import type {
  Completion,
  DrafterMemoryUse,
  GenerateOptions,
  KernelInfo,
  LoadOptions,
  Logits,
  LogitsInput,
  ModelPlan,
  Piece,
  Progress,
  Prompt,
} from './types.ts'

/** Load options that can be sent to another thread. */
export type EngineOptions = Omit<LoadOptions, 'onProgress' | 'signal'>
/** Generation options that can be sent to another thread; the seed is always there. */
export type CallOptions = Omit<GenerateOptions, 'signal' | 'seed'> & { readonly seed: number }

export interface EngineWorkerData {
  readonly model: string
  readonly options: EngineOptions
  readonly control: SharedArrayBuffer
  /** Bytes of one WASM memory at the most; absent: what an address can reach. */
  readonly memoryLimit: number | undefined
}

/** What the front needs to start the loaders. The compute threads are on their way by then. */
export interface Prepared {
  readonly type: 'prepared'
  readonly board: SharedArrayBuffer
  readonly shape: BoardShape
  /** Takes the loaders' spans. */
  readonly timeline: SharedArrayBuffer
  readonly loaders: number
  readonly files: FileAccesses
}

/**
 * The model's memories go from the engine to each helper on a line of its own and never through the
 * front, whose thread outlives the model and would keep them (see runtime/workers.ts).
 */
export interface MemoryMessage {
  /** By bank. */
  readonly memories: readonly WebAssembly.Memory[]
  /** For all threads: compiled and tested once. */
  readonly kernels: WebAssembly.Module
}

/** What a helper hears on its line: `undefined` when loading ended before there was a memory. */
export type LineMessage = MemoryMessage | undefined

export interface ComputeWorkerData {
  readonly line: MessagePort
  readonly control: SharedArrayBuffer
  readonly threads: number
}

export interface LoaderWorkerData {
  readonly line: MessagePort
  readonly control: SharedArrayBuffer
  readonly board: SharedArrayBuffer
  readonly shape: BoardShape
  readonly files: FileAccesses
  readonly timeline: SharedArrayBuffer
  /** Number of the loader. */
  readonly loader: number
}

export interface ErrorReport {
  readonly code: ErrorCode | undefined
  readonly message: string
}

export type FrontMessage =
  /** The helpers are born; each waits for the memories at the other end of its line. */
  | { readonly type: 'helpers'; readonly lines: readonly MessagePort[] }
  /** All helpers are ready. */
  | { readonly type: 'start' }
  /** The model is closed. */
  | { readonly type: 'leave' }
  | {
      readonly type: 'generate'
      readonly prompt: Prompt
      readonly options: CallOptions
      /** Whether to send pieces, or the completion alone. */
      readonly streams: boolean
    }
  | { readonly type: 'logits'; readonly input: LogitsInput }
  | { readonly type: 'saveState'; readonly file: string; readonly owner: string }
  | { readonly type: 'warm'; readonly text: string | readonly number[]; readonly owner: string }
  | { readonly type: 'memories' }
  | { readonly type: 'forget'; readonly owner: string }

export type EngineMessage =
  | Prepared
  | { readonly type: 'progress'; readonly progress: Progress }
  | {
      readonly type: 'loaded'
      readonly config: ModelConfig
      readonly plan: ModelPlan
      readonly kernels: KernelInfo
      /** Where the engine's tokenizer waits as a `TokenizerData`, for when it is wanted; undefined when there is none. */
      readonly tokenizer: MessagePort | undefined
    }
  | { readonly type: 'pieces'; readonly pieces: readonly Piece[] }
  | { readonly type: 'completed'; readonly completion: Completion }
  | { readonly type: 'logits'; readonly logits: Logits }
  | { readonly type: 'memories'; readonly uses: readonly DrafterMemoryUse[] }
  /** A call that has no other answer. */
  | { readonly type: 'done' }
  | { readonly type: 'failed'; readonly error: ErrorReport; readonly partial: Completion | undefined }

/** From compute and loader workers. */
export type HelperMessage = { readonly type: 'ready' } | { readonly type: 'failed'; readonly error: ErrorReport }
