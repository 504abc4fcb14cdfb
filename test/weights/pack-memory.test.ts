/** The memory of packing does not grow with the model, whatever its tensors' shapes. */
import { spawnSync } from 'node:child_process'
import { closeSync, ftruncateSync, mkdirSync, openSync, readFileSync, writeFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { Kind } from '../../src/tensor/layout.ts'
import { readHfConfig } from '../../src/weights/hf-config.ts'
import { edgeRecipes, layerRecipes } from '../../src/weights/tensor-names.ts'
import { announceSkip } from '../e2e/models.ts'
import { fixtures } from '../paths.ts'
import { rawFile, withDirectory } from './checkpoints.ts'

const test = suite('pack: memory')
const child = fileURLToPath(new URL('./pack-memory-child.js', import.meta.url))

/**
 * What packing may take of memory, for any model, runtime included; CHANGELOG.md says so. Measured: up to 119 MB (rows of
 * a million) without helpers, which are left out where buffers are so large, and up to 132 MB with three of them.
 */
const LIMIT = 150e6

const HEAD = 'lm_head.weight'

/**
 * A llama of zeros, whose file takes no room: it is one hole behind its header. It stores its tied matrix twice, as
 * some do. @returns bytes of its tensors
 */
function writeZeros(directory: string, changes: Record<string, number>): number {
  mkdirSync(directory)
  const hub = JSON.parse(readFileSync(join(fixtures, 'llama', 'config.json'), 'utf8'))
  const shape = { num_attention_heads: 1, num_key_value_heads: 1, tie_word_embeddings: true }
  writeFileSync(join(directory, 'config.json'), JSON.stringify({ ...hub, ...shape, ...changes }))
  const config = readHfConfig(directory)
  const layers = Array.from({ length: config.layers }, (_, layer) => layerRecipes(config, layer))
  const entries: Record<string, unknown> = {}
  let end = 0
  const twin = edgeRecipes({ ...config, tiedHead: false }).filter(({ parts }) => parts[0].source === HEAD)
  for (const { type, columns, parts } of [...edgeRecipes(config), ...twin, ...layers.flat()]) {
    for (const { source, rows } of parts) {
      const begin = end
      end += rows * columns * 4
      entries[source] = {
        dtype: 'F32',
        shape: type === 'vector' ? [rows] : [rows, columns],
        data_offsets: [begin, end],
      }
    }
  }
  const header = rawFile(JSON.stringify(entries))
  const file = openSync(join(directory, 'model.safetensors'), 'w')
  writeSync(file, header)
  ftruncateSync(file, header.length + end)
  closeSync(file)
  return end
}

function peakOf(source: string, output: string, weights: Kind): number {
  const runtime = 'Deno' in globalThis ? ['run', '--allow-all', '--no-lock'] : []
  const { status, stdout, stderr } = spawnSync(process.execPath, [...runtime, child, source, output, weights], {
    encoding: 'utf8',
    env: { ...process.env, NODE_V8_COVERAGE: '' },
  })
  assert.is(status, 0, stderr)
  return Number(stdout)
}

const CASES: readonly (readonly [string, Kind, Record<string, number>])[] = [
  ['a vocabulary of 128k', 'q4', { vocab_size: 131_072, hidden_size: 512, head_dim: 64, intermediate_size: 64 }],
  ['rows of a million weights', 'q8', { vocab_size: 64, hidden_size: 16, head_dim: 16, intermediate_size: 1 << 20 }],
  ['one huge matrix', 'q4a', { vocab_size: 64, hidden_size: 8192, head_dim: 64, intermediate_size: 8192 }],
  [
    'many small layers',
    'f16',
    { vocab_size: 64, hidden_size: 64, head_dim: 16, intermediate_size: 64, num_hidden_layers: 100 },
  ],
]

for (const [name, weights, shape] of CASES) {
  const title = `${name}: less than 150 MB`
  if (process.platform !== 'linux') {
    announceSkip(`${title}: only Linux tells how much memory a process had`)
    test.skip(title, () => {})
    continue
  }
  test(title, () => {
    withDirectory((directory) => {
      const source = join(directory, 'source')
      const bytes = writeZeros(source, { num_hidden_layers: 1, ...shape })
      const peak = peakOf(source, join(directory, 'out'), weights)
      assert.ok(peak < LIMIT, `${peak} bytes for a model of ${bytes}`)
    })
  })
}

test.run()
