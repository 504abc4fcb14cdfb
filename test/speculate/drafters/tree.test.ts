/** The drafter's tree is the best-first tree of the draft's distribution, however it came to be grown. */
import * as fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { type Assembly, assemble } from '../../../src/engine/assemble.ts'
import { prepare } from '../../../src/engine/prepare.ts'
import { LoadBoard } from '../../../src/memory/load-board.ts'
import { Timeline } from '../../../src/memory/timeline.ts'
import type { Transformer } from '../../../src/model/transformer.ts'
import { BRANCHING } from '../../../src/speculate/child-ranking.ts'
import { Context } from '../../../src/speculate/context.ts'
import { type DraftingRule, expansionRows, MAXIMUM_DEPTH, TreeDrafter } from '../../../src/speculate/drafters/tree.ts'
import { FixedPacing } from '../../../src/speculate/pacing.ts'
import { PassCosts } from '../../../src/speculate/pass-costs.ts'
import { ROOT, TokenTree } from '../../../src/speculate/token-tree.ts'
import { Control } from '../../../src/tensor/control.ts'
import { compileKernels } from '../../../src/tensor/kernel-modules.ts'
import { DRAFT, TARGET } from '../../e2e/models.ts'
import { createMemories, openInline } from '../../engine/harness.ts'

const CONTEXT = 128
const PROMPTS = [
  [477, 673, 896, 1233, 365, 262, 995, 282, 262, 288, 1531, 44, 283],
  [1713, 841, 258, 1324, 290, 1507, 44, 32],
  [4094, 447, 267, 10, 65, 3581, 4040, 115],
]
/** Differences of scores below this are rounding: the drafter's sums are of f32, the oracle's of f64. */
const ROUNDING = 1e-4

function openDraft(nodes: number): Transformer {
  const control = new Control()
  const options = { weights: 'q4', draft: DRAFT, nodes, context: CONTEXT, threads: 1 } as const
  const preparation = {
    ...prepare(TARGET, options, { onProgress: () => {}, isAborted: () => false }),
    loaders: 0,
  }
  const assembly: Assembly = assemble({
    preparation,
    memories: createMemories(preparation.plan),
    control,
    board: new LoadBoard(preparation.board, control),
    timeline: new Timeline(0),
    kernels: compileKernels('simd128'),
    onProgress: () => {},
  })
  return assembly.draft!
}

const contextOf = (tokens: readonly number[]): Context => {
  const context = new Context(tokens, CONTEXT)
  return context
}

const budget = (nodes: number) => ({ nodes, depth: MAXIMUM_DEPTH })

/** Log-probabilities of the best next tokens after a text, computed anew for every text. */
const oracle = (() => {
  const model = openInline(DRAFT, { weights: 'f32', context: CONTEXT })
  const known = new Map<string, [number, number][]>()
  return (tokens: readonly number[], sharpening: number): [number, number][] => {
    const key = `${sharpening} ${tokens.join()}`
    let best = known.get(key)
    if (best === undefined) {
      const { data, rows, vocab } = model.engine.logits({ tokens })
      const row = data.subarray((rows - 1) * vocab)
      const largest = row.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY)
      const sum = row.reduce((a, b) => a + Math.exp((b - largest) * sharpening), 0)
      best = [...row.keys()]
        .sort((a, b) => row[b] - row[a] || a - b)
        .slice(0, BRANCHING)
        .map((id) => [id, (row[id] - largest) * sharpening - Math.log(sum)])
      known.set(key, best)
    }
    return best
  }
})()

/** Paths of the best `nodes` continuations with their scores, by plain best-first search. */
function bestFirst(tokens: readonly number[], nodes: number, sharpening: number): Map<string, number> {
  const chosen = new Map<string, number>()
  const frontier: { path: number[]; score: number }[] = []
  const open = (path: number[], score: number): void => {
    if (path.length >= MAXIMUM_DEPTH) return
    for (const [id, logProb] of oracle([...tokens, ...path], sharpening)) {
      frontier.push({ path: [...path, id], score: score + logProb })
    }
  }
  open([], 0)
  while (chosen.size < nodes) {
    let best = 0
    frontier.forEach(({ score }, i) => {
      if (score > frontier[best].score) best = i
    })
    const [{ path, score }] = frontier.splice(best, 1)
    chosen.set(path.join(), score)
    open(path, score)
  }
  return chosen
}

const pathsOf = (tree: TokenTree): Map<string, number> =>
  new Map(Array.from({ length: tree.size }, (_, i) => [tree.pathTokens(i + 1).join(), tree.logProb[i + 1]] as const))

/** The same nodes with the same scores; nodes as good as the last one may differ. */
function assertBestFirst(tree: TokenTree, tokens: readonly number[], nodes: number, sharpening: number): void {
  const actual = pathsOf(tree)
  const expected = bestFirst(tokens, nodes, sharpening)
  assert.is(actual.size, nodes)
  const edge = Math.min(...expected.values())
  for (const [path, score] of actual) {
    const wanted = expected.get(path)
    if (wanted === undefined) assert.ok(Math.abs(score - edge) < ROUNDING, `${path} is not among the best: ${score}`)
    else assert.ok(Math.abs(score - wanted) < ROUNDING, `${path}: ${score}, should be ${wanted}`)
  }
  for (const [path, score] of expected) {
    if (!actual.has(path)) assert.ok(Math.abs(score - edge) < ROUNDING, `${path} (${score}) is missing`)
  }
}

function propose(drafter: TreeDrafter, context: Context, nodes: number): TokenTree {
  const tree = new TokenTree(nodes)
  tree.reset(context.root)
  drafter.propose(context, tree, budget(nodes))
  return tree
}

const ruleOf = (sharpening: number): DraftingRule => ({ temperature: 0, sharpening, calibration: undefined })

function open(draft: Transformer, nodes: number, sharpening: number): TreeDrafter {
  const drafter = new TreeDrafter(draft, {
    name: 'tree',
    nodes,
    branching: BRANCHING,
    leastProbability: 0,
    vocabulary: draft.config.vocabulary,
    pacing: new FixedPacing(nodes),
    costs: new PassCosts(nodes + 1, expansionRows(nodes)),
  })
  drafter.begin(ruleOf(sharpening))
  return drafter
}

const test = suite('best-first trees')

for (const nodes of [1, 4, 16, 63]) {
  test(`${nodes} nodes are those of a naive best-first search, for several sharpenings`, () => {
    const drafter = open(openDraft(nodes), nodes, 1)
    for (const prompt of PROMPTS) {
      for (const sharpening of [0.7, 1, 1.5, 3]) {
        drafter.begin(ruleOf(sharpening))
        assertBestFirst(propose(drafter, contextOf(prompt), nodes), prompt, nodes, sharpening)
      }
    }
  })
}

test('a smaller budget than the drafter was made for gives the smaller tree', () => {
  const drafter = open(openDraft(16), 16, 2)
  for (const nodes of [1, 7, 16]) {
    drafter.begin(ruleOf(2))
    assertBestFirst(propose(drafter, contextOf(PROMPTS[0]), nodes), PROMPTS[0], nodes, 2)
  }
  const none = propose(drafter, contextOf(PROMPTS[0]), 0)
  assert.is(none.size, 0)
})

test('no path is longer than the budget’s depth', () => {
  const drafter = open(openDraft(16), 16, 3)
  const context = contextOf(PROMPTS[0])
  const tree = new TokenTree(16)
  tree.reset(context.root)
  drafter.propose(context, tree, { nodes: 16, depth: 2 })
  assert.is(tree.size, 16)
  assert.is(Math.max(...tree.depth.subarray(0, tree.count)), 2)
})

test('nodes come best first and parents before their children', () => {
  const drafter = open(openDraft(32), 32, 1.5)
  const tree = propose(drafter, contextOf(PROMPTS[1]), 32)
  for (let node = 2; node < tree.count; node++) assert.ok(tree.logProb[node] <= tree.logProb[node - 1])
  for (let node = 1; node < tree.count; node++) assert.ok(tree.parent[node] < node)
})

/**
 * One round of a decoder's life: how far the target follows the tree, what it says then, and how
 * often the drafter may grow meanwhile.
 */
interface Round {
  /** Which child is accepted at each level; beyond the children's number: none. */
  readonly follow: readonly number[]
  /** The target's own last token: a child below the proposal that growing may know, or any token. */
  readonly last: { readonly rank: number } | { readonly token: number }
  readonly grow: number
}

const rounds: fc.Arbitrary<Round[]> = fc.array(
  fc.record({
    follow: fc.array(fc.integer({ min: 0, max: 3 }), { maxLength: 6 }),
    last: fc.oneof(
      fc.record({ rank: fc.integer({ min: 0, max: 2 }) }),
      fc.record({ token: fc.integer({ min: 0, max: 4095 }) }),
    ),
    grow: fc.integer({ min: 0, max: 12 }),
  }),
  { minLength: 1, maxLength: 8 },
)

/** The path through the tree that a round accepts, and the tokens that the target says. */
function accept(tree: TokenTree, context: Context, { follow, last }: Round): { path: number[]; tokens: number[] } {
  const path: number[] = []
  let node: number = ROOT
  for (const rank of follow) {
    const children = Array.from({ length: tree.count }, (_, i) => i).filter((i) => i > 0 && tree.parent[i] === node)
    if (rank >= children.length) break
    node = children[rank]
    path.push(node)
  }
  const tokens = path.map((at) => tree.token[at])
  const text = [...context.tokens.subarray(0, context.length), ...tokens]
  let next = 'token' in last ? last.token : oracle(text, 1)[last.rank][0]
  // The walk ends where no child holds the token.
  while (tree.child(node, next) >= 0) next = (next + 1) % 4096
  return { path, tokens: [...tokens, next] }
}

/** Fails when a pass writes a scratch slot that was written since the last acceptance, or lies elsewhere. */
function watchSlots(draft: Transformer): { forget(): void } {
  const written = new Set<number>()
  const { forward } = draft
  draft.forward = (idle) => {
    const { count, slots, prefixes, positions } = draft.batch
    for (let row = 0; row < count; row++) {
      if (slots[row] < draft.cache.context) {
        assert.is(slots[row], positions[row], 'a prefix row is stored at its position')
        continue
      }
      assert.ok(slots[row] < draft.cache.context + draft.cache.scratch, 'the slot lies in the scratch region')
      assert.is(prefixes[row], draft.cache.length, 'a node sees the whole prefix')
      assert.not(written.has(slots[row]), `slot ${slots[row]} is written twice`)
      written.add(slots[row])
    }
    forward.call(draft, idle)
  }
  return { forget: () => written.clear() }
}

for (const nodes of [3, 12]) {
  const draft = openDraft(nodes)
  const watch = watchSlots(draft)
  const drafter = open(draft, nodes, 1.5)

  test(`${nodes} nodes stay the best ones through any acceptances and any growing`, () => {
    fc.assert(
      fc.property(fc.constantFrom(...PROMPTS), rounds, (prompt, all) => {
        drafter.begin(ruleOf(1.5))
        watch.forget()
        const context = contextOf(prompt)
        for (const round of all) {
          const tree = propose(drafter, context, nodes)
          assertBestFirst(tree, [...context.tokens.subarray(0, context.length)], nodes, 1.5)
          // A deadline in the past is one step of growing.
          for (let step = 0; step < round.grow; step++) if (!drafter.grow(tree, 0)) break
          const { path, tokens } = accept(tree, context, round)
          drafter.observe({ tree, path, tokens }, 0)
          watch.forget()
          for (const token of tokens) context.push(token)
        }
      }),
      { numRuns: 12, seed: 1 },
    )
  })
}

test('growing to the end never changes the next proposal', () => {
  const nodes = 24
  const growing = open(openDraft(nodes), nodes, 3)
  const resting = open(openDraft(nodes), nodes, 3)
  const context = contextOf(PROMPTS[0])
  let grown = 0
  let accepted = 0
  for (let round = 0; round < 20; round++) {
    const tree = propose(growing, context, nodes)
    const same = propose(resting, context, nodes)
    assert.equal([...pathsOf(tree).keys()], [...pathsOf(same).keys()], `round ${round}`)
    while (growing.grow(tree, 0)) grown++
    const { path, tokens } = accept(tree, context, {
      follow: [0, 0, round % 3 === 0 ? 1 : 0, 0].slice(0, round % 5),
      last: { rank: round % 2 },
      grow: 0,
    })
    accepted += path.length
    growing.observe({ tree, path, tokens }, 0)
    resting.observe({ tree: same, path, tokens }, 0)
    for (const token of tokens) context.push(token)
  }
  assert.ok(grown > 0 && accepted > 0)
})

test('a text that jumps elsewhere is met by a tree of its own', () => {
  const drafter = open(openDraft(8), 8, 1)
  propose(drafter, contextOf(PROMPTS[0]), 8)
  drafter.begin(ruleOf(1))
  assertBestFirst(propose(drafter, contextOf(PROMPTS[2]), 8), PROMPTS[2], 8, 1)
  assert.is(open(openDraft(8), 8, 1).grow(new TokenTree(8), 0), false)
})

test.run()
