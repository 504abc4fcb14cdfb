/** How fast this machine reads a model's files. */
import { now } from '../runtime/platform.ts'
import { alignDown, type Unit, unitFootprint } from './load-board.ts'
import { findAccess, PackedReader } from './packed-reader.ts'

/** Enough to leave the first request's latency behind, little enough not to keep anybody waiting. */
const SAMPLE_BYTES = 128 * 1024 * 1024
const BLOCK_BYTES = 4 * 1024 * 1024

/**
 * Reads some of the units from beginning to end, past the page cache where the file system allows it.
 * @returns bytes per second
 */
export function measureReadSpeed(units: readonly Unit[]): number {
  const accesses = findAccess(
    units.map(({ path }) => path),
    'auto',
  )
  // WASM memory begins at a page, which direct reads need and an ordinary buffer does not promise.
  const memory = new WebAssembly.Memory({ initial: BLOCK_BYTES / 65536 })
  let bytes = 0
  const began = now()
  for (const unit of units) {
    if (bytes >= SAMPLE_BYTES) break
    const file = new PackedReader(unit.path, accesses.get(unit.path)!)
    try {
      const end = alignDown(unit.start) + unitFootprint(unit)
      for (let at = alignDown(unit.start); at < end && bytes < SAMPLE_BYTES; at += BLOCK_BYTES) {
        const block = new Uint8Array(memory.buffer, 0, Math.min(BLOCK_BYTES, end - at))
        file.read(block, at, unit.name)
        bytes += block.length
      }
    } finally {
      file.close()
    }
  }
  return bytes / Math.max(1e-6, (now() - began) / 1000)
}
