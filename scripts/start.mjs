/**
 * The main job of the README's first line: the embedded pair writes a text, its target streamed through a budget that is
 * smaller than itself, and then without guesses for comparison. The target is so small that the system would keep all of
 * it in its page cache, so it is read past that, where the system can, as a large one would be.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { cacheDirectory, makeDirectory, refusalOfDirectReads } from '../dist/runtime/files.js'
import { root } from './runtimes.mjs'

const PROMPT = 'The old house stood at the end of the lane, and'
const OPTIONS = '--weights f32 --memory 22MB --ctx-size 512 --nodes 16 --predict 96 --temp 0.4 --seed 2 --compare'

/** In words why packed models cannot be read past the page cache; undefined: they can. */
function refusal() {
  const cache = cacheDirectory()
  let scratch
  try {
    makeDirectory(cache)
    scratch = mkdtempSync(join(cache, 'direct-'))
    const file = join(scratch, 'reads')
    writeFileSync(file, new Uint8Array(1 << 16))
    return refusalOfDirectReads(file)
  } catch (error) {
    return error.code
  } finally {
    if (scratch !== undefined) rmSync(scratch, { recursive: true, force: true })
  }
}

/** Flags after `npm start --`. */
const more = process.argv.slice(2)
const io = []
if (!more.includes('--io')) {
  const refused = refusal()
  if (refused !== undefined)
    console.error(`reads go through the page cache here (${refused}), so the disk hardly shows`)
  io.push('--io', refused === undefined ? 'direct' : 'buffered')
}
const main = join(root, 'dist', 'cli', 'main.js')
process.argv = [process.execPath, main, 'run', 'embedded', ...OPTIONS.split(' '), ...io, ...more, PROMPT]
await import(pathToFileURL(main).href)
