import { spawnSync } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { processTag } from '../../src/runtime/atomic-file.ts'
import { LockFile } from '../../src/runtime/lock-file.ts'
import { hostTag, processSpace } from '../../src/runtime/platform.ts'
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
      { staleMs: 200 },
    )
    assert.ok(performance.now() - before >= 400)
    assert.ok(touches >= 7)
    lock.release()
    assert.equal(readdirSync(directory), [])
  })
})

const foreign = 'ffffff-1-0123abcd'
const longAgo = 1_000_000

test('a sign of life is a new time of change', () => {
  withDirectory((directory) => {
    const path = join(directory, 'lock')
    const lock = new LockFile(path, never, { touchMs: 0 })
    utimesSync(path, longAgo, longAgo)
    lock.touch()
    assert.ok(statSync(path).mtimeMs > longAgo * 1000)
    const rare = new LockFile(`${path}-2`, never, { touchMs: 1e9 })
    utimesSync(rare.path, longAgo, longAgo)
    rare.touch()
    assert.is(statSync(rare.path).mtimeMs, longAgo * 1000)
  })
})

test('one that was taken over is neither touched nor released by its former holder, who is told', () => {
  withDirectory((directory) => {
    const path = join(directory, 'lock')
    const lock = new LockFile(path, never, { touchMs: 0 })
    assert.ok(lock.holds())
    writeFileSync(path, foreign)
    utimesSync(path, longAgo, longAgo)
    assert.not(lock.holds())
    lock.touch()
    lock.release()
    assert.is(readFileSync(path, 'utf8'), foreign)
    assert.is(statSync(path).mtimeMs, longAgo * 1000)
    rmSync(path)
    assert.not(lock.holds())
    lock.touch()
    lock.release()
    assert.equal(readdirSync(directory), [])
  })
})

test('one that does not say who holds it is soon taken over, but not at once: it may be being written', () => {
  withDirectory((directory) => {
    const path = join(directory, 'lock')
    writeFileSync(path, '')
    let waits = 0
    const times = { emptyMs: 200, staleMs: 1e9 }
    const began = performance.now()
    new LockFile(path, () => waits++, times).release()
    // A busy machine polls seldom.
    assert.ok(waits >= 1 && performance.now() - began >= 200, `${waits} waits`)
    assert.equal(readdirSync(directory), [])
  })
})

test('processes of another series of numbers are not known to be gone', () => {
  withDirectory((directory) => {
    const path = join(directory, 'lock')
    const { pid } = spawnSync(process.execPath, ['--version'])
    // Of a container with the same host name.
    const other = processSpace === 'ffffff' ? 'eeeeee' : 'ffffff'
    writeFileSync(path, `${other}-${pid}-0123abcd`)
    let waits = 0
    const began = performance.now()
    new LockFile(path, () => waits++, { staleMs: 200 }).release()
    assert.ok(waits >= 1 && performance.now() - began >= 200, `${waits} waits`)
    assert.ok(processTag().startsWith(`${processSpace}-`))
    if (process.platform === 'linux') assert.is.not(processSpace, hostTag)
  })
})

test('what is no lock file is reported', () => {
  withDirectory((directory) => {
    mkdirSync(join(directory, 'lock'))
    expectFailure(() => new LockFile(join(directory, 'lock'), never), 'FILE_SYSTEM', 'lock')
    expectFailure(() => new LockFile(join(directory, 'none', 'lock'), never), 'FILE_SYSTEM', 'none')
  })
})

test.run()
