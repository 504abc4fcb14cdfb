/**
 * A process that runs passes of one packed model when it is told to (stream-process.ts): the engine's own assembly with
 * its compute and loader threads, the engine's thread being this one. Commands come as lines of JSON, and so do the
 * answers.
 */
import { createInterface } from 'node:readline'
import { assemble } from '../src/engine/assemble.ts'
import { type Helper, startWorkers } from '../src/engine/start-workers.ts'
import { LoadBoard } from '../src/memory/load-board.ts'
import { Timeline } from '../src/memory/timeline.ts'
import { createMemory } from '../src/tensor/arena.ts'
import { checksum } from '../src/tensor/checksum.ts'
import { Control } from '../src/tensor/control.ts'
import { dropCaches } from './disk.ts'
import { kernelChoice } from './harness.ts'
import { peakResidentBytes } from './resident.ts'
import { prepareStream } from './stream-model.ts'
import type { PassCommand, PassesAnswer, PassesRequest } from './stream-process.ts'
import { modelPass } from './synthetic-model.ts'

const request = JSON.parse(process.argv[2]) as PassesRequest
const answer = (value: PassesAnswer): void => console.log(JSON.stringify(value))
const { model, prefix, readAhead } = request
const preparation = prepareStream(model)
const { plan, threads, loaders, files, board: shape } = preparation
const control = new Control()
const memories = plan.banks.map(({ bytes }) => createMemory(bytes))
const board = new LoadBoard(shape, control)
const timeline = new Timeline(loaders)
const shared = { control: control.buffer }
const helpers: Helper[] = [
  ...Array.from({ length: threads - 1 }, () => ({ role: 'compute', data: { ...shared, threads } }) as const),
  ...Array.from({ length: loaders }, (_, loader) => {
    const data = { ...shared, board: board.buffer, shape, files, timeline: timeline.buffer, loader }
    return { role: 'loader', data } as const
  }),
]
const workers = await startWorkers(memories, kernelChoice.module, helpers)
const { target, store, disk, close } = assemble({
  preparation,
  memories,
  control,
  board,
  timeline,
  kernels: kernelChoice.module,
  readAhead,
  onProgress: () => {},
})
target.cache.extend(prefix)
// It leaves the same key and value at the last position of the prefix, whatever comes after it.
modelPass(target, 1, prefix)()

function passes({ rows, count, cold }: PassCommand): PassesAnswer {
  const pass = modelPass(target, rows, prefix)
  // The slots are as some other pass, or a pause, has left them.
  pass()
  const ms: number[] = []
  const { bytesRead } = disk
  timeline.begin(undefined)
  for (let i = 0; i < count; i++) {
    if (cold) dropCaches()
    const began = performance.now()
    pass()
    ms.push(performance.now() - began)
  }
  timeline.end()
  const [bytesPerPass, waitMsPerPass] = [(disk.bytesRead - bytesRead) / count, timeline.ms('wait') / count]
  // Which rows the last call of the head took depends on the budget.
  target.head([rows - 1])
  const logits = checksum(new Uint8Array(target.logitsView(0).slice().buffer))
  store.rest()
  return { ms, bytesPerPass, waitMsPerPass, logits, peakBytes: peakResidentBytes() }
}

answer({ ms: [], bytesPerPass: 0, waitMsPerPass: 0, logits: 0, peakBytes: peakResidentBytes() })
for await (const line of createInterface(process.stdin)) answer(passes(JSON.parse(line) as PassCommand))
control.stop()
await Promise.all(workers.map((worker) => worker.terminate(500)))
close()
