/** Packing on disks that fill up or cannot be written, and beside other processes. */
import { spawnSync } from 'node:child_process'
import {
  cpSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { processTag } from '../../src/runtime/atomic-file.ts'
import { packModel } from '../../src/weights/pack.ts'
import { cachedDirectory, resolveModel } from '../../src/weights/resolve.ts'
import { announceSkip } from '../e2e/models.ts'
import { fixtures, root } from '../paths.ts'
import { copyCheckpoint, expectFailure, filesOf, withDirectory } from './checkpoints.ts'

const test = suite('pack: faults')
const target = join(root, 'models', 'target')
const llama = join(fixtures, 'llama')
const child = fileURLToPath(new URL('./pack-faults-child.js', import.meta.url))

/** Runs a command in which `mount` is a disk of its own; the disk is gone when the command ends. */
function onOwnDisk(mount: string, megabytes: number, command: readonly string[]) {
  const script = `mount -t tmpfs -o size=${megabytes}m tmpfs "$0" && exec "$@"`
  return spawnSync('unshare', ['--map-root-user', '--mount', 'sh', '-c', script, mount, ...command], {
    encoding: 'utf8',
    timeout: 120_000,
  })
}

const canMount = withDirectory((directory) => onOwnDisk(directory, 1, ['true']).status === 0)

function onDisk(name: string, what: string, megabytes: number): void {
  if (!canMount) {
    announceSkip(`${name}: no disk of its own can be mounted here (unshare --map-root-user --mount)`)
    test.skip(name, () => {})
    return
  }
  test(name, () => {
    withDirectory((directory) => {
      const runtime = [process.execPath, ...('Deno' in globalThis ? ['run', '--allow-all', '--no-lock'] : [])]
      const { status, stdout, stderr } = onOwnDisk(directory, megabytes, [...runtime, child, what, target, directory])
      assert.is(status, 0, stdout + stderr)
    })
  })
}

onDisk(
  'a disk that fills up at any step: an error that says so, nothing half, and the next attempt goes on',
  'full',
  48,
)
onDisk('a disk that is too small is refused before anything is packed', 'small', 48)
onDisk('a read-only cache serves what it holds, and says what to do about what it does not', 'read-only', 48)

onDisk('a disk that can no longer be written is told as such, also to whoever comes next', 'turns read-only', 48)

/** Pretends that a process which lives packs into a directory. */
function holdLock(directory: string): string {
  mkdirSync(directory, { recursive: true })
  const lock = join(directory, 'coppice.lock')
  writeFileSync(lock, processTag().replace(String(process.pid), String(process.ppid)))
  return lock
}

function withCache(use: (directory: string) => void): void {
  withDirectory((directory) => {
    const before = process.env.COPPICE_CACHE
    process.env.COPPICE_CACHE = join(directory, 'cache')
    try {
      use(directory)
    } finally {
      if (before === undefined) delete process.env.COPPICE_CACHE
      else process.env.COPPICE_CACHE = before
    }
  })
}

test('a model that another process is packing is waited for and then used', () => {
  withCache((directory) => {
    const finished = packModel(llama, join(directory, 'finished'), { weights: 'q8' })
    const cached = cachedDirectory(llama, 'q8')
    const lock = holdLock(cached)
    const seen: string[] = []
    const found = resolveModel(llama, {
      weights: 'q8',
      onProgress: ({ file }) => {
        seen.push(file)
        if (seen.length !== 3) return
        // The other one comes to its end.
        cpSync(finished.directory, cached, { recursive: true })
        rmSync(lock)
      },
    })
    assert.equal(found, { directory: cached, manifest: finished.manifest })
    assert.equal(seen, ['coppice.lock', 'coppice.lock', 'coppice.lock'])
  })
})

test('waiting for another process can be aborted, and goes on with its work when it dies', () => {
  withDirectory((directory) => {
    const expected = filesOf(packModel(llama, join(directory, 'undisturbed')).directory)
    const output = join(directory, 'out')
    const lock = holdLock(output)
    let asked = 0
    expectFailure(() => packModel(llama, output, { isAborted: () => ++asked > 3 }), 'ABORTED')
    assert.equal(readdirSync(output), ['coppice.lock'])
    const { pid } = spawnSync(process.execPath, ['--version'])
    packModel(llama, output, {
      onProgress: ({ file }) => {
        if (file === 'coppice.lock') writeFileSync(lock, processTag().replace(String(process.pid), String(pid)))
      },
    })
    assert.equal(filesOf(output), expected)
  })
})

/** A file's bytes with one bit of its last weight changed. */
function flipped(path: string): Uint8Array {
  const bytes = readFileSync(path)
  bytes[bytes.length - 4] ^= 1
  return bytes
}

test('a checkpoint that is cut short, replaced or removed while it is packed does not become a model', () => {
  const faults: readonly (readonly [string, (path: string) => void])[] = [
    ['cut short', (path) => truncateSync(path, statSync(path).size - 5000)],
    ['changed', (path) => writeFileSync(path, flipped(path))],
    [
      'changed',
      (path) => {
        writeFileSync(`${path}.new`, flipped(path))
        renameSync(`${path}.new`, path)
      },
    ],
    ['changed', (path) => rmSync(path)],
  ]
  withDirectory((directory) => {
    faults.forEach(([what, fault], i) => {
      const source = copyCheckpoint(llama, join(directory, `source-${i}`))
      const output = join(directory, `out-${i}`)
      let steps = 0
      const pack = () =>
        packModel(source, output, {
          onProgress: () => {
            if (++steps === 8) fault(join(source, 'model.safetensors'))
          },
        })
      expectFailure(pack, 'CORRUPT_FILE', source, what)
      assert.ok(steps >= 8)
      assert.not(readdirSync(output).includes('coppice.json'))
    })
  })
})

test.run()
