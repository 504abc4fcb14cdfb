/** The residual rule gives the target's distribution, and would not if a step of it were left out. */
import * as fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { Noise } from '../../src/generate/noise.ts'
import { drawChildren, tryChildren, verifyResidual } from '../../src/speculate/residual.ts'
import { ROOT, TokenTree } from '../../src/speculate/token-tree.ts'
import { treeShape } from '../../src/speculate/tree-shape.ts'
import { chiSquare, tally } from './chi-square.ts'

const VOCABULARY = 5
const SEEDS = 30_000

/** A distribution for every prefix; now and then a token is impossible. */
function weightsAfter(prefix: readonly number[], model: number): number[] {
  const noise = new Noise(model)
  const key = prefix.reduce((h, token) => (Math.imul(h, 31) + token + 1) | 0, 7)
  const weights = Array.from({ length: VOCABULARY }, (_, t) => Math.max(0, noise.uniform(key, t) - 0.1) ** 2)
  const total = weights.reduce((a, b) => a + b, 0)
  return weights.map((w) => w / total)
}

const TARGET_MODEL = 11
const DRAFT_MODEL = 22

const SHAPES = {
  'a tree of 7 nodes': treeShape([0.5, 0.3, 0.2], { size: 7, depth: 3, parents: 99 }),
  'children of the root alone': treeShape([0.5, 0.4, 0.3], { size: 3, depth: 1, parents: 99 }),
  'a chain': treeShape([0.5], { size: 3, depth: 32, parents: 99 }),
  'more children than tokens': treeShape([0.9, 0.8, 0.7, 0.6, 0.5, 0.4], { size: 12, depth: 3, parents: 99 }),
}

/** Tokens of a text of a few passes, as the main loop writes them. */
function write(seed: number, length: number, shape: ReturnType<typeof treeShape>, target = TARGET_MODEL): number[] {
  const noise = new Noise(seed)
  const uniform = (position: number, word: number): number => noise.uniform(position, word)
  const text: number[] = []
  while (text.length < length) {
    const tree = new TokenTree(shape.size)
    tree.reset(0)
    const drawnFrom = new Map<number, Float32Array>()
    const nodes = [ROOT]
    shape.children.forEach((children, place) => {
      const node = nodes[place]
      if (children.length === 0 || node === undefined) return
      const q = Float32Array.from(weightsAfter([...text, ...tree.pathTokens(node)], DRAFT_MODEL))
      drawnFrom.set(node, q)
      const drawn = drawChildren(q, children.length, text.length + tree.depth[node], uniform)
      drawn.forEach((token, i) => {
        nodes[children[i]] = tree.add(node, token, 0, 1)
      })
    })
    const walk = {
      position: text.length,
      target: (node: number) => Float64Array.from(weightsAfter([...text, ...tree.pathTokens(node)], target)),
      draft: (node: number) => drawnFrom.get(node)!,
      uniform,
    }
    text.push(...verifyResidual(tree, walk, () => false).tokens)
  }
  return text.slice(0, length)
}

/** Probabilities of all texts of a length. */
function texts(length: number): Map<string, number> {
  let all: [number[], number][] = [[[], 1]]
  for (let i = 0; i < length; i++) {
    all = all.flatMap(([text, chance]) =>
      weightsAfter(text, TARGET_MODEL).map((p, token): [number[], number] => [[...text, token], chance * p]),
    )
  }
  return new Map(all.map(([text, chance]) => [text.join(), chance]))
}

const test = suite('residual rule')

for (const [name, shape] of Object.entries(SHAPES)) {
  test(`${name}: texts of 1, 2 and 3 tokens have the target’s distribution`, () => {
    const counts = [new Map<string, number>(), new Map<string, number>(), new Map<string, number>()]
    for (let seed = 0; seed < SEEDS; seed++) {
      const text = write(seed, 3, shape)
      counts.forEach((count, i) => {
        tally(count, text.slice(0, i + 1).join())
      })
    }
    counts.forEach((count, i) => {
      const { statistic, critical } = chiSquare(count, texts(i + 1))
      assert.ok(statistic < critical, `${i + 1} tokens: chi-square ${statistic}, critical ${critical}`)
    })
  })
}

test('a target of another distribution would be noticed', () => {
  const counts = new Map<string, number>()
  for (let seed = 0; seed < SEEDS; seed++) tally(counts, write(seed, 1, SHAPES['a tree of 7 nodes'], 12).join())
  const { statistic, critical } = chiSquare(counts, texts(1))
  assert.ok(statistic > critical)
})

test('a draft that is the target is always right', () => {
  const p = weightsAfter([], 5)
  for (let seed = 0; seed < 500; seed++) {
    const noise = new Noise(seed)
    const q = Float32Array.from(p)
    const drawn = drawChildren(q, 1, 0, (position, word) => noise.uniform(position, word))
    assert.is(
      tryChildren(Float64Array.from(q), q, drawn, () => 1 - 2 ** -53),
      0,
    )
  }
})

/** The rule word for word, with what may be wrong in it. */
interface Mistakes {
  readonly pIsNotNormalised?: boolean
  readonly qIsNotNormalised?: boolean
  readonly pIsKept?: boolean
  readonly triedInAnotherOrder?: boolean
}

const normalised = (weights: number[]): number[] => {
  const total = weights.reduce((a, b) => a + b, 0)
  return total === 0 ? weights : weights.map((w) => w / total)
}

function literally(
  given: { p: readonly number[]; q: readonly number[]; children: readonly number[] },
  coin: (i: number) => number,
  mistakes: Mistakes = {},
): { chosen: number; p: number[] } {
  let p = normalised([...given.p])
  let q = normalised([...given.q])
  const order = mistakes.triedInAnotherOrder ? [...given.children].reverse() : given.children
  for (const [i, x] of order.entries()) {
    if (coin(i) < p[x] / q[x]) return { chosen: x, p }
    const residual = p.map((value, t) => Math.max(value - q[t], 0))
    if (!mistakes.pIsKept) p = mistakes.pIsNotNormalised ? residual : normalised(residual)
    const without = q.map((value, t) => (t === x ? 0 : value))
    q = mistakes.qIsNotNormalised ? without : normalised(without)
  }
  return { chosen: -1, p: normalised(p) }
}

/** Chi-square of the token after one node, with three children. */
function oneNode(mistakes: Mistakes) {
  const p = weightsAfter([], TARGET_MODEL)
  const q = Float32Array.from(weightsAfter([], DRAFT_MODEL))
  const counts = new Map<string, number>()
  for (let seed = 0; seed < SEEDS; seed++) {
    const noise = new Noise(seed)
    const children = drawChildren(q, 3, 0, (position, word) => noise.uniform(position, word))
    const result = literally({ p, q: [...q], children }, (i) => noise.uniform(1, i), mistakes)
    let { chosen } = result
    if (chosen < 0) {
      let u = noise.uniform(2, 0)
      chosen = result.p.findIndex((value) => {
        u -= value
        return u < 0
      })
    }
    tally(counts, String(chosen))
  }
  return chiSquare(counts, texts(1))
}

test('the rule word for word has the target’s distribution', () => {
  const { statistic, critical } = oneNode({})
  assert.ok(statistic < critical, `chi-square ${statistic}, critical ${critical}`)
})

const MISTAKES: [string, Mistakes][] = [
  ['without p normalised after a rejection', { pIsNotNormalised: true }],
  ['without q normalised after a rejection', { qIsNotNormalised: true }],
  ['with p as it was', { pIsKept: true }],
  ['with children tried in another order than drawn', { triedInAnotherOrder: true }],
]
for (const [name, mistakes] of MISTAKES) {
  test(`${name} it has not`, () => {
    const { statistic, critical } = oneNode(mistakes)
    assert.ok(statistic > 2 * critical, `chi-square ${statistic}, critical ${critical}`)
  })
}

const weights = fc.array(fc.nat(20), { minLength: 2, maxLength: 9 }).filter((list) => list.some((w) => w > 0))

test('trying children is the rule word for word, whatever the sums of p and q', () => {
  fc.assert(
    fc.property(weights, weights, fc.nat(8), fc.nat(), (target, draft, count, seed) => {
      // The draft may know fewer tokens than the target.
      const q = [...target.keys()].map((t) => draft[t] ?? 0)
      if (q.every((w) => w === 0)) return
      const noise = new Noise(seed)
      const kept = Float32Array.from(draft.slice(0, target.length))
      const children = drawChildren(kept, count, 0, (position, word) => noise.uniform(position, word))
      assert.equal([...kept], draft.slice(0, target.length), 'drawing leaves q as it was')
      assert.is(new Set(children).size, children.length)
      assert.is(children.length, Math.min(count, q.filter((w) => w > 0).length))
      const coin = (i: number): number => noise.uniform(1, i)
      const expected = literally({ p: target, q, children }, coin)
      const p = Float64Array.from(target)
      const chosen = tryChildren(p, kept, children, coin)
      assert.is(chosen < 0 ? -1 : children[chosen], expected.chosen)
      if (chosen >= 0) return
      normalised([...p]).forEach((value, t) => {
        assert.ok(Math.abs(value - expected.p[t]) < 1e-9)
      })
    }),
    { numRuns: 2000 },
  )
})

test('an accepted last token ends the walk, and is counted as the target’s own', () => {
  const tree = new TokenTree(2)
  tree.reset(0)
  const child = tree.add(ROOT, 3, 0, 1)
  tree.add(child, 4, 0, 1)
  const certain = (node: number) => Array.from({ length: 5 }, (_, t) => (t === (node === ROOT ? 3 : 4) ? 1 : 0))
  const walk = {
    position: 9,
    target: (node: number) => Float64Array.from(certain(node)),
    draft: (node: number) => Float32Array.from(certain(node)),
    uniform: () => 0.5,
  }
  const ended = verifyResidual(tree, walk, (token) => token === 3)
  assert.equal([ended.tokens, ended.path], [[3], []])
  const whole = verifyResidual(tree, walk, () => false)
  assert.equal(
    [whole.tokens, whole.path],
    [
      [3, 4, 4],
      [1, 2],
    ],
  )
})

test.run()
