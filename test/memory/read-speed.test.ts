import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { CoppiceError } from '../../src/errors.ts'
import type { Unit } from '../../src/memory/load-board.ts'
import { MOST_LOADERS, measureReadSpeeds } from '../../src/memory/read-speed.ts'
import { refusalOfDirectReads } from '../../src/runtime/files.ts'
import { scratch } from '../engine/harness.ts'

const BYTES = 9 * 1024 * 1024 + 4096

function unit(name: string): Unit {
  const path = join(scratch, name)
  return { name, path, fileBytes: BYTES, start: 4096, bytes: BYTES - 4096, chunkBytes: BYTES, checksums: [0] }
}

const test = suite('read speed')

test('is measured for 1 to 4 reads at once, directly where the file system takes such reads', async () => {
  const units = ['read-a', 'read-b'].map(unit)
  for (const { path } of units) writeFileSync(path, new Uint8Array(BYTES))
  const { direct, buffered } = await measureReadSpeeds(units)
  assert.is(direct !== undefined, refusalOfDirectReads(units[0].path) === undefined)
  for (const speeds of [buffered, ...(direct === undefined ? [] : [direct])]) {
    assert.is(speeds.length, MOST_LOADERS)
    assert.ok(
      speeds.every((speed) => speed > 1e5 && Number.isFinite(speed)),
      speeds.join(),
    )
  }
})

test('a file that is gone is an error that names it', async () => {
  const missing = unit('read-gone')
  try {
    await measureReadSpeeds([missing])
    assert.unreachable('it was measured')
  } catch (error) {
    assert.instance(error, CoppiceError)
    assert.match((error as CoppiceError).message, missing.path)
  }
})

test.run()
