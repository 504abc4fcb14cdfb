/**
 * coppice: language models that do not fit in memory, in any JavaScript runtime.
 *
 * ```ts
 * import { load } from 'coppice'
 *
 * await using model = await load('models/target', { draft: 'models/draft', memory: '22MB' })
 * for await (const piece of model.generate('The old house stood')) process.stdout.write(piece.text)
 * ```
 *
 * @packageDocumentation
 */
import { loadModel } from './engine/front.ts'
import type { LoadOptions, Model } from './engine/types.ts'

export { AbortError } from './engine/error-report.ts'
export type {
  Completion,
  DrafterMemoryUse,
  Expectation,
  FinishReason,
  GenerateOptions,
  KernelInfo,
  LoadOptions,
  Logits,
  LogitsInput,
  Model,
  ModelPlan,
  ModelTokenizer,
  OwnerOptions,
  PassExpectation,
  Piece,
  Progress,
  Prompt,
} from './engine/types.ts'
export { CoppiceError, type ErrorCode } from './errors.ts'
export type { DrafterStatistics, RankStatistics, SpeculationStatistics, Stats } from './generate/statistics.ts'
export type { Plan, PlannedBank, PlannedGroup, PlannedRegion } from './memory/plan.ts'
export type { KvKind } from './model/kv-cache.ts'
export type { DrafterChoice, DrafterName, ModelDrafter, SourceName } from './speculate/drafter.ts'
export type { PacingName } from './speculate/pacing.ts'
export type { VerifyRule } from './speculate/residual.ts'
export type { JacobiOptions } from './speculate/sources/jacobi.ts'
export type { NgramOptions } from './speculate/sources/ngram.ts'
export type { SourceOptions } from './speculate/sources/source-options.ts'
export type { TrieMode, TrieOptions } from './speculate/sources/trie.ts'
export type { TrigramOptions } from './speculate/sources/trigram.ts'
export type { Region } from './tensor/arena.ts'
export type { KernelVariant } from './tensor/kernels.ts'
export type { Kind } from './tensor/layout.ts'
export type { Message } from './text/chat.ts'
export type { Family, ModelConfig, RopeScaling } from './weights/model-config.ts'

/**
 * Loads a model: a packed directory, or a Hugging Face directory, which is packed into the cache on
 * first use.
 * @param model path of the directory
 * @throws CoppiceError MODEL_NOT_FOUND | UNSUPPORTED_ARCHITECTURE | UNSUPPORTED_FORMAT | UNSUPPORTED_RUNTIME |
 *   CORRUPT_FILE | FILE_SYSTEM | OUT_OF_BUDGET | CONTEXT_OVERFLOW | INCOMPATIBLE_DRAFT | INCOMPATIBLE_STATE |
 *   INVALID_OPTION | WORKER_FAILED | ABORTED
 */
export function load(model: string, options: LoadOptions = {}): Promise<Model> {
  return loadModel(model, options)
}
