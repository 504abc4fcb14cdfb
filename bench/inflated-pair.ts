/**
 * The embedded pair with what it costs to run of large models: inflated, packed, and kept for the next run, since
 * that takes minutes. A directory has its final name when it is whole, and another one when the pair, the packed
 * format or the inflation are others.
 */
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { abandonedBy, processTag } from '../src/runtime/atomic-file.ts'
import { freeDiskBytes, readBytes, Sha256 } from '../src/runtime/files.ts'
import type { Kind } from '../src/tensor/layout.ts'
import { readHfConfig } from '../src/weights/hf-config.ts'
import { FORMAT_VERSION } from '../src/weights/manifest.ts'
import { parameterCount } from '../src/weights/tensor-names.ts'
import { root } from '../test/paths.ts'
import { selfCommand } from '../test/runtime/self-command.ts'
import { atEnd } from './cleanup.ts'
import { INFLATION_VERSION, inflate, inflatedConfig, type LargeShape } from './inflation.ts'
import { run } from './processes.ts'
import { SHAPES, type ShapeName } from './shapes.ts'
import { syntheticBytes } from './synthetic-files.ts'

/** Where inflated models are kept. */
export const INFLATED = join(root, '.bench', 'inflated')

/** Of the disk; other programs need some too. */
const SPARED_BYTES = 2e9

export interface InflationRequest {
  /** Directory of the small model. */
  readonly model: string
  /** What the directory is called by, beside the kind. */
  readonly name: string
  readonly shape: LargeShape
  readonly kind: Kind
  /** Directory of the packed models. */
  readonly cache?: string
  /** Hears what takes long, and what is less than was asked for. */
  readonly note?: (line: string) => void
  readonly freeBytes?: (directory: string) => number
}

/** Directories of packed models. */
export interface InflatedPair {
  readonly target: string
  readonly draft: string
}

/** The embedded target in the shape of a large model, and the embedded draft in that of SmolLM2-135M, in q8. */
export async function inflatedPair(
  shape: ShapeName,
  kind: Kind,
  options: Pick<InflationRequest, 'cache' | 'note'> = {},
): Promise<InflatedPair> {
  const model = (role: string): string => join(root, 'models', role)
  const target = { model: model('target'), name: `target-${shape}`, shape: SHAPES[shape], kind }
  const draft = { model: model('draft'), name: 'draft-135M', shape: SHAPES['135M'], kind: 'q8' } as const
  return {
    target: await inflatedModel({ ...target, ...options }),
    draft: await inflatedModel({ ...draft, ...options }),
  }
}

/**
 * A packed inflated model. Where the disk is too small it has fewer layers, and `note` hears of it.
 * @returns its directory
 * @throws Error when the disk has no room for any, or the shape none for the model
 */
export async function inflatedModel(request: InflationRequest): Promise<string> {
  const { cache = INFLATED, note = console.log, freeBytes = freeDiskBytes } = request
  mkdirSync(cache, { recursive: true })
  removeAbandoned(cache)
  const whole = directoryOf(cache, request, request.shape)
  if (existsSync(whole)) return whole
  const shape = shapeThatFits(request, freeBytes(cache), note)
  const directory = directoryOf(cache, request, shape)
  if (existsSync(directory)) return directory
  note(`making ${directory}, from ${request.model}`)
  const work = mkdtempSync(join(cache, `${WORK}${processTag()}-`))
  const removeWork = atEnd(() => rmSync(work, { recursive: true, force: true }))
  try {
    const checkpoint = join(work, request.name)
    await inflate({ model: request.model, shape, output: checkpoint })
    await pack(checkpoint, join(work, 'packed'), request.kind)
    // Another process may have made the same meanwhile.
    if (!existsSync(directory)) renameSync(join(work, 'packed'), directory)
  } finally {
    removeWork()
  }
  return directory
}

const WORK = 'work-'

/** What processes left that were killed. */
function removeAbandoned(cache: string): void {
  for (const name of readdirSync(cache)) {
    if (name.startsWith(WORK) && abandonedBy(name.slice(WORK.length))) {
      rmSync(join(cache, name), { recursive: true, force: true })
    }
  }
}

function directoryOf(cache: string, { model, name, kind }: InflationRequest, shape: LargeShape): string {
  const hash = new Sha256().update(JSON.stringify([INFLATION_VERSION, FORMAT_VERSION, inflatedConfig(model, shape)]))
  for (const file of ['model.safetensors', 'tokenizer.json']) hash.update(readBytes(join(model, file)))
  return join(cache, `${name}-${kind}-${hash.hex().slice(0, 8)}`)
}

/** The shape with as many layers as the disk holds, as a checkpoint and packed at the same time. */
function shapeThatFits(
  { model, shape, kind }: InflationRequest,
  free: number,
  note: (line: string) => void,
): LargeShape {
  const needed = (layers: number): number => {
    const config = inflatedConfig(model, { ...shape, layers })
    return 2 * parameterCount(config) + syntheticBytes(config, kind) + SPARED_BYTES
  }
  const least = readHfConfig(model).layers
  let { layers } = shape
  while (layers > least && needed(layers) > free) layers--
  const gigabytes = (bytes: number): string => `${(bytes / 1e9).toFixed(1)} GB`
  if (needed(layers) > free) {
    throw new Error(`${gigabytes(needed(layers))} must be free on the disk, but only ${gigabytes(free)} are`)
  }
  if (layers < shape.layers) {
    note(
      `ONLY ${layers} OF ${shape.layers} LAYERS: all of them need ${gigabytes(needed(shape.layers))} on the disk, and ${gigabytes(free)} are free`,
    )
  }
  return { ...shape, layers }
}

/** In a process of its own: this one must hear Ctrl-C, which packing does not. */
async function pack(checkpoint: string, output: string, kind: Kind): Promise<void> {
  const main = fileURLToPath(new URL('../src/cli/main.js', import.meta.url))
  const command = selfCommand(main, 'pack', checkpoint, output, '--quant', kind)
  const { status, stderr } = await run(command, { timeoutMs: 3_600_000 })
  if (status !== 0) throw new Error(`packing ${checkpoint} ended with ${status}: ${stderr}`)
}
