/** A small open model for tests of the front, and a checkpoint that is not packed yet. */
import { copyFileSync, existsSync, mkdirSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { type Completion, type GenerateOptions, type LoadOptions, load, type Model } from '../../src/index.ts'
import { DRAFT, TARGET } from '../e2e/models.ts'
import { scratch } from './harness.ts'

export const PROMPT = 'The old house stood at the end of the lane, and'
export const GREEDY: GenerateOptions = { temperature: 0, maxTokens: 8 }
/** Longer than any test waits: only an abort ends it early. */
export const LONG: GenerateOptions = { temperature: 0, maxTokens: 400, ignoreEos: true }

export const open = (options: LoadOptions = {}): Promise<Model> =>
  load(TARGET, { weights: 'q8', draft: DRAFT, nodes: 8, context: 512, threads: 1, ...options })

export async function withModel(use: (model: Model) => Promise<void>, options: LoadOptions = {}): Promise<void> {
  const model = await open(options)
  try {
    await use(model)
  } finally {
    await model.close()
  }
}

/** What two calls must agree on. */
export const outcome = ({ text, tokens, finishReason }: Completion) => ({ text, tokens, finishReason })

/** A copy of the embedded target that no cache knows yet. */
export function freshCheckpoint(name: string): string {
  const to = join(scratch, name)
  if (!existsSync(to)) mkdirSync(to)
  for (const file of readdirSync(TARGET)) copyFileSync(join(TARGET, file), join(to, file))
  return to
}
