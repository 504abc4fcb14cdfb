/**
 * A process of its own whose resident memory is measured. Argument: what to do. Writes one JSON object.
 *
 * `gc` is called where the runtime exposes it; the figures do not depend on it, they only settle sooner.
 */
import { load } from '../../src/index.ts'
import { DRAFT, TARGET } from './models.ts'

const collect = (): void => {
  const { gc, Bun } = globalThis as { gc?: () => void; Bun?: { gc(force: boolean): void } }
  if (gc !== undefined) gc()
  else Bun?.gc(true)
}

const CALL = { temperature: 0, maxTokens: 2, ignoreEos: true } as const
const PROMPT = 'The old house stood'
const [, , task, ...numbers] = process.argv

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

/** Streams a text through the smallest budget; reports the most resident bytes seen. */
async function streamed(memory: number): Promise<void> {
  const options = { weights: 'f32', draft: DRAFT, nodes: 32, context: 512, threads: 2 } as const
  const model = await load(TARGET, { ...options, memory })
  let most = process.memoryUsage().rss
  for await (const _ of model.generate(PROMPT, { ...CALL, maxTokens: 120 })) {
    most = Math.max(most, process.memoryUsage().rss)
  }
  const { plan } = model
  await model.close()
  console.log(JSON.stringify({ most, plan }))
}

if (task === 'rounds') await rounds(Number(numbers[0]))
else await streamed(Number(numbers[0]))
