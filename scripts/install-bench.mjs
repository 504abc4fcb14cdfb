/**
 * Installs what the benchmarks are compared with (bench/package.json) into .bench/, which is ignored by git.
 *
 *     npm run install:bench
 */
import { spawnSync } from 'node:child_process'
import { copyFileSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { root, withoutNpmSettings } from './runtimes.mjs'

const directory = join(root, '.bench')
mkdirSync(directory, { recursive: true })
copyFileSync(join(root, 'bench', 'package.json'), join(directory, 'package.json'))
const npm = process.platform === 'win32' ? 'npm.cmd' : 'npm'
// Without scripts onnxruntime-node keeps the CPU build that its package holds, and fetches no other.
const flags = ['--ignore-scripts', '--no-package-lock', '--no-audit', '--no-fund', '--loglevel=error']
const result = spawnSync(npm, ['install', ...flags], {
  cwd: directory,
  stdio: ['ignore', 'inherit', 'inherit'],
  shell: process.platform === 'win32',
  env: withoutNpmSettings(process.env),
})
if (result.status !== 0) console.error('npm could not install the baselines of the benchmarks')
process.exitCode = result.status === 0 ? 0 : 1
