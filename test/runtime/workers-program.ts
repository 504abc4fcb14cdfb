/** A program with one worker: unreferenced and asleep for ever, or referenced and told to end. */
import { spawnWorker } from '../../src/runtime/workers.ts'

const words = new Int32Array(new SharedArrayBuffer(8))
const worker = spawnWorker(
  new URL('./workers-child.js', import.meta.url),
  { behaviour: 'wait', words },
  { name: 'test' },
)
worker.onMessage((message) => {
  if (message !== 'waiting') return
  console.log('running')
  if (process.argv[2] === 'unreferenced') worker.unref()
  else setTimeout(() => Atomics.store(words, 0, 1), 50)
})
worker.onExit(() => console.log('ended'))
