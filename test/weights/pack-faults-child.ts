/**
 * What only a file system of its own can show, run in a mount namespace where `MOUNT` is a small, empty disk.
 * Arguments: WHAT SOURCE MOUNT. Ends with code 0 when everything was as it should be.
 */
import { spawnSync } from 'node:child_process'
import { mkdirSync, readdirSync, rmSync, statfsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import * as assert from 'uvu/assert'
import { load } from '../../src/index.ts'
import { processTag } from '../../src/runtime/atomic-file.ts'
import { type PackProgress, packModel } from '../../src/weights/pack.ts'
import { verifyPacked } from '../../src/weights/packed.ts'
import { resolveModel } from '../../src/weights/resolve.ts'
import { expectFailure } from './checkpoints.ts'

const [what, source, mount] = process.argv.slice(2)
const output = join(mount, 'out')
const filler = join(mount, 'filler')

/** Leaves about so many bytes free. */
function fillDisk(left: number): void {
  const { bavail, bsize } = statfsSync(mount)
  writeFileSync(filler, new Uint8Array(Math.max(0, bavail * bsize - left)))
}

/** The disk becomes full at one step of packing after the other; what it had finished is of use when there is room again. */
function fullDisk(): void {
  let steps = 0
  const count = ({ done }: PackProgress): void => {
    if (done > 0) steps++
  }
  const { manifest } = packModel(source, output, { weights: 'q8', onProgress: count })
  rmSync(output, { recursive: true })
  let failures = 0
  for (let at = 1; at < steps; at += Math.ceil(steps / 8)) {
    let step = 0
    const pack = () =>
      packModel(source, output, {
        weights: 'q8',
        onProgress: ({ done }) => {
          // Before anything is written, the lack of room is seen without trying.
          if (done > 0 && ++step === at) fillDisk((at % 5) * 4096)
        },
      })
    expectFailure(pack, 'FILE_SYSTEM', mount, 'ENOSPC', 'free some space')
    failures++
    const names = readdirSync(output)
    assert.not(names.includes('coppice.json'))
    assert.equal(
      names.filter((name) => name.endsWith('.tmp')),
      [],
    )
    rmSync(filler)
    assert.equal(packModel(source, output, { weights: 'q8' }).manifest, manifest)
    assert.equal(verifyPacked(output).problems, [])
    rmSync(output, { recursive: true })
  }
  assert.ok(failures >= 6, `${failures} times full`)
}

/** A disk that is too small is known to be before anything is packed. */
function smallDisk(): void {
  fillDisk(1e6)
  expectFailure(() => packModel(source, output), 'FILE_SYSTEM', 'are free', 'choose another directory')
  assert.equal(readdirSync(output), ['coppice.partial.json'])
}

/** A cache that can only be read serves what is in it, and says what to do about the rest. */
async function readOnlyCache(): Promise<void> {
  process.env.COPPICE_CACHE = join(mount, 'cache')
  mkdirSync(process.env.COPPICE_CACHE)
  const packed = resolveModel(source, { weights: 'q8' })
  makeReadOnly()
  assert.equal(resolveModel(source, { weights: 'q8' }), packed)
  const advice = ['EROFS', 'read-only', 'COPPICE_CACHE', 'coppice pack']
  expectFailure(() => resolveModel(source, { weights: 'q4' }), 'FILE_SYSTEM', source, ...advice)
  await using model = await load(source, { weights: 'q8', context: 64 })
  assert.is((await model.complete('The old house', { maxTokens: 2, temperature: 0, ignoreEos: true })).tokens.length, 2)
}

function makeReadOnly(): void {
  const remounted = spawnSync('mount', ['-o', 'remount,ro', mount], { encoding: 'utf8' })
  assert.is(remounted.status, 0, remounted.stderr)
}

/** A disk that can no longer be written in the midst of packing: the error is that of the write, not of cleaning up. */
function turnsReadOnly(): void {
  let remounted = false
  const pack = () =>
    packModel(source, output, {
      onProgress: () => {
        if (!remounted) makeReadOnly()
        remounted = true
      },
    })
  expectFailure(pack, 'FILE_SYSTEM', 'cannot create', 'EROFS', 'read-only')
  assert.ok(readdirSync(output).includes('coppice.lock'))
  // The lock that could not be removed, as if its holder had died: it cannot be taken over either.
  const gone = spawnSync(process.execPath, ['--version']).pid
  spawnSync('mount', ['-o', 'remount,rw', mount])
  writeFileSync(join(output, 'coppice.lock'), `${processTag().split('-')[0]}-${gone}-0123abcd`)
  makeReadOnly()
  expectFailure(() => packModel(source, output), 'FILE_SYSTEM', 'cannot take over', 'coppice.lock', 'EROFS')
}

if (what === 'full') fullDisk()
else if (what === 'small') smallDisk()
else if (what === 'turns read-only') turnsReadOnly()
else await readOnlyCache()
