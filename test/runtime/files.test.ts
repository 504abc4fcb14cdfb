import * as fs from 'node:fs'
import { constants, tmpdir } from 'node:os'
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { AtomicFile, writeFileAtomically } from '../../src/runtime/atomic-file.ts'
import {
  cacheDirectory,
  DIRECT_ALIGNMENT,
  directIoAvailable,
  fileError,
  freeDiskBytes,
  isDirectory,
  isFile,
  isPlainFileName,
  listDirectory,
  makeDirectory,
  ReadableFile,
  readBytes,
  readText,
  refusalOfDirectReads,
  removePath,
  Sha256,
  sameContent,
  statPath,
  systemCode,
} from '../../src/runtime/files.ts'
import { assertFails } from './failures.ts'

const test = suite('files')
let directory = ''
const at = (name: string): string => join(directory, name)

test.before.each(() => {
  directory = fs.mkdtempSync(join(tmpdir(), 'coppice-test-'))
})

test.after.each(() => fs.rmSync(directory, { recursive: true, force: true }))

test('nothing exists under the final name before commit, everything after it', () => {
  const file = new AtomicFile(at('model'))
  file.write(Uint8Array.of(1, 2))
  file.write(Uint8Array.of(3))
  assert.not.ok(fs.existsSync(at('model')))
  file.commit()
  assert.equal([...fs.readFileSync(at('model'))], [1, 2, 3])
  assert.equal(listDirectory(directory), ['model'])
})

test('a discarded file leaves nothing, and the old content in place', () => {
  fs.writeFileSync(at('model'), 'old')
  const file = new AtomicFile(at('model'))
  file.write(Uint8Array.of(1))
  file.discard()
  file.discard()
  assert.is(fs.readFileSync(at('model'), 'utf8'), 'old')
  assert.equal(listDirectory(directory), ['model'])
})

test('discard hides no error that it is called for', () => {
  const file = new AtomicFile(at('model'))
  fs.rmSync(file.temporaryPath)
  fs.mkdirSync(file.temporaryPath)
  fs.writeFileSync(join(file.temporaryPath, 'x'), '')
  file.discard()
  const other = new AtomicFile(at('other'))
  other.discard()
  other.discard()
})

test('two files are the same when every byte is, also beyond the first block', () => {
  const bytes = new Uint8Array((1 << 20) + 5).fill(7)
  fs.writeFileSync(at('a'), bytes)
  fs.writeFileSync(at('b'), bytes)
  assert.ok(sameContent(at('a'), at('b')))
  bytes[bytes.length - 1]++
  fs.writeFileSync(at('b'), bytes)
  assert.not.ok(sameContent(at('a'), at('b')))
  fs.writeFileSync(at('b'), bytes.subarray(1))
  assert.not.ok(sameContent(at('a'), at('b')))
  assertFails(() => sameContent(at('a'), at('missing')), 'MODEL_NOT_FOUND')
})

test('discard after commit does nothing', () => {
  const file = new AtomicFile(at('model'))
  file.commit()
  file.discard()
  assert.ok(fs.existsSync(at('model')))
})

test('a commit that fails has a code and can be discarded without a trace', () => {
  fs.mkdirSync(at('model'))
  fs.writeFileSync(join(at('model'), 'occupied'), '')
  const file = new AtomicFile(at('model'))
  assertFails(() => file.commit(), 'FILE_SYSTEM')
  file.discard()
  assert.equal(listDirectory(directory), ['model'])
})

test('two writers of one file do not meet', () => {
  const first = new AtomicFile(at('model'))
  const second = new AtomicFile(at('model'))
  first.write(Uint8Array.of(1, 1, 1))
  second.write(Uint8Array.of(2))
  first.commit()
  second.commit()
  assert.equal([...fs.readFileSync(at('model'))], [2])
})

test('a small file is replaced as a whole', () => {
  writeFileAtomically(at('manifest.json'), 'a longer first text')
  writeFileAtomically(at('manifest.json'), 'ä')
  assert.is(readText(at('manifest.json')), 'ä')
  assert.equal(listDirectory(directory), ['manifest.json'])
})

test('a file is read by position; only its end makes a read short', () => {
  fs.writeFileSync(
    at('data'),
    Uint8Array.from({ length: 100 }, (_, i) => i),
  )
  const file = new ReadableFile(at('data'))
  const target = new Uint8Array(10)
  assert.is(file.read(target, 42), 10)
  assert.equal([...target], [42, 43, 44, 45, 46, 47, 48, 49, 50, 51])
  assert.is(file.read(target, 95), 5)
  assert.equal([...target.subarray(0, 5)], [95, 96, 97, 98, 99])
  assert.is(file.read(target, 100), 0)
  file.close()
  file.close()
})

test('an open file can be read after its name is gone', () => {
  if (process.platform === 'win32') return
  fs.writeFileSync(at('data'), 'still here')
  const file = new ReadableFile(at('data'))
  fs.rmSync(at('data'))
  const target = new Uint8Array(10)
  assert.is(file.read(target, 0), 10)
  assert.is(new TextDecoder().decode(target), 'still here')
  file.close()
})

test('direct reads fill aligned places of a shared WASM memory where the file system takes them', () => {
  const bytes = Uint8Array.from({ length: 4 * DIRECT_ALIGNMENT }, (_, i) => (i * 7) % 251)
  fs.writeFileSync(at('data'), bytes)
  const refusal = refusalOfDirectReads(at('data'))
  if (!directIoAvailable) assert.match(refusal!, 'platform')
  // Some file systems, such as tmpfs before Linux 6.6, have no direct reads.
  const file = new ReadableFile(at('data'), refusal === undefined ? 'direct' : 'buffered')
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true })
  const target = new Uint8Array(memory.buffer, DIRECT_ALIGNMENT, 2 * DIRECT_ALIGNMENT)
  assert.is(file.read(target, DIRECT_ALIGNMENT), target.length)
  assert.equal([...target], [...bytes.subarray(DIRECT_ALIGNMENT, 3 * DIRECT_ALIGNMENT)])
  file.close()
})

test('why direct reads do not work is told in the words of the system', () => {
  if (!directIoAvailable) return
  fs.writeFileSync(at('short'), new Uint8Array(DIRECT_ALIGNMENT + 100))
  assert.is.not(refusalOfDirectReads(at('short')), undefined)
  assert.is(refusalOfDirectReads(at('missing')), 'ENOENT')
  // Files of the kernel's own that can only be read through its cache.
  assert.is.not(refusalOfDirectReads('/proc/self/status'), undefined)
})

test('the stamp tells a changed file from an unchanged one', () => {
  fs.writeFileSync(at('data'), 'one')
  const file = new ReadableFile(at('data'))
  const before = file.stamp()
  assert.equal(file.stamp(), before)
  assert.is(before.bytes, 3)
  fs.appendFileSync(at('data'), 'more')
  assert.is.not(file.stamp().bytes, before.bytes)
  file.close()
  fs.utimesSync(at('data'), 1, 1)
  assert.is.not(statPath(at('data'))?.stamp.modifiedMs, before.modifiedMs)
})

test('an answer of the system has its short name, also where the runtime knows none', () => {
  assert.is(systemCode(Object.assign(new Error('x'), { code: 'EIO', errno: -5 })), 'EIO')
  const { ESTALE } = constants.errno
  for (const code of ['Unknown system error -116', 'UNKNOWN']) {
    assert.is(systemCode(Object.assign(new Error('x'), { code, errno: -ESTALE })), 'ESTALE')
  }
  assert.is(systemCode('neither'), 'neither')
})

test('what is not there is MODEL_NOT_FOUND and names the path', () => {
  fs.writeFileSync(at('data'), '')
  for (const action of [
    () => new ReadableFile(at('missing')),
    () => readBytes(at('missing')),
    () => readText(at('data/below a file')),
    () => listDirectory(at('missing')),
    () => freeDiskBytes(at('missing')),
  ]) {
    assert.match(assertFails(action, 'MODEL_NOT_FOUND').message, directory)
  }
})

test('what cannot be made because its directory is not there is FILE_SYSTEM: it is no model that is missing', () => {
  assert.match(assertFails(() => new AtomicFile(at('missing/file')), 'FILE_SYSTEM').message, at('missing'))
  fs.mkdirSync(at('removed'))
  const file = new AtomicFile(at('removed/file'))
  fs.rmSync(at('removed'), { recursive: true })
  assert.match(assertFails(() => file.commit(), 'FILE_SYSTEM').message, /ENOENT.*do it again/)
})

test('what is known to help against an answer of the system is said', () => {
  const cases = { EIO: /disk failed/, ESTALE: /do it again/, EMFILE: /ulimit -n/, ENOSPC: /free some space/ }
  for (const [code, advice] of Object.entries(cases)) {
    const error = fileError('read', 'x', Object.assign(new Error(code), { code }))
    assert.is(error.code, 'FILE_SYSTEM')
    assert.match(error.message, advice)
  }
})

test('what the system refuses is FILE_SYSTEM and names path and answer', () => {
  fs.writeFileSync(at('data'), '')
  assert.match(assertFails(() => readBytes(directory), 'FILE_SYSTEM').message, directory)
  assert.match(assertFails(() => makeDirectory(at('data')), 'FILE_SYSTEM').message, 'EEXIST')
})

test('a path is a file, a directory, or nothing', () => {
  fs.writeFileSync(at('data'), '123')
  assert.is(statPath(at('data'))?.kind, 'file')
  assert.is(statPath(at('data'))?.stamp.bytes, 3)
  assert.is(statPath(directory)?.kind, 'directory')
  assert.is(statPath(at('missing')), undefined)
  assert.is(statPath(at('data/below a file')), undefined)
  assert.equal([isFile(at('data')), isFile(directory), isFile(at('missing'))], [true, false, false])
  assert.equal([isDirectory(at('data')), isDirectory(directory)], [false, true])
})

test('directories are made with their parents, listed in order, and removed with their content', () => {
  makeDirectory(at('a/b'))
  makeDirectory(at('a/b'))
  for (const name of ['c', 'a', 'b-2', 'b-10']) fs.writeFileSync(join(at('a/b'), name), '')
  assert.equal(listDirectory(at('a/b')), ['a', 'b-10', 'b-2', 'c'])
  removePath(at('a'))
  removePath(at('a'))
  assert.equal(listDirectory(directory), [])
})

test('free space is a whole number of bytes', () => {
  assert.ok(Number.isInteger(freeDiskBytes(directory)))
  assert.ok(freeDiskBytes(directory) >= 0)
})

test('a plain file name leads nowhere else on any platform', () => {
  for (const name of ['model.safetensors', 'model-00001-of-00002.safetensors', '...', 'a b', 'ä']) {
    assert.ok(isPlainFileName(name), name)
  }
  for (const name of ['', '.', '..', 'a/b', '/a', 'a\\b', 'C:a', 'a\0b', 'a\nb', 'x'.repeat(256)]) {
    assert.not.ok(isPlainFileName(name), name)
  }
})

test('COPPICE_CACHE says where derived data goes', () => {
  const before = process.env.COPPICE_CACHE
  try {
    process.env.COPPICE_CACHE = directory
    assert.is(cacheDirectory(), directory)
    process.env.COPPICE_CACHE = ''
    assert.is.not(cacheDirectory(), '')
    assert.match(cacheDirectory(), /coppice/)
  } finally {
    if (before === undefined) delete process.env.COPPICE_CACHE
    else process.env.COPPICE_CACHE = before
  }
})

test('SHA-256 agrees with the published test vector, in one piece or several', () => {
  const expected = 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad'
  assert.is(new Sha256().update('abc').hex(), expected)
  assert.is(new Sha256().update(Uint8Array.of(0x61)).update('bc').hex(), expected)
})

test.run()
