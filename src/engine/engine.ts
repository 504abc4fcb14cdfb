/**
 * The synchronous engine: requests in, text out. It runs on whatever thread calls it; with one
 * thread and no loaders it needs no workers.
 */
import { CoppiceError } from '../errors.ts'
import { Decoder } from '../generate/decode.ts'
import { GeneratedText } from '../generate/generated-text.ts'
import { Sampler } from '../generate/sampler.ts'
import { type GenerationDefaults, generationDefaults, type SamplingOptions } from '../generate/sampling-options.ts'
import { emptyStats, type Stats } from '../generate/statistics.ts'
import { verdictOn } from '../generate/verdict.ts'
import { SpanRecord } from '../memory/timeline.ts'
import { treeLogits } from '../model/tree-logits.ts'
import { VERIFY_RULES, type VerifyRule } from '../speculate/residual.ts'
import type { Tokenizer } from '../text/tokenizer.ts'
import type { ModelConfig } from '../weights/model-config.ts'
import { type Assembly, type AssemblyParts, assemble } from './assemble.ts'
import { chromeTrace } from './chrome-trace.ts'
import { checkOwner, DrafterMemories } from './drafter-memories.ts'
import { tokenMeaning } from './drafter-state.ts'
import type { CallOptions } from './protocol.ts'
import { DEFAULT_OWNER, Speculation } from './speculation.ts'
import { readGenerationConfig } from './tokenizer-files.ts'
import type { Completion, FinishReason, Logits, LogitsInput, Piece, Progress, Prompt } from './types.ts'

/** A call that ended early, with what it had written until then. */
export class InterruptedCall extends Error {
  readonly partial: Completion

  constructor(cause: unknown, partial: Completion) {
    super('the call was interrupted', { cause })
    this.partial = partial
  }
}

export class Engine {
  /** What drafters remember. Not to be changed while a text is written. */
  readonly memories: DrafterMemories
  readonly #parts: AssemblyParts
  readonly #assembly: Assembly
  readonly #speculation: Speculation
  readonly #decoder: Decoder
  readonly #defaults: GenerationDefaults
  readonly #tokenizer: Tokenizer | undefined

  /**
   * Brings all resident parts into memory.
   * @throws CoppiceError as `assemble`; INCOMPATIBLE_STATE | UNSUPPORTED_FORMAT when the drafters' state cannot be used
   */
  constructor(parts: AssemblyParts) {
    const { preparation } = parts
    this.#parts = parts
    this.#assembly = assemble(parts)
    this.#tokenizer = preparation.tokenizer
    const { target, draft, store, disk } = this.#assembly
    const vocabulary = Math.min(target.config.vocabulary, draft?.config.vocabulary ?? Number.POSITIVE_INFINITY)
    const { speculation } = preparation
    const { plan } = preparation
    const streams = plan.streamedBytesPerPass > 0
    this.#speculation = new Speculation({
      choices: speculation,
      draft,
      rows: target.batch.capacity,
      vocabulary,
      targetVocabulary: target.config.vocabulary,
      context: plan.context,
      drafterBytes: plan.drafterBytes,
      streams,
      readAhead: streams ? Math.min(1, (plan.slots * plan.slotBytes) / plan.streamedBytesPerPass) : 0,
    })
    const known = target.config.vocabulary
    this.memories = new DrafterMemories({
      speculation: this.#speculation,
      vocabulary: known,
      meaning: () => tokenMeaning(known, this.#tokenizer?.vocabulary),
    })
    if (speculation.state !== undefined) this.memories.load(speculation.state)
    this.#defaults = generationDefaults(readGenerationConfig(preparation.target.packed.directory))
    this.#decoder = new Decoder({
      target,
      drafter: this.#speculation.drafter,
      nodes: speculation.nodes,
      depth: speculation.depth,
      disk,
      timeline: parts.timeline,
      costs: this.#speculation.costs,
      pipeline: speculation.pipeline,
      isWarm: () => store.isWarm,
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
    const sampling = { ...this.#defaults.sampling, ...samplingOptions(options) }
    const sampler = new Sampler(sampling, this.config.vocabulary, this.#assembly.target.sampling)
    const maxTokens = checkMaxTokens(options.maxTokens)
    const replay = checkReplay(options)
    const ends = new Set([...this.config.eosTokens, ...this.#defaults.eosTokens])
    const isEnd = (token: number): boolean => options.ignoreEos !== true && ends.has(token)
    const text = new GeneratedText(this.#tokenizer, stopStrings(options.stop), !Array.isArray(prompt))
    const owner = checkOwner(options.owner ?? DEFAULT_OWNER)
    const stats = emptyStats(this.#parts.memories.reduce((sum, { buffer }) => sum + buffer.byteLength, 0))
    const residual = checkVerify(options.verify) === 'residual' ? this.#speculation.beginResidual(sampler) : undefined
    if (residual === undefined) this.#speculation.begin(sampler, owner)
    const record = options.trace === true ? new SpanRecord() : undefined
    const complete = (finishReason: FinishReason): Completion => {
      this.#judge(stats)
      return {
        text: text.text,
        tokens: text.tokens,
        finishReason,
        usage: { promptTokens: tokens.length, completionTokens: text.tokens.length },
        seed: options.seed,
        stats,
        ...(record && { trace: chromeTrace(record, this.#parts.preparation, stats) }),
      }
    }
    const flush = (): void => {
      const pieces = text.takePieces()
      if (pieces.length > 0) emit(pieces)
    }
    try {
      const reason = this.#decoder.run(
        {
          prompt: tokens,
          sampler,
          residual,
          maxTokens,
          replay,
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

  /**
   * Teaches an owner's drafters a text that was not written here.
   * @throws CoppiceError INVALID_INPUT | INVALID_OPTION | NO_TOKENIZER
   */
  warm(text: string | readonly number[], owner: string): void {
    const tokens = typeof text === 'string' ? this.#needTokenizer().encode(text, { addBos: false }) : text
    if (!Array.isArray(tokens)) throw new CoppiceError('INVALID_INPUT', 'a text is a string or a list of token ids')
    this.#parts.control.checkpoint()
    this.memories.warm(tokens, owner)
  }

  close(): void {
    this.#assembly.close()
  }

  /** Adds what can be said of guessing, if there was any. */
  #judge(stats: Stats): void {
    const speculation = this.#speculation.statistics(stats)
    if (speculation === undefined) return
    stats.speculation = speculation
    stats.verdict = verdictOn(stats)
  }

  #progress(progress: Progress): void {
    this.#parts.onProgress(progress)
  }

  #encode(prompt: Prompt): readonly number[] {
    checkPrompt(prompt)
    if (typeof prompt === 'object' && 'tokens' in prompt) return prompt.tokens
    const tokenizer = this.#needTokenizer()
    return typeof prompt === 'string' ? tokenizer.encode(prompt) : tokenizer.encodeChat(prompt)
  }

  #needTokenizer(): Tokenizer {
    if (this.#tokenizer !== undefined) return this.#tokenizer
    throw new CoppiceError(
      'NO_TOKENIZER',
      `${this.#parts.preparation.target.packed.directory} has no tokenizer.json, so text cannot be turned into tokens; give { tokens } or add the file and pack again`,
    )
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

function checkVerify(verify: VerifyRule = 'exact'): VerifyRule {
  if (VERIFY_RULES.includes(verify)) return verify
  throw new CoppiceError('INVALID_OPTION', `verify must be 'exact' or 'residual', not ${JSON.stringify(verify)}`)
}

/** The ids are checked with the prompt's. */
function checkReplay({ replay, verify }: CallOptions): readonly number[] | undefined {
  if (replay === undefined) return undefined
  if (!Array.isArray(replay)) {
    throw new CoppiceError('INVALID_INPUT', `replay must be a list of token ids, not ${JSON.stringify(replay)}`)
  }
  if (verify !== 'residual') return replay
  throw new CoppiceError('INVALID_OPTION', "replay needs verify 'exact': the residual rule draws the text itself")
}

function checkMaxTokens(maxTokens: number | undefined): number | undefined {
  if (maxTokens !== undefined && (!Number.isInteger(maxTokens) || maxTokens < 1)) {
    throw new CoppiceError('INVALID_OPTION', `maxTokens must be an integer of at least 1, not ${maxTokens}`)
  }
  return maxTokens
}
