/** From paths and options to a plan: opens or packs the models, compares them, lays out the memory. */
import { CoppiceError } from '../errors.ts'
import { planBanks } from '../memory/banks.ts'
import { storeRequests } from '../memory/layer-store.ts'
import { type BoardShape, type Unit, unitFootprint } from '../memory/load-board.ts'
import { type FileAccesses, findAccess, type IoChoice, summariseAccess } from '../memory/packed-reader.ts'
import type { Layout } from '../memory/plan.ts'
import { chooseReading } from '../memory/reading.ts'
import { layerUnits, type MatrixPiece, segmentUnit, splitMatrix } from '../memory/units.ts'
import { layersRegions, type TransformerShape, transformerRegions } from '../model/activations.ts'
import { KV_KINDS, type KvKind, kvCacheBytes } from '../model/kv-cache.ts'
import { findTensor } from '../model/weights-view.ts'
import { isFile, joinPath, refusalOfDirectReads } from '../runtime/files.ts'
import { availableMemoryBytes } from '../runtime/platform.ts'
import { draftScratchSlots, expansionRows } from '../speculate/drafters/tree.ts'
import { MEMORY_LIMIT_BYTES, type Region } from '../tensor/arena.ts'
import { JOB_BYTES } from '../tensor/operators.ts'
import { compareVocabularies, type Tokenizer } from '../text/tokenizer.ts'
import type { ModelConfig } from '../weights/model-config.ts'
import type { PackOptions } from '../weights/pack.ts'
import type { PackedModel } from '../weights/packed.ts'
import { resolveModel } from '../weights/resolve.ts'
import { chooseDrafterMemory, sourcesOf } from './drafter-share.ts'
import { integerOption, sizeOption } from './options.ts'
import type { EngineOptions } from './protocol.ts'
import { readFigures } from './read-figures.ts'
import { chooseSpeculation, draftSource, type SpeculationChoices } from './speculation-options.ts'
import { chooseThreads } from './threads.ts'
import { hasTokenizer, readTokenizer, readVocabularyOf, sameTokenizerFiles, tokenizerBytes } from './tokenizer-files.ts'
import type { ModelPlan, Progress } from './types.ts'

/** Rows of a prefill pass, and of the largest tree unless `nodes` asks for more. */
const PASS_ROWS = 64
const DEFAULT_CONTEXT = 4096
/** Rows of logits computed at once when the output head is resident. */
const LOGITS_ROWS = 32

/**
 * Resident bytes of a process beside WASM memory and tokenizer. Measured with 1 to 4 threads that compute and one that
 * loads: 100 to 137 MB on Node 24, 101 to 134 on Deno, 82 to 110 on Node 20, 75 to 88 on Bun; the largest counts. Each
 * further loader takes as much as each further thread.
 */
const RUNTIME_BYTES = 74e6
const THREAD_BYTES = 13e6

export interface PreparedModel {
  readonly packed: PackedModel
  readonly shape: TransformerShape
}

/** All of a preparation but the tokenizer, which takes time to read when its vocabulary is large. */
export interface Planned {
  readonly target: PreparedModel
  readonly draft: PreparedModel | undefined
  /** The draft as it was named; `draft` is absent when it is not to be used. */
  readonly namedDraft: PackedModel | undefined
  readonly layout: Layout
  /** All units: the target's as in `layout`, then the draft's; requests of the target's store, then of the draft's. */
  readonly board: BoardShape
  readonly draftUnits: DraftUnits | undefined
  /** Rows of the output head per head unit of the layout. */
  readonly headPieces: readonly MatrixPiece[]
  /** Without what the tokenizer takes. */
  readonly plan: ModelPlan
  readonly speculation: SpeculationChoices
  readonly threads: number
  readonly loaders: number
  /** Whether what streams stays in the page cache. */
  readonly cached: boolean
  /** All files of target and draft that there are. */
  readonly files: FileAccesses
}

export interface Preparation extends Planned {
  readonly plan: ModelPlan
  readonly tokenizer: Tokenizer | undefined
}

export interface DraftUnits {
  /** Units per layer. */
  readonly layers: readonly (readonly number[])[]
  readonly head: number
  /** Absent when the head is the embedding. */
  readonly embedding: number | undefined
}

export interface PrepareHooks {
  readonly onProgress: (progress: Progress) => void
  readonly isAborted: () => boolean
}

/**
 * @param resolve how a path becomes a model; a plan alone needs no packed files
 * @param memoryLimit bytes of one WASM memory at the most; tests take less, and so several memories for a small model
 * @throws CoppiceError what `planModel` and `addTokenizer` throw
 */
export const prepare = (
  model: string,
  options: EngineOptions,
  hooks: PrepareHooks,
  resolve?: (path: string, options: PackOptions) => PackedModel,
  memoryLimit?: number,
): Preparation => addTokenizer(planModel(model, options, hooks, resolve, memoryLimit))

/** @throws CoppiceError CORRUPT_FILE | UNSUPPORTED_FORMAT | INCOMPATIBLE_DRAFT when token ids would not mean the same */
export function addTokenizer(planned: Planned): Preparation {
  const { namedDraft, plan } = planned
  const target = planned.target.packed
  if (!hasTokenizer(target.directory)) return { ...planned, tokenizer: undefined }
  const tokenizer = readTokenizer(target.directory)
  if (namedDraft !== undefined) checkSameTokens(target, namedDraft, tokenizer)
  const process = { ...plan.process, tokenizer: tokenizerBytes(tokenizer) }
  return { ...planned, tokenizer, plan: { ...plan, process } }
}

/**
 * @param memoryLimit as for `prepare`
 * @throws CoppiceError MODEL_NOT_FOUND | UNSUPPORTED_ARCHITECTURE | UNSUPPORTED_FORMAT | CORRUPT_FILE |
 *   FILE_SYSTEM | OUT_OF_BUDGET | CONTEXT_OVERFLOW | INCOMPATIBLE_DRAFT | INVALID_OPTION | ABORTED
 */
export function planModel(
  model: string,
  options: EngineOptions,
  hooks: PrepareHooks,
  resolve: (path: string, options: PackOptions) => PackedModel = resolveModel,
  memoryLimit: number = MEMORY_LIMIT_BYTES,
): Planned {
  const source = draftSource(options)
  const speculation = chooseSpeculation(options, source !== undefined)
  const { nodes, pacing, model: drafter } = speculation
  const threads = chooseThreads(options.threads)
  const target = resolve(model, { weights: options.weights ?? 'auto', ...hooks })
  const draft =
    source &&
    (source.from === 'model'
      ? resolve(source.path, { weights: 'auto', ...hooks })
      : resolve(model, { weights: source.kind, ...hooks }))
  if (draft !== undefined) checkVocabularySizes(target, draft)

  const { config } = target.manifest
  const context = integerOption(
    'context',
    options.context ?? Math.min(config.positions, DEFAULT_CONTEXT),
    2,
    config.positions,
  )
  const rows = Math.max(PASS_ROWS, nodes + 1)
  // Trees given to `logits` also need slots, so there are some even for plain decoding.
  const kind = chooseKvKind(options.kvCache ?? 'f32', config, draft?.manifest.config)
  const shape = { context, scratch: Math.max(PASS_ROWS, nodes), kind, rows, threads }
  const targetShape: TransformerShape = { ...shape, logitsRows: LOGITS_ROWS, headStreams: false }
  const streamedShape: TransformerShape = { ...shape, logitsRows: rows, headStreams: true }
  const drafted = drafter === undefined || nodes === 0 ? undefined : draft
  const draftContext = Math.min(context, drafted?.manifest.config.positions ?? context)
  if (draftContext < context) {
    throw new CoppiceError(
      'CONTEXT_OVERFLOW',
      `the draft model handles ${draftContext} positions, but a context of ${context} was asked for; load with context ${draftContext} or another draft`,
    )
  }
  const draftKind = options.kvCache ?? draftKvKind(drafted?.manifest.config)
  const draftShape: TransformerShape = {
    ...shape,
    kind: draftKind,
    scratch: draftScratchSlots(nodes),
    rows: Math.max(PASS_ROWS, expansionRows(nodes)),
    logitsRows: LOGITS_ROWS,
    headStreams: false,
  }

  const parts = describeTarget(target)
  const draftParts = drafted === undefined ? undefined : describeDraft(drafted)
  const layout = planBanks({
    budget: options.memory === undefined ? undefined : sizeOption('memory', options.memory),
    draftersOf: chooseDrafterMemory(
      options.drafterMemory,
      sourcesOf(speculation, { vocabulary: config.vocabulary, context }),
    ),
    available: availableMemoryBytes() * 0.8,
    memoryLimit,
    fixed: (layers) => [
      ...targetRegions(config, targetShape, layers),
      ...(draftParts === undefined ? [] : draftRegions(drafted!.manifest.config, draftShape, draftParts.all)),
    ],
    further: (layers) => [JOB_RECORDS, ...layersRegions('target', config, targetShape, layers)],
    layers: parts.layers,
    head: parts.head,
    splitHead: (bytes) => parts.splitHead(bytes).map((piece) => piece.unit),
    embedding: parts.embedding,
    streamedHeadBytes: activationTotal(config, streamedShape) - activationTotal(config, targetShape),
  })
  const { slots, slotBytes, targetBytes } = layout.plan
  const board: BoardShape = {
    units: [...layout.units, ...(draftParts?.all ?? [])],
    requests: storeRequests(slots) + (draftParts === undefined ? 0 : storeRequests(0)),
  }
  const { path } = parts.layers[0][0]
  const io = checkIo(options.io ?? 'auto')
  const { mode, cached, loaders } = chooseReading({
    io,
    direct: io === 'auto' && isFile(path) && refusalOfDirectReads(path) === undefined,
    available: availableMemoryBytes(),
    targetBytes,
    slots,
    slotBytes,
    speeds: slots === 0 ? undefined : readFigures(path).read(),
  })
  const paths = [...board.units.map((unit) => unit.path), ...edgePaths(target, drafted)]
  const files = findAccess(paths, io === 'auto' && mode === 'direct' ? 'auto' : mode)
  const first = layout.units.length
  const draftUnits: DraftUnits | undefined =
    draftParts === undefined
      ? undefined
      : {
          layers: draftParts.layers.map((groups, layer) => groups.map((_, i) => first + layer * groups.length + i)),
          head: first + draftParts.layers.flat().length,
          embedding: draftParts.embedding === undefined ? undefined : first + draftParts.layers.flat().length + 1,
        }
  return {
    target: {
      packed: target,
      shape: layout.plan.headPinned ? targetShape : streamedShape,
    },
    draft: drafted === undefined ? undefined : { packed: drafted, shape: draftShape },
    layout,
    board,
    draftUnits,
    headPieces: layout.plan.headPinned ? parts.splitHead(Number.POSITIVE_INFINITY) : parts.splitHead(headLimit(parts)),
    plan: {
      ...layout.plan,
      weights: target.manifest.quantisation,
      context,
      kvCache: {
        kind,
        ...(drafted !== undefined && { draft: draftKind }),
        bytes:
          kvCacheBytes(config, targetShape) +
          (drafted === undefined ? 0 : kvCacheBytes(drafted.manifest.config, draftShape)),
      },
      nodes,
      pacing,
      threads,
      loaders,
      process: { runtime: RUNTIME_BYTES, threads: THREAD_BYTES * (threads + loaders), tokenizer: 0 },
      io: summariseAccess(files, io),
    },
    namedDraft: draft,
    speculation,
    threads,
    loaders,
    cached,
    files,
  }
}

interface TargetParts {
  readonly layers: Unit[][]
  readonly head: Unit
  readonly embedding: Unit | undefined
  readonly splitHead: (bytes: number) => MatrixPiece[]
}

const headLimit = (parts: TargetParts): number => Math.max(...parts.layers.flat().map(unitFootprint))

function describeTarget({ directory, manifest }: PackedModel): TargetParts {
  const headName = manifest.config.tiedHead ? 'embedding' : 'head'
  const head = segmentUnit(directory, manifest.edges, headName)
  return {
    layers: manifest.layers.map((file) => layerUnits(directory, file)),
    head,
    embedding: manifest.config.tiedHead ? undefined : segmentUnit(directory, manifest.edges, 'embedding'),
    splitHead: (bytes) => splitMatrix(head, findTensor(manifest.edges, headName), bytes),
  }
}

function describeDraft(draft: PackedModel) {
  const { layers, head, embedding } = describeTarget(draft)
  return { layers, embedding, all: [...layers.flat(), head, ...(embedding === undefined ? [] : [embedding])] }
}

const JOB_RECORDS: Region = { name: 'job records', bytes: JOB_BYTES }

/** What the first memory holds of the target in any case, with the caches of so many layers. */
const targetRegions = (config: ModelConfig, shape: TransformerShape, layers: number): Region[] => [
  JOB_RECORDS,
  { name: 'target final norm', bytes: config.hidden * 4 },
  ...transformerRegions('target', config, shape, layers),
]

const draftRegions = (config: ModelConfig, shape: TransformerShape, units: readonly Unit[]): Region[] => [
  { name: 'draft final norm', bytes: config.hidden * 4 },
  { name: 'draft weights', bytes: units.reduce((sum, unit) => sum + unitFootprint(unit), 0) },
  ...transformerRegions('draft', config, shape),
]

/** The embedding of a model, and its final norm, are no units when they are read on demand. */
const edgePaths = (...models: (PackedModel | undefined)[]): string[] =>
  models.flatMap((model) => (model === undefined ? [] : [joinPath(model.directory, model.manifest.edges.name)]))

const activationTotal = (config: ModelConfig, shape: TransformerShape): number =>
  transformerRegions('target', config, shape).reduce((sum, region) => sum + region.bytes, 0)

/**
 * Models of a family often differ in how far their vocabularies are padded, and then share a tokenizer; what only
 * one of them has is never guessed.
 * @throws CoppiceError INCOMPATIBLE_DRAFT
 */
function checkVocabularySizes(target: PackedModel, draft: PackedModel): void {
  const t = target.manifest.config.vocabulary
  const d = draft.manifest.config.vocabulary
  if (t === d || (hasTokenizer(target.directory) && hasTokenizer(draft.directory))) return
  throw new CoppiceError(
    'INCOMPATIBLE_DRAFT',
    `the target (${target.directory}) has a vocabulary of ${t} tokens, the draft (${draft.directory}) one of ${d}, and without a tokenizer.json in both there is no telling whether their tokens mean the same; use a draft trained with the target's tokenizer`,
  )
}

/** @throws CoppiceError INCOMPATIBLE_DRAFT */
function checkSameTokens(target: PackedModel, draft: PackedModel, tokenizer: Tokenizer): void {
  // Models of a family mostly come with the same files.
  if (!hasTokenizer(draft.directory) || sameTokenizerFiles(target.directory, draft.directory)) return
  const differences = compareVocabularies(tokenizer.vocabulary, readVocabularyOf(draft.directory))
  if (differences.length === 0) return
  throw new CoppiceError(
    'INCOMPATIBLE_DRAFT',
    `target (${target.directory}) and draft (${draft.directory}) do not share a vocabulary: ${differences.join('; ')}; use a draft trained with the target's tokenizer`,
  )
}

/** Head sizes that the integer products of a q8 cache take: beyond, their sums would not fit in 32 bits. */
const Q8_HEAD_SIZES = { least: 8, most: 512 }

const takesQ8 = ({ headSize }: ModelConfig): boolean =>
  headSize >= Q8_HEAD_SIZES.least && headSize <= Q8_HEAD_SIZES.most

/** Guesses need not be exact: what a smaller cache leaves free holds weights that would be read in every pass. */
const draftKvKind = (config: ModelConfig | undefined): KvKind =>
  config !== undefined && takesQ8(config) ? 'q8' : 'f32'

function chooseKvKind(kind: KvKind, ...configs: (ModelConfig | undefined)[]): KvKind {
  if (!KV_KINDS.includes(kind)) {
    throw new CoppiceError('INVALID_OPTION', `kvCache must be 'f32' or 'q8', not '${kind}'`)
  }
  const { least, most } = Q8_HEAD_SIZES
  const odd = configs.find((config) => config !== undefined && !takesQ8(config))
  if (kind === 'q8' && odd !== undefined) {
    throw new CoppiceError(
      'INVALID_OPTION',
      `kvCache 'q8' takes heads of ${least} to ${most} dimensions, this model's have ${odd.headSize}; use 'f32'`,
    )
  }
  return kind
}

/** @throws CoppiceError INVALID_OPTION */
function checkIo(io: IoChoice): IoChoice {
  if (['auto', 'direct', 'buffered'].includes(io)) return io
  throw new CoppiceError('INVALID_OPTION', `io must be 'auto', 'direct' or 'buffered', not '${io}'`)
}
