import { cpSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { planModel, prepare } from '../../src/engine/prepare.ts'
import type { EngineOptions } from '../../src/engine/protocol.ts'
import { CoppiceError } from '../../src/errors.ts'
import type { KvKind } from '../../src/model/kv-cache.ts'
import { describeModel } from '../../src/weights/describe.ts'
import type { PackedModel } from '../../src/weights/packed.ts'
import { resolveModel } from '../../src/weights/resolve.ts'
import { fixtures, root } from '../paths.ts'
import { assertFails } from '../runtime/failures.ts'
import { syntheticTokenizer } from '../text/synthetic.ts'
import { padVocabulary } from '../weights/checkpoints.ts'
import { scratch } from './harness.ts'

const test = suite('preparing a model')
const target = join(root, 'models', 'target')
const draft = join(root, 'models', 'draft')
const hooks = { onProgress: () => {}, isAborted: () => false }

function refusal(model: string, options: EngineOptions): CoppiceError {
  try {
    prepare(model, options, hooks)
  } catch (error) {
    if (error instanceof CoppiceError) return error
    throw error
  }
  throw new Error('nothing was refused')
}

test('a draft with another number of tokens is refused with both numbers', () => {
  const { code, message } = refusal(target, { draft: join(fixtures, 'llama') })
  assert.is(code, 'INCOMPATIBLE_DRAFT')
  assert.match(message, '4096')
  assert.match(message, '384')
})

test('a draft whose ids mean other tokens is refused, naming one', () => {
  const other = join(scratch, 'swapped-draft')
  cpSync(draft, other, { recursive: true })
  const path = join(other, 'tokenizer.json')
  const tokenizer = JSON.parse(readFileSync(path, 'utf8'))
  const { vocab } = tokenizer.model
  const [a, b] = Object.keys(vocab).filter((token) => vocab[token] === 300 || vocab[token] === 301)
  ;[vocab[a], vocab[b]] = [vocab[b], vocab[a]]
  writeFileSync(path, JSON.stringify(tokenizer))
  const { code, message } = refusal(target, { draft: other })
  assert.is(code, 'INCOMPATIBLE_DRAFT')
  assert.match(message, /token 30[01] /)
})

test('a draft whose tokenizer is written otherwise but means the same is taken', () => {
  const other = join(scratch, 'rewritten-draft')
  cpSync(draft, other, { recursive: true })
  const path = join(other, 'tokenizer.json')
  writeFileSync(path, JSON.stringify(JSON.parse(readFileSync(path, 'utf8')), undefined, 1))
  assert.is(prepare(target, { draft: other, nodes: 16 }, hooks).plan.nodes, 16)
})

test('the plan counts a tokenizer by its tables, and none where there is none', () => {
  const large = join(scratch, 'large-tokenizer')
  cpSync(target, large, { recursive: true })
  writeFileSync(join(large, 'tokenizer.json'), syntheticTokenizer(50_000))
  const [without, small, more] = [join(fixtures, 'llama'), target, large].map(
    (model) => prepare(model, { weights: 'f32' }, hooks).plan.process.tokenizer,
  )
  assert.is(without, 0)
  assert.ok(small > 1e6 && small < 4e6, `${small} bytes for 4 thousand tokens`)
  assert.ok(more > small + 1e6 && more < small + 4e6, `${more} bytes for 50 thousand tokens`)
})

test('the plan counts every thread, whether it computes or loads', () => {
  const plans = [{ threads: 1 }, { threads: 3 }, { threads: 3, memory: '9.5MB' }].map(
    (options) => prepare(target, { weights: 'q8', context: 256, ...options }, hooks).plan,
  )
  assert.equal(
    plans.map(({ threads, loaders }) => threads + loaders),
    [1, 3, 4],
  )
  const [one, three, four] = plans.map(({ process }) => process.threads)
  assert.equal([three, four], [3 * one, 4 * one])
})

test('a q8 KV cache takes a scale and a byte per dimension of f32, in target, draft and plan', () => {
  const plan = (kvCache: 'f32' | 'q8') => prepare(target, { draft, nodes: 8, context: 512, kvCache }, hooks).plan
  const [f32, q8] = [plan('f32'), plan('q8')]
  const bytes = ({ regions }: typeof f32, name: string) => regions.find((region) => region.name === name)!.bytes
  assert.equal(prepare(target, { context: 512 }, hooks).plan.kvCache.kind, 'f32')
  for (const name of ['target KV cache', 'draft KV cache']) {
    const ratio = bytes(q8, name) / bytes(f32, name)
    assert.ok(ratio > 0.25 && ratio < 0.32, `${name}: ${ratio}`)
  }
  assert.is(q8.kvCache.kind, 'q8')
  assert.is(q8.kvCache.bytes, bytes(q8, 'target KV cache') + bytes(q8, 'draft KV cache'))
  const saved = f32.kvCache.bytes - q8.kvCache.bytes
  assert.ok(f32.smallestBudgetBytes - q8.smallestBudgetBytes > saved * 0.9)
})

test('unless it is said how, keys and values of the target are f32, and those of the draft q8 if its heads allow', () => {
  const kinds = (options: EngineOptions) => {
    const { kind, draft } = prepare(target, { nodes: 8, context: 256, ...options }, hooks).plan.kvCache
    return [kind, draft]
  }
  assert.equal(kinds({ draft }), ['f32', 'q8'])
  assert.equal(kinds({ draft, kvCache: 'f32' }), ['f32', 'f32'])
  assert.equal(kinds({ draft, kvCache: 'q8' }), ['q8', 'q8'])
  assert.equal(kinds({}), ['f32', undefined])
  const bytes = (kvCache?: KvKind) =>
    prepare(target, { draft, nodes: 8, context: 256, ...(kvCache && { kvCache }) }, hooks).plan.kvCache.bytes
  assert.ok(bytes() < bytes('f32') && bytes() > bytes('q8'))
})

/** Plans with a draft whose heads have so many dimensions. */
function planHeads(headSize: number, options: EngineOptions = {}) {
  const resolve = (path: string): PackedModel => {
    const packed = resolveModel(path)
    if (path !== draft) return packed
    return { ...packed, manifest: { ...packed.manifest, config: { ...packed.manifest.config, headSize } } }
  }
  return planModel(target, { draft, nodes: 8, context: 256, ...options }, hooks, resolve).plan
}

test('a draft with heads that a q8 cache does not take keeps keys and values in f32, and q8 is refused', () => {
  for (const [headSize, kind] of [
    [7, 'f32'],
    [8, 'q8'],
    [512, 'q8'],
    [513, 'f32'],
  ] as const) {
    assert.equal(planHeads(headSize).kvCache.draft, kind, `heads of ${headSize}`)
    if (kind === 'q8') continue
    const { message } = assertFails(() => planHeads(headSize, { kvCache: 'q8' }), 'INVALID_OPTION')
    assert.match(message, `heads of 8 to 512 dimensions, this model's have ${headSize}`)
  }
})

test('options that make no sense are refused by name', () => {
  const cases: [EngineOptions, string][] = [
    [{ draft: 'none', nodes: 4 }, 'nodes'],
    [{ drafters: ['oracle' as 'trie'] }, 'oracle'],
    [{ draft, nodes: -1 }, 'nodes'],
    [{ draft, nodes: 1.5 }, 'nodes'],
    [{ threads: 0 }, 'threads'],
    [{ context: 1 }, 'context'],
    [{ context: 2000 }, 'context'],
    [{ kvCache: 'f16' as 'q8' }, 'f16'],
    [{ memory: 'much' }, 'size'],
    [{ memory: -5 }, 'memory'],
    [{ drafterMemory: 'much' }, 'size'],
    [{ drafterMemory: 0 }, 'drafterMemory'],
    [{ drafterMemory: '10kB' }, 'trie, trigram, recycle, ngram'],
    [{ drafterMemory: '3MB', drafterOptions: { trie: { capacity: 100_000 } } }, 'give that much'],
    [{ draft: 'self:q5' }, 'self:q5'],
    [{ drafters: ['tree'] }, 'tree'],
    [{ drafters: ['chain'] }, 'chain'],
    [{ draft, drafters: ['tree', 'chain'] }, 'both tree and chain'],
    [{ draft, nodes: 'many' as 'auto' }, 'nodes'],
    [{ draft, drafters: [], nodes: 4 }, 'without a drafter'],
    [{ draft, pacing: 'slow' as 'fixed' }, 'pacing'],
    [{ draft, pipeline: 'yes' as unknown as boolean }, 'pipeline'],
    [{ draft, coupled: 1 as unknown as boolean }, 'coupled'],
    [{ draft, draftPMin: 2 }, 'draftPMin'],
  ]
  for (const [options, name] of cases) {
    const { code, message } = refusal(target, options)
    assert.is(code, 'INVALID_OPTION', JSON.stringify(options))
    assert.match(message, name, JSON.stringify(options))
  }
})

test('what drafters remember is part of the budget: the smallest one works, and a byte less does not', () => {
  const common: EngineOptions = { weights: 'f32', context: 256, threads: 1 }
  const cases: [EngineOptions, number?][] = [
    [{}],
    [{ draft, nodes: 16 }],
    [{ drafters: ['recycle'] }],
    [{ drafterMemory: '5MB' }],
    [{ drafterOptions: { trie: { capacity: 100_000 } } }],
    // Several memories, of which the budget for drafters is no part.
    [{}, 12e6],
    [{ drafterMemory: '3MB' }, 12e6],
  ]
  for (const [options, memoryLimit] of cases) {
    const what = JSON.stringify([options, memoryLimit])
    const planned = (memory?: number) =>
      prepare(target, { ...common, ...options, ...(memory && { memory }) }, hooks, undefined, memoryLimit).plan
    const { smallestBudgetBytes: smallest, residentBudgetBytes: resident } = planned()
    for (const memory of [smallest, smallest + 12_345, Math.floor((smallest + resident) / 2), resident, 2 * resident]) {
      const { totalBytes, drafterBytes, banks, streamedBytesPerPass } = planned(memory)
      assert.ok(drafterBytes > 0, what)
      assert.ok(totalBytes + drafterBytes <= memory, what)
      assert.is(
        totalBytes,
        banks.reduce((sum, { bytes }) => sum + bytes, 0),
      )
      assert.is(streamedBytesPerPass === 0, memory >= resident, `${what} in ${memory}`)
      const { plan } = prepare(
        target,
        { ...common, ...options, memory, drafterMemory: drafterBytes },
        hooks,
        undefined,
        memoryLimit,
      )
      assert.is(plan.totalBytes, totalBytes)
    }
    const { message } = assertFails(() => planned(smallest - 1), 'OUT_OF_BUDGET')
    assert.match(message, `at least ${smallest} bytes`)
    assert.match(message, 'for what drafters remember')
    assertFails(() => planned(1), 'OUT_OF_BUDGET')
  }
})

test('drafters take nothing of the budget in plain decoding and without look-ups; else a 32nd, or what is given', () => {
  const bytes = (options: EngineOptions) => prepare(target, { memory: '40MB', ...options }, hooks).plan.drafterBytes
  assert.is(bytes({}), 1.25e6)
  assert.is(bytes({ memory: '80MB' }), 2.5e6)
  assert.is(bytes({ drafterMemory: '9MB' }), 9e6)
  for (const options of [{ draft: 'none' }, { nodes: 0 }, { draft, drafters: ['tree'] }] as EngineOptions[]) {
    assert.is(bytes(options), 0)
    assert.is(bytes({ ...options, drafterMemory: '9MB' }), 0)
  }
})

test('how guesses are made follows from what is given', () => {
  const chosen = (options: EngineOptions) => {
    const { model, pacing, nodes } = prepare(target, { draft, ...options }, hooks).speculation
    return [model, pacing, nodes]
  }
  assert.equal(chosen({}), ['tree', 'planner', 63])
  assert.equal(chosen({ nodes: 'auto' }), ['tree', 'planner', 63])
  assert.equal(chosen({ nodes: 5 }), ['tree', 'fixed', 5])
  assert.equal(chosen({ nodes: 5, pacing: 'planner' }), ['tree', 'planner', 5])
  assert.equal(chosen({ pacing: 'fallback' }), ['tree', 'fallback', 63])
  assert.equal(chosen({ drafters: ['chain'] }), ['chain', 'fixed', 16])
  assert.equal(chosen({ drafters: ['chain'], nodes: 'auto' }), ['chain', 'planner', 63])
  assert.is(prepare(target, { draft, drafters: [] }, hooks).plan.nodes, 0)
})

test('a target drafts for itself with its own copy in fewer bits', () => {
  const { draft: own } = prepare(target, { draft: 'self:q4', weights: 'f32', nodes: 4 }, hooks)
  assert.is(own!.packed.manifest.config.layers, prepare(target, {}, hooks).plan.layers)
  assert.is(own!.packed.manifest.quantisation.layers, 'q4')
})

test('a draft with a vocabulary of another size is taken when both have the same tokens', () => {
  const padded = join(scratch, 'padded-draft')
  padVocabulary(draft, padded, 128)
  const { draft: taken } = prepare(target, { draft: padded, nodes: 4 }, hooks)
  assert.is(taken!.packed.manifest.config.vocabulary, 4096 + 128)
})

test('nodes 0 leaves the draft out of the plan', () => {
  const { plan, draft: prepared } = prepare(target, { draft, nodes: 0 }, hooks)
  assert.is(prepared, undefined)
  assert.not.ok(plan.regions.some((region) => region.name.startsWith('draft')))
})

test('the plan of a model that is not packed equals the plan of the packed one', () => {
  for (const memory of ['22MB', '30MB', '60MB']) {
    const options: EngineOptions = { draft, memory, weights: 'f32', context: 512, threads: 2 }
    const copy = join(scratch, `unpacked-${memory}`)
    cpSync(target, copy, { recursive: true })
    const described = prepare(copy, options, hooks, describeModel).plan
    const real = prepare(copy, options, hooks).plan
    assert.equal(described, real)
  }
})

test.run()
