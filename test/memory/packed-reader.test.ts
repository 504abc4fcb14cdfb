import { mkdtempSync, renameSync, rmSync, statSync, truncateSync, utimesSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import {
  type FileAccess,
  findAccess,
  type IoChoice,
  PackedReader,
  summariseAccess,
} from '../../src/memory/packed-reader.ts'
import { assertFails } from '../runtime/failures.ts'
import { FaultSwitch } from './faulty-files.ts'

const test = suite('packed reader')
const directory = mkdtempSync(join(tmpdir(), 'coppice-reader-'))
process.on('exit', () => rmSync(directory, { recursive: true, force: true }))
const BYTES = 16384
const DATA = Uint8Array.from({ length: BYTES }, (_, i) => (i * 31) % 251)
let files = 0

function freshFile(): string {
  const path = join(directory, `file-${files++}`)
  writeFileSync(path, DATA)
  return path
}

const accessOf = (path: string, io: IoChoice = 'buffered', refusal = (): string | undefined => undefined): FileAccess =>
  findAccess([path], io, refusal).get(path)!

function read(reader: PackedReader, position = 4096): void {
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true })
  const target = new Uint8Array(memory.buffer, 8192, 8192)
  reader.read(target, position, 'the second part')
  assert.equal([...target], [...DATA.subarray(position, position + 8192)])
}

test('each file system is tried once, and told from the others', () => {
  const paths = [freshFile(), freshFile(), freshFile()]
  let tried: string[] = []
  const refusal = (path: string): undefined => {
    tried.push(path)
    return undefined
  }
  assert.is(summariseAccess(findAccess([...paths, paths[0], join(directory, 'missing')], 'auto', refusal)), 'direct')
  assert.equal(tried, [paths[0]])
  tried = []
  assert.is(summariseAccess(findAccess(paths, 'buffered', refusal)), 'buffered')
  assert.equal(tried, [])
  if (process.platform !== 'linux' || statSync('/dev/null').dev === statSync(paths[0]).dev) return
  const both = findAccess([paths[0], '/dev/null'], 'auto', (path) => (path === '/dev/null' ? 'EINVAL' : undefined))
  assert.equal([both.get(paths[0])!.mode, both.get('/dev/null')!.mode], ['direct', 'buffered'])
  assert.is(summariseAccess(both), 'mixed')
})

test("where direct reads do not work, 'auto' reads buffered and 'direct' says which file answered what", () => {
  const path = freshFile()
  const refuses = (): string => 'EINVAL'
  assert.is(accessOf(path, 'auto', refuses).mode, 'buffered')
  const { message } = assertFails(() => accessOf(path, 'direct', refuses), 'FILE_SYSTEM')
  assert.match(message, path)
  assert.match(message, 'EINVAL')
})

test('direct reads that begin to fail become buffered when they may', () => {
  const path = freshFile()
  const faults = new FaultSwitch()
  const reader = new PackedReader(path, accessOf(path, 'auto'), faults.open)
  read(reader)
  faults.set('EINVAL for direct')
  read(reader)
  assert.is(faults.reads.length, 3)
  read(reader)
  assert.is(faults.reads.length, 4)
  reader.close()
})

test('direct reads that must be direct fail with the answer', () => {
  const path = freshFile()
  const faults = new FaultSwitch()
  const reader = new PackedReader(path, accessOf(path, 'direct'), faults.open)
  faults.set('EINVAL for direct')
  assert.match(
    assertFails(() => read(reader), 'FILE_SYSTEM').message,
    `${path} could not be read: the system answered EINVAL`,
  )
  faults.set('none')
  read(reader)
  reader.close()
})

test('buffered reads that fail with EINVAL are not tried again', () => {
  const path = freshFile()
  const faults = new FaultSwitch()
  const reader = new PackedReader(
    path,
    accessOf(path, 'auto', () => 'EINVAL'),
    faults.open,
  )
  faults.set('EIO')
  const { message } = assertFails(() => read(reader), 'FILE_SYSTEM')
  assert.match(message, /EIO to a read of 8192 bytes from 4096 on \(the second part\)/)
  assert.is(faults.reads.length, 1)
  reader.close()
})

test('a file that was changed, made longer or cut is reported by every later read', () => {
  const changes: [(path: string) => void, RegExp][] = [
    [(path) => utimesSync(path, 1, 1), /was changed.*load the model again/],
    [(path) => writeFileSync(path, DATA.slice().reverse()), /was changed/],
    [(path) => writeFileSync(path, new Uint8Array(BYTES + 1)), /was changed .*16384 bytes.*16385 bytes/],
    [(path) => truncateSync(path, 8000), /ended at byte 8000 while the second part was read/],
  ]
  for (const [change, expected] of changes) {
    const path = freshFile()
    utimesSync(path, 1000, 1000)
    const reader = new PackedReader(path, accessOf(path))
    read(reader)
    change(path)
    for (let again = 0; again < 2; again++) {
      const { code, message } = assertFails(() => read(reader), 'CORRUPT_FILE')
      assert.is(code, 'CORRUPT_FILE')
      assert.match(message, expected)
      assert.match(message, path)
    }
    reader.close()
  }
})

test('a file that another one replaces is read on as it was', () => {
  if (process.platform === 'win32') return
  const path = freshFile()
  const reader = new PackedReader(path, accessOf(path))
  writeFileSync(`${path}.new`, new Uint8Array(BYTES))
  renameSync(`${path}.new`, path)
  read(reader)
  rmSync(path)
  read(reader)
  reader.close()
})

test('threads that open a file at different times do not read different ones', () => {
  const path = freshFile()
  utimesSync(path, 1000, 1000)
  const access = accessOf(path)
  const first = new PackedReader(path, access)
  writeFileSync(`${path}.new`, new Uint8Array(BYTES))
  renameSync(`${path}.new`, path)
  assert.match(assertFails(() => new PackedReader(path, access), 'CORRUPT_FILE').message, 'was changed')
  first.close()
})

test.run()
