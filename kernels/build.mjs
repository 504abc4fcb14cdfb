/**
 * Compiles the kernels: generated sources, then one WASM module per variant out of the same sources,
 * written as src/tensor/kernels.generated.ts (base64, for everybody) and .build-kernels/kernels.<variant>.wasm
 * (files). Does nothing when no source has changed.
 */
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import asc from 'assemblyscript/asc'
import { generateGemm } from './generate.mjs'
import { generateAttention } from './generate-attention.mjs'

/** The number is what kernels/variant.ts calls VARIANT. */
const VARIANTS = [
  { name: 'simd128', number: 0, features: [] },
  { name: 'relaxed-i16', number: 1, features: ['relaxed-simd'] },
  { name: 'relaxed-i32', number: 2, features: ['relaxed-simd'] },
]

const here = dirname(fileURLToPath(import.meta.url))
const root = dirname(here)
const output = (variant) => join(root, '.build-kernels', `kernels.${variant.name}.wasm`)
const embedded = join(root, 'src', 'tensor', 'kernels.generated.ts')

const sources = readdirSync(here).filter((name) => /\.(ts|mjs)$/.test(name))
const hash = createHash('sha256')
const inputs = [join(root, 'asconfig.json'), join(root, 'node_modules', 'assemblyscript', 'package.json')]
for (const file of [...sources.map((name) => join(here, name)), ...inputs]) hash.update(readFileSync(file))
const build = hash.digest('hex').slice(0, 32)
const stamp = `// sources ${build}`

const written = [embedded, ...VARIANTS.map(output)].every((path) => existsSync(path))
if (written && readFileSync(embedded, 'utf8').startsWith(stamp)) process.exit(0)

mkdirSync(join(here, 'generated'), { recursive: true })
mkdirSync(dirname(output(VARIANTS[0])), { recursive: true })
writeWhole(join(here, 'generated', 'attention.ts'), generateAttention())
const modules = []
for (const variant of VARIANTS) modules.push({ variant, wasm: await compile(variant) })

const strings = modules.map(
  ({ variant, wasm }) => `  /** ${wasm.length} bytes. */\n  '${variant.name}':\n    '${wasm.toString('base64')}',\n`,
)
writeWhole(
  embedded,
  [
    stamp,
    '/** Changes whenever a source of the kernels does. */',
    `export const KERNEL_BUILD = '${build}'`,
    '/** kernels.<variant>.wasm in base64. */',
    `export const kernelsBase64 = {\n${strings.join('')}} as const\n`,
  ].join('\n'),
)
console.log(`kernels: ${modules.map(({ variant, wasm }) => `${variant.name} ${wasm.length} bytes`).join(', ')}`)

async function compile(variant) {
  writeWhole(join(here, 'generated', 'gemm.ts'), generateGemm(variant.name))
  const unfinished = `${output(variant)}.${process.pid}`
  const { error, stderr } = await asc.main([
    ...['--config', 'asconfig.json', '--baseDir', root, '--outFile', unfinished],
    ...['--use', `COPPICE_VARIANT=${variant.number}`],
    ...variant.features.flatMap((feature) => ['--enable', feature]),
  ])
  if (error) {
    console.error(stderr.toString())
    console.error(`the kernels do not compile as ${variant.name}: ${error.message}`)
    process.exit(1)
  }
  renameSync(unfinished, output(variant))
  return readFileSync(output(variant))
}

/** Readers never see half a file, even when two builds run at once. */
function writeWhole(path, text) {
  writeFileSync(`${path}.${process.pid}`, text)
  renameSync(`${path}.${process.pid}`, path)
}
