/**
 * A process of its own whose resident memory is measured. Arguments: what to do, and with what. Writes one JSON object.
 *
 * `gc` is called where the runtime exposes it; the figures do not depend on it, they only settle sooner.
 */
import { readFileSync } from 'node:fs'
import { type LoadOptions, load, type ModelPlan } from '../../src/index.ts'
import { DRAFT, TARGET } from './models.ts'

const collect = (): void => {
  const { gc, Bun } = globalThis as { gc?: () => void; Bun?: { gc(force: boolean): void } }
  if (gc !== undefined) gc()
  else Bun?.gc(true)
}

const CALL = { temperature: 0, maxTokens: 2, ignoreEos: true } as const
const PROMPT = 'The old house stood'
const [, , task, argument] = process.argv

/** Opens, uses and closes a model again and again; reports resident bytes after every round. */
async function rounds(count: number): Promise<void> {
  const resident: number[] = []
  for (let round = 0; round < count; round++) {
    const model = await load(TARGET, { weights: 'q8', draft: DRAFT, nodes: 8, context: 256, threads: 2 })
    await model.complete(PROMPT, CALL)
    await model.close()
    collect()
    resident.push(process.memoryUsage().rss)
  }
  console.log(JSON.stringify({ resident }))
}

/** What to load, and the prompt to go on from. */
export interface PeakTask {
  readonly model: string
  readonly options: LoadOptions
  readonly prompt: string
}

export interface Peak {
  /** Most resident bytes of the process. */
  readonly most: number
  readonly plan: ModelPlan
}

/** Lets one owner after the other write more than their drafters can remember; reports the most resident bytes. */
async function owners({ model: path, options, prompt }: PeakTask): Promise<void> {
  const model = await load(path, options)
  let state = 1
  const next = (): number => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0
    return (state >>> 8) % model.config.vocabulary
  }
  let most = process.memoryUsage().rss
  for (let i = 0; i < 12; i++) {
    const owner = `owner ${i}`
    for (let part = 0; part < 20; part++) await model.warmDrafters(Array.from({ length: 1000 }, next), { owner })
    await model.complete(prompt, { ...CALL, owner })
    most = Math.max(most, process.memoryUsage().rss, highWaterMark())
  }
  const { plan } = model
  await model.close()
  console.log(JSON.stringify({ most, plan } satisfies Peak))
}

/** Writes some text; reports the most resident bytes seen. */
async function peak({ model: path, options, prompt }: PeakTask): Promise<void> {
  const model = await load(path, options)
  let most = process.memoryUsage().rss
  for await (const _ of model.generate(prompt, { ...CALL, maxTokens: 120 })) {
    most = Math.max(most, process.memoryUsage().rss)
  }
  // Both sides use the tokenizer.
  model.tokenizer?.encode(prompt)
  most = Math.max(most, process.memoryUsage().rss, highWaterMark())
  const { plan } = model
  await model.close()
  console.log(JSON.stringify({ most, plan } satisfies Peak))
}

/** The most that there ever was, where the system counts it. */
function highWaterMark(): number {
  if (process.platform !== 'linux') return 0
  const kilobytes = /^VmHWM:\s*(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'utf8'))
  return kilobytes === null ? 0 : Number(kilobytes[1]) * 1024
}

if (task === 'rounds') await rounds(Number(argument))
else if (task === 'owners') await owners(JSON.parse(argument) as PeakTask)
else if (task === 'peak') await peak(JSON.parse(argument) as PeakTask)
