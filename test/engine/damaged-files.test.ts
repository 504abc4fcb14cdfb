/** Files that are damaged, cut short or gone: named, never hung on, and never taken for whole. */
import {
  chmodSync,
  cpSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { CoppiceError, load, type Model } from '../../src/index.ts'
import { packModel } from '../../src/weights/pack.ts'
import { verifyPacked } from '../../src/weights/packed.ts'
import { TARGET } from '../e2e/models.ts'
import { fixtures } from '../paths.ts'
import { rejection } from './failures.ts'
import { openInline, scratch } from './harness.ts'

interface Manifest {
  readonly edges: { readonly name: string; readonly dataOffset: number; readonly segments: readonly SegmentJson[] }
}
interface SegmentJson {
  readonly name: string
  readonly offset: number
  readonly bytes: number
}

const PROMPT = 'The old house stood at the end of the lane, and'
const CALL = { temperature: 0, maxTokens: 24, ignoreEos: true }
const LAYER = 'layer-00005.safetensors'
const intact = join(scratch, 'intact')
const untied = join(scratch, 'untied')
const quiet = { onProgress: () => {}, isAborted: () => false }
let copies = 0
let expected: number[] = []
let smallest = 0

const test = suite('damaged files')

test.before(() => {
  packModel(TARGET, intact, { weights: 'q8', ...quiet })
  packModel(join(fixtures, 'llama-3-rope'), untied, { weights: 'f32', ...quiet })
  const model = openInline(intact)
  expected = model.generate(PROMPT, CALL).tokens
  smallest = openInline(intact, { context: 128 }).plan.smallestBudgetBytes
})

/** A copy of the packed model that a test may damage. */
function copyOf(directory: string): string {
  const to = join(scratch, `copy-${copies++}`)
  mkdirSync(to)
  cpSync(directory, to, { recursive: true })
  return to
}

function flip(path: string, at: number): void {
  const bytes = readFileSync(path)
  bytes[at] ^= 0x10
  writeFileSync(path, bytes)
}

const middleOf = (path: string): number => Math.floor(readFileSync(path).length / 2)

/** The ways of running a model: all in memory or streamed; with threads of its own or on this one. */
const WAYS: [string, (directory: string) => Promise<number[]>][] = [
  ['workers, resident', (directory) => viaLoad(directory, {})],
  ['workers, streamed', (directory) => viaLoad(directory, { memory: 'least' })],
  ['inline, resident', async (directory) => openInline(directory).generate(PROMPT, CALL).tokens],
  ['inline, streamed', async (directory) => openInline(directory, { memory: smallest }).generate(PROMPT, CALL).tokens],
]

async function viaLoad(directory: string, { memory }: { memory?: 'least' }): Promise<number[]> {
  const options = { context: 128, threads: 1, ...(memory && { memory: smallest }) }
  const model = await load(directory, options)
  try {
    return (await model.complete(PROMPT, CALL)).tokens
  } finally {
    await model.close()
  }
}

/** The error that reached the caller; inline calls wrap it in what had been written. */
async function failure(run: Promise<unknown>): Promise<CoppiceError> {
  const error = await rejection(run)
  const inner = error.cause instanceof CoppiceError ? error.cause : error
  assert.instance(inner, CoppiceError, `${error.stack}`)
  return inner as CoppiceError
}

for (const [way, run] of WAYS) {
  test(`${way}: an intact copy writes the expected text`, async () => {
    assert.equal(await run(intact), expected)
  })

  test(`${way}: a flipped bit in a layer is reported by the file's name`, async () => {
    const directory = copyOf(intact)
    flip(join(directory, LAYER), middleOf(join(directory, LAYER)))
    const error = await failure(run(directory))
    assert.is(error.code, 'CORRUPT_FILE', error.message)
    assert.match(error.message, LAYER)
  })

  test(`${way}: a layer cut short is reported by the file's name`, async () => {
    const directory = copyOf(intact)
    truncateSync(join(directory, LAYER), middleOf(join(directory, LAYER)))
    const error = await failure(run(directory))
    assert.is(error.code, 'CORRUPT_FILE', error.message)
    assert.match(error.message, LAYER)
  })

  test(`${way}: a missing layer is reported by the file's name`, async () => {
    const directory = copyOf(intact)
    rmSync(join(directory, LAYER))
    const error = await failure(run(directory))
    assert.ok(['CORRUPT_FILE', 'MODEL_NOT_FOUND'].includes(error.code), `${error.code}: ${error.message}`)
    assert.match(error.message, LAYER)
  })

  test(`${way}: a flipped bit in any part of the edges is reported by the file's name`, async () => {
    const { edges } = JSON.parse(readFileSync(join(intact, 'coppice.json'), 'utf8')) as Manifest
    assert.ok(edges.segments.length >= 2)
    for (const { name, offset, bytes } of edges.segments) {
      const directory = copyOf(intact)
      // Near the beginning, where the common tokens are: embedding rows on disk are checked when they are used.
      flip(join(directory, edges.name), edges.dataOffset + offset + Math.min(bytes - 1, 600))
      const error = await failure(run(directory))
      assert.is(error.code, 'CORRUPT_FILE', `${name}: ${error.message}`)
      assert.match(error.message, edges.name)
      rmSync(directory, { recursive: true })
    }
  })
}

test('a flipped bit in an embedding that stays on disk is found at its first use, and in a head of its own', async () => {
  const { edges } = JSON.parse(readFileSync(join(untied, 'coppice.json'), 'utf8')) as Manifest
  const names = edges.segments.map((segment) => segment.name)
  if (!names.includes('head')) throw new Error(`this fixture has a tied head: ${names}`)
  const { residentBudgetBytes } = openInline(untied).plan
  for (const { name, offset, bytes } of edges.segments) {
    const directory = copyOf(untied)
    flip(join(directory, edges.name), edges.dataOffset + offset + Math.min(bytes - 1, 100))
    const error = await failure(
      (async () => {
        const model = openInline(directory, { memory: residentBudgetBytes })
        assert.not(model.plan.embeddingPinned)
        return model.generate({ tokens: [0, 1, 2] }, CALL).tokens
      })(),
    )
    assert.is(error.code, 'CORRUPT_FILE', `${name}: ${error.message}`)
    assert.match(error.message, edges.name)
  }
})

/** Runs a streamed model and does something to its files after the first piece. */
async function during(damage: (directory: string) => void): Promise<{ tokens?: number[]; error?: Error }> {
  const directory = copyOf(intact)
  const model: Model = await load(directory, { context: 512, threads: 1, memory: leastForLongText() })
  try {
    assert.ok(model.plan.streamedBytesPerPass > 0)
    const tokens: number[] = []
    try {
      for await (const piece of model.generate(PROMPT, { ...CALL, maxTokens: 200 })) {
        if (tokens.length === 0) damage(directory)
        tokens.push(piece.token)
      }
      return { tokens }
    } catch (error) {
      return { tokens, error: error as Error }
    }
  } finally {
    await model.close()
  }
}

let leastBudget: number | undefined
function leastForLongText(): number {
  leastBudget ??= openInline(intact, { context: 512 }).plan.smallestBudgetBytes
  return leastBudget
}

async function assertSameOrCoded(damage: (directory: string) => void): Promise<void> {
  const whole = await during(() => {})
  assert.is(whole.error, undefined)
  const { tokens, error } = await during(damage)
  if (error === undefined) {
    assert.equal(tokens, whole.tokens)
  } else {
    assert.instance(error, CoppiceError, `${error.stack}`)
    assert.match(error.message, /safetensors/)
    // What had been written until then is right.
    assert.equal(tokens, whole.tokens!.slice(0, tokens!.length))
  }
}

test('a layer that is deleted during a run leaves the text whole or gives a coded error', () =>
  assertSameOrCoded((directory) => rmSync(join(directory, LAYER))))

test('a directory that is deleted during a run leaves the text whole or gives a coded error', () =>
  assertSameOrCoded((directory) => rmSync(directory, { recursive: true })))

test('a layer that another file replaces during a run leaves the text whole', async () => {
  if (process.platform === 'win32') return
  const whole = await during(() => {})
  const { tokens, error } = await during((directory) => {
    const path = join(directory, LAYER)
    writeFileSync(`${path}.new`, readFileSync(path).reverse())
    renameSync(`${path}.new`, path)
  })
  assert.is(error, undefined)
  assert.equal(tokens, whole.tokens)
})

test('a model whose files may not be opened any more writes on', async () => {
  const whole = await during(() => {})
  const { tokens, error } = await during((directory) => {
    for (const file of readdirSync(directory)) chmodSync(join(directory, file), 0)
  })
  assert.is(error, undefined)
  assert.equal(tokens, whole.tokens)
})

test('what is damaged fails every call with the same words, and a new load of a whole copy works', async () => {
  const directory = copyOf(intact)
  const layer = join(directory, LAYER)
  const options = { context: 128, threads: 2, memory: smallest }
  const bytes = readFileSync(layer)
  flip(layer, middleOf(layer))
  const model = await load(directory, options)
  const errors = [await failure(model.complete(PROMPT, CALL)), await failure(model.complete(PROMPT, CALL))]
  await model.close()
  for (const { code, message } of errors) {
    assert.is(code, 'CORRUPT_FILE')
    assert.is(message, errors[0].message)
    assert.match(message, new RegExp(`${LAYER}: the checksum of bytes \\d+ to \\d+ \\(\\w+ of ${LAYER}\\)`))
  }
  const { problems } = verifyPacked(directory)
  assert.equal(
    problems.map(({ file }) => file),
    [LAYER],
  )
  writeFileSync(layer, bytes)
  assert.equal(await viaLoad(directory, { memory: 'least' }), expected)
})

test('a layer that is cut short during a run is reported', async () => {
  const { error } = await during((directory) => truncateSync(join(directory, LAYER), 4096))
  assert.instance(error, CoppiceError, `${error?.stack}`)
  assert.is((error as CoppiceError).code, 'CORRUPT_FILE')
  assert.match(error!.message, LAYER)
})

test('a layer that is changed during a run is reported', async () => {
  const { error } = await during((directory) => {
    const bytes = readFileSync(join(directory, LAYER))
    writeFileSync(join(directory, LAYER), bytes.reverse())
  })
  assert.instance(error, CoppiceError, `${error?.stack}`)
  assert.is((error as CoppiceError).code, 'CORRUPT_FILE')
  assert.match(error!.message, LAYER)
})

test.run()
