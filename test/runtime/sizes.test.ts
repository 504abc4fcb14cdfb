import * as fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { formatBytes, parseBytes } from '../../src/runtime/sizes.ts'
import { assertFails } from './failures.ts'

const test = suite('byte sizes')

test('SI units are powers of 1000, binary units powers of 1024', () => {
  assert.is(parseBytes('22MB'), 22e6)
  assert.is(parseBytes('2GB'), 2e9)
  assert.is(parseBytes('3TB'), 3e12)
  assert.is(parseBytes('7kB'), 7000)
  assert.is(parseBytes('512MiB'), 512 * 1024 * 1024)
  assert.is(parseBytes('1.5GiB'), 1.5 * 1024 ** 3)
  assert.is(parseBytes('2KiB'), 2048)
})

test('a plain number is bytes', () => {
  assert.is(parseBytes('4096'), 4096)
  assert.is(parseBytes('0'), 0)
  assert.is(parseBytes('12b'), 12)
})

test('case, spaces and a missing B do not matter', () => {
  for (const text of ['22mb', '22 MB', ' 22M ', '22m', '22Mb']) assert.is(parseBytes(text), 22e6)
  for (const text of ['.5gb', '0.5G', '500 MB']) assert.is(parseBytes(text), 5e8)
})

test('a fraction of a byte is dropped', () => {
  assert.is(parseBytes('1.0005kB'), 1000)
})

test('what is no size is refused by name', () => {
  for (const text of ['', 'MB', '-1', '1,5GB', '2XB', '12 34', '1e9', 'NaN', '1.GB', '99999999999TB']) {
    const error = assertFails(() => parseBytes(text), 'INVALID_OPTION')
    assert.match(error.message, `"${text}"`)
  }
})

test('sizes are shown with three significant digits', () => {
  const shown: [number, string][] = [
    [0, '0 B'],
    [999, '999 B'],
    [1000, '1.00 kB'],
    [1234, '1.23 kB'],
    [9994, '9.99 kB'],
    [9996, '10.0 kB'],
    [99_960, '100 kB'],
    [999_499, '999 kB'],
    [999_500, '1.00 MB'],
    [29_360_128, '29.4 MB'],
    [1_170_000_000, '1.17 GB'],
    [-22e6, '-22.0 MB'],
  ]
  for (const [bytes, text] of shown) assert.is(formatBytes(bytes), text)
})

test('what is shown can be read back to within its last digit', () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 2 ** 45 }), (bytes) => {
      const again = parseBytes(formatBytes(bytes))
      assert.ok(Math.abs(again - bytes) <= Math.max(1, bytes * 0.00501), `${bytes} became ${again}`)
    }),
  )
})

test.run()
