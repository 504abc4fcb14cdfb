/**
 * Installs the runtimes that the tests run on into .runtimes/, which is ignored by git.
 *
 *     node scripts/install-runtimes.mjs [node20] [node24] [deno] [bun]
 *
 * A runtime that is there already and starts is left alone. Without names: all of them.
 */
import { spawnSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import {
  binaryPath,
  platformPackage,
  runtimeEnvironment,
  runtimes,
  runtimesDirectory,
  withoutNpmSettings,
} from './runtimes.mjs'

const wanted = process.argv.length > 2 ? process.argv.slice(2) : Object.keys(runtimes)
const missing = []
let failed = false

for (const name of wanted) {
  if (runtimes[name] === undefined) {
    console.error(`there is no runtime "${name}"; choose from ${Object.keys(runtimes).join(', ')}`)
    process.exit(2)
  }
  if (version(name) !== undefined) continue
  if (platformPackage(name) === undefined) {
    console.error(`${name}: not supported here, there is no package for ${process.platform} on ${process.arch}`)
    failed = true
  } else {
    missing.push(name)
  }
}

if (missing.length > 0) {
  mkdirSync(runtimesDirectory, { recursive: true })
  // A package.json of its own keeps npm from climbing to the project's.
  writeFileSync(join(runtimesDirectory, 'package.json'), '{ "private": true }\n')
  const packages = missing.map((name) => `${runtimes[name].alias}@npm:${platformPackage(name)}@${runtimes[name].range}`)
  const npm = process.platform === 'win32' ? 'npm.cmd' : 'npm'
  // Saved, because a later install removes whatever the folder's package.json does not name.
  const flags = ['--ignore-scripts', '--no-package-lock', '--no-audit', '--no-fund', '--loglevel=error']
  const result = spawnSync(npm, ['install', ...flags, ...packages], {
    cwd: runtimesDirectory,
    stdio: ['ignore', 'inherit', 'inherit'],
    shell: process.platform === 'win32',
    env: withoutNpmSettings(process.env),
  })
  if (result.status !== 0) {
    console.error(`npm could not install ${missing.join(', ')}`)
    failed = true
  }
}

for (const name of wanted) {
  const found = version(name)
  if (found === undefined) failed = true
  console.log(`${name.padEnd(7)} ${found ?? 'MISSING'}`)
}
process.exitCode = failed ? 1 : 0

/** What `--version` answers, or `undefined` when the binary does not start. */
function version(name) {
  const result = spawnSync(binaryPath(name), ['--version'], { encoding: 'utf8', env: runtimeEnvironment() })
  return result.status === 0 ? result.stdout.split('\n')[0].trim() : undefined
}
