/** The models that the end-to-end tests run, and what to say when one is missing. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { root } from '../paths.ts'

/** The embedded pair. */
export const TARGET = join(root, 'models', 'target')
export const DRAFT = join(root, 'models', 'draft')

/** A model of 656 thousand parameters that others made; it lies beside the repository where there is one. */
const tinystoriesPath = join(root, '..', 'shared', 'models', 'real', 'tinystories-656k')
export const TINYSTORIES: string | undefined = existsSync(join(tinystoriesPath, 'model.safetensors'))
  ? tinystoriesPath
  : undefined

/** Says in the test's output what could not be tested. */
export function announceSkip(what: string): void {
  console.log(`SKIP ${what}`)
}
