/** From paths and options to a plan: opens or packs the models, compares them, lays out the memory. */
import { CoppiceError } from '../errors.ts'
import { planBanks } from '../memory/banks.ts'
import { storeRequests } from '../memory/layer-store.ts'
import { type BoardShape, type Unit, unitFootprint } from '../memory/load-board.ts'
import type { Layout, Plan } from '../memory/plan.ts'
import { layerUnits, type MatrixPiece, segmentUnit, splitMatrix } from '../memory/units.ts'
import { layersRegions, type TransformerShape, transformerRegions } from '../model/activations.ts'
import { KV_KINDS, type KvKind, kvCacheBytes } from '../model/kv-cache.ts'
import { findTensor } from '../model/weights-view.ts'
import { directIoAvailable, type OpenMode, opensDirectly } from '../runtime/files.ts'
import { availableMemoryBytes, cores } from '../runtime/platform.ts'
import { parseBytes } from '../runtime/sizes.ts'
import { draftScratchSlots, MAXIMUM_DEPTH } from '../speculate/drafters/tree.ts'
import { MEMORY_LIMIT_BYTES, type Region } from '../tensor/arena.ts'
import { MAXIMUM_THREADS } from '../tensor/compute.ts'
import { JOB_BYTES } from '../tensor/operators.ts'
import { compareVocabularies, type Tokenizer } from '../text/tokenizer.ts'
import type { ModelConfig } from '../weights/model-config.ts'
import type { PackOptions } from '../weights/pack.ts'
import type { PackedModel } from '../weights/packed.ts'
import { resolveModel } from '../weights/resolve.ts'
import type { EngineOptions } from './protocol.ts'
import { hasTokenizer, readTokenizer, tokenizerBytes } from './tokenizer-files.ts'
import type { ModelPlan, Progress } from './types.ts'

/** Rows of a prefill pass, and of the largest tree unless `nodes` asks for more. */
const PASS_ROWS = 64
const DEFAULT_CONTEXT = 4096
const DEFAULT_NODES = 16
const MAXIMUM_NODES = 1023
/** Rows of logits computed at once when the output head is resident. */
const LOGITS_ROWS = 32

/**
 * Resident bytes of a process beside WASM memory and tokenizer. Measured with 1 to 4 threads: 99 to
 * 142 MB on Node 24, 101 to 134 on Deno, 81 to 112 on Node 20, 75 to 88 on Bun; the largest counts.
 */
const RUNTIME_BYTES = 85e6
const THREAD_BYTES = 14e6

export interface PreparedModel {
  readonly packed: PackedModel
  readonly shape: TransformerShape
}

export interface Preparation {
  readonly target: PreparedModel
  readonly draft: PreparedModel | undefined
  readonly layout: Layout
  /** All units: the target's as in `layout`, then the draft's; requests of the target's store, then of the draft's. */
  readonly board: BoardShape
  readonly draftUnits: DraftUnits | undefined
  /** Rows of the output head per head unit of the layout. */
  readonly headPieces: readonly MatrixPiece[]
  readonly plan: ModelPlan
  readonly tokenizer: Tokenizer | undefined
  readonly nodes: number
  readonly threads: number
  readonly loaders: number
  readonly mode: OpenMode
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
 * @throws CoppiceError MODEL_NOT_FOUND | UNSUPPORTED_ARCHITECTURE | UNSUPPORTED_FORMAT | CORRUPT_FILE |
 *   OUT_OF_BUDGET | CONTEXT_OVERFLOW | INCOMPATIBLE_DRAFT | INVALID_OPTION | ABORTED
 */
export function prepare(
  model: string,
  options: EngineOptions,
  hooks: PrepareHooks,
  resolve: (path: string, options: PackOptions) => PackedModel = resolveModel,
  memoryLimit: number = MEMORY_LIMIT_BYTES,
): Preparation {
  const draftName = checkDraft(options)
  const threads = integer('threads', options.threads ?? Math.min(cores(), 8), 1, MAXIMUM_THREADS)
  const target = resolve(model, { weights: options.weights ?? 'auto', ...hooks })
  const draft = draftName === undefined ? undefined : resolve(draftName, { weights: 'auto', ...hooks })
  const tokenizer = hasTokenizer(target.directory) ? readTokenizer(target.directory) : undefined
  if (draft !== undefined) checkCompatible(target, draft, tokenizer)

  const { config } = target.manifest
  const nodes = integer('nodes', options.nodes ?? (draft === undefined ? 0 : DEFAULT_NODES), 0, MAXIMUM_NODES)
  if (nodes > 0 && draft === undefined) {
    throw new CoppiceError(
      'INVALID_OPTION',
      `nodes is ${nodes}, but without a draft model there is nothing to fill a tree with; give \`draft\` or nodes 0`,
    )
  }
  const context = integer(
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
  const drafted = draft === undefined || nodes === 0 ? undefined : draft
  const draftContext = Math.min(context, drafted?.manifest.config.positions ?? context)
  if (draftContext < context) {
    throw new CoppiceError(
      'CONTEXT_OVERFLOW',
      `the draft model handles ${draftContext} positions, but a context of ${context} was asked for; load with context ${draftContext} or another draft`,
    )
  }
  const draftShape: TransformerShape = {
    ...shape,
    scratch: draftScratchSlots(nodes),
    rows: PASS_ROWS,
    logitsRows: LOGITS_ROWS,
    headStreams: false,
  }

  const parts = describeTarget(target)
  const draftParts = drafted === undefined ? undefined : describeDraft(drafted)
  const layout = planBanks({
    budget: options.memory === undefined ? undefined : parseMemory(options.memory),
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
    process: {
      runtime: RUNTIME_BYTES,
      threads: THREAD_BYTES * threads,
      tokenizer: tokenizer === undefined ? 0 : tokenizerBytes(target.directory),
    },
  })
  const streamed = layout.plan.slots > 0
  const mode = chooseMode(options.io ?? 'auto', streamed, layout.plan.targetBytes, parts.layers[0][0])
  const loaders = chooseLoaders(layout.plan)
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
    board: {
      units: [...layout.units, ...(draftParts?.all ?? [])],
      requests: storeRequests(layout.plan.slots) + (draftParts === undefined ? 0 : storeRequests(0)),
    },
    draftUnits,
    headPieces: layout.plan.headPinned ? parts.splitHead(Number.POSITIVE_INFINITY) : parts.splitHead(headLimit(parts)),
    plan: {
      ...layout.plan,
      weights: target.manifest.quantisation,
      context,
      kvCache: {
        kind,
        bytes:
          kvCacheBytes(config, targetShape) +
          (drafted === undefined ? 0 : kvCacheBytes(drafted.manifest.config, draftShape)),
      },
      nodes: drafted === undefined ? 0 : nodes,
      threads,
      loaders,
      io: mode,
    },
    tokenizer,
    nodes: drafted === undefined ? 0 : nodes,
    threads,
    loaders,
    mode,
  }
}

/** The longest path that a drafter may propose. */
export const PATH_DEPTH = MAXIMUM_DEPTH

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

const activationTotal = (config: ModelConfig, shape: TransformerShape): number =>
  transformerRegions('target', config, shape).reduce((sum, region) => sum + region.bytes, 0)

function checkDraft(options: EngineOptions): string | undefined {
  const { draft, drafters, sharpening } = options
  if (draft !== undefined && typeof draft !== 'string') {
    throw new CoppiceError('INVALID_OPTION', `draft must be the directory of a model or 'none', not ${draft}`)
  }
  if (sharpening !== undefined && !(typeof sharpening === 'number' && sharpening > 0 && sharpening <= 100)) {
    throw new CoppiceError('INVALID_OPTION', `sharpening must be a number above 0 and up to 100, not ${sharpening}`)
  }
  if (drafters !== undefined) {
    const unknown = drafters.find((name) => name !== 'tree')
    if (unknown !== undefined) {
      throw new CoppiceError('INVALID_OPTION', `there is no drafter "${unknown}" in this version; known: tree`)
    }
  }
  if (draft === undefined || draft === 'none') {
    if (drafters !== undefined && drafters.length > 0) {
      throw new CoppiceError('INVALID_OPTION', 'the drafter "tree" needs a draft model; give its directory as `draft`')
    }
    return undefined
  }
  if (draft.startsWith('self:')) {
    throw new CoppiceError(
      'INVALID_OPTION',
      `draft "${draft}": drafting with a part of the target itself is not supported in this version; give the directory of a draft model, or 'none'`,
    )
  }
  return drafters !== undefined && drafters.length === 0 ? undefined : draft
}

/** @throws CoppiceError INCOMPATIBLE_DRAFT when token ids would not mean the same */
function checkCompatible(target: PackedModel, draft: PackedModel, tokenizer: Tokenizer | undefined): void {
  const t = target.manifest.config
  const d = draft.manifest.config
  if (t.vocabulary !== d.vocabulary) {
    throw new CoppiceError(
      'INCOMPATIBLE_DRAFT',
      `the target (${target.directory}) has a vocabulary of ${t.vocabulary} tokens, the draft (${draft.directory}) one of ${d.vocabulary}; use a draft trained with the target's tokenizer`,
    )
  }
  if (tokenizer !== undefined && hasTokenizer(draft.directory)) {
    const differences = compareVocabularies(tokenizer, readTokenizer(draft.directory))
    if (differences.length > 0) {
      throw new CoppiceError(
        'INCOMPATIBLE_DRAFT',
        `target (${target.directory}) and draft (${draft.directory}) do not share a vocabulary: ${differences.join('; ')}; use a draft trained with the target's tokenizer`,
      )
    }
  }
}

function parseMemory(memory: number | string): number {
  const bytes = typeof memory === 'number' ? memory : parseBytes(memory)
  if (!Number.isFinite(bytes) || bytes <= 0) {
    throw new CoppiceError(
      'INVALID_OPTION',
      `memory must be a positive number of bytes or text like '2GB', not ${memory}`,
    )
  }
  return Math.floor(bytes)
}

function integer(name: string, value: number, least: number, most: number): number {
  if (!Number.isInteger(value) || value < least || value > most) {
    throw new CoppiceError('INVALID_OPTION', `${name} must be an integer from ${least} to ${most}, not ${value}`)
  }
  return value
}

/** Head sizes that the integer products of a q8 cache take: beyond, their sums would not fit in 32 bits. */
const Q8_HEAD_SIZES = { least: 8, most: 512 }

function chooseKvKind(kind: KvKind, ...configs: (ModelConfig | undefined)[]): KvKind {
  if (!KV_KINDS.includes(kind)) {
    throw new CoppiceError('INVALID_OPTION', `kvCache must be 'f32' or 'q8', not '${kind}'`)
  }
  const { least, most } = Q8_HEAD_SIZES
  const odd = configs.find((config) => config !== undefined && !(config.headSize >= least && config.headSize <= most))
  if (kind === 'q8' && odd !== undefined) {
    throw new CoppiceError(
      'INVALID_OPTION',
      `kvCache 'q8' takes heads of ${least} to ${most} dimensions, this model's have ${odd.headSize}; use 'f32'`,
    )
  }
  return kind
}

function chooseMode(io: 'auto' | 'direct' | 'buffered', streamed: boolean, bytes: number, unit: Unit): OpenMode {
  if (!['auto', 'direct', 'buffered'].includes(io)) {
    throw new CoppiceError('INVALID_OPTION', `io must be 'auto', 'direct' or 'buffered', not '${io}'`)
  }
  if (io === 'buffered') return 'buffered'
  if (io === 'direct') {
    if (!directIoAvailable) {
      throw new CoppiceError(
        'INVALID_OPTION',
        "io 'direct' is not available on this platform; use 'auto' or 'buffered'",
      )
    }
    return 'direct'
  }
  // A target that fits in free memory is faster from the page cache; one that does not would only churn it.
  return streamed && bytes > availableMemoryBytes() && opensDirectly(unit.path) ? 'direct' : 'buffered'
}

/** A resident target below this is read by the engine's own thread, which costs no further one. */
const SMALL_TARGET_BYTES = 64e6

/** One loader keeps up with small reads; two overlap reading with checking of large ones. */
function chooseLoaders({ slots, slotBytes, targetBytes }: Plan): number {
  if (slots === 0) return targetBytes < SMALL_TARGET_BYTES ? 0 : 1
  return slotBytes >= 4 * 1024 * 1024 ? 2 : 1
}
