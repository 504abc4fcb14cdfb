/** A small target in memory, without the engine around it. */
import { join } from 'node:path'
import { assemble } from '../../src/engine/assemble.ts'
import { prepare } from '../../src/engine/prepare.ts'
import { LoadBoard } from '../../src/memory/load-board.ts'
import { Timeline } from '../../src/memory/timeline.ts'
import { Control } from '../../src/tensor/control.ts'
import { compileKernels } from '../../src/tensor/kernel-modules.ts'
import { createMemories } from '../engine/harness.ts'
import { fixtures } from '../paths.ts'

/** @param context positions of its cache */
export function openSmallTarget(context: number) {
  const control = new Control()
  const prepared = prepare(
    join(fixtures, 'llama'),
    { weights: 'f32', context, threads: 1 },
    { onProgress: () => {}, isAborted: () => false },
  )
  const timeline = new Timeline(0)
  const { target, store } = assemble({
    preparation: { ...prepared, loaders: 0 },
    memories: createMemories(prepared.plan),
    control,
    board: new LoadBoard(prepared.board, control),
    timeline,
    kernels: compileKernels('simd128'),
    onProgress: () => {},
  })
  return { target, store, timeline, control }
}
