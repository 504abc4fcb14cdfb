import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { openSafetensors, SafetensorsWriter, writeSafetensors } from '../../src/weights/safetensors.ts'
import { parseHeader } from '../../src/weights/safetensors-header.ts'
import { fixtures } from '../paths.ts'
import {
  copyCheckpoint,
  expectFailure,
  f32Bytes,
  f32Values,
  rawFile,
  readPlain,
  shardCheckpoint,
  shardName,
  withDirectory,
} from './checkpoints.ts'

const test = suite('safetensors')
const llama = join(fixtures, 'llama')

/** Opens a file with this header and `dataBytes` zeros. */
const openRaw = (header: string | Uint8Array, dataBytes = 0): void =>
  withDirectory((directory) => {
    const path = join(directory, 'x.safetensors')
    writeFileSync(path, rawFile(header, new Uint8Array(dataBytes)))
    openSafetensors(path).close()
  })

const entry = (dtype: string, shape: unknown, offsets: unknown): string =>
  JSON.stringify({ dtype, shape, data_offsets: offsets })

test('every tensor of a checkpoint has the values that an independent reader finds', () => {
  const path = join(llama, 'model.safetensors')
  const { tensors } = readPlain(path)
  const checkpoint = openSafetensors(llama)
  assert.equal([...checkpoint.tensors.keys()].sort(), [...tensors.keys()].sort())
  assert.equal(checkpoint.files, [path])
  assert.is(checkpoint.metadata.get('format'), 'pt')
  for (const [name, plain] of tensors) {
    const info = checkpoint.info(name)
    assert.equal([info.dtype, info.shape, info.bytes], [plain.dtype, plain.shape, plain.data.length])
    assert.equal(checkpoint.read(name), f32Values(plain))
    assert.equal(checkpoint.readBytes(name), plain.data)
    const file = readFileSync(info.file)
    assert.equal(new Uint8Array(file.subarray(info.offset, info.offset + info.bytes)), plain.data)
  }
  checkpoint.close()
})

test('rows are read alone, into an array of the caller', () => {
  const checkpoint = openSafetensors(llama)
  const name = 'model.layers.1.mlp.down_proj.weight'
  const whole = checkpoint.read(name)
  const columns = checkpoint.info(name).shape[1]
  assert.equal(checkpoint.readRows(name, 5, 3), whole.slice(5 * columns, 8 * columns))
  const target = new Float32Array(3 * columns + 1).fill(7)
  const rows = checkpoint.readRows(name, 61, 3, target)
  assert.is(rows.length, 3 * columns)
  assert.equal(target.slice(0, 3 * columns), whole.slice(61 * columns))
  assert.is(target[3 * columns], 7)
  assert.is(checkpoint.readRows(name, 64, 0).length, 0)
  for (const [first, count] of [
    [-1, 1],
    [0, 65],
    [64, 1],
    [0.5, 1],
    [0, Number.NaN],
  ]) {
    expectFailure(() => checkpoint.readRows(name, first, count), 'INVALID_INPUT', name, '64 rows')
  }
  expectFailure(() => checkpoint.readRows(name, 0, 2, new Float32Array(columns)), 'INVALID_INPUT', 'need')
  const bytes = new Uint8Array(3 * columns * 4 + 1).fill(7)
  assert.is(checkpoint.readRowBytes(name, 5, 3, bytes), 3 * columns * 4)
  assert.equal(bytes.slice(0, -1), checkpoint.readBytes(name).slice(5 * columns * 4, 8 * columns * 4))
  assert.is(bytes[3 * columns * 4], 7)
  expectFailure(() => checkpoint.readRowBytes(name, 64, 1, bytes), 'INVALID_INPUT', name, '64 rows')
  expectFailure(() => checkpoint.readRowBytes(name, 0, 4, bytes), 'INVALID_INPUT', 'need')
  expectFailure(() => checkpoint.read('no.such.tensor'), 'INVALID_INPUT', 'no.such.tensor')
  checkpoint.close()
})

test('F16 and BF16 are widened exactly, across block borders', () => {
  withDirectory((directory) => {
    const path = join(directory, 'x.safetensors')
    const count = 600_001
    const bf16 = new Uint16Array(count)
    const f16 = new Uint16Array(count)
    for (let i = 0; i < count; i++) {
      bf16[i] = 0x3f80 + (i % 128)
      f16[i] = 0x3c00 + (i % 1024)
    }
    const bytes = (values: Uint16Array): Uint8Array => new Uint8Array(values.buffer)
    writeSafetensors(path, [
      { name: 'b', dtype: 'BF16', shape: [count], data: bytes(bf16) },
      { name: 'h', dtype: 'F16', shape: [count, 1], data: bytes(f16) },
      { name: 'i', dtype: 'I64', shape: [1], data: new Uint8Array(8) },
      { name: 'one', dtype: 'F32', shape: [], data: f32Bytes(Float32Array.of(2.5)) },
      { name: 'none', dtype: 'F32', shape: [0, 4], data: new Uint8Array(0) },
    ])
    const file = openSafetensors(path)
    const wide = file.read('b')
    const half = file.read('h')
    for (let i = 0; i < count; i++) {
      if (wide[i] !== 1 + (i % 128) / 128 || half[i] !== 1 + (i % 1024) / 1024) assert.unreachable(`element ${i}`)
    }
    assert.equal(file.read('one'), Float32Array.of(2.5))
    assert.is(file.read('none').length, 0)
    assert.is(file.info('i').dtype, 'I64')
    expectFailure(() => file.read('i'), 'UNSUPPORTED_FORMAT', '"i"', 'I64', 'F32, F16 and BF16')
    assert.is(file.readBytes('i').length, 8)
    file.close()
  })
})

test('shards are read like one file', () => {
  withDirectory((directory) => {
    copyCheckpoint(llama, directory)
    shardCheckpoint(directory, 3)
    const sharded = openSafetensors(directory)
    const single = openSafetensors(llama)
    assert.is(sharded.files.length, 3)
    assert.equal([...sharded.tensors.keys()].sort(), [...single.tensors.keys()].sort())
    for (const name of single.tensors.keys()) assert.equal(sharded.read(name), single.read(name))
    sharded.close()
    single.close()
  })
})

test('an index that does not fit its shards is refused', () => {
  const damage = (
    change: (directory: string, index: { weight_map: Record<string, unknown> }) => void,
  ): (() => void) => {
    return () =>
      withDirectory((directory) => {
        copyCheckpoint(llama, directory)
        shardCheckpoint(directory, 2)
        const path = join(directory, 'model.safetensors.index.json')
        const index = JSON.parse(readFileSync(path, 'utf8'))
        change(directory, index)
        writeFileSync(path, JSON.stringify(index))
        openSafetensors(directory)
      })
  }
  const norm = 'model.norm.weight'
  const missing = damage((directory) => rmSync(join(directory, shardName(2, 2))))
  expectFailure(missing, 'MODEL_NOT_FOUND', shardName(2, 2), 'does not exist')
  const notIndexed = damage((_, index) => delete index.weight_map[norm])
  expectFailure(notIndexed, 'CORRUPT_FILE', norm, 'does not know it')
  const notThere = damage((_, index) => {
    index.weight_map.stranger = shardName(1, 2)
  })
  expectFailure(notThere, 'CORRUPT_FILE', 'stranger', shardName(1, 2), 'it is not')
  const wrongShard = damage((_, index) => {
    index.weight_map[norm] = index.weight_map[norm] === shardName(1, 2) ? shardName(2, 2) : shardName(1, 2)
  })
  expectFailure(wrongShard, 'CORRUPT_FILE', norm)
  const twice = damage((directory) => {
    writeFileSync(join(directory, shardName(2, 2)), readFileSync(join(directory, shardName(1, 2))))
  })
  expectFailure(twice, 'CORRUPT_FILE', 'two shards', shardName(1, 2), shardName(2, 2))
  for (const name of ['../x.safetensors', 'a/b', 'a\\b', '/etc/passwd', 'C:x', '..', '.', '', 'a\u0000b', 7, null]) {
    const path = damage((_, index) => {
      index.weight_map[norm] = name
    })
    expectFailure(path, 'CORRUPT_FILE', 'file name', norm)
  }
  const noMap = damage((_, index) => {
    Object.assign(index, { weight_map: [] })
  })
  expectFailure(noMap, 'CORRUPT_FILE', 'weight_map')
})

test('a path that holds no safetensors file says what was looked for', () => {
  withDirectory((directory) => {
    expectFailure(() => openSafetensors(join(directory, 'none')), 'MODEL_NOT_FOUND', 'none')
    expectFailure(() => openSafetensors(directory), 'MODEL_NOT_FOUND', 'model.safetensors', 'index.json')
    mkdirSync(join(directory, 'model.safetensors'))
    expectFailure(() => openSafetensors(directory), 'UNSUPPORTED_FORMAT', 'not a file')
  })
})

test('a pipe is refused instead of waited for', () => {
  if (process.platform === 'win32') return
  withDirectory((directory) => {
    const pipe = join(directory, 'model.safetensors')
    execFileSync('mkfifo', [pipe])
    expectFailure(() => openSafetensors(pipe), 'UNSUPPORTED_FORMAT', 'not a file')
  })
})

test('a file too short for its header is refused', () => {
  withDirectory((directory) => {
    const path = join(directory, 'x.safetensors')
    const open = (bytes: Uint8Array): (() => void) => {
      return () => {
        writeFileSync(path, bytes)
        openSafetensors(path)
      }
    }
    expectFailure(open(new Uint8Array(0)), 'CORRUPT_FILE', path, '0 bytes')
    expectFailure(open(new Uint8Array(7)), 'CORRUPT_FILE', '7 bytes')
    expectFailure(open(Uint8Array.of(3, 0, 0, 0, 0, 0, 0, 0, 0x7b, 0x7d)), 'CORRUPT_FILE', 'cut short')
    expectFailure(open(Uint8Array.of(0, 0, 0, 0, 1, 0, 0, 0, 0x7b, 0x7d)), 'CORRUPT_FILE', '4294967296')
    expectFailure(open(new Uint8Array(8).fill(255)), 'CORRUPT_FILE', 'at most 100000000')
    const pointer = 'version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n'
    expectFailure(open(new TextEncoder().encode(pointer)), 'CORRUPT_FILE', 'Git LFS')
  })
})

test('a header that is not a JSON object is refused', () => {
  expectFailure(() => openRaw(''), 'CORRUPT_FILE', 'begin with "{"')
  expectFailure(() => openRaw(' {}'), 'CORRUPT_FILE', 'begin with "{"')
  expectFailure(() => openRaw('\ufeff{}'), 'CORRUPT_FILE', 'begin with "{"')
  expectFailure(() => openRaw('[]'), 'CORRUPT_FILE', 'begin with "{"')
  expectFailure(() => openRaw('{'), 'CORRUPT_FILE', 'not valid JSON')
  expectFailure(() => openRaw('{} x'), 'CORRUPT_FILE', 'not valid JSON')
  expectFailure(() => openRaw(Uint8Array.of(0x7b, 0x22, 0xff, 0x22, 0x7d)), 'CORRUPT_FILE', 'UTF-8')
  expectFailure(() => openRaw(`{"a":${'['.repeat(200_000)}`), 'CORRUPT_FILE')
  expectFailure(() => openRaw(`{"a":${'['.repeat(20_000)}${']'.repeat(20_000)}}`), 'CORRUPT_FILE', '"a"')
})

test('a key that appears twice in an object is refused', () => {
  const a = entry('U8', [1], [0, 1])
  expectFailure(() => openRaw(`{"a":${a},"a":${a}}`, 1), 'CORRUPT_FILE', '"a" twice')
  expectFailure(() => openRaw(`{"a":${a},"\\u0061":${a}}`, 1), 'CORRUPT_FILE', '"a" twice')
  expectFailure(
    () => openRaw('{"a":{"dtype":"U8","dtype":"I8","shape":[1],"data_offsets":[0,1]}}', 1),
    'CORRUPT_FILE',
    'dtype',
  )
  expectFailure(() => openRaw('{"__metadata__":{"x":"1","x":"2"}}'), 'CORRUPT_FILE', '"x" twice')
  // The same key in different objects, and text that only looks like a key, are no duplicates.
  openRaw(`{"a":${a},"b":${entry('U8', [1], [1, 2])},"__metadata__":{"a":"\\"a\\":","b":"{\\"a\\":1"}}`, 2)
})

test('a tensor entry that is not sound is refused by name', () => {
  const refused = (text: string, data: number, ...parts: string[]): void =>
    expectFailure(() => openRaw(`{"t":${text}}`, data), 'CORRUPT_FILE', '"t"', ...parts)
  refused('[]', 0, 'object')
  refused('null', 0, 'object')
  refused('{"shape":[1],"data_offsets":[0,1]}', 1, 'dtype')
  refused('{"dtype":"U8","data_offsets":[0,1]}', 1, 'shape')
  refused('{"dtype":"U8","shape":[1]}', 1, 'data_offsets')
  refused('{"dtype":7,"shape":[1],"data_offsets":[0,1]}', 1, 'dtype')
  for (const shape of [7, '1', { 0: 1 }, [-1], [1.5], ['1'], [null], [2 ** 53]]) {
    refused(entry('U8', shape, [0, 1]), 1, 'shape')
  }
  for (const offsets of [7, [0], [0, 1, 2], [0.5, 1], [-1, 0], ['0', 1], [0, 2 ** 53], [0, null]]) {
    refused(entry('U8', [1], offsets), 1, 'data_offsets')
  }
  refused(entry('U8', [1], [1, 0]), 1, 'reversed')
  refused(entry('F32', [2], [0, 4]), 4, 'takes 8 bytes', 'span 4')
  refused(entry('U8', [2 ** 30, 2 ** 30], [0, 1]), 1, 'countable')
  refused(entry('F4', [3], [0, 1]), 1, 'countable')
  refused('{"dtype":"U8","shape":[1e400],"data_offsets":[0,1]}', 1, 'shape')
  expectFailure(() => openRaw(`{"t":${entry('F12', [1], [0, 1])}}`, 1), 'UNSUPPORTED_FORMAT', 'F12', 'known', 'BF16')
  expectFailure(() => openRaw(`{"t":${entry('toString', [1], [0, 1])}}`, 1), 'UNSUPPORTED_FORMAT', 'toString')
})

test('tensors must cover the data exactly', () => {
  const a = entry('U8', [4], [0, 4])
  expectFailure(() => openRaw(`{"a":${a}}`, 3), 'CORRUPT_FILE', 'cut short')
  expectFailure(() => openRaw(`{"a":${a}}`, 5), 'CORRUPT_FILE', 'nothing may follow')
  expectFailure(() => openRaw('{}', 1), 'CORRUPT_FILE', 'nothing may follow')
  expectFailure(() => openRaw(`{"a":${a},"b":${entry('U8', [1], [5, 6])}}`, 6), 'CORRUPT_FILE', '"b"', 'hole')
  expectFailure(() => openRaw(`{"a":${a},"b":${entry('U8', [2], [3, 5])}}`, 5), 'CORRUPT_FILE', '"b"', 'overlaps')
  expectFailure(() => openRaw(`{"a":${entry('U8', [4], [1, 5])}}`, 5), 'CORRUPT_FILE', '"a"', 'hole')
  openRaw('{}')
  openRaw(`{"b":${entry('U8', [1], [4, 5])},"none":${entry('F64', [2 ** 40, 0, 2 ** 40], [4, 4])},"a":${a}}    `, 5)
})

test('metadata holds strings only', () => {
  for (const value of ['7', '[]', 'null', '"x"', '{"a":1}', '{"a":null}']) {
    expectFailure(() => openRaw(`{"__metadata__":${value}}`), 'CORRUPT_FILE', '__metadata__')
  }
})

test('names of the prototype are names like any other', () => {
  const header = `{"__metadata__":{"__proto__":"m"},"__proto__":${entry('U8', [1], [0, 1])},"constructor":${entry('U8', [1], [1, 2])}}`
  const { tensors, metadata } = parseHeader(new TextEncoder().encode(header), 2, 'x')
  assert.equal(
    tensors.map((tensor) => tensor.name),
    ['__proto__', 'constructor'],
  )
  assert.is(metadata.get('__proto__'), 'm')
  assert.is(({} as Record<string, unknown>).dtype, undefined)
})

test('the writer makes files that others can read, aligned as asked', () => {
  withDirectory((directory) => {
    const path = join(directory, 'x.safetensors')
    const tensors = [
      { name: '1', dtype: 'F32', shape: [2, 3] },
      { name: '__proto__', dtype: 'U8', shape: [5] },
      { name: '0', dtype: 'F16', shape: [] },
    ] as const
    const writer = new SafetensorsWriter(path, tensors, { metadata: { a: 'b"', c: 'ü' }, alignment: 4096 })
    writer.write(f32Bytes(Float32Array.of(1, 2, 3, 4, 5, 6)))
    assert.not(existsSync(path))
    writer.write(Uint8Array.of(1, 2, 3, 4, 5))
    expectFailure(() => writer.commit(), 'INVALID_INPUT', 'bytes')
    writer.write(Uint8Array.of(0, 0x3c))
    const sha256 = writer.commit()
    assert.match(sha256, /^[0-9a-f]{64}$/)
    assert.is(writer.header.length, 4096)
    const file = openSafetensors(path)
    assert.equal([...file.tensors.keys()], ['1', '__proto__', '0'])
    assert.is(file.info('1').offset, 4096)
    assert.equal(file.read('0'), Float32Array.of(1))
    assert.equal(file.readBytes('__proto__'), Uint8Array.of(1, 2, 3, 4, 5))
    assert.is(file.metadata.get('c'), 'ü')
    file.close()
    assert.equal(f32Values(readPlain(path).tensors.get('1')!), Float32Array.of(1, 2, 3, 4, 5, 6))
    assert.equal(readPlain(path).metadata, { a: 'b"', c: 'ü' })
    assert.equal(readdirSync(directory), ['x.safetensors'])
  })
})

test('the writer refuses what the format cannot hold, and leaves nothing behind', () => {
  withDirectory((directory) => {
    const path = join(directory, 'x.safetensors')
    const write = (name: string, shape: number[], bytes: number) => () =>
      writeSafetensors(path, [{ name, dtype: 'F32', shape, data: new Uint8Array(bytes) }])
    expectFailure(write('__metadata__', [1], 4), 'INVALID_INPUT', 'taken')
    expectFailure(write('a', [2], 4), 'INVALID_INPUT', '8 bytes')
    expectFailure(write('a', [0.5], 2), 'INVALID_INPUT')
    const writer = new SafetensorsWriter(path, [{ name: 'a', dtype: 'U8', shape: [9] }])
    writer.write(new Uint8Array(4))
    writer.discard()
    assert.equal(readdirSync(directory), [])
  })
})

test('reading goes on being checked after a file was opened', () => {
  withDirectory((directory) => {
    copyCheckpoint(llama, directory)
    const path = join(directory, 'model.safetensors')
    const checkpoint = openSafetensors(directory)
    writeFileSync(path, readFileSync(path).subarray(0, 1000))
    expectFailure(() => checkpoint.read('model.norm.weight'), 'CORRUPT_FILE', path, 'cut short')
    checkpoint.close()
  })
})

test.run()
