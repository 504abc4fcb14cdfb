/**
 * Compiles the kernels: generated sources, then one WASM module per variant out of the same sources,
 * written as src/tensor/kernels.generated.ts (base64, for everybody) and .build-kernels/kernels.<variant>.wasm
 * (files); and the module of packing, which is simd128 alone, as src/tensor/pack-kernels.generated.ts. Does nothing
 * when no source has changed.
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
const embeddedPack = join(root, 'src', 'tensor', 'pack-kernels.generated.ts')

const sources = readdirSync(here).filter((name) => /\.(ts|mjs)$/.test(name))
const hash = createHash('sha256')
const inputs = [join(root, 'asconfig.json'), join(root, 'node_modules', 'assemblyscript', 'package.json')]
for (const file of [...sources.map((name) => join(here, name)), ...inputs]) hash.update(readFileSync(file))
const build = hash.digest('hex').slice(0, 32)
const stamp = `// sources ${build}`

const embeddedFiles = [embedded, embeddedPack]
const written = [...embeddedFiles, ...VARIANTS.map(output)].every((path) => existsSync(path))
if (written && embeddedFiles.every((path) => readFileSync(path, 'utf8').startsWith(stamp))) process.exit(0)

mkdirSync(join(here, 'generated'), { recursive: true })
mkdirSync(dirname(output(VARIANTS[0])), { recursive: true })
writeWhole(join(here, 'generated', 'attention.ts'), generateAttention())
const modules = []
for (const variant of VARIANTS) {
  writeWhole(join(here, 'generated', 'gemm.ts'), generateGemm(variant.name))
  modules.push({ variant, wasm: await compile('index', variant, output(variant)) })
}
const pack = await compile('pack', VARIANTS[0], join(dirname(output(VARIANTS[0])), 'pack.wasm'))

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
writeWhole(
  embeddedPack,
  `${stamp}\n/** ${pack.length} bytes. */\nexport const packKernelsBase64 =\n  '${pack.toString('base64')}'\n`,
)
modules.push({ variant: { name: 'pack' }, wasm: pack })
console.log(`kernels: ${modules.map(({ variant, wasm }) => `${variant.name} ${wasm.length} bytes`).join(', ')}`)

async function compile(entry, variant, file) {
  const unfinished = `${file}.${process.pid}`
  const { error, stderr } = await asc.main([
    join('kernels', `${entry}.ts`),
    ...['--config', 'asconfig.json', '--baseDir', root, '--outFile', unfinished],
    ...['--use', `COPPICE_VARIANT=${variant.number}`],
    ...variant.features.flatMap((feature) => ['--enable', feature]),
  ])
  if (error) {
    console.error(stderr.toString())
    console.error(`kernels/${entry}.ts does not compile as ${variant.name}: ${error.message}`)
    process.exit(1)
  }
  renameSync(unfinished, file)
  return readFileSync(file)
}

/** Readers never see half a file, even when two builds run at once. */
function writeWhole(path, text) {
  writeFileSync(`${path}.${process.pid}`, text)
  renameSync(`${path}.${process.pid}`, path)
}
