/**
 * Checks the package as users get it: packs it, looks at what is inside, installs the archive into an empty
 * project, and uses it there: from a program, from TypeScript, from the command line.
 */
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { publint } from 'publint'
import { formatMessage } from 'publint/utils'
import { root } from './runtimes.mjs'

const ENGINE_LIMIT = 2_000_000
const EXPECTED =
  /^(package\.json|README\.md|CHANGELOG\.md|LICENSE|models\/.+\.(json|jinja|safetensors|md)|dist\/kernels\.[\w-]+\.wasm|dist\/.+\.(js|d\.ts))$/
const KERNELS = ['simd128', 'relaxed-i16', 'relaxed-i32'].map((variant) => `kernels.${variant}.wasm`)
const REQUIRED = [
  ...['README.md', 'LICENSE', 'CHANGELOG.md', 'dist/index.js', 'dist/index.d.ts'],
  ...KERNELS.map((name) => `dist/${name}`),
]
/** Scripts that a package manager would run on the machines of users. */
const INSTALL_SCRIPTS = ['preinstall', 'install', 'postinstall', 'prepare', 'preprepare', 'postprepare']

const scratch = mkdtempSync(join(tmpdir(), 'coppice-package-'))
const problems = []
try {
  const packed = npmPack()
  const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
  checkContents(packed, manifest)
  await checkManifest(packed)
  checkUse(packed, manifest)
} finally {
  rmSync(scratch, { recursive: true, force: true })
}
for (const problem of problems) console.error(`package: ${problem}`)
process.exitCode = problems.length > 0 ? 1 : 0

function npmPack() {
  const args = ['pack', '--json', '--ignore-scripts', '--loglevel=error', '--pack-destination', scratch]
  const shell = process.platform === 'win32'
  const output = execFileSync('npm', args, { cwd: root, encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'], shell })
  return JSON.parse(output)[0]
}

function checkContents({ files }, manifest) {
  const paths = files.map((file) => file.path)
  for (const path of paths) if (!EXPECTED.test(path)) problems.push(`unexpected file ${path}`)
  for (const path of [...REQUIRED, ...Object.values(manifest.bin).map((bin) => bin.replace('./', ''))]) {
    if (!paths.includes(path)) problems.push(`${path} is missing`)
  }
  for (const script of INSTALL_SCRIPTS) if (manifest.scripts[script]) problems.push(`there is a script "${script}"`)
  const bytes = (kept) => files.filter(kept).reduce((sum, file) => sum + file.size, 0)
  const isModel = (file) => file.path.startsWith('models/')
  const engine = bytes((file) => !isModel(file))
  console.log(`package: ${files.length} files, engine ${engine} bytes, models ${bytes(isModel)} bytes unpacked`)
  if (engine >= ENGINE_LIMIT) problems.push(`the engine takes ${engine} bytes unpacked; the limit is ${ENGINE_LIMIT}`)
}

async function checkManifest({ filename }) {
  const tarball = readFileSync(join(scratch, filename))
  const { messages, pkg } = await publint({ pack: { tarball: new Uint8Array(tarball).buffer } })
  for (const message of messages) problems.push(`publint: ${formatMessage(message, pkg)}`)
}

function checkUse({ filename }, manifest) {
  const modules = join(scratch, 'user', 'node_modules')
  const installed = join(modules, manifest.name)
  mkdirSync(installed, { recursive: true })
  execFileSync('tar', ['-xzf', join(scratch, filename), '--strip-components=1', '-C', installed])
  // Only what the manifest declares is there for the package to find.
  for (const dependency of Object.keys(manifest.dependencies)) {
    mkdirSync(join(modules, dependency, '..'), { recursive: true })
    symlinkSync(join(root, 'node_modules', dependency), join(modules, dependency), 'dir')
  }
  writeFileSync(
    join(scratch, 'user', 'use.mts'),
    [
      "import { CoppiceError, load, type LoadOptions, type Model } from 'coppice'",
      "import * as safetensors from 'coppice/safetensors'",
      "const options: LoadOptions = { memory: '22MB', threads: 2 }",
      'const missing: Promise<Model> = load("nowhere", options)',
      'missing.catch((error: unknown) => {',
      '  if (!(error instanceof CoppiceError) || error.code !== "MODEL_NOT_FOUND") throw error',
      '  if (Object.keys(safetensors).length === 0) throw new Error("coppice/safetensors exports nothing")',
      '})',
      '',
    ].join('\n'),
  )
  // Without skipLibCheck and without @types/node: the declarations must stand on their own.
  const tsc = join(root, 'node_modules', 'typescript', 'bin', 'tsc')
  const flags = '--strict --module nodenext --target es2022 --lib es2023,esnext.disposable,dom'.split(' ')
  expectSuccess('TypeScript rejects the declarations', [tsc, ...flags, 'use.mts'])
  expectSuccess('a program cannot use it', ['use.mjs'])
  expectSuccess('the command does not start', [join(installed, manifest.bin.coppice), '--version'])
  if (process.platform !== 'win32') {
    const result = spawnSync(join(installed, manifest.bin.coppice), ['--help'], { encoding: 'utf8' })
    if (result.status !== 0) problems.push(`the command is not executable: ${result.error ?? result.stderr}`)
  }
}

function expectSuccess(problem, args) {
  const options = { cwd: join(scratch, 'user'), encoding: 'utf8', env: { ...process.env, COPPICE_CACHE: scratch } }
  const { status, stdout, stderr } = spawnSync(process.execPath, args, options)
  if (status !== 0) problems.push(`${problem}: ${stdout}${stderr}`)
}
