import fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { checksum } from '../../src/tensor/checksum.ts'
import { ChecksumBuffer } from '../../src/tensor/packer.ts'
import { ChunkSums } from '../../src/weights/chunk-sums.ts'

const test = suite('chunk sums')

test('checksums do not depend on the pieces in which data arrives', () => {
  const run = fc.record({
    gap: fc.nat(5),
    words: fc.integer({ min: 1, max: 40 }),
    chunkWords: fc.integer({ min: 1, max: 12 }),
  })
  const pieces = fc.array(fc.integer({ min: 0, max: 90 }), { minLength: 1, maxLength: 20 })
  fc.assert(
    fc.property(fc.array(run, { maxLength: 4 }), pieces, (specs, pieces) => {
      let offset = 0
      const runs = specs.map(({ gap, words, chunkWords }, i) => {
        offset += gap
        const result = { name: String(i), offset, bytes: words * 4, chunkBytes: chunkWords * 4 }
        offset += words * 4
        return result
      })
      const data = Uint8Array.from({ length: offset + 7 }, (_, i) => (i * 37 + (i >> 3)) & 255)
      const sums = new ChunkSums(runs, new ChecksumBuffer(ChunkSums.bufferBytes(runs)))
      for (let at = 0, i = 0; at < data.length; i++) {
        const size = i < pieces.length ? pieces[i] : data.length
        sums.feed(data.subarray(at, at + size))
        at += size
      }
      const expected = runs.map(({ offset, bytes, chunkBytes }) => {
        const list: number[] = []
        for (let at = 0; at < bytes; at += chunkBytes) {
          list.push(checksum(data.slice(offset + at, offset + Math.min(at + chunkBytes, bytes))))
        }
        return list
      })
      assert.equal(sums.sums, expected)
    }),
    { numRuns: 300 },
  )
})

test.run()
