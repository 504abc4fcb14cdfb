import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** The repository's root: compiled tests lie one folder deeper than their sources, so it is searched for. */
export const root: string = (() => {
  let directory = dirname(fileURLToPath(import.meta.url))
  while (!existsSync(join(directory, 'package.json'))) directory = dirname(directory)
  return directory
})()

export const fixtures: string = join(root, 'test', 'fixtures')
