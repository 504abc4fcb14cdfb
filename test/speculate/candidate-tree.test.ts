/** A tree in order of merit, against a list that is sorted anew each time. */
import * as fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { CandidateTree, type Judge } from '../../src/speculate/candidate-tree.ts'
import { ROOT, TokenTree } from '../../src/speculate/token-tree.ts'

const CAPACITY = 60
/** Bit of the one source. */
const SOURCE = 4
const ROOT_TOKEN = 77

type Chance = (rank: number, promised: number) => number

const judging = (chance: Chance): Judge => ({
  chance: ({ classes, promised }, node) => chance(classes[node], promised[node]),
  observe: () => {},
})

function expand(
  grown: CandidateTree,
  node: number,
  ids: number[],
  promised: readonly number[],
  count: number,
  chance: Chance,
): void {
  grown.offer(node, 0, { ids, promised, count })
  grown.settle(judging(chance))
}

type Action =
  | { readonly kind: 'expand'; readonly which: number; readonly promised: readonly number[] }
  | { readonly kind: 'rescore'; readonly chance: Chance }
  | { readonly kind: 'reroot'; readonly which: number }

const asPromised: Chance = (_, promised) => promised
const CHANCES: Chance[] = [
  asPromised,
  (_, promised) => Math.min(0.999, promised ** 0.3),
  (rank, promised) => promised / (1 + rank),
  // The order of siblings turned about.
  (_, promised) => 0.9 - 0.8 * promised,
  // All alike: only depth counts.
  () => 0.5,
]

/** Few values, so that many scores are equal; 1 and 0 are what rounding makes of the surest and the least likely. */
const promise = fc.constantFrom(1, 0.8, 0.5, 0.5, 0.25, 0.1, 0.02, 0)
const action: fc.Arbitrary<Action> = fc.oneof(
  {
    weight: 10,
    arbitrary: fc.record({
      kind: fc.constant('expand' as const),
      which: fc.nat(CAPACITY),
      promised: fc.array(promise, { maxLength: 8 }).map((list) => list.sort((a, b) => b - a)),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ kind: fc.constant('rescore' as const), chance: fc.constantFrom(...CHANCES) }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('reroot' as const), which: fc.nat(CAPACITY) }) },
)
const actions = fc.array(action, { maxLength: 30 })

/** What the tree is to be, by path of tokens: the slow way. */
interface Model {
  nodes: Map<string, { rank: number; promised: number; added: number }>
  expanded: Set<string>
  chance: Chance
  added: number
}

const keyOf = (path: readonly number[]): string => path.join()

/** The sum of the logarithms, none of them below that of the smallest number above 0. */
function scoreOf({ nodes, chance }: Model, path: readonly number[]): number {
  let score = 0
  for (let depth = 1; depth <= path.length; depth++) {
    const { rank, promised } = nodes.get(keyOf(path.slice(0, depth)))!
    score += Math.max(Math.log(Number.MIN_VALUE), Math.log(chance(rank, promised)))
  }
  return score
}

function apply(grown: CandidateTree, model: Model, step: Action): void {
  const { tree, expanded } = grown
  if (step.kind === 'rescore') {
    model.chance = step.chance
    grown.rescore(judging(step.chance))
    return
  }
  const node = step.which % tree.count
  const path = tree.pathTokens(node)
  if (step.kind === 'reroot') {
    const prefix = keyOf(path)
    const nodes: Model['nodes'] = new Map()
    const kept = new Set<string>()
    const below = (key: string): string | undefined => {
      if (prefix === '') return key
      return key.startsWith(`${prefix},`) ? key.slice(prefix.length + 1) : undefined
    }
    for (const [key, value] of model.nodes) {
      const at = below(key)
      if (at !== undefined) nodes.set(at, value)
    }
    for (const key of model.expanded) {
      const at = key === prefix ? '' : below(key)
      if (at !== undefined) kept.add(at)
    }
    Object.assign(model, { nodes, expanded: kept })
    grown.reroot(node, judging(model.chance))
    return
  }
  const { promised } = step
  if (expanded[node] === SOURCE || promised.length > grown.room) return
  // Token ids say where they came from, so that a mistake in a rank or a parent shows.
  const ids = promised.map((_, rank) => 1000 + 10 * model.added + rank)
  promised.forEach((value, rank) => {
    model.nodes.set(keyOf([...path, ids[rank]]), { rank, promised: value, added: model.added++ })
  })
  model.expanded.add(keyOf(path))
  expand(grown, node, ids, promised, promised.length, model.chance)
}

function assertOrder(grown: CandidateTree): void {
  const { tree, order } = grown
  const nodes = [...order.subarray(0, tree.size)]
  assert.equal(
    [...nodes].sort((a, b) => a - b),
    nodes.map((_, i) => i + 1),
    'every node once',
  )
  const naive = [...nodes].sort((a, b) => tree.logProb[b] - tree.logProb[a] || a - b)
  assert.equal(nodes, naive, 'sorted by score, equals as they were added')
  const place = new Map(nodes.map((node, i) => [node, i]))
  for (const node of nodes) {
    const parent = tree.parent[node]
    if (parent !== ROOT) assert.ok(place.get(parent)! < place.get(node)!, 'a parent comes before its children')
  }
}

function assertContent(grown: CandidateTree, model: Model): void {
  const { tree, classes, promised, expanded } = grown
  assert.is(tree.size, model.nodes.size)
  assert.is(expanded[ROOT], model.expanded.has('') ? SOURCE : 0)
  for (let node = 1; node < tree.count; node++) {
    const path = tree.pathTokens(node)
    const key = keyOf(path)
    const wanted = model.nodes.get(key)
    assert.ok(wanted !== undefined, `${key} should not be there`)
    assert.is(classes[node], wanted.rank, key)
    assert.is(promised[node], wanted.promised, key)
    assert.is(expanded[node], model.expanded.has(key) ? SOURCE : 0, key)
    const score = scoreOf(model, path)
    assert.ok(Math.abs(score - tree.logProb[node]) < 1e-9, `${key}: ${tree.logProb[node]}, should be ${score}`)
  }
}

function assertBest(grown: CandidateTree, n: number): void {
  const { tree, order } = grown
  const copy = new TokenTree(CAPACITY)
  copy.reset(ROOT_TOKEN)
  grown.copyBest(n, copy)
  const count = Math.min(n, tree.size)
  assert.is(copy.size, count)
  for (let place = 0; place < count; place++) {
    const from = order[place]
    const to = place + 1
    assert.equal(copy.pathTokens(to), tree.pathTokens(from), 'best first, below the same parents')
    assert.is(copy.logProb[to], tree.logProb[from])
    assert.is(copy.source[to], SOURCE)
  }
}

function assertUnexpanded(grown: CandidateTree, limit: number, depth: number, places: number): void {
  const { tree, order, expanded } = grown
  const naive = [...order.subarray(0, Math.min(places, tree.size))]
    .filter((node) => expanded[node] === 0 && tree.depth[node] < depth)
    .slice(0, limit)
  assert.equal([...grown.bestUnexpanded(SOURCE, limit, depth, places)], naive)
}

const planted = (): { grown: CandidateTree; model: Model } => {
  const grown = new CandidateTree(CAPACITY, [SOURCE])
  grown.reset(ROOT_TOKEN)
  return { grown, model: { nodes: new Map(), expanded: new Set(), chance: asPromised, added: 0 } }
}

const test = suite('candidate tree')

test('through any growing, scoring and re-rooting the order is that of a sort, and what was said of nodes stays theirs', () => {
  let largest = 0
  fc.assert(
    fc.property(actions, (steps) => {
      const { grown, model } = planted()
      for (const step of steps) {
        apply(grown, model, step)
        assertOrder(grown)
        assertContent(grown, model)
      }
      largest = Math.max(largest, grown.size)
    }),
    { numRuns: 300 },
  )
  assert.ok(largest > 20, `no tree had more than ${largest} nodes`)
})

test('the best n nodes are copied best first, closed under their parents', () => {
  fc.assert(
    fc.property(actions, fc.nat(CAPACITY), (steps, n) => {
      const { grown, model } = planted()
      for (const step of steps) apply(grown, model, step)
      assertBest(grown, n)
      assertBest(grown, grown.size)
    }),
  )
})

test('the best nodes without children are found in order, within limit, depth and places', () => {
  fc.assert(
    fc.property(actions, fc.nat(9), fc.nat(6), fc.nat(CAPACITY), (steps, limit, depth, places) => {
      const { grown, model } = planted()
      for (const step of steps) apply(grown, model, step)
      assertUnexpanded(grown, limit, depth, places)
      assertUnexpanded(grown, CAPACITY, CAPACITY, Number.POSITIVE_INFINITY)
    }),
  )
})

test('the chance at a place is the product of the chances along the path', () => {
  const { grown } = planted()
  expand(grown, ROOT, [1, 2], [0.5, 0.25], 2, asPromised)
  expand(grown, 1, [3], [0.8], 1, asPromised)
  const chances = [0, 1, 2].map((place) => Number(grown.chanceAt(place).toFixed(12)))
  assert.equal(chances, [0.5, 0.4, 0.25])
})

test('only as many children are added as are counted, and a node with none is expanded all the same', () => {
  const { grown } = planted()
  expand(grown, ROOT, [1, 2, 3], [0.5, 0.25, 0.1], 2, asPromised)
  assert.is(grown.size, 2)
  assert.is(grown.room, CAPACITY - 2)
  expand(grown, 1, [9], [0.5], 0, asPromised)
  assert.is(grown.size, 2)
  assert.equal([...grown.bestUnexpanded(SOURCE, 8, 8, 8)], [2])
})

test('a new root has no children and no history', () => {
  const { grown } = planted()
  expand(grown, ROOT, [1, 2], [0.5, 0.25], 2, asPromised)
  expand(grown, 2, [3], [0.5], 1, asPromised)
  grown.reset(5)
  assert.is(grown.size, 0)
  assert.is(grown.tree.token[ROOT], 5)
  assert.equal([...grown.expanded], Array(CAPACITY + 1).fill(0))
  assert.equal([...grown.bestUnexpanded(SOURCE, 8, 8, 8)], [])
})

test('a node that the draft gave no chance at all becomes a root like any other', () => {
  const { grown } = planted()
  expand(grown, ROOT, [1, 2], [1, 0], 2, asPromised)
  expand(grown, 2, [3, 4], [0.75, 0.25], 2, asPromised)
  grown.reroot(2, judging(asPromised))
  assert.is(grown.tree.logProb[ROOT], 0)
  assert.equal([grown.chanceAt(0), grown.chanceAt(1)], [0.75, 0.25])
  expand(grown, 1, [5], [0.5], 1, asPromised)
  assert.equal([...grown.order.subarray(0, 3)], [1, 3, 2])
})

test('the root’s own probability is that of a token that was said: it counts for nothing after re-rooting', () => {
  const { grown } = planted()
  expand(grown, ROOT, [1, 2], [0.5, 0.25], 2, asPromised)
  expand(grown, 2, [3], [0.5], 1, asPromised)
  grown.reroot(2, judging(asPromised))
  assert.is(grown.tree.token[ROOT], 2)
  assert.is(grown.tree.logProb[ROOT], 0)
  assert.is(grown.chanceAt(0), 0.5)
})

test.run()
