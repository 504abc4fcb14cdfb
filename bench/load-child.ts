/** One load in a process of its own, for bench/load.ts. Argument: what to load. Writes one JSON object. */
import type { LoadOptions } from '../src/index.ts'
import { processMemoryBytes, runtimeName, runtimeVersion } from '../src/runtime/platform.ts'

export interface LoadTask {
  readonly model: string
  readonly options: LoadOptions
}

/** Milliseconds after `load` was called, unless said otherwise. */
export interface LoadTimes {
  readonly runtime: string
  /** Importing the package, before. */
  readonly imported: number
  /** The promise of `load` is resolved. */
  readonly ready: number
  /** The first layer's compute begins, at the latest: a call of one token began, and waited for all its reads. */
  readonly compute: number
  /** A token is there. */
  readonly token: number
  /** Processor time of all threads until then: what a busy machine changes least. */
  readonly processor: number
  /** Resident bytes of the process then. */
  readonly resident: number
}

const { model: path, options } = JSON.parse(process.argv[2]) as LoadTask
const started = performance.now()
const { load } = await import('../src/index.ts')
const before = process.cpuUsage()
const began = performance.now()
const model = await load(path, options)
const ready = performance.now() - began
const { stats } = await model.complete({ tokens: [1] }, { temperature: 0, maxTokens: 1, ignoreEos: true })
const token = performance.now() - began
const { user, system } = process.cpuUsage(before)
const times: LoadTimes = {
  runtime: `${runtimeName()} ${runtimeVersion()}`,
  imported: began - started,
  ready,
  compute: token - 1000 * (stats.seconds.total - stats.seconds.wait),
  token,
  processor: (user + system) / 1000,
  resident: processMemoryBytes(),
}
console.log(JSON.stringify(times))
await model.close()
