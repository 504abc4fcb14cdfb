/** Layer stores that read on the test's own thread, from layers that the test writes. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { LayerStore, storeRequests } from '../../src/memory/layer-store.ts'
import { LoadBoard, type Unit, unitFootprint } from '../../src/memory/load-board.ts'
import type { Loader } from '../../src/memory/loader.ts'
import { findAccess } from '../../src/memory/packed-reader.ts'
import { Arena, createMemory } from '../../src/tensor/arena.ts'
import { checksum } from '../../src/tensor/checksum.ts'
import { Control } from '../../src/tensor/control.ts'
import { compileKernels } from '../../src/tensor/kernel-modules.ts'
import { instantiateKernels } from '../../src/tensor/kernels.ts'

const CHUNK = 4096
/** Bytes of a file before its layer. */
export const LEAD = 4096

/** Byte `i` of layer `layer`. */
export const byteOf = (layer: number, i: number): number => (layer * 37 + i * 7 + (i >> 8)) & 255

export function writeLayer(directory: string, name: string, layer: number, bytes: number): Unit {
  const data = new Uint8Array(LEAD + Math.ceil(bytes / 4096) * 4096)
  for (let i = 0; i < bytes; i++) data[LEAD + i] = byteOf(layer, i)
  const path = join(directory, name)
  writeFileSync(path, data)
  const checksums: number[] = []
  for (let at = 0; at < bytes; at += CHUNK) {
    checksums.push(checksum(data.slice(LEAD + at, LEAD + Math.min(at + CHUNK, bytes))))
  }
  return { name, path, fileBytes: data.length, start: LEAD, bytes, chunkBytes: CHUNK, checksums }
}

export interface InlineStore<AnyLoader extends Loader> {
  readonly store: LayerStore
  readonly loader: AnyLoader
  readonly arenas: readonly Arena[]
  readonly control: Control
}

/**
 * One unit per layer, through two slots. Pinned layers lie in one of two memories by turns.
 * @throws CoppiceError when a file is missing or has another length
 */
export function openStore<AnyLoader extends Loader>(
  LoaderType: new (...given: ConstructorParameters<typeof Loader>) => AnyLoader,
  units: readonly Unit[],
  pinnedLayers: readonly number[] = [],
): InlineStore<AnyLoader> {
  const memories = [0, 1].map(() => createMemory(4 * 1024 * 1024))
  const banks = memories.map((memory) => ({ memory, kernels: instantiateKernels(memory, compileKernels('simd128')) }))
  const arenas = memories.map((memory, bank) => new Arena(memory, bank))
  const control = new Control()
  const board = new LoadBoard({ units, requests: storeRequests(2) }, control)
  const paths = units.map(({ path }) => path)
  const loader = new LoaderType(board, banks, findAccess(paths, 'buffered'))
  const footprint = Math.max(...units.map(unitFootprint))
  const pinned = new Map(
    pinnedLayers.map((layer, i) => {
      const bank = (i + 1) % 2
      return [layer, { bank, pointer: arenas[bank].allocate(`layer ${layer}`, footprint, 4096) }]
    }),
  )
  const slots = [0, 1].map((i) => arenas[0].allocate(`slot ${i}`, footprint, 4096))
  const store = new LayerStore({
    board,
    control,
    firstRequest: 0,
    inlineLoader: loader,
    units: units.map((_, i) => i),
    headStart: units.length,
    pinned,
    slots,
  })
  return { store, loader, arenas, control }
}
