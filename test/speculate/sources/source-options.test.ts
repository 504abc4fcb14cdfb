/** Parameters of drafters: what is outside their limits is refused, and what is within reaches the drafter. */
import * as fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { chooseSpeculation } from '../../../src/engine/speculation-options.ts'
import { CoppiceError } from '../../../src/errors.ts'
import { SOURCES } from '../../../src/speculate/drafter.ts'
import { makeSource, sourceBytes } from '../../../src/speculate/sources/catalogue.ts'
import { checkSourceOptions, type SourceOptions } from '../../../src/speculate/sources/source-options.ts'
import { contextOf, propose, successors } from './guessing.ts'

const VOCABULARY = 400
const test = suite('options of sources')

const REFUSED: [unknown, RegExp][] = [
  [null, /drafterOptions must be an object, not null/],
  [[], /drafterOptions must be an object, not \[\]/],
  ['trie', /drafterOptions must be an object, not "trie"/],
  [{ tree: {} }, /there is no "tree"; known: trie, trigram, ngram, jacobi/],
  [{ recycle: {} }, /"recycle" has no options/],
  [{ trie: 3 }, /drafterOptions\.trie must be an object, not 3/],
  [{ trie: { length: 3 } }, /drafterOptions\.trie has no "length"; known: branchLength, promptWeight/],
  [{ trie: { vocabulary: 3 } }, /has no "vocabulary"/],
  [{ constructor: {} }, /there is no "constructor"/],
  [{ trie: { constructor: 1 } }, /has no "constructor"/],
  [{ trie: { branchLength: 1 } }, /branchLength must be an integer from 2 to 64, not 1/],
  [{ trie: { branchLength: 2.5 } }, /branchLength must be an integer from 2 to 64, not 2.5/],
  [{ trie: { branchLength: '12' } }, /not "12"/],
  [{ trie: { decay: Number.NaN } }, /decay must be a number from 0.01 to 0.9/],
  [{ trie: { mode: 'bush' } }, /mode must be one of tree, parallel, single, not "bush"/],
  [{ trigram: { pairs: 0 } }, /pairs must be an integer from 1/],
  [{ ngram: { most: 17 } }, /most must be an integer from 1 to 16, not 17/],
  [{ jacobi: { ngram: 1 } }, /ngram must be an integer from 2 to 16, not 1/],
]

for (const [options, message] of REFUSED) {
  test(`${JSON.stringify(options)} is refused`, () => {
    assert.throws(
      () => checkSourceOptions(options, SOURCES),
      (error: unknown) =>
        error instanceof CoppiceError && error.code === 'INVALID_OPTION' && message.test(error.message),
    )
  })
}

test('options of a drafter that does not guess are refused, and so are they in plain decoding', () => {
  const drafterOptions = { jacobi: { window: 3 } }
  assert.throws(() => chooseSpeculation({ drafterOptions }, false), /"jacobi", which is not among the drafters/)
  assert.throws(() => chooseSpeculation({ drafterOptions, draft: 'none' }, false), /not among the drafters/)
  const { sourceOptions } = chooseSpeculation({ drafterOptions, drafters: ['jacobi'] }, false)
  assert.equal(sourceOptions, drafterOptions)
  assert.throws(() => chooseSpeculation({ drafterOptions: null as never }, false), /must be an object, not null/)
})

test('an option that is undefined is as one that is not given', () => {
  checkSourceOptions({ trie: undefined, ngram: { most: undefined } }, ['ngram'])
  const undefinedOnes = { trie: { branchLength: undefined }, jacobi: { window: undefined } } as object
  const text = [1, 2, 3, 1, 2]
  for (const name of ['trie', 'jacobi'] as const) {
    const source = makeSource(name, VOCABULARY, undefinedOnes)
    source.begin(contextOf(text), 0)
    const usual = makeSource(name, VOCABULARY)
    usual.begin(contextOf(text), 0)
    const [paths, expected] = [source, usual].map((one) => propose(one, contextOf(text), 30).paths)
    assert.equal(paths, expected)
  }
})

test('a trie of short branches, of one branch; prompt lookup of long n-grams', () => {
  const text = [1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 9, 1, 2]
  const paths = (options: SourceOptions): string[] => {
    const source = makeSource('trie', VOCABULARY, options)
    source.begin(contextOf(text), 0)
    return propose(source, contextOf(text), 30).paths
  }
  assert.ok(paths({}).includes('3 4 5 6 7 8'))
  assert.not(paths({ trie: { branchLength: 3 } }).includes('3 4 5'))
  assert.ok(paths({}).includes('9 1'))
  const single = paths({ trie: { mode: 'single' } })
  assert.is(new Set(single.map((path) => path.split(' ')[0])).size, 1, single.join(', '))
  const ngram = makeSource('ngram', VOCABULARY, { ngram: { recent: 1 } })
  ngram.begin(contextOf(text), 0)
  assert.equal(
    successors(ngram, text).map(({ id }) => id),
    [9],
  )
})

const wanted = fc.record({
  trie: fc.record({ branchLength: fc.integer({ min: 2, max: 64 }), capacity: fc.integer({ min: 4096, max: 20_000 }) }),
  trigram: fc.record({ pairs: fc.integer({ min: 1, max: 5000 }), promptPairs: fc.integer({ min: 1, max: 5000 }) }),
  ngram: fc.record({ most: fc.integer({ min: 1, max: 16 }), recent: fc.integer({ min: 1, max: 12 }) }),
  jacobi: fc.record({
    window: fc.integer({ min: 1, max: 256 }),
    ngram: fc.integer({ min: 2, max: 16 }),
    guesses: fc.integer({ min: 1, max: 12 }),
    keys: fc.integer({ min: 1, max: 3000 }),
  }),
})

test('whatever the limits allow works, and holds no more than is said of it', () => {
  let state = 1
  const next = (): number => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0
    return (state >>> 8) % VOCABULARY
  }
  const text = Int32Array.from({ length: 3000 }, next)
  fc.assert(
    fc.property(wanted, (options) => {
      const { trie, trigram, ngram, jacobi } = checkSourceOptions(options, SOURCES)
      for (const name of SOURCES) {
        const source = makeSource(name, VOCABULARY, { trie, trigram, ngram, jacobi })
        source.warm?.(text)
        const context = contextOf([...text.subarray(0, 300)])
        source.begin(context, 0)
        successors(source, [...text.subarray(0, 40)])
        if (source.propose !== undefined) propose(source, context, 63)
        const { held } = sourceBytes(name, { vocabulary: VOCABULARY, context: 2048, proposed: 63 }, options)
        assert.ok(source.heldBytes <= held, `${name}: ${source.heldBytes} of ${held}`)
        source.end()
      }
    }),
    { numRuns: 25 },
  )
})

test.run()
