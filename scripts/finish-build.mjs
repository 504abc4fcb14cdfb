/** After the compiler: what else belongs into dist/, and what no longer does. */
import { chmodSync, copyFileSync, existsSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { root } from './runtimes.mjs'

const dist = join(root, 'dist')

// The compiler leaves the output of sources that are gone.
for (const entry of readdirSync(dist, { recursive: true, encoding: 'utf8' })) {
  const source = entry.replace(/(\.d\.ts|\.js)$/, '.ts')
  if (source !== entry && !existsSync(join(root, 'src', source))) rmSync(join(dist, entry))
}

for (const name of readdirSync(join(root, '.build-kernels')).filter((file) => /^kernels\.[\w-]+\.wasm$/.test(file))) {
  copyFileSync(join(root, '.build-kernels', name), join(dist, name))
}

const { bin } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
for (const path of Object.values(bin)) chmodSync(join(root, path), 0o755)
