/**
 * A process that loads a packed model as any program does and decodes plainly, for its speed and its memory.
 * Argument: directory, options and number of tokens as JSON. Writes one JSON object.
 */
import { type LoadOptions, load } from '../src/index.ts'
import { peakResidentBytes } from './resident.ts'

export interface DecodeRequest {
  readonly directory: string
  readonly options: LoadOptions
  readonly tokens: number
}

export interface DecodeAnswer {
  readonly tokensPerSecond: number
  readonly bytesPerToken: number
  readonly peakBytes: number
}

const { directory, options, tokens } = JSON.parse(process.argv[2]) as DecodeRequest
const model = await load(directory, options)
// A prompt of one token is read by the pass that decodes the first one.
const prompt = { tokens: [1] }
const greedy = { temperature: 0, ignoreEos: true }
await model.complete(prompt, { ...greedy, maxTokens: 1 })
const { stats } = await model.complete(prompt, { ...greedy, maxTokens: tokens })
await model.close()
const seconds = stats.seconds.total - stats.seconds.prefill
const answer: DecodeAnswer = {
  tokensPerSecond: stats.tokens / seconds,
  bytesPerToken: stats.bytesRead / stats.passes,
  peakBytes: peakResidentBytes(),
}
console.log(JSON.stringify(answer))
