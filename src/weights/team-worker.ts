/** Entry of a thread that helps to pack or to check files. */
import { joinPath } from '../runtime/files.ts'
import { leaveWorker, workerData } from '../runtime/workers.ts'
import { planPacking } from './pack-plan.ts'
import { checkerOf } from './packed.ts'
import { PackedWriter } from './packed-writer.ts'
import { type HelperData, help, type Task, type Work } from './team.ts'

function workOf(task: Task): Work {
  if (task.what === 'verify') return checkerOf(task.directory)
  const { checkpoint, files } = planPacking(task.source, task.kind)
  const writer = new PackedWriter(checkpoint, files)
  return (file, onBytes) => writer.write(joinPath(task.output, files[file].name), files[file], onBytes)
}

const data = workerData() as HelperData
help(data, () => workOf(data.task))
leaveWorker()
