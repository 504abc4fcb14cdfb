/** A model on the test's own thread: one thread, files read inline, no workers. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Engine } from '../../src/engine/engine.ts'
import { type Preparation, prepare } from '../../src/engine/prepare.ts'
import type { CallOptions, EngineOptions } from '../../src/engine/protocol.ts'
import type { Completion, Piece, Prompt } from '../../src/engine/types.ts'
import { LoadBoard, unitFootprint } from '../../src/memory/load-board.ts'
import { SLOTS } from '../../src/memory/plan.ts'
import { Timeline } from '../../src/memory/timeline.ts'
import { createMemory } from '../../src/tensor/arena.ts'
import { Control } from '../../src/tensor/control.ts'
import { compileKernels } from '../../src/tensor/kernel-modules.ts'

/** A directory for the test process, removed when it ends. */
export const scratch: string = mkdtempSync(join(tmpdir(), 'coppice-test-'))
process.on('exit', () => rmSync(scratch, { recursive: true, force: true }))
// Packed copies that a test makes must not land in the user's cache.
process.env.COPPICE_CACHE = join(scratch, 'cache')

export interface InlineModel {
  readonly engine: Engine
  readonly plan: ReturnType<typeof prepare>['plan']
  readonly control: Control
  generate(prompt: Prompt, options?: Partial<CallOptions>): Completion & { pieces: Piece[] }
}

/** The memories that a plan asks for. */
export const createMemories = ({ banks }: Preparation['plan']): WebAssembly.Memory[] =>
  banks.map(({ bytes }) => createMemory(bytes))

export interface InlineChoices {
  /** Pin no layer, whatever the budget: even a model of two layers then streams. */
  readonly streamAll?: boolean
  /** Longest path of guesses. */
  readonly depth?: number
  /** Bytes of one WASM memory at the most. */
  readonly memoryLimit?: number
}

export function openInline(model: string, options: EngineOptions = {}, choices: InlineChoices = {}): InlineModel {
  const control = new Control()
  const prepared = prepare(
    model,
    { context: 128, ...options, threads: 1 },
    { onProgress: () => {}, isAborted: () => false },
    undefined,
    choices.memoryLimit,
  )
  const { depth = prepared.speculation.depth } = choices
  const preparation = {
    ...(choices.streamAll ? unpinned(prepared) : prepared),
    speculation: { ...prepared.speculation, depth },
    loaders: 0,
  }
  const engine = new Engine({
    preparation,
    memories: createMemories(preparation.plan),
    control,
    board: new LoadBoard(preparation.board, control),
    timeline: new Timeline(0),
    kernels: options.kernels ?? compileKernels('simd128'),
    onProgress: () => {},
  })
  return {
    engine,
    plan: preparation.plan,
    control,
    generate(prompt, callOptions = {}) {
      const pieces: Piece[] = []
      const completion = engine.generate(prompt, { seed: 1, ...callOptions }, (more) => pieces.push(...more))
      return { ...completion, pieces }
    },
  }
}

/** The same preparation with every layer streaming. */
function unpinned(preparation: Preparation): Preparation {
  const { plan, layerUnits } = preparation.layout
  const { board } = preparation
  const slotBytes = Math.max(...layerUnits.flat().map((unit) => unitFootprint(board.units[unit])))
  const totalBytes = plan.totalBytes + (SLOTS + 1) * slotBytes
  const changes = {
    pinnedLayers: [],
    layerGroups: plan.layerGroups.map((groups) => groups.map((group) => ({ ...group, pinned: false }))),
    slots: SLOTS,
    slotBytes,
    totalBytes,
    banks: [{ bytes: totalBytes, layers: plan.layerGroups.map((_, layer) => layer) }],
  }
  return {
    ...preparation,
    board: { ...board, requests: board.requests + SLOTS },
    layout: { ...preparation.layout, plan: { ...plan, ...changes } },
    plan: { ...preparation.plan, ...changes },
  }
}
