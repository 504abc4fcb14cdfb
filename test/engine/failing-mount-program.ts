/**
 * A file system (FUSE protocol 7) that shows the files of a directory and fails as a JSON file says, read anew
 * with every read. It speaks over descriptor 3, an open /dev/fuse that is mounted already.
 *
 *     node failing-mount-program.js DIRECTORY FAULTS LOG
 */
import {
  appendFileSync,
  closeSync,
  constants,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  statSync,
  writeSync,
} from 'node:fs'
import { constants as system } from 'node:os'
import { join } from 'node:path'
import type { Fault } from './failing-mount.ts'

const [directory, faultsPath, logPath] = process.argv.slice(2)
const DEVICE = 3
const ROOT = 1n
const Opcode = {
  lookup: 1,
  forget: 2,
  getattr: 3,
  open: 14,
  read: 15,
  release: 18,
  flush: 25,
  init: 26,
  interrupt: 36,
  destroy: 38,
  batchForget: 42,
}
const MAXIMUM_PAGES = 256
const MAX_PAGES_FLAG = 1 << 22
const HEADER_BYTES = 16
const ATTRIBUTE_BYTES = 88

/** Nodes 2, 3, ... in this order. */
const names = readdirSync(directory).sort()
const descriptors = names.map((name) => openSync(join(directory, name), 'r'))

interface Request {
  readonly opcode: number
  readonly unique: bigint
  readonly node: bigint
  readonly body: Buffer
}

/** Bytes, the number of an error, or nothing (yet). */
type Reply = Uint8Array | number | undefined

const EMPTY = new Uint8Array(0)

function answer({ unique }: Request, reply: Reply): void {
  if (reply === undefined) return
  const body = typeof reply === 'number' ? EMPTY : reply
  const message = Buffer.alloc(HEADER_BYTES + body.length)
  message.writeUInt32LE(message.length, 0)
  message.writeInt32LE(typeof reply === 'number' ? -reply : 0, 4)
  message.writeBigUInt64LE(unique, 8)
  message.set(body, HEADER_BYTES)
  try {
    writeSync(DEVICE, message)
  } catch (cause) {
    // Whoever asked is gone.
    if ((cause as NodeJS.ErrnoException).code !== 'ENOENT') throw cause
  }
}

function attributes(node: bigint): Buffer {
  const at = statSync(node === ROOT ? directory : join(directory, names[Number(node) - 2]), { bigint: true })
  const out = Buffer.alloc(ATTRIBUTE_BYTES)
  const seconds = [at.atimeNs, at.mtimeNs, at.ctimeNs].map((ns) => ns / 1_000_000_000n)
  const rest = [at.atimeNs, at.mtimeNs, at.ctimeNs].map((ns) => Number(ns % 1_000_000_000n))
  const longs = [node, at.size, at.blocks, ...seconds]
  for (const [i, value] of longs.entries()) out.writeBigUInt64LE(value, i * 8)
  const words = [...rest, Number(at.mode), 1, 0, 0, 0, 4096]
  for (const [i, value] of words.entries()) out.writeUInt32LE(value, longs.length * 8 + i * 4)
  return out
}

const faults = (): Fault | undefined => {
  const text = readFileSync(faultsPath, 'utf8')
  return text === '' ? undefined : (JSON.parse(text) as Fault)
}

const hanging: Request[] = []

function read(request: Request): Reply {
  const { node, body } = request
  const file = Number(node) - 2
  const offset = Number(body.readBigUInt64LE(8))
  const size = body.readUInt32LE(16)
  const direct = (body.readUInt32LE(32) & constants.O_DIRECT) !== 0
  const given = faults()
  const fault =
    given !== undefined && names[file].includes(given.file) && offset >= (given.from ?? 0) ? given : undefined
  if (fault?.kind === 'hang') {
    hanging.push(request)
    return undefined
  }
  if (fault?.kind === 'slow') Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, fault.ms)
  appendFileSync(logPath, `${names[file]} ${offset} ${size} ${direct ? 'direct' : 'buffered'}\n`)
  if (fault?.kind === 'error') return system.errno[fault.code]
  if (fault?.kind === 'refuse direct' && direct) return system.errno.EINVAL
  if (fault?.kind === 'end') return EMPTY
  const data = Buffer.alloc(fault?.kind === 'short' ? Math.ceil(size / 3) : size)
  return data.subarray(0, readSync(descriptors[file], data, 0, data.length, offset))
}

function lookup({ body }: Request): Reply {
  const index = names.indexOf(body.toString('utf8', 0, body.length - 1))
  if (index < 0) return system.errno.ENOENT
  const out = Buffer.alloc(40 + ATTRIBUTE_BYTES)
  out.writeBigUInt64LE(BigInt(index + 2), 0)
  out.set(attributes(BigInt(index + 2)), 40)
  return out
}

function init(): Reply {
  const out = Buffer.alloc(64)
  out.writeUInt32LE(7, 0)
  out.writeUInt32LE(31, 4)
  out.writeUInt32LE(MAX_PAGES_FLAG, 12)
  out.writeUInt16LE(12, 16)
  out.writeUInt16LE(9, 18)
  out.writeUInt32LE(MAXIMUM_PAGES * 4096, 20)
  out.writeUInt32LE(1, 24)
  out.writeUInt16LE(MAXIMUM_PAGES, 28)
  return out
}

function open(): Reply {
  const out = Buffer.alloc(16)
  // Past the page cache, so that every read arrives here.
  out.writeUInt32LE(1, 8)
  return out
}

function handle(request: Request): Reply {
  switch (request.opcode) {
    case Opcode.init:
      return init()
    case Opcode.lookup:
      return lookup(request)
    case Opcode.getattr:
      return Buffer.concat([Buffer.alloc(16), attributes(request.node)])
    case Opcode.open:
      return open()
    case Opcode.read:
      return read(request)
    case Opcode.release:
    case Opcode.flush:
      return EMPTY
    case Opcode.forget:
    case Opcode.batchForget:
    case Opcode.interrupt:
      return undefined
    default:
      return system.errno.ENOSYS
  }
}

const buffer = Buffer.alloc(MAXIMUM_PAGES * 4096 + 65536)
for (;;) {
  let length: number
  try {
    length = readSync(DEVICE, buffer, 0, buffer.length, null)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENODEV') break
    if (code === 'ENOENT' || code === 'EINTR') continue
    throw error
  }
  const request: Request = {
    opcode: buffer.readUInt32LE(4),
    unique: buffer.readBigUInt64LE(8),
    node: buffer.readBigUInt64LE(16),
    body: Buffer.from(buffer.subarray(40, length)),
  }
  if (faults()?.kind !== 'hang') for (const late of hanging.splice(0)) answer(late, read(late))
  let reply: Reply
  try {
    reply = handle(request)
  } catch (error) {
    console.error(error)
    reply = system.errno.EIO
  }
  answer(request, reply)
}
for (const descriptor of descriptors) closeSync(descriptor)
