/** The worker that the tests of src/runtime/workers.ts start; its data says how it behaves. */
import { closeSync, openSync, readSync } from 'node:fs'
import {
  leaveWorker,
  type MessagePort,
  onParentMessage,
  postToParent,
  receiveOnce,
  workerData,
} from '../../src/runtime/workers.ts'

export interface ChildData {
  readonly behaviour: 'echo' | 'wait' | 'spin' | 'throw' | 'reject' | 'leave' | 'read' | 'make memory' | 'take memory'
  /** The child goes on until the first word is not 0. */
  readonly words?: Int32Array
  readonly memory?: WebAssembly.Memory
  readonly file?: string
  readonly line?: MessagePort
}

const { behaviour, words, memory, file, line } = workerData() as ChildData

switch (behaviour) {
  case 'echo':
    onParentMessage((message) => postToParent({ echo: message }))
    break
  case 'wait':
    postToParent('waiting')
    while (Atomics.load(words!, 0) === 0) Atomics.wait(words!, 1, 0, 100)
    postToParent('done')
    break
  case 'spin':
    postToParent('spinning')
    while (Atomics.load(words!, 0) === 0);
    break
  case 'throw':
    throw new RangeError('thrown on purpose')
  case 'reject':
    void Promise.reject(new TypeError('rejected on purpose'))
    break
  case 'leave':
    onParentMessage(() => {})
    postToParent('last words')
    leaveWorker()
    break
  case 'read': {
    const descriptor = openSync(file!, 'r')
    const bytes = readSync(descriptor, new Uint8Array(memory!.buffer, 65536, 4096), 0, 4096, 1)
    closeSync(descriptor)
    postToParent(bytes)
    break
  }
  case 'make memory': {
    const shared = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true })
    new Int32Array(shared.buffer)[0] = 42
    line!.postMessage(shared)
    postToParent('made')
    // A line that its receiver has not emptied yet must outlive its sender's work.
    onParentMessage(() => leaveWorker())
    break
  }
  case 'take memory': {
    const taken = (await receiveOnce(line!)) as WebAssembly.Memory
    postToParent(new Int32Array(taken.buffer)[0])
    break
  }
}
