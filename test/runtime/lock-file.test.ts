import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { processTag } from '../../src/runtime/atomic-file.ts'
import { LockFile } from '../../src/runtime/lock-file.ts'
import { expectFailure, withDirectory } from '../weights/checkpoints.ts'

const test = suite('lock file')

const never = (): void => {
  throw new Error('waited, though nobody holds the lock')
}

/** The tag of a process of this machine. */
const tagOf = (pid: number): string => `${processTag().split('-')[0]}-${pid}-0123abcd`

test('is there while it is held, and gone when it is released', () => {
  withDirectory((directory) => {
    const path = join(directory, 'lock')
    for (let i = 0; i < 3; i++) {
      const lock = new LockFile(path, never)
      assert.ok(readFileSync(path, 'utf8').startsWith(processTag()))
      lock.release()
      assert.equal(readdirSync(directory), [])
    }
  })
})

test('waits for a process that lives, until its file is gone or the caller gives up', () => {
  withDirectory((directory) => {
    const path = join(directory, 'lock')
    let waits = 0
    const wait = (): void => {
      waits++
      if (waits === 3) rmSync(path)
    }
    writeFileSync(path, tagOf(process.ppid))
    new LockFile(path, wait).release()
    assert.is(waits, 3)
    writeFileSync(path, tagOf(process.ppid))
    const giveUp = () => {
      throw new RangeError('enough')
    }
    assert.throws(
      () => new LockFile(path, giveUp),
      (error: unknown) => error instanceof RangeError,
    )
    assert.is(readFileSync(path, 'utf8'), tagOf(process.ppid))
  })
})

test('does not wait for a process that is gone', () => {
  withDirectory((directory) => {
    const path = join(directory, 'lock')
    const { pid } = spawnSync(process.execPath, ['--version'])
    writeFileSync(path, tagOf(pid))
    new LockFile(path, never).release()
    assert.equal(readdirSync(directory), [])
  })
})

test('a holder of another machine counts as gone when it was silent for long, and not while it is heard of', () => {
  withDirectory((directory) => {
    const path = join(directory, 'lock')
    writeFileSync(path, 'ffffff-1-0123abcd')
    let touches = 0
    const before = performance.now()
    const lock = new LockFile(
      path,
      () => {
        touches++
        if (touches <= 5) utimesSync(path, touches, touches)
      },
      200,
    )
    assert.ok(performance.now() - before >= 400)
    assert.ok(touches >= 7)
    lock.release()
    assert.equal(readdirSync(directory), [])
  })
})

test('one that was taken over is neither touched nor released by its former holder', () => {
  withDirectory((directory) => {
    const path = join(directory, 'lock')
    const lock = new LockFile(path, never)
    writeFileSync(path, 'ffffff-1-0123abcd')
    lock.touch()
    lock.release()
    assert.ok(existsSync(path))
    rmSync(path)
    lock.touch()
    lock.release()
  })
})

test('what is no lock file is reported', () => {
  withDirectory((directory) => {
    mkdirSync(join(directory, 'lock'))
    expectFailure(() => new LockFile(join(directory, 'lock'), never), 'FILE_SYSTEM', 'lock')
    expectFailure(() => new LockFile(join(directory, 'none', 'lock'), never), 'MODEL_NOT_FOUND', 'none')
  })
})

test.run()
