import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { Logits, ModelPlan } from '../../src/index.ts'
import type { ReadSpeeds } from '../../src/memory/read-speed.ts'
import { TARGET } from '../e2e/models.ts'
import { openInline, scratch } from '../engine/harness.ts'
import { fixtures } from '../paths.ts'
import { coppice } from './cli-process.ts'

const FIXTURE = join(fixtures, 'llama')
const packed = join(scratch, 'packed')
const ESCAPE = '\u001b'

const pack = suite('coppice pack and verify')

pack('a packed directory is written, checked, and damage is named', async () => {
  const written = await coppice(['pack', FIXTURE, packed, '--quant', 'q8'])
  assert.is(written.code, 0, written.stderr)
  assert.is(written.stdout, '')
  assert.match(written.stderr, /3 layers, .*layers q8/)
  assert.not.match(written.stderr, ESCAPE)

  const whole = await coppice(['verify', packed, '--json'])
  assert.is(whole.code, 0, whole.stderr)
  const report = JSON.parse(whole.stdout) as { files: number; bytes: number; problems: unknown[] }
  assert.equal(report.problems, [])
  assert.is(report.files, 4)
  assert.match((await coppice(['verify', packed])).stderr, /all as packed/)

  const layer = join(packed, 'layer-00001.safetensors')
  const bytes = readFileSync(layer)
  bytes[bytes.length >> 1] ^= 1
  writeFileSync(layer, bytes)
  const damaged = await coppice(['verify', packed])
  assert.is(damaged.code, 1)
  assert.match(damaged.stderr, /layer-00001\.safetensors: /)
  const json = await coppice(['verify', packed, '--json'])
  assert.is(json.code, 1)
  const { problems } = JSON.parse(json.stdout) as { problems: { file: string }[] }
  assert.equal(
    problems.map((problem) => problem.file),
    ['layer-00001.safetensors'],
  )
})

pack('--json says where the packed model is and how large', async () => {
  const to = join(scratch, 'packed-json')
  const { code, stdout, stderr } = await coppice(['pack', FIXTURE, to, '--quant', 'f32', '--json'])
  assert.is(code, 0, stderr)
  const written = JSON.parse(stdout) as { directory: string; bytes: number; quantisation: { layers: string } }
  assert.is(written.directory, to)
  assert.is(written.quantisation.layers, 'f32')
  assert.ok(written.bytes > 100_000)
})

pack('what cannot be packed is refused', async () => {
  assert.is((await coppice(['pack', FIXTURE])).code, 2)
  assert.is((await coppice(['pack', FIXTURE, join(scratch, 'no'), '--quant', 'q5'])).code, 2)
  const missing = await coppice(['pack', join(scratch, 'missing'), join(scratch, 'no')])
  assert.is(missing.code, 1)
  assert.match(missing.stderr, /\[MODEL_NOT_FOUND\]/)
  const notPacked = await coppice(['verify', FIXTURE])
  assert.is(notPacked.code, 1)
  assert.match(notPacked.stderr, /\[[A-Z_]+\]/)
})

pack.run()

const show = suite('coppice inspect, plan and logits')

show('inspect tells the architecture, the plan and the runtime', async () => {
  const text = await coppice(['inspect', FIXTURE, '--weights', 'f32'])
  assert.is(text.code, 0, text.stderr)
  for (const word of ['family', 'llama', 'vocabulary', 'tokenizer', 'none: tokens only', 'self-test passed']) {
    assert.match(text.stdout, word)
  }
  const json = await coppice(['inspect', FIXTURE, '--weights', 'f32', '--json'])
  const { manifest, plan, tokenizer } = JSON.parse(json.stdout) as {
    manifest: { config: { family: string; layers: number } }
    plan: ModelPlan
    tokenizer: boolean
  }
  assert.is(manifest.config.family, 'llama')
  assert.is(plan.layers, manifest.config.layers)
  assert.is(tokenizer, false)
})

show('--drafter-memory is part of --memory', async () => {
  const planned = async (...flags: string[]) => {
    const { code, stdout, stderr } = await coppice(['plan', TARGET, '--json', '--memory', '40MB', ...flags])
    assert.is(code, 0, stderr)
    return JSON.parse(stdout) as ModelPlan
  }
  const [usual, more] = [await planned(), await planned('--drafter-memory', '3MB')]
  assert.equal([usual.drafterBytes, more.drafterBytes], [1.25e6, 3e6])
  assert.ok(more.totalBytes < usual.totalBytes && more.totalBytes <= 37e6)
  const refused = await coppice(['plan', TARGET, '--drafter-memory', '1kB'])
  assert.is(refused.code, 2)
  assert.match(refused.stderr, /drafterMemory is 1000 bytes .*need at least \d+/)
})

show('plan is what a load then does', async () => {
  const flags = ['--weights', 'f32', '--ctx-size', '128', '--threads', '1', '--draft', 'none']
  const { plan } = openInline(TARGET, { weights: 'f32', draft: 'none', context: 128 })
  const memory = plan.smallestBudgetBytes + 8_000_000
  const json = await coppice(['plan', TARGET, ...flags, '--memory', String(memory), '--json'])
  assert.is(json.code, 0, json.stderr)
  const planned = JSON.parse(json.stdout) as ModelPlan & { readSpeeds: ReadSpeeds }
  const expected = openInline(TARGET, { weights: 'f32', draft: 'none', context: 128, memory }).plan
  assert.equal(planned.pinnedLayers, expected.pinnedLayers)
  assert.is(planned.totalBytes, expected.totalBytes)
  assert.is(planned.smallestBudgetBytes, plan.smallestBudgetBytes)
  assert.ok(planned.readSpeeds.buffered.every((speed) => speed > 0))
  const { plain, speculative } = planned.expected!
  assert.ok(plain.secondsReading > 0 && plain.secondsComputing > 0)
  assert.is(plain.secondsPerPass, Math.max(plain.secondsReading, plain.secondsComputing))
  assert.is(speculative, undefined)
  // The figures are measured once.
  const again = await coppice(['plan', TARGET, ...flags, '--memory', String(memory), '--json'])
  assert.equal((JSON.parse(again.stdout) as ModelPlan).expected, planned.expected)
  const text = await coppice(['plan', TARGET, ...flags, '--memory', String(memory)])
  for (const line of [
    'smallest budget',
    'nothing streams',
    'reading takes',
    'plain',
    'layer 7',
    'output head',
    'slots',
    `${memory} bytes`,
    'regions',
  ]) {
    assert.match(text.stdout, line)
  }
})

show('plan fits in 40 columns, without escape codes, and tells of drafts what it assumes', async () => {
  const flags = ['--weights', 'f32', '--ctx-size', '128', '--threads', '2', '--nodes', '16', '--memory', '17MB']
  const { code, stdout, stderr } = await coppice(['plan', 'embedded', ...flags], { environment: { COLUMNS: '40' } })
  assert.is(code, 0, stderr)
  for (const line of stdout.split('\n')) assert.ok(line.length <= 40, line)
  assert.not.match(stdout, '\u001b')
  assert.match(stdout.replace(/\s+/g, ' '), /with guesses .* per pass .* to .* tokens\/s if 60-80% of guesses/)
})

show('plan refuses what cannot be', async () => {
  const { code, stderr, stdout } = await coppice(['plan', TARGET, '--weights', 'q8', '--memory', '1MB'])
  assert.is(code, 1)
  assert.match(stderr, /\[OUT_OF_BUDGET\]/)
  assert.is(stdout, '')
})

show('logits are the engine’s own, whole or the largest of each row', async () => {
  const model = openInline(FIXTURE, { weights: 'f32' })
  const rowsOf = ({ rows, vocab, data }: Logits): number[][] =>
    Array.from({ length: rows }, (_, i) => [...data.subarray(i * vocab, (i + 1) * vocab)])
  const chain = await coppice(['logits', FIXTURE, '--weights', 'f32', '--tokens', '3,1,4'])
  assert.is(chain.code, 0, chain.stderr)
  const written = JSON.parse(chain.stdout) as { rows: number; vocab: number; logits: number[][] }
  const expected = model.engine.logits({ tokens: [3, 1, 4] })
  assert.is(written.vocab, expected.vocab)
  // JSON keeps every bit of an f32.
  assert.equal(written.logits, rowsOf(expected))

  const tree = await coppice([
    ...['logits', FIXTURE, '--weights', 'f32', '--prefix', '3,1', '--tokens', '4,1,5', '--parents=-1,-1,0'],
    ...['--top', '2'],
  ])
  assert.is(tree.code, 0, tree.stderr)
  const { logits } = JSON.parse(tree.stdout) as { logits: [number, number][][] }
  const table = rowsOf(model.engine.logits({ prefix: [3, 1], tokens: [4, 1, 5], parents: [-1, -1, 0] }))
  logits.forEach((row, i) => {
    assert.is(row.length, 2)
    assert.is(row[0][1], Math.max(...table[i]))
    for (const [id, value] of row) assert.is(value, table[i][id])
  })
})

show('logits refuses lists that are not lists of tokens', async () => {
  const base = ['logits', FIXTURE, '--weights', 'f32']
  for (const [args, code] of [
    [[...base], 2],
    [[...base, '--tokens', '1,x'], 2],
    [[...base, '--tokens', ''], 2],
    [[...base, '--tokens', '1,2', '--parents', '0'], 1],
    [[...base, '--tokens', '99999'], 1],
  ] as const) {
    const result = await coppice(args)
    assert.is(result.code, code, `${args.join(' ')}: ${result.stderr}`)
    assert.is(result.stdout, '')
  }
})

show.run()
