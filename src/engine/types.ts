/** The public types of coppice. */
import type { CoppiceError } from '../errors.ts'
import type { Stats } from '../generate/statistics.ts'
import type { Plan } from '../memory/plan.ts'
import type { KvKind } from '../model/kv-cache.ts'
import type { DrafterChoice, SourceName } from '../speculate/drafter.ts'
import type { PacingName } from '../speculate/pacing.ts'
import type { VerifyRule } from '../speculate/residual.ts'
import type { SourceOptions } from '../speculate/sources/source-options.ts'
import type { KernelVariant } from '../tensor/kernels.ts'
import type { Kind } from '../tensor/layout.ts'
import type { Message } from '../text/chat.ts'
import type { ModelConfig } from '../weights/model-config.ts'

export interface Progress {
  /** 'pack': writing a packed copy of the model; 'load': bringing resident parts in; 'prefill': reading the prompt. */
  readonly phase: 'pack' | 'load' | 'prefill'
  /** What is being worked on. */
  readonly file: string
  /** Bytes (pack, load) or tokens (prefill). */
  readonly done: number
  readonly total: number
}

export interface LoadOptions {
  /**
   * Directory of a draft model with the target's vocabulary; 'self:' and a kind of weights, such as 'self:q4', for
   * the target's own copy in that kind; or 'none' for plain decoding, unless `drafters` says otherwise. Default: no
   * draft model.
   */
  draft?: string
  /**
   * What makes guesses: 'tree' or 'chain', which need a draft model; without one 'trie', 'trigram', 'recycle', 'ngram',
   * 'jacobi'; several of them as one tree; or 'hybrid', all that pay. One alone that needs no model makes its trees as
   * published. [] is plain decoding. Default 'hybrid', unless `draft` is 'none'.
   */
  drafters?: DrafterChoice[]
  /**
   * Parameters of drafters without a model, by drafter, such as `{ trie: { branchLength: 16, mode: 'single' } }`: those
   * of their papers, with the papers' values as defaults (see `SourceOptions`). How `trie` and `jacobi` make trees,
   * and how much `ngram` copies, is of matter only where one is alone.
   */
  drafterOptions?: SourceOptions
  /**
   * File of what drafters without a model learnt in an earlier run, as `Model.saveDrafterState` writes it: the default
   * owner's begin with it. Of tables that are larger than `drafterMemory` allows, what counts most is taken; what it has
   * of drafters that are not among these is kept, and saved again. It is refused when it is damaged (CORRUPT_FILE),
   * newer (UNSUPPORTED_FORMAT), of another vocabulary (INCOMPATIBLE_STATE) or not there (FILE_SYSTEM), and without such
   * drafters, or with too little memory for what is kept (INVALID_OPTION). Default: nothing is known.
   */
  drafterState?: string
  /**
   * Guesses checked per pass: a number of nodes, the root not counted, 0 for plain decoding; or 'auto', as many as
   * pay by what passes turn out to cost and guesses to be worth, up to 63. Default 'auto', but for chains 16.
   */
  nodes?: number | 'auto'
  /**
   * When to stop drafting. 'planner': when more guesses do not pay (the default with nodes 'auto'); 'fixed': at the
   * number of nodes (the default with a number); 'fallback': when the best path gets too unlikely, by LLMCad's
   * self-adjusting rule, with `nodes` as the limit.
   */
  pacing?: PacingName
  /** Whether drafting goes on while the target waits for the disk. Default true. */
  pipeline?: boolean
  /**
   * Whether guesses at temperatures above 0 are ranked with the noise that the target's sampler will add. It
   * changes which guesses are checked, never the text. Default true.
   */
  coupled?: boolean
  /**
   * Exponent on the draft's probabilities, which are then compared as they are. Default: they are calibrated by
   * what the target has accepted. It changes which guesses are checked, never the text.
   */
  sharpening?: number
  /** Paths end at guesses that the draft gives less than this probability. Default 0.75 for chains, 0 for trees. */
  draftPMin?: number
  /**
   * Bytes at the most of all that the engine allocates: WASM memory, and what drafters without a model remember beside
   * it. A number, or text such as '2GB' or '512MiB'. Default: what the machine can spare.
   */
  memory?: number | string
  /**
   * Bytes of `memory` that drafters without a model may take for what they remember of all owners, as a number or as
   * text such as '48MB'. Half of it is for whoever writes: capacities that `drafterOptions` leaves open are as large as
   * that allows, up to their defaults. It is refused when the drafters need more (INVALID_OPTION). Default: a 32nd
   * of `memory`, at most 48 MB and what all owners that are kept can take, at least what they need.
   */
  drafterMemory?: number | string
  /** Kind of the target's weights when it must be packed. 'auto': f32 below 16 M parameters, q8 below 500 M, q4 above. */
  weights?: 'auto' | Kind
  /** Threads that compute, at least 1. Default: the machine's cores, at most 8. */
  threads?: number
  /** Positions that the KV cache holds: prompt and output together. Default: the model's own, at most 4096. */
  context?: number
  /**
   * How the KV caches of target and draft keep keys and values: 'f32', or 'q8' (int8 with a scale per head
   * and position) in little more than a quarter of the bytes, for a small loss of quality. Default: 'f32' for the
   * target; 'q8' for the draft, whose guesses need not be exact, if its heads have 8 to 512 dimensions.
   */
  kvCache?: KvKind
  /**
   * Whether weights are read past the page cache. 'auto' does so, where the file system takes it, when the target
   * streams and does not fit in free memory, or when `coppice plan` has measured it to be faster; 'direct' refuses to
   * load where it does not work.
   */
  io?: 'auto' | 'direct' | 'buffered'
  /**
   * A compiled kernels.<variant>.wasm of this version, for places where compiling from bytes is forbidden;
   * the model must be packed there already, since packing compiles kernels of its own.
   * Default: the fastest of the embedded variants that passes the self-test, or what COPPICE_KERNELS names.
   */
  kernels?: WebAssembly.Module
  /** What it throws ends the load, or the call. */
  onProgress?: (progress: Progress) => void
  signal?: AbortSignal
}

export interface GenerateOptions {
  /** Tokens to write at the most. Default: until the text or the context ends. */
  maxTokens?: number
  temperature?: number
  /** 0: all. */
  topK?: number
  topP?: number
  minP?: number
  repeatPenalty?: number
  /** Tokens of prompt and output that `repeatPenalty` looks back; -1: all. */
  repeatWindow?: number
  /** Subtracted from the logits of tokens that occur in the output. */
  presencePenalty?: number
  /** Subtracted for every occurrence in the output. */
  frequencyPenalty?: number
  /** Added to logits by token id; -Infinity bans a token. */
  logitBias?: Readonly<Record<number, number>>
  /** Integer. The same seed, prompt and options give the same text, whatever the drafter. Default: drawn. */
  seed?: number
  /**
   * How guesses are verified. 'exact': the text is plain decoding's, token for token. 'residual': it only has the
   * same distribution, by the rule of SpecInfer, and depends on the draft, `nodes` and `maxTokens` as well as on the seed. Trees
   * then have a fixed shape of `nodes` nodes (of 16 where these are planned), and `pacing`, `pipeline`, `coupled`,
   * `sharpening` and `draftPMin` mean nothing. At temperature 0, and without a draft model, it is 'exact'. Default 'exact'.
   */
  verify?: VerifyRule
  /**
   * Whose text this is, any string. What drafters learn from texts stays with their owner: it is neither proposed
   * for another's texts nor does it change how fast these are written. Remembered are '' and those that wrote last, 16
   * at the most and as many as `drafterMemory` has room for: that others wrote much can show in being forgotten.
   * Default ''.
   */
  owner?: string
  /**
   * Only for measuring how guessing fares on a text that another model or a person wrote: token ids that are taken as
   * the target's choices, one after the other. All its passes run and cost what they cost, but their outcome is
   * overridden, so the completion is this text, up to `maxTokens`, an end-of-sequence token or a stop string, and says
   * nothing of the model. Drafters learn the text as an accepted one; what they learn of the target's likeliest tokens
   * ('recycle') does not fit it, nor do, at temperatures above 0, guesses that are coupled to the sampler's noise.
   */
  replay?: readonly number[]
  /** The text ends before the first of these strings. */
  stop?: string | readonly string[]
  /** Go on past end-of-sequence tokens. */
  ignoreEos?: boolean
  /** Give every piece the log-probability of its token under the target. */
  logprobs?: boolean
  /** Give the completion a trace of what every thread did, and when. */
  trace?: boolean
  signal?: AbortSignal
}

export type Prompt = string | readonly Message[] | { readonly tokens: readonly number[] }

export interface Piece {
  /** Text that this token completed; may be empty. */
  readonly text: string
  readonly token: number
  /** True when the token was guessed by a drafter and accepted; false when it came from the target. */
  readonly drafted: boolean
  /** Natural logarithm of the token's probability at temperature 1, with `logprobs`. */
  readonly logprob?: number
}

/**
 * 'stop': end-of-sequence or a stop string; 'length': `maxTokens`; 'context': the context is full;
 * 'aborted': only in `AbortError.partial`.
 */
export type FinishReason = 'stop' | 'length' | 'context' | 'aborted'

export interface Completion {
  readonly text: string
  /** Generated tokens, without an end-of-sequence token. */
  readonly tokens: number[]
  readonly finishReason: FinishReason
  readonly usage: { readonly promptTokens: number; readonly completionTokens: number }
  readonly seed: number
  readonly stats: Stats
  /**
   * With `trace`: JSON text in Chrome's Trace Event Format, for a file that Perfetto or chrome://tracing opens.
   * The first 262,144 spans are in it; `otherData.droppedSpans` counts what is missing.
   */
  readonly trace?: string
}

export interface LogitsInput {
  /** Tokens that every entry sees. */
  readonly prefix?: readonly number[]
  readonly tokens: readonly number[]
  /** Index of each token's parent in `tokens`; -1: a child of the last prefix token. Absent: a chain. */
  readonly parents?: readonly number[]
}

export interface Logits {
  readonly rows: number
  readonly vocab: number
  /** [rows][vocab]: row i is what the model says after `tokens[i]`. */
  readonly data: Float32Array
}

export interface ModelTokenizer {
  encode(text: string): number[]
  decode(tokens: readonly number[]): string
  readonly vocabularySize: number
}

/** The kernels that a model runs on. They decide how fast it is, never what it writes. */
export interface KernelInfo {
  /** 'given': the module of the load option `kernels`. */
  readonly variant: KernelVariant | 'given'
  /** The variant and the reason for it, in words. */
  readonly description: string
}

export interface OwnerOptions {
  /** As in `GenerateOptions`. Default ''. */
  owner?: string
}

/** Memory that a drafter takes for what it learnt of one owner's texts. */
export interface DrafterMemoryUse {
  readonly owner: string
  readonly source: SourceName
  readonly bytes: number
}

export interface Model {
  /**
   * Streams the text. Nothing happens before the first piece is asked for; leaving the loop aborts.
   * The generator's return value is the whole completion.
   * @throws CoppiceError INVALID_OPTION | INVALID_INPUT | CONTEXT_OVERFLOW | NO_TOKENIZER |
   *   NO_CHAT_TEMPLATE | CORRUPT_FILE | FILE_SYSTEM | WORKER_FAILED | CLOSED; AbortError when aborted. What
   *   could not be read is read again by the next call
   */
  generate(prompt: Prompt, options?: GenerateOptions): AsyncGenerator<Piece, Completion, undefined>
  /** Writes the whole text. Throws what `generate` throws. */
  complete(prompt: Prompt, options?: GenerateOptions): Promise<Completion>
  /** Logits of a chain or tree of tokens in one pass. @throws CoppiceError INVALID_INPUT | CONTEXT_OVERFLOW |
   * CORRUPT_FILE | FILE_SYSTEM | WORKER_FAILED | CLOSED */
  logits(input: LogitsInput): Promise<Logits>
  /**
   * Writes what drafters without a model learnt of an owner's texts to a file for `LoadOptions.drafterState`: what was
   * written, and what else the target held likely there. Of prompts there is only what these repeat. The file is
   * replaced at once or not at all.
   * @throws CoppiceError INVALID_OPTION when no drafter learns, nothing is remembered of the owner, or the file is the one
   *   that was loaded and had more than there was room for | FILE_SYSTEM | WORKER_FAILED | CLOSED
   */
  saveDrafterState(file: string, options?: OwnerOptions): Promise<void>
  /**
   * Lets an owner's drafters learn from a text as if it had been written here; of those without a model, 'trie' and
   * 'trigram' can.
   * @param text or token ids
   * @throws CoppiceError INVALID_OPTION when no drafter learns | INVALID_INPUT | NO_TOKENIZER | WORKER_FAILED | CLOSED
   */
  warmDrafters(text: string | readonly number[], options?: OwnerOptions): Promise<void>
  /**
   * What drafters without a model hold of the owners that are remembered, whoever wrote last coming last: together never
   * more than `LoadOptions.drafterMemory`. When a text begins, owners that wrote longest ago are forgotten until what is
   * left has room for all that its owner may come to hold, which is half of it; the default one is kept in any case.
   * @throws CoppiceError WORKER_FAILED | CLOSED
   */
  drafterMemory(): Promise<readonly DrafterMemoryUse[]>
  /** Forgets what was learnt of an owner's texts, now. @throws CoppiceError INVALID_OPTION | WORKER_FAILED | CLOSED */
  forgetOwner(owner: string): Promise<void>
  /** Absent when the model directory has no tokenizer, and of a closed model. It shares the engine's tables. */
  readonly tokenizer: ModelTokenizer | undefined
  readonly plan: ModelPlan
  readonly config: ModelConfig
  readonly kernels: KernelInfo
  /**
   * Ends running calls, all threads, and gives the memory back. Later calls fail with CLOSED.
   * @throws CoppiceError WORKER_FAILED when a thread does not end because a read from disk does not return
   */
  close(): Promise<void>
  [Symbol.asyncDispose](): Promise<void>
}

/** The memory plan, and the choices that go with it. */
export interface ModelPlan extends Plan {
  readonly weights: { readonly layers: Kind; readonly edges: Kind }
  readonly context: number
  /** `kind` is the target's; the bytes are those of both. */
  readonly kvCache: { readonly kind: KvKind; readonly draft?: KvKind; readonly bytes: number }
  /** Tree nodes per pass at the most; 0: plain decoding. */
  readonly nodes: number
  /** How many of them a pass takes. */
  readonly pacing: PacingName
  readonly threads: number
  readonly loaders: number
  /** Estimated bytes of the process beside the budget. `threads`: of those that compute and those that load. */
  readonly process: { readonly runtime: number; readonly threads: number; readonly tokenizer: number }
  /** How files are read; 'mixed': they lie on several file systems, of which some take direct reads. */
  readonly io: 'direct' | 'buffered' | 'mixed'
  /** Absent until `coppice plan` has measured this disk and these kernels. */
  readonly expected?: Expectation
}

/** One pass of the target as it was measured in parts. Attention is not counted: it grows with the text. */
export interface PassExpectation {
  readonly secondsReading: number
  readonly secondsComputing: number
  readonly secondsDrafting: number
  /** The larger of reading, and computing with drafting. */
  readonly secondsPerPass: number
}

/** What measured speeds let expect. */
export interface Expectation {
  /** Absent when nothing streams. */
  readonly readBytesPerSecond?: number
  readonly plain: PassExpectation & { readonly tokensPerSecond: number }
  /**
   * With a draft, where guessing should pay or its size is fixed. What it brings depends on the text, so there are
   * two figures of it.
   */
  readonly speculative?: PassExpectation & {
    /** Guesses per pass: those that should pay best where their number is planned. */
    readonly nodes: number
    /** Chances assumed for the next guess to be right. */
    readonly acceptance: readonly [number, number]
    readonly tokensPerPass: readonly [number, number]
    readonly tokensPerSecond: readonly [number, number]
  }
}

export type { CoppiceError }
