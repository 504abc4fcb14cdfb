import * as fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { chooseReading, type ReadingRequest } from '../../src/memory/reading.ts'

const GB = 1e9
const STREAMS: ReadingRequest = {
  io: 'auto',
  direct: true,
  available: 8 * GB,
  targetBytes: 20 * GB,
  slots: 3,
  slotBytes: 50e6,
  speeds: undefined,
}

const test = suite('how files are read')

test('without measurements: direct when the target does not fit in free memory, four loaders for large units', () => {
  assert.equal(chooseReading(STREAMS), { mode: 'direct', cached: false, loaders: 4 })
  assert.equal(chooseReading({ ...STREAMS, slotBytes: 1e6 }), { mode: 'direct', cached: false, loaders: 1 })
  assert.equal(chooseReading({ ...STREAMS, targetBytes: 5 * GB }), { mode: 'buffered', cached: true, loaders: 4 })
  assert.equal(chooseReading({ ...STREAMS, direct: false }), { mode: 'buffered', cached: false, loaders: 4 })
})

test('what is asked for is what is done', () => {
  const speeds = { direct: [9, 9, 9, 9], buffered: [1, 1, 1, 1] }
  assert.is(chooseReading({ ...STREAMS, io: 'buffered', speeds }).mode, 'buffered')
  assert.is(chooseReading({ ...STREAMS, io: 'direct', targetBytes: 1 }).mode, 'direct')
})

test('a target that fits in free memory is read directly where the disk is faster than a copy', () => {
  const fits = { ...STREAMS, targetBytes: 5 * GB }
  assert.is(chooseReading({ ...fits, speeds: { direct: [7, 9, 9, 9], buffered: [5, 8, 8, 8] } }).mode, 'direct')
  assert.is(chooseReading({ ...fits, speeds: { direct: [2, 2, 2, 2], buffered: [5, 8, 8, 8] } }).mode, 'buffered')
  assert.is(chooseReading({ ...fits, speeds: { buffered: [5, 8, 8, 8] } }).mode, 'buffered')
})

test('a resident target needs one loader, or none when it is small', () => {
  assert.equal(chooseReading({ ...STREAMS, slots: 0 }), { mode: 'buffered', cached: false, loaders: 1 })
  assert.equal(chooseReading({ ...STREAMS, slots: 0, targetBytes: 30e6 }), {
    mode: 'buffered',
    cached: true,
    loaders: 0,
  })
})

test('whatever was measured, streaming has 1 to 4 loaders in a mode that there is', () => {
  const speed = fc.double({ min: 1, max: 1e11, noNaN: true })
  const byReaders = fc.array(speed, { minLength: 4, maxLength: 4 })
  const speeds = fc.record({ direct: byReaders, buffered: byReaders }, { requiredKeys: ['buffered'] })
  fc.assert(
    fc.property(speeds, fc.boolean(), fc.integer({ min: 1, max: 40 }), (measured, direct, gigabytes) => {
      const known = direct ? measured : { buffered: measured.buffered }
      const { mode, loaders } = chooseReading({
        ...STREAMS,
        direct,
        targetBytes: gigabytes * GB,
        speeds: known,
      })
      assert.ok(loaders >= 1 && loaders <= 4)
      assert.ok(direct || mode === 'buffered')
    }),
  )
})

test.run()
