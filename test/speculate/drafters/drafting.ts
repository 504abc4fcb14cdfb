/** Drafters over the embedded draft, and what they should say, worked out anew from whole texts. */
import * as assert from 'uvu/assert'
import { type Assembly, assemble } from '../../../src/engine/assemble.ts'
import { prepare } from '../../../src/engine/prepare.ts'
import { LoadBoard } from '../../../src/memory/load-board.ts'
import { Timeline } from '../../../src/memory/timeline.ts'
import type { Transformer } from '../../../src/model/transformer.ts'
import { BRANCHING } from '../../../src/speculate/child-ranking.ts'
import { Context } from '../../../src/speculate/context.ts'
import {
  type DraftingRule,
  expansionRows,
  MAXIMUM_DEPTH,
  TreeDrafter,
  type TreeDrafterOptions,
} from '../../../src/speculate/drafters/tree.ts'
import { TAKEN_AS_THEY_ARE } from '../../../src/speculate/judge.ts'
import { Lookups } from '../../../src/speculate/lookups.ts'
import { FixedPacing } from '../../../src/speculate/pacing.ts'
import { PassCosts } from '../../../src/speculate/pass-costs.ts'
import { TokenTree } from '../../../src/speculate/token-tree.ts'
import { Control } from '../../../src/tensor/control.ts'
import { compileKernels } from '../../../src/tensor/kernel-modules.ts'
import { DRAFT, TARGET } from '../../e2e/models.ts'
import { createMemories, openInline } from '../../engine/harness.ts'

const CONTEXT = 128
export const PROMPTS = [
  [477, 673, 896, 1233, 365, 262, 995, 282, 262, 288, 1531, 44, 283],
  [1713, 841, 258, 1324, 290, 1507, 44, 32],
  [4094, 447, 267, 10, 65, 3581, 4040, 115],
]
/** Differences of scores below this are rounding: the drafter's sums are of f32, the oracle's of f64. */
export const ROUNDING = 1e-4

export function openDraft(nodes: number): Transformer {
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

export const contextOf = (tokens: readonly number[]): Context => new Context(tokens, CONTEXT)

/** Log-probabilities of the best next tokens after a text, computed anew for every text. */
export const oracle = (() => {
  // Keys and values as a draft keeps them.
  const model = openInline(DRAFT, { weights: 'f32', kvCache: 'q8', context: CONTEXT })
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

export const pathsOf = (tree: TokenTree): Map<string, number> =>
  new Map(Array.from({ length: tree.size }, (_, i) => [tree.pathTokens(i + 1).join(), tree.logProb[i + 1]] as const))

/** The same nodes with the same scores; nodes as good as the last one may differ. */
export function assertBestFirst(tree: TokenTree, tokens: readonly number[], nodes: number, sharpening: number): void {
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

export function propose(drafter: TreeDrafter, context: Context, nodes: number): TokenTree {
  const tree = new TokenTree(nodes)
  tree.reset(context.root)
  drafter.propose(context, tree, { nodes, depth: MAXIMUM_DEPTH })
  return tree
}

export const ruleOf = (sharpening: number, nodes: number): DraftingRule => ({
  temperature: 0,
  sharpening,
  judge: TAKEN_AS_THEY_ARE,
  pacing: new FixedPacing(nodes),
})

/** @param changes to a drafter of trees that are always full and hold any token */
export function open(
  draft: Transformer,
  nodes: number,
  sharpening: number,
  changes: Partial<TreeDrafterOptions> = {},
): TreeDrafter {
  const drafter = new TreeDrafter(draft, {
    name: 'tree',
    nodes,
    branching: BRANCHING,
    leastProbability: 0,
    vocabulary: draft.config.vocabulary,
    costs: new PassCosts(nodes + 1, expansionRows(nodes)),
    lookups: new Lookups([], 1),
    ...changes,
  })
  drafter.begin(ruleOf(sharpening, nodes))
  return drafter
}
