/**
 * Compiles the kernels: generated sources, then one WASM module, written as
 * src/tensor/kernels.generated.ts (base64, for everybody) and .build-kernels/kernels.wasm (a file).
 * Does nothing when no source has changed.
 */
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import asc from 'assemblyscript/asc'
import { generateGemm } from './generate.mjs'
import { generateAttention } from './generate-attention.mjs'

const here = dirname(fileURLToPath(import.meta.url))
const root = dirname(here)
const output = join(root, '.build-kernels', 'kernels.wasm')
const embedded = join(root, 'src', 'tensor', 'kernels.generated.ts')

const sources = readdirSync(here).filter((name) => /\.(ts|mjs)$/.test(name))
const hash = createHash('sha256')
const inputs = [join(root, 'asconfig.json'), join(root, 'node_modules', 'assemblyscript', 'package.json')]
for (const file of [...sources.map((name) => join(here, name)), ...inputs]) hash.update(readFileSync(file))
const stamp = `// sources ${hash.digest('hex').slice(0, 32)}`

if (existsSync(output) && existsSync(embedded) && readFileSync(embedded, 'utf8').startsWith(stamp)) {
  process.exit(0)
}

mkdirSync(join(here, 'generated'), { recursive: true })
mkdirSync(dirname(output), { recursive: true })
writeWhole(join(here, 'generated', 'gemm.ts'), generateGemm())
writeWhole(join(here, 'generated', 'attention.ts'), generateAttention())
const unfinished = `${output}.${process.pid}`
const { error, stderr } = await asc.main(['--config', 'asconfig.json', '--baseDir', root, '--outFile', unfinished])
if (error) {
  console.error(stderr.toString())
  console.error(`the kernels do not compile: ${error.message}`)
  process.exit(1)
}
renameSync(unfinished, output)
const wasm = readFileSync(output)
const comment = `/** kernels.wasm, ${wasm.length} bytes. */`
writeWhole(embedded, `${stamp}\n${comment}\nexport const kernelsBase64 =\n  '${wasm.toString('base64')}'\n`)
console.log(`kernels: ${wasm.length} bytes`)

/** Readers never see half a file, even when two builds run at once. */
function writeWhole(path, text) {
  writeFileSync(`${path}.${process.pid}`, text)
  renameSync(`${path}.${process.pid}`, path)
}
