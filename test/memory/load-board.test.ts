import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { CoppiceError } from '../../src/errors.ts'
import { LoadBoard, type Piece, pieceCount, type Unit } from '../../src/memory/load-board.ts'
import type { Place } from '../../src/tensor/arena.ts'
import { Control, Word } from '../../src/tensor/control.ts'

const MEBIBYTE = 1024 * 1024

const unitOf = (megabytes: number): Unit => ({
  name: `unit of ${megabytes}`,
  path: 'p',
  fileBytes: 4096 + megabytes * MEBIBYTE,
  start: 4096,
  bytes: megabytes * MEBIBYTE,
  chunkBytes: MEBIBYTE,
  checksums: Array.from({ length: megabytes }, (_, i) => i),
})

const units = [unitOf(9), unitOf(1), unitOf(4)]

const at = (pointer: number): Place => ({ bank: 0, pointer })

/** @param published pieces that have been published and taken before */
function boards(requests = 3, published = 0): { near: LoadBoard; far: LoadBoard } {
  const control = new Control()
  for (const word of [Word.piecesPublished, Word.piecesTaken]) control.words[word] = published
  const near = new LoadBoard({ units, requests }, control)
  // As another thread sees it.
  const far = new LoadBoard({ units, requests }, new Control(control.buffer), near.buffer)
  return { near, far }
}

function takeAll(board: LoadBoard): Piece[] {
  const pieces: Piece[] = []
  for (let piece = board.take(); piece !== undefined; piece = board.take()) pieces.push(piece)
  return pieces
}

const test = suite('load board')

test('a published unit is taken in pieces of whole chunks that cover it once', () => {
  const { near, far } = boards()
  assert.is(far.take(), undefined)
  near.publish(1, 0, { bank: 2, pointer: 65536 })
  const pieces = takeAll(far)
  assert.is(pieces.length, pieceCount(units[0]))
  assert.ok(pieces.length >= 3, 'more than one loader can share a large unit')
  let chunk = 0
  for (const piece of pieces) {
    assert.is(piece.request, 1)
    assert.is(piece.unit, 0)
    assert.equal(piece.place, { bank: 2, pointer: 65536 })
    assert.is(piece.firstChunk, chunk)
    chunk = piece.endChunk
  }
  assert.is(chunk, 9)
})

test('pieces are counted on beyond 32 bits, signed and unsigned', () => {
  for (const wrap of [2 ** 31, 2 ** 32]) {
    const { near, far } = boards(3, wrap - 7)
    for (let round = 0; round < 4; round++) {
      ;[0, 1, 2].forEach((unit) => void near.publish(unit, unit, at(4096 * unit)))
      const pieces = takeAll(far)
      for (const unit of [0, 1, 2]) {
        const own = pieces.filter((piece) => piece.unit === unit)
        assert.equal(
          own.map(({ index, request, place }) => [index, request, place]),
          Array.from({ length: pieceCount(units[unit]) }, (_, i) => [i, unit, at(4096 * unit)]),
        )
      }
      for (const piece of pieces) far.finish(piece)
      for (const request of [0, 1, 2]) assert.ok(near.isComplete(request))
    }
  }
})

test('a request is done when its last piece is finished, in whatever order', () => {
  const { near, far } = boards()
  near.publish(0, 0, at(4096))
  near.publish(2, 1, at(8192))
  const pieces = takeAll(far)
  assert.not(near.isDone(0))
  for (const piece of pieces.reverse()) {
    assert.not(near.isDone(piece.request))
    far.finish(piece)
  }
  assert.ok(near.isDone(0) && near.isDone(2) && near.isDone(1))
  assert.is(near.finishedPieces, pieces.length)
})

test('addresses above 2 GiB survive', () => {
  const { near, far } = boards()
  near.publish(0, 1, at(0xfffff000))
  assert.equal(far.take()!.place, at(0xfffff000))
})

test('the ring goes round as often as need be', () => {
  const { near, far } = boards()
  for (let round = 0; round < 100; round++) {
    const unit = round % units.length
    near.publish(round % 3, unit, { bank: round % 5, pointer: round * 4096 })
    const pieces = takeAll(far)
    assert.is(pieces.length, pieceCount(units[unit]))
    for (const piece of pieces) {
      assert.equal(piece.place, { bank: round % 5, pointer: round * 4096 })
      far.finish(piece)
    }
    assert.ok(near.isDone(round % 3))
  }
})

test('a piece is verified once, for all threads', () => {
  const { near, far } = boards()
  near.publish(0, 0, at(4096))
  const [first, second] = takeAll(far)
  far.markVerified(first)
  assert.ok(near.isVerified(first))
  assert.not(near.isVerified(second))
})

test('the first failure of a request is kept with its code and words, and is told on every look', () => {
  const { near, far } = boards()
  near.publish(0, 0, at(4096))
  near.publish(1, 1, at(8192))
  const pieces = takeAll(far)
  near.checkFailure(0)
  far.fail(pieces[1], new CoppiceError('CORRUPT_FILE', 'layer-00003 ist beschädigt'))
  far.fail(pieces[0], new CoppiceError('FILE_SYSTEM', 'later'))
  assert.ok(far.hasFailed(0) && !far.hasFailed(1))
  near.checkFailure(1)
  for (let look = 0; look < 2; look++) {
    assert.throws(
      () => near.checkFailure(0),
      (error: unknown) =>
        error instanceof CoppiceError &&
        error.code === 'CORRUPT_FILE' &&
        error.message === 'layer-00003 ist beschädigt',
    )
  }
})

test('a failed request is done when its last piece is finished, never complete, and as new when asked for again', () => {
  const { near, far } = boards()
  near.publish(0, 0, at(4096))
  const [first, ...others] = takeAll(far)
  far.fail(first, new CoppiceError('FILE_SYSTEM', 'gone'))
  far.finish(first)
  assert.ok(near.hasFailed(0))
  assert.not(near.isDone(0))
  for (const piece of others) far.finish(piece)
  assert.ok(near.isDone(0))
  assert.not(near.isComplete(0))
  near.publish(0, 0, at(4096))
  assert.not(near.hasFailed(0))
  near.checkFailure(0)
  for (const piece of takeAll(far)) far.finish(piece)
  assert.ok(near.isComplete(0))
})

test('an unexpected error is a failed worker, and a long message is cut', () => {
  const { near, far } = boards()
  near.publish(2, 1, at(4096))
  far.fail(far.take()!, new Error('x'.repeat(5000)))
  assert.throws(
    () => near.checkFailure(2),
    (error: unknown) =>
      error instanceof CoppiceError && error.code === 'WORKER_FAILED' && error.message.length === 1024,
  )
})

test.run()
