/** Messages between the front and the engine worker, and what helper workers are born with. */
import type { ErrorCode } from '../errors.ts'
import type { OpenMode } from '../runtime/files.ts'
import type { BoardShape } from '../memory/load-board.ts'
import type { ModelConfig } from '../weights/model-config.ts'
import type { Completion, GenerateOptions, Logits, LogitsInput, LoadOptions, ModelPlan, Piece, Progress, Prompt } from './types.ts'

/** Load options that can be sent to another thread. */
export type EngineOptions = Omit<LoadOptions, 'onProgress' | 'signal'>
/** Generation options that can be sent to another thread; the seed is always there. */
export type CallOptions = Omit<GenerateOptions, 'signal' | 'seed'> & { readonly seed: number }

export interface EngineWorkerData {
  readonly model: string
  readonly options: EngineOptions
  readonly control: SharedArrayBuffer
}

/** What the front needs to start the other workers. */
export interface Prepared {
  readonly type: 'prepared'
  readonly memory: WebAssembly.Memory
  readonly board: SharedArrayBuffer
  readonly shape: BoardShape
  readonly threads: number
  readonly loaders: number
  readonly mode: OpenMode
}

export interface ComputeWorkerData {
  readonly memory: WebAssembly.Memory
  readonly control: SharedArrayBuffer
  readonly part: number
  readonly threads: number
  readonly kernels: WebAssembly.Module | undefined
}

export interface LoaderWorkerData {
  readonly memory: WebAssembly.Memory
  readonly control: SharedArrayBuffer
  readonly board: SharedArrayBuffer
  readonly shape: BoardShape
  readonly mode: OpenMode
  readonly kernels: WebAssembly.Module | undefined
}

export interface ErrorReport {
  readonly code: ErrorCode | undefined
  readonly message: string
}

export type FrontMessage =
  | { readonly type: 'start' }
  | { readonly type: 'generate'; readonly prompt: Prompt; readonly options: CallOptions }
  | { readonly type: 'logits'; readonly input: LogitsInput }

export type EngineMessage =
  | Prepared
  | { readonly type: 'progress'; readonly progress: Progress }
  | {
      readonly type: 'loaded'
      readonly config: ModelConfig
      readonly plan: ModelPlan
      /** Directory with the tokenizer's files; undefined when there is none. */
      readonly tokenizer: string | undefined
    }
  | { readonly type: 'pieces'; readonly pieces: readonly Piece[] }
  | { readonly type: 'completed'; readonly completion: Completion }
  | { readonly type: 'logits'; readonly logits: Logits }
  | { readonly type: 'failed'; readonly error: ErrorReport; readonly partial: Completion | undefined }

/** From compute and loader workers. */
export type HelperMessage = { readonly type: 'ready' } | { readonly type: 'failed'; readonly error: ErrorReport }
