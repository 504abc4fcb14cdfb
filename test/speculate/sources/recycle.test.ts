import fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { PLACES, RecycleSource } from '../../../src/speculate/sources/recycle.ts'
import { ROOT, TokenTree } from '../../../src/speculate/token-tree.ts'
import { contextOf, propose, rankedTokens, successors } from './guessing.ts'

const VOCABULARY = 40
const RANKS = 8

const shape = suite('the shape of recycled trees')

/** Ranks on the way to a place. */
function ranksTo(place: number): number[] {
  if (place === ROOT) return []
  const { parent, rank } = PLACES[place - 1]
  return [...ranksTo(parent), rank]
}

shape('is the published one: 80 nodes of depth 6', () => {
  const perDepth = [0, 0, 0, 0, 0, 0]
  for (const { depth } of PLACES) perDepth[depth - 1]++
  assert.equal(perDepth, [8, 21, 25, 15, 8, 3])
  const all = new Set(PLACES.map((_, i) => ranksTo(i + 1).join('')))
  assert.is(all.size, 80)
  const some = [
    '7',
    '70',
    '13',
    '22',
    '31',
    '007',
    '012',
    '070',
    '101',
    '500',
    '0011',
    '0040',
    '3000',
    '10000',
    '000100',
  ]
  for (const path of some) assert.ok(all.has(path), path)
  for (const path of ['71', '600', '0005', '4000', '00003', '0000000']) assert.not(all.has(path), path)
})

shape('has parents before children, and the better places first', () => {
  for (const [i, { parent, depth, merit }] of PLACES.entries()) {
    assert.ok(parent <= i)
    assert.is(depth, ranksTo(i + 1).length)
    if (i > 0) assert.ok(merit <= PLACES[i - 1].merit)
  }
})

shape.run()

const test = suite('recycled tokens')

interface Pass {
  readonly parents: readonly number[]
  readonly tokens: readonly number[]
  readonly follow: readonly number[]
  readonly salt: number
}
const passes = fc.array(
  fc.record({
    parents: fc.array(fc.nat(20), { minLength: 12, maxLength: 12 }),
    tokens: fc.array(fc.nat(VOCABULARY - 1), { minLength: 13, maxLength: 13 }),
    follow: fc.array(fc.nat(3), { maxLength: 4 }),
    salt: fc.nat(99),
  }),
  { minLength: 1, maxLength: 5 },
)

const topAt = (node: number, salt: number): number[] =>
  Array.from({ length: RANKS }, (_, rank) => (node * 11 + salt + rank * 3) % VOCABULARY)

/** Learns from a tree with any tokens at any nodes, of which any path was accepted. */
function learn(source: RecycleSource, { parents, tokens, follow, salt }: Pass): { tree: TokenTree; path: number[] } {
  const tree = new TokenTree(12)
  tree.reset(tokens[0])
  for (const [i, parent] of parents.entries()) tree.add(parent % tree.count, tokens[i + 1], -1, 1)
  const path: number[] = []
  for (const which of follow) {
    const children = tree.children(path.at(-1) ?? ROOT)
    if (children.length === 0) break
    path.push(children[which % children.length])
  }
  const ids = Array.from({ length: tree.count }, (_, node) => topAt(node, salt)).flat()
  const result = { tree, path, tokens: [0] }
  source.learn(contextOf([1]), result, rankedTokens(RANKS, ids))
  return { tree, path }
}

test('follow a token as the target ranked them where the token last stood, rather in the text than beside it', () => {
  fc.assert(
    fc.property(passes, (list) => {
      const source = new RecycleSource(VOCABULARY)
      const known = new Map<number, number[]>()
      for (const one of list) {
        const { tree, path } = learn(source, one)
        const accepted = [ROOT, ...path]
        for (let token = 0; token < VOCABULARY; token++) {
          const nodes = Array.from({ length: tree.count }, (_, node) => node).filter(
            (node) => tree.token[node] === token,
          )
          const node = nodes.filter((at) => accepted.includes(at)).at(-1) ?? nodes.at(-1)
          if (node !== undefined) known.set(token, topAt(node, one.salt))
        }
      }
      for (let token = 0; token < VOCABULARY; token++) {
        const guesses = successors(source, [5, token])
        assert.equal(
          guesses.map(({ id }) => id),
          known.get(token) ?? [],
        )
        assert.equal(
          guesses.map(({ kind }) => kind),
          guesses.map((_, rank) => rank),
        )
      }
    }),
    { numRuns: 60 },
  )
})

test('make no tree where nothing is known, and none of tokens that are not known', () => {
  const source = new RecycleSource(VOCABULARY)
  assert.equal(propose(source, contextOf([3]), 80).paths, [])
  const tree = new TokenTree(1)
  tree.reset(3)
  source.learn(contextOf([3]), { tree, path: [], tokens: [4] }, rankedTokens(3, [4, 5, 3]))
  // Only the row of 3 is known, with three tokens: 3 itself is the only one with children.
  const { paths } = propose(source, contextOf([3]), 80)
  assert.equal(paths, ['3', '3 3', '3 4', '3 5', '4', '5'])
})

test('promise what the target held of them, as the temperature of the text has it', () => {
  const source = new RecycleSource(VOCABULARY)
  const tree = new TokenTree(1)
  tree.reset(3)
  // Of the probability, a quarter is left for others.
  source.learn(contextOf([3]), { tree, path: [], tokens: [4] }, rankedTokens(2, [4, 5]))
  const promised = (temperature: number): number[] => {
    source.begin(contextOf([3]), temperature)
    return successors(source, [3]).map((guess) => guess.promised)
  }
  const near = (found: readonly number[], expected: readonly number[]): void => {
    for (const [i, value] of expected.entries()) assert.ok(Math.abs(found[i] - value) < 0.02, `${found} ${expected}`)
  }
  near(promised(1), [0.5, 0.25])
  near(promised(0), promised(1))
  // Others are counted as one more token as likely as the last one: 1/4, 1/16, 1/16.
  near(promised(0.5), [2 / 3, 1 / 6])
  near(promised(0.1), [1, 0])
  near(promised(1e-4), [1, 0])
  near(promised(100), [1 / 3, 1 / 3])
  const { all } = propose(source, contextOf([3]), 2)
  near(
    all.map((guess) => guess.promised),
    [1 / 3, 1 / 3],
  )
})

test('promise something sensible of what the target found next to impossible, however cold the text is', () => {
  const source = new RecycleSource(VOCABULARY)
  const tree = new TokenTree(1)
  tree.reset(3)
  const top = { k: 2, ids: Int32Array.of(4, 5), logProbs: Float32Array.of(Math.log(1e-6), Math.log(1e-30)) }
  source.learn(contextOf([3]), { tree, path: [], tokens: [4] }, top)
  for (const temperature of [0, 0.001, 1, 1000]) {
    source.begin(contextOf([3]), temperature)
    const guesses = successors(source, [3])
    assert.is(guesses.length, 2)
    for (const { promised } of guesses) assert.ok(promised >= 0 && promised <= 1, `${promised}`)
  }
})

/** Every token is known, and all next tokens differ. */
function wise(): RecycleSource {
  const source = new RecycleSource(VOCABULARY)
  const tree = new TokenTree(VOCABULARY)
  tree.reset(0)
  for (let token = 1; token < VOCABULARY; token++) tree.add(ROOT, token, -1, 1)
  const ids = Array.from({ length: VOCABULARY }, (_, node) => topAt(node, 1)).flat()
  source.learn(contextOf([0]), { tree, path: [], tokens: [0] }, rankedTokens(RANKS, ids))
  return source
}

test('fill the whole shape, and of it the best places where there is less room', () => {
  const source = wise()
  let before: string[] = []
  for (let nodes = 0; nodes <= 90; nodes++) {
    const { tree, paths } = propose(source, contextOf([7]), nodes)
    assert.is(tree.size, Math.min(80, nodes))
    for (const path of before) assert.ok(paths.includes(path))
    const shallow = propose(source, contextOf([7]), nodes, 2)
    assert.is(shallow.tree.size, Math.min(29, nodes))
    before = paths
  }
  const ranks = PLACES.map((_, i) => ranksTo(i + 1))
  const expected = ranks.map((path) => {
    const tokens: number[] = []
    for (const rank of path) tokens.push(topAt(tokens.at(-1) ?? 7, 1)[rank])
    return tokens.join(' ')
  })
  assert.equal(before, expected.sort())
})

test('are the same after saving and loading, and nothing else takes them', () => {
  const bytes = wise().save()
  const source = new RecycleSource(VOCABULARY)
  source.load(bytes)
  for (let token = 0; token < VOCABULARY; token++) {
    assert.equal(successors(source, [token]), successors(wise(), [token]))
  }
  assert.equal(source.save(), bytes)
  assert.throws(() => new RecycleSource(VOCABULARY + 1).load(bytes), /is for 40 tokens, and the model has 41/)
  for (let length = 0; length < bytes.length; length++) {
    assert.throws(() => source.load(bytes.slice(0, length)), /the saved table of recycled tokens cannot be used/)
  }
  fc.assert(
    fc.property(fc.nat(bytes.length - 1), fc.integer({ min: 1, max: 255 }), (at, flip) => {
      const damaged = bytes.slice()
      damaged[at] ^= flip
      const other = new RecycleSource(VOCABULARY)
      try {
        other.load(damaged)
      } catch (error) {
        assert.match((error as Error).message, /cannot be used/)
      }
      for (let token = 0; token < VOCABULARY; token++) {
        for (const { id } of successors(other, [token])) assert.ok(id >= 0 && id < VOCABULARY)
      }
    }),
  )
})

test('a saved row whose probabilities rise is refused, and what was known stays', () => {
  const source = wise()
  const bytes = source.save()
  // Behind the head, the token and its eight next ones.
  bytes[16 + 36] = 255
  assert.throws(() => source.load(bytes), /row 0 is likelier at rank 1 than before it/)
  assert.equal(successors(source, [0]), successors(wise(), [0]))
})

test('rows of a prompt’s tokens are of use, and are saved only when the tokens were written', () => {
  const source = new RecycleSource(VOCABULARY)
  const context = contextOf([1, 2, 3])
  const everywhere = (count: number) =>
    rankedTokens(
      2,
      Array.from({ length: 2 * count }, (_, i) => 20 + i),
    )
  const savedTokens = (): number[] => {
    const bytes = source.save()
    const view = new DataView(bytes.buffer)
    return Array.from({ length: view.getUint32(12, true) }, (_, row) => view.getInt32(16 + row * 44, true))
  }
  source.begin(context, 0)
  const tree = new TokenTree(8)
  tree.reset(3)
  const accepted = tree.add(ROOT, 2, 0, 1)
  tree.add(ROOT, 1, 0, 1)
  tree.add(ROOT, 9, 0, 1)
  source.learn(context, { tree, path: [accepted], tokens: [2, 20] }, everywhere(tree.count))
  for (const token of [1, 2, 3, 9]) assert.is(successors(source, [token]).length, 2)
  assert.equal(savedTokens(), [2, 9])
  assert.is(source.entries, 2)
  // The next text, whose prompt is another one: what the target now says after the token is of no prompt.
  source.end()
  source.begin(contextOf([5]), 0)
  tree.reset(5)
  tree.add(ROOT, 1, 0, 1)
  tree.add(ROOT, 9, 0, 1)
  source.learn(contextOf([5]), { tree, path: [], tokens: [7] }, everywhere(tree.count))
  assert.equal(savedTokens(), [1, 2, 9])
})

test.run()
