/**
 * The synchronous engine: requests in, text out. It runs on whatever thread calls it; with one
 * thread and no loaders it needs no workers.
 */
import { CoppiceError } from '../errors.ts'
import { Decoder } from '../generate/decode.ts'
import { GeneratedText } from '../generate/generated-text.ts'
import { type GenerationDefaults, generationDefaults, Sampler, type SamplingOptions } from '../generate/sampler.ts'
import { emptyStats } from '../generate/statistics.ts'
import { SpanRecord } from '../memory/timeline.ts'
import { treeLogits } from '../model/tree-logits.ts'
import { TreeDrafter } from '../speculate/drafters/tree.ts'
import type { Tokenizer } from '../text/tokenizer.ts'
import type { ModelConfig } from '../weights/model-config.ts'
import { type Assembly, type AssemblyParts, assemble } from './assemble.ts'
import { chromeTrace } from './chrome-trace.ts'
import { PATH_DEPTH } from './prepare.ts'
import type { CallOptions } from './protocol.ts'
import { readGenerationConfig } from './tokenizer-files.ts'
import type { Completion, FinishReason, Logits, LogitsInput, Piece, Progress, Prompt } from './types.ts'

/**
 * Exponent on the draft's probabilities. At temperature 0 the target takes its top token, however
 * flat the draft is, so probabilities as they are underrate the likeliest branch; 3 was the best of
 * 2, 3 and 4. Above, the target samples from its distribution to the power of 1/temperature, and so
 * the draft's is taken to the same power.
 */
const GREEDY_SHARPENING = 3
const defaultSharpening = (temperature: number): number =>
  Math.min(GREEDY_SHARPENING, temperature === 0 ? GREEDY_SHARPENING : 1 / temperature)

export interface EngineParts extends AssemblyParts {
  /** Overrides the drafter's sharpening at every temperature. */
  readonly sharpening: number | undefined
}

/** A call that ended early, with what it had written until then. */
export class InterruptedCall extends Error {
  readonly partial: Completion

  constructor(cause: unknown, partial: Completion) {
    super('the call was interrupted', { cause })
    this.partial = partial
  }
}

export class Engine {
  readonly #parts: EngineParts
  readonly #assembly: Assembly
  readonly #drafter: TreeDrafter | undefined
  readonly #decoder: Decoder
  readonly #defaults: GenerationDefaults
  readonly #tokenizer: Tokenizer | undefined

  /** Brings all resident parts into memory. @throws CoppiceError as `assemble` */
  constructor(parts: EngineParts) {
    const { preparation } = parts
    this.#parts = parts
    this.#assembly = assemble(parts)
    this.#tokenizer = preparation.tokenizer
    const { target, draft, store, disk } = this.#assembly
    if (draft !== undefined) {
      this.#drafter = new TreeDrafter(draft, { nodes: preparation.nodes, sharpening: GREEDY_SHARPENING })
    }
    this.#defaults = generationDefaults(readGenerationConfig(preparation.target.packed.directory))
    this.#decoder = new Decoder({
      target,
      drafter: this.#drafter,
      nodes: preparation.nodes,
      depth: PATH_DEPTH,
      disk,
      timeline: parts.timeline,
      expectHead: (follows) => {
        store.headFollows = follows
      },
    })
  }

  get config(): ModelConfig {
    return this.#parts.preparation.target.packed.manifest.config
  }

  /**
   * @param emit takes the pieces of each pass
   * @throws InterruptedCall when the call was cut short after it began; CoppiceError otherwise
   */
  generate(prompt: Prompt, options: CallOptions, emit: (pieces: Piece[]) => void): Completion {
    const tokens = this.#encode(prompt)
    const sampler = new Sampler({ ...this.#defaults.sampling, ...samplingOptions(options) }, this.config.vocabulary)
    const maxTokens = checkMaxTokens(options.maxTokens)
    const ends = new Set([...this.config.eosTokens, ...this.#defaults.eosTokens])
    const isEnd = (token: number): boolean => options.ignoreEos !== true && ends.has(token)
    const text = new GeneratedText(this.#tokenizer, stopStrings(options.stop), !Array.isArray(prompt))
    const stats = emptyStats(this.#parts.memories.reduce((sum, { buffer }) => sum + buffer.byteLength, 0))
    if (this.#drafter !== undefined) {
      this.#drafter.sharpening = this.#parts.sharpening ?? defaultSharpening(sampler.options.temperature)
    }
    const record = options.trace === true ? new SpanRecord() : undefined
    const complete = (finishReason: FinishReason): Completion => ({
      text: text.text,
      tokens: text.tokens,
      finishReason,
      usage: { promptTokens: tokens.length, completionTokens: text.tokens.length },
      seed: options.seed,
      stats,
      ...(record && { trace: chromeTrace(record, this.#parts.preparation, stats) }),
    })
    const flush = (): void => {
      const pieces = text.takePieces()
      if (pieces.length > 0) emit(pieces)
    }
    try {
      const reason = this.#decoder.run(
        {
          prompt: tokens,
          sampler,
          maxTokens,
          isEnd,
          emit: (token) => text.push(token),
          afterPass: flush,
          logprobs: options.logprobs === true,
          onPrefill: (done, total) => this.#progress({ phase: 'prefill', file: 'prompt', done, total }),
          record,
        },
        stats,
      )
      text.finish()
      flush()
      return complete(reason)
    } catch (error) {
      this.#assembly.store.releaseAll()
      text.finish()
      throw new InterruptedCall(error, complete('aborted'))
    } finally {
      this.#assembly.rest()
    }
  }

  /** Logits of a chain or tree in one pass. @throws CoppiceError INVALID_INPUT | CONTEXT_OVERFLOW */
  logits(input: LogitsInput): Logits {
    try {
      return treeLogits(this.#assembly.target, this.#assembly.store, input)
    } catch (error) {
      this.#assembly.store.releaseAll()
      throw error
    } finally {
      this.#assembly.rest()
    }
  }

  close(): void {
    this.#assembly.close()
  }

  #progress(progress: Progress): void {
    this.#parts.onProgress(progress)
  }

  #encode(prompt: Prompt): readonly number[] {
    checkPrompt(prompt)
    if (typeof prompt === 'object' && 'tokens' in prompt) return prompt.tokens
    if (this.#tokenizer === undefined) {
      throw new CoppiceError(
        'NO_TOKENIZER',
        `${this.#parts.preparation.target.packed.directory} has no tokenizer.json, so text cannot be turned into tokens; give { tokens } or add the file and pack again`,
      )
    }
    return typeof prompt === 'string' ? this.#tokenizer.encode(prompt) : this.#tokenizer.encodeChat(prompt)
  }
}

/** The prompt may come from code without types. @throws CoppiceError INVALID_INPUT */
function checkPrompt(prompt: unknown): asserts prompt is Prompt {
  if (typeof prompt === 'string') return
  if (Array.isArray(prompt)) {
    const wrong = prompt.findIndex((m) => typeof m?.role !== 'string' || typeof m?.content !== 'string')
    if (wrong < 0 && prompt.length > 0) return
    throw new CoppiceError(
      'INVALID_INPUT',
      wrong < 0
        ? 'the prompt is an empty list of messages; give at least one'
        : `message ${wrong} of the prompt needs a role and a content, both texts`,
    )
  }
  if (typeof prompt === 'object' && prompt !== null && 'tokens' in prompt && Array.isArray(prompt.tokens)) return
  throw new CoppiceError('INVALID_INPUT', 'a prompt is a text, a list of messages {role, content}, or {tokens: [...]}')
}

const SAMPLING_NAMES = [
  'temperature',
  'topK',
  'topP',
  'minP',
  'repeatPenalty',
  'repeatWindow',
  'presencePenalty',
  'frequencyPenalty',
  'logitBias',
  'seed',
] as const satisfies (keyof SamplingOptions)[]

function samplingOptions(options: CallOptions): Partial<SamplingOptions> {
  return Object.fromEntries(
    SAMPLING_NAMES.filter((name) => options[name] !== undefined).map((name) => [name, options[name]]),
  )
}

function stopStrings(stop: CallOptions['stop']): readonly string[] {
  const list = stop === undefined ? [] : typeof stop === 'string' ? [stop] : stop
  if (!Array.isArray(list) || list.some((text) => typeof text !== 'string' || text.length === 0)) {
    throw new CoppiceError('INVALID_OPTION', 'stop must be a text of at least one character, or a list of such texts')
  }
  return list
}

function checkMaxTokens(maxTokens: number | undefined): number | undefined {
  if (maxTokens !== undefined && (!Number.isInteger(maxTokens) || maxTokens < 1)) {
    throw new CoppiceError('INVALID_OPTION', `maxTokens must be an integer of at least 1, not ${maxTokens}`)
  }
  return maxTokens
}
