/**
 * The main job of the README's first line: the embedded pair writes a text, its target streamed through a budget that is
 * smaller than itself, and then without guesses for comparison. The target is so small that the system would keep all of
 * it in its page cache, so it is read past that, where the system can, as a large one would be.
 */
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { refusalOfDirectReads } from '../dist/runtime/files.js'
import { resolveModel } from '../dist/weights/resolve.js'
import { root } from './runtimes.mjs'

const PROMPT = 'The old house stood at the end of the lane, and'
const OPTIONS = '--weights f32 --memory 22MB --ctx-size 512 --nodes 16 --predict 96 --temp 0.4 --seed 2 --compare'

/** In words why the packed target cannot be read past the page cache; undefined: it can. */
function refusal() {
  try {
    const { directory, manifest } = resolveModel(join(root, 'models', 'target'), { weights: 'f32' })
    return refusalOfDirectReads(join(directory, manifest.layers[0].name))
  } catch (error) {
    // The job meets it as well, and says what to do.
    return error.code
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
