/**
 * Checks the rules of .dependency-cruiser.cjs, first on the sources, then on bad examples: a rule that
 * misses its example would hold nothing.
 */
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { cruise } from 'dependency-cruiser'
import extractTSConfig from 'dependency-cruiser/config-utl/extract-ts-config'
import { root } from './runtimes.mjs'

const { forbidden, options } = createRequire(import.meta.url)('../.dependency-cruiser.cjs')

/** What each example breaks: the file's text by its path, and the rules that must say so. */
const examples = [
  ['src/tensor/bad.ts', "import '../model/good.ts'", 'tensor-imports-downward-only'],
  ['src/runtime/bad.ts', "import type { x } from '../cli/good.ts'", 'runtime-imports-downward-only'],
  ['src/engine/bad.ts', "import '../index.ts'", 'engine-imports-downward-only'],
  ['src/text/bad.ts', "import '../speculate/good.ts'", 'text-imports-downward-only'],
  ['src/speculate/bad.ts', "export type { x } from '../text/good.ts'", 'speculate-imports-downward-only'],
  ['src/weights/bad.ts', "export const x = import('../memory/good.ts')", 'weights-imports-downward-only'],
  ['src/model/bad.ts', "import '../shapes/good.ts'", 'every-source-has-a-layer'],
  ['src/model/bad.ts', "import '../loose.ts'", 'every-source-has-a-layer'],
  ['src/errors.ts', "import './runtime/good.ts'", 'errors-import-nothing'],
  ['src/memory/bad.ts', "import 'node:fs'", 'platform-modules-in-runtime-only'],
  ['src/memory/bad.ts', "import type { Stats } from 'fs'", 'platform-modules-in-runtime-only'],
  ['src/engine/bad.ts', "import '@huggingface/jinja'", 'packages-where-they-belong'],
  ['src/text/bad.ts', "import 'fast-check'", 'text-imports-hugging-face-only'],
  ['src/runtime/bad.ts', "import 'tinybench'", 'packages-are-declared'],
  ['src/memory/bad.ts', "import '../../test/good.ts'", 'sources-import-sources'],
  ['src/model/bad.ts', "import './bad.ts'", 'no-cycles'],
  ['src/model/bad.ts', "import './missing.ts'", 'everything-resolves'],
]

const folders = 'cli engine generate speculate text model memory weights tensor runtime shapes'.split(' ')
const background = {
  ...Object.fromEntries(folders.map((folder) => [`src/${folder}/good.ts`, 'export type x = 1'])),
  'src/index.ts': "export type { x } from './engine/good.ts'",
  'src/errors.ts': 'export type y = 2',
  'src/loose.ts': 'export type z = 3',
  'test/good.ts': 'export {}',
  // Downward, and the packages where they belong: this must pass.
  'src/text/fine.ts': "import '@huggingface/jinja'\nimport '../model/good.ts'\nimport '../errors.ts'",
  'src/runtime/fine.ts': "import 'node:fs'",
}

const { violations: own, totalCruised } = await judge(root)
for (const { rule, from, to } of own) console.error(`${rule.name}: ${from} -> ${to}`)

let blunt = 0
for (const [path, text, rule] of [['src/cli/fine.ts', "import '../index.ts'", undefined], ...examples]) {
  const found = new Set((await violationsOf({ ...background, [path]: text })).map((violation) => violation.rule.name))
  if (rule === undefined ? found.size === 0 : found.has(rule)) continue
  blunt++
  console.error(`${path} with ${text}: expected ${rule ?? 'nothing'}, found ${[...found].join(', ') || 'nothing'}`)
}

console.log(
  `layers: ${totalCruised} modules, ${own.length} violations; ${examples.length + 1 - blunt} of ${examples.length + 1} examples judged rightly`,
)
process.exitCode = own.length + blunt > 0 ? 1 : 0

/** The violations of a small project made of these files. */
async function violationsOf(files) {
  const directory = mkdtempSync(join(tmpdir(), 'coppice-layers-'))
  try {
    for (const name of ['package.json', 'tsconfig.json', 'node_modules'])
      symlinkSync(join(root, name), join(directory, name))
    for (const [path, text] of Object.entries(files)) {
      mkdirSync(dirname(join(directory, path)), { recursive: true })
      writeFileSync(join(directory, path), `${text}\n`)
    }
    return (await judge(directory)).violations
  } finally {
    rmSync(directory, { recursive: true })
  }
}

async function judge(directory) {
  const { tsConfig, ...rest } = options
  const settings = { ...rest, baseDir: directory, validate: true, ruleSet: { forbidden }, preserveSymlinks: true }
  const { output } = await cruise(['src'], settings, {}, { tsConfig: extractTSConfig(join(root, tsConfig.fileName)) })
  return output.summary
}
