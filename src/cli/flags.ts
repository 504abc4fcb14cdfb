/** Flags that several commands share, and what they become. */

import { CoppiceError } from '../errors.ts'
import type { DrafterChoice, GenerateOptions, LoadOptions, SourceOptions } from '../index.ts'
import type { FlagResults, Flags } from '../runtime/arguments.ts'
import { isDirectory, joinPath, packageDirectory } from '../runtime/files.ts'

export const HELP_FLAG = {
  help: { type: 'boolean', short: 'h', env: false, help: 'show this help' },
} as const satisfies Flags

export const JSON_FLAG = {
  json: { type: 'boolean', help: 'write one JSON object to stdout instead of text' },
} as const satisfies Flags

/** How a model is loaded. */
export const LOAD_FLAGS = {
  draft: {
    type: 'string',
    value: 'MODEL',
    help: "draft model that grows the tree of guesses, 'none', or self:q4: the target's own copy in q4",
  },
  drafter: {
    type: 'string',
    value: 'NAMES',
    help: "what guesses, with commas between: tree or chain (the draft's likeliest continuation), and without a draft trie, trigram, recycle, ngram, jacobi; hybrid: all that pay",
  },
  drafterOptions: {
    type: 'string',
    value: 'JSON',
    help: 'parameters of drafters without a draft, such as {"trie":{"branchLength":16}}; docs/speculation.md lists them',
  },
  nodes: {
    type: 'string',
    value: 'N',
    help: 'guesses checked per pass of the target; 0 is plain decoding; auto: as many as pay',
  },
  pacing: { type: 'string', value: 'NAME', help: 'when to stop drafting: planner, fixed or fallback' },
  draftPMin: { type: 'number', help: 'no guesses that the draft gives less than this probability' },
  memory: {
    type: 'bytes',
    help: 'memory for weights, caches, buffers and what drafters remember, such as 22MB or 1.5GiB',
  },
  drafterMemory: { type: 'bytes', help: 'how much of it drafters without a draft may take for what they remember' },
  weights: {
    type: 'string',
    value: 'KIND',
    help: 'f32, f16, q8, q4a, q4 or auto: kind of weights when the model is packed',
  },
  threads: { type: 'integer', help: 'threads that compute' },
  ctxSize: { type: 'integer', short: 'c', help: 'tokens of prompt and output together' },
  kvCache: {
    type: 'string',
    value: 'KIND',
    help: 'f32, or q8: smaller caches for keys and values; without it f32, and q8 for the draft',
  },
  io: { type: 'string', value: 'MODE', help: 'auto, direct (past the page cache) or buffered' },
  sharpening: { type: 'number', help: "exponent on the draft's probabilities; never changes the text" },
} as const satisfies Flags

/** How text is written. */
export const SAMPLING_FLAGS = {
  temp: { type: 'number', help: 'temperature; 0 always takes the likeliest token' },
  topK: { type: 'integer', help: 'sample from the K likeliest tokens; 0 is all' },
  topP: { type: 'number', help: 'sample from the likeliest tokens that reach this probability together' },
  minP: { type: 'number', help: 'leave out tokens less likely than this share of the likeliest' },
  repeatPenalty: { type: 'number', help: 'weakens tokens that occurred lately; 1 is off' },
  seed: { type: 'integer', help: 'seed of the sampler; the same seed writes the same text' },
  predict: { type: 'integer', short: 'n', help: 'tokens to write at the most' },
  stop: { type: 'string', help: 'end the text before this string' },
  ignoreEos: { type: 'boolean', help: 'go on past end-of-sequence tokens' },
  verify: {
    type: 'string',
    value: 'RULE',
    help: 'exact, or residual: the text has the distribution of plain decoding, but is not the same text',
  },
} as const satisfies Flags

/** The pair that comes with the package. */
export const EMBEDDED = 'embedded'

/** The directory that a model argument means. */
export function modelPath(argument: string): string {
  return argument === EMBEDDED ? embeddedModel('target') : argument
}

/** `--draft`, or the embedded draft for the embedded target. */
export function draftPath(model: string, draft: string | undefined): string | undefined {
  if (draft === EMBEDDED || (draft === undefined && model === EMBEDDED)) return embeddedModel('draft')
  return draft
}

function embeddedModel(name: 'target' | 'draft'): string {
  const directory = joinPath(packageDirectory(), 'models', name)
  if (!isDirectory(directory)) {
    throw new CoppiceError(
      'MODEL_NOT_FOUND',
      `this installation has no embedded models (${directory}); give a model's directory`,
    )
  }
  return directory
}

export function loadOptions(model: string, values: FlagResults<typeof LOAD_FLAGS>): LoadOptions {
  const { drafter, memory, drafterMemory, weights, threads, ctxSize, kvCache, io, sharpening } = values
  const nodes = values.nodes === undefined || values.nodes === 'auto' ? values.nodes : nodeCount(values.nodes)
  return defined({
    // Without a draft the flag for nodes has nothing to act on, and `load` says so.
    draft: nodes === 0 ? 'none' : draftPath(model, values.draft),
    drafters: drafter?.split(',').map((name) => name.trim() as DrafterChoice),
    drafterOptions: values.drafterOptions === undefined ? undefined : parseObject(values.drafterOptions),
    nodes: nodes as LoadOptions['nodes'],
    pacing: values.pacing as LoadOptions['pacing'],
    draftPMin: values.draftPMin,
    memory,
    drafterMemory,
    weights: weights as LoadOptions['weights'],
    threads,
    context: ctxSize,
    kvCache: kvCache as LoadOptions['kvCache'],
    io: io as LoadOptions['io'],
    sharpening,
  })
}

/** The same without guesses. */
export const plainLoadOptions = (model: string, values: FlagResults<typeof LOAD_FLAGS>): LoadOptions =>
  loadOptions(model, { ...values, drafter: undefined, drafterOptions: undefined, nodes: '0' })

/** What it means is checked by `load`. @throws CoppiceError INVALID_OPTION */
function parseObject(json: string): SourceOptions {
  try {
    return JSON.parse(json)
  } catch (cause) {
    throw new CoppiceError(
      'INVALID_OPTION',
      `--drafter-options takes JSON, and ${json} is none: ${(cause as Error).message}`,
      { cause },
    )
  }
}

/** @throws CoppiceError INVALID_OPTION */
function nodeCount(text: string): number {
  if (/^\d+$/.test(text)) return Number(text)
  throw new CoppiceError('INVALID_OPTION', `--nodes takes a whole number or "auto", not "${text}"`)
}

export function generateOptions(values: FlagResults<typeof SAMPLING_FLAGS>): GenerateOptions {
  const { temp, topK, topP, minP, repeatPenalty, seed, predict, stop, ignoreEos, verify } = values
  return defined({
    temperature: temp,
    topK,
    topP,
    minP,
    repeatPenalty,
    seed,
    maxTokens: predict,
    stop,
    ignoreEos,
    verify: verify as GenerateOptions['verify'],
  })
}

function defined<T extends object>(options: { [K in keyof T]: T[K] | undefined }): T {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as T
}
