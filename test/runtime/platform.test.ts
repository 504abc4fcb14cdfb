import * as os from 'node:os'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import {
  availableMemoryBytes,
  cores,
  decodeBase64,
  engineFlags,
  environment,
  now,
  processMemoryBytes,
  processor,
  randomSeed,
  release,
  runtimeName,
  runtimeVersion,
} from '../../src/runtime/platform.ts'

const test = suite('platform')

test('a runtime is known by its own name and version', () => {
  const globals = globalThis as { Deno?: { version: { deno: string } }; Bun?: { version: string } }
  const expected =
    globals.Deno !== undefined
      ? ['deno', globals.Deno.version.deno]
      : globals.Bun !== undefined
        ? ['bun', globals.Bun.version]
        : ['node', process.version.slice(1)]
  assert.equal([runtimeName(), runtimeVersion()], expected)
})

test('a processor is told by its architecture and model, the same at every time', () => {
  assert.match(processor(), process.arch)
  assert.match(processor(), os.cpus()[0]?.model ?? '')
  assert.is(processor(), processor())
})

test('flags of the engine are seen wherever they come from', () => {
  const before = process.env.NODE_OPTIONS
  const flags = engineFlags()
  process.env.NODE_OPTIONS = '--liftoff-only'
  try {
    assert.ok(engineFlags().includes('NODE_OPTIONS=--liftoff-only'))
  } finally {
    if (before === undefined) delete process.env.NODE_OPTIONS
    else process.env.NODE_OPTIONS = before
  }
  assert.equal(engineFlags(), flags)
})

test('what is given back is gone, where the runtime can', () => {
  const array = new Int32Array(1000).fill(7)
  release(array)
  const can = 'transfer' in ArrayBuffer.prototype
  assert.is(array.length, can ? 0 : 1000)
  release(new Int32Array(new SharedArrayBuffer(8)))
})

test('there is at least one core, and no more than the machine has', () => {
  assert.ok(Number.isInteger(cores()))
  assert.ok(cores() >= 1)
  assert.ok(cores() <= Math.max(1, os.cpus().length))
})

test('available memory is positive and within what the machine has', () => {
  const bytes = availableMemoryBytes()
  assert.ok(bytes > 0)
  assert.ok(bytes <= os.totalmem())
})

test('the process sees the memory it takes', () => {
  const before = processMemoryBytes()
  const block = new Uint8Array(64e6).fill(1)
  assert.ok(processMemoryBytes() - before > 40e6, 'a block of 64 MB is not seen')
  assert.is(block[block.length - 1], 1)
})

test('the clock does not go back', () => {
  let last = now()
  for (let i = 0; i < 1000; i++) {
    const next = now()
    assert.ok(next >= last)
    last = next
  }
})

test('an empty variable is an unset one', () => {
  process.env.COPPICE_TEST_VARIABLE = 'x'
  assert.is(environment('COPPICE_TEST_VARIABLE'), 'x')
  process.env.COPPICE_TEST_VARIABLE = ''
  assert.is(environment('COPPICE_TEST_VARIABLE'), undefined)
  delete process.env.COPPICE_TEST_VARIABLE
  assert.is(environment('COPPICE_TEST_VARIABLE'), undefined)
})

test('seeds are 32-bit and differ', () => {
  const seeds = Array.from({ length: 64 }, randomSeed)
  for (const seed of seeds) assert.ok(Number.isInteger(seed) && seed >= 0 && seed < 2 ** 32)
  assert.ok(new Set(seeds).size > 60)
})

test('base64 gives bytes in a buffer of their own', () => {
  const bytes = decodeBase64('AGFzbQEAAAA=')
  assert.equal([...bytes], [0, 0x61, 0x73, 0x6d, 1, 0, 0, 0])
  assert.is(bytes.buffer.byteLength, 8)
})

test.run()
