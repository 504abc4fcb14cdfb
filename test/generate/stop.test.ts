import * as fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { StopMatcher } from '../../src/generate/stop.ts'

const test = suite('stop strings')

interface Outcome {
  readonly pieces: readonly string[]
  /** Index of the piece that completed a stop string; -1: none did. */
  readonly stoppedAt: number
}

/** Feeds pieces until a stop string is complete; without one, the rest comes last. */
function feed(stops: readonly string[], pieces: readonly string[]): Outcome {
  const matcher = new StopMatcher(stops)
  const out: string[] = []
  for (const [i, piece] of pieces.entries()) {
    const { text, stopped } = matcher.push(piece)
    out.push(text)
    if (stopped) {
      assert.not(matcher.holding)
      return { pieces: out, stoppedAt: i }
    }
  }
  out.push(matcher.flush())
  return { pieces: out, stoppedAt: -1 }
}

/** The definition on the whole text: the first stop string to be completed, the longest of those. */
function firstMatch(stops: readonly string[], text: string): { start: number; end: number } | undefined {
  for (let end = 1; end <= text.length; end++) {
    const ending = stops.filter((stop) => text.slice(0, end).endsWith(stop))
    if (ending.length > 0) return { start: end - Math.max(...ending.map((stop) => stop.length)), end }
  }
  return undefined
}

test('text before a stop string comes out, the string and what follows does not', () => {
  assert.equal(feed(['END'], ['one END two']), { pieces: ['one '], stoppedAt: 0 })
})

test('a stop string may span pieces, and the piece that completes it is told', () => {
  assert.equal(feed(['<end>'], ['a<', 'e', 'nd', '>b', 'c']), { pieces: ['a', '', '', ''], stoppedAt: 3 })
})

test('what might be the beginning of a stop string is kept back until it is not', () => {
  assert.equal(feed(['<end>'], ['a<', 'en', 'x', 'b']), { pieces: ['a', '', '<enx', 'b', ''], stoppedAt: -1 })
  assert.equal(feed(['aab'], ['a', 'a', 'a', 'a', 'b']), { pieces: ['', '', 'a', 'a', ''], stoppedAt: 4 })
})

test('what is kept back at the end comes with the flush', () => {
  assert.equal(feed(['<end>'], ['a<en']), { pieces: ['a', '<en'], stoppedAt: -1 })
})

test('of several stop strings the first to be completed counts, and of those the longest', () => {
  assert.equal(feed(['abcd', 'bc'], ['abcd']), { pieces: ['a'], stoppedAt: 0 })
  assert.equal(feed(['abcd', 'bc'], ['a', 'b', 'c', 'd']), { pieces: ['', '', 'a'], stoppedAt: 2 })
  assert.equal(feed(['c', 'abc', 'bc'], ['xabc']), { pieces: ['x'], stoppedAt: 0 })
  assert.equal(feed(['abc', 'x'], ['ab', 'x']), { pieces: ['', 'ab'], stoppedAt: 1 })
})

test('without stop strings everything comes out at once', () => {
  assert.equal(feed([], ['a', '', 'b']), { pieces: ['a', '', 'b', ''], stoppedAt: -1 })
})

test('however the text is cut, it ends where the first stop string begins', () => {
  const word = fc.string({ unit: fc.constantFrom('a', 'b', 'c', '🦙'), minLength: 1, maxLength: 4 })
  fc.assert(
    fc.property(fc.array(word, { maxLength: 4 }), fc.array(word, { maxLength: 20 }), (stops, pieces) => {
      const whole = pieces.join('')
      const match = firstMatch(stops, whole)
      const { pieces: out, stoppedAt } = feed(stops, pieces)
      assert.is(out.join(''), match === undefined ? whole : whole.slice(0, match.start))
      if (match === undefined) assert.is(stoppedAt, -1)
      else {
        const before = pieces.slice(0, stoppedAt).join('').length
        assert.ok(before < match.end && match.end <= before + pieces[stoppedAt].length)
      }
      for (const piece of out) assert.not(/\p{Surrogate}/u.test(piece))
    }),
    { numRuns: 3000 },
  )
})

test('no more is kept back than could begin a stop string', () => {
  const matcher = new StopMatcher(['\n\nUser:'])
  assert.is(matcher.push('text\n').text, 'text')
  assert.ok(matcher.holding)
  assert.is(matcher.push('more').text, '\nmore')
  assert.not(matcher.holding)
})

test.run()
