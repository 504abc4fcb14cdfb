/** What guessing without a model itself takes, without the models: proposals, the learning of a pass, memory. */
import { Context } from '../src/speculate/context.ts'
import type { SourceName } from '../src/speculate/drafter.ts'
import { LookupDrafter } from '../src/speculate/drafters/lookup.ts'
import { MAXIMUM_DEPTH } from '../src/speculate/drafters/tree.ts'
import { Lookups } from '../src/speculate/lookups.ts'
import { DrafterMemory } from '../src/speculate/memory.ts'
import { FixedPacing } from '../src/speculate/pacing.ts'
import { makeSource } from '../src/speculate/sources/catalogue.ts'
import { ROOT, TokenTree } from '../src/speculate/token-tree.ts'
import { type NotedTokens, type Verification, verify } from '../src/speculate/verify.ts'

export interface ProposalFigures {
  /** Microseconds of every proposal, and of every learned pass: of judging what was guessed, too. */
  readonly propose: readonly number[]
  readonly learn: readonly number[]
  /** Nodes of every proposal. */
  readonly nodes: readonly number[]
  readonly tokensPerPass: number
  readonly heldBytes: number
}

export interface ProposalOptions {
  readonly nodes: number
  /** Ids of the text are below it. */
  readonly vocabulary: number
  /** Tokens of the text that are its prompt. */
  readonly promptLength: number
}

/** Passes as they were seldom made before: the engine compiles what runs often. */
const WARM_UP = 2

/** @param names one alone makes its own trees, several are asked together */
export function measureProposals(
  names: readonly SourceName[],
  text: readonly number[],
  options: ProposalOptions,
): ProposalFigures {
  for (let i = 1; i < WARM_UP; i++) walk(names, text, options)
  return walk(names, text, options)
}

function walk(
  names: readonly SourceName[],
  text: readonly number[],
  { nodes, vocabulary, promptLength }: ProposalOptions,
): ProposalFigures {
  const lookups = new Lookups(names, 0)
  const drafter = new LookupDrafter({ lookups, nodes })
  const sources = names.map((name) => makeSource(name, vocabulary))
  const pacing = new FixedPacing(nodes)
  const { judge } = new DrafterMemory({ sources, pacing, branching: 0, model: 0 }).learnt('greedy')
  lookups.sources = sources
  drafter.begin({ judge, pacing, temperature: 0 })
  const context = new Context(text.slice(0, promptLength), text.length)
  drafter.startText(context)
  const tops = new MadeUpTops(text)
  const tree = new TokenTree(nodes)
  const figures = { propose: [] as number[], learn: [] as number[], nodes: [] as number[] }
  while (context.length + MAXIMUM_DEPTH < text.length) {
    tree.reset(context.root)
    const began = performance.now()
    drafter.propose(context, tree, { nodes, depth: MAXIMUM_DEPTH - 1 })
    figures.propose.push((performance.now() - began) * 1000)
    figures.nodes.push(tree.size)
    const result = verify(
      tree,
      (_, path) => text[context.length + path.length],
      () => false,
    )
    const top = tops.of(result, drafter.topTokens)
    const learns = performance.now()
    drafter.observe(result, 0.01, top)
    figures.learn.push((performance.now() - learns) * 1000)
    for (const token of result.tokens) context.push(token)
  }
  const heldBytes = sources.reduce((sum, source) => sum + source.heldBytes, 0)
  return { ...figures, heldBytes, tokensPerPass: (context.length - promptLength) / figures.propose.length }
}

/** What a target might hold likeliest: on its way what comes next, and anywhere what follows the token in the text. */
class MadeUpTops {
  readonly #followers = new Map<number, number[]>()

  constructor(text: readonly number[]) {
    for (let i = 1; i < text.length; i++) {
      const followers = this.#followers.get(text[i - 1]) ?? []
      if (!followers.includes(text[i])) followers.push(text[i])
      this.#followers.set(text[i - 1], followers)
    }
  }

  /** @param k tokens at every node */
  of({ tree, path, tokens }: Verification, k: number): NotedTokens | undefined {
    if (k === 0) return undefined
    const ids = new Int32Array(tree.count * k).fill(-1)
    for (let node = 0; node < tree.count; node++) {
      const step = node === ROOT ? 0 : path.indexOf(node) + 1
      const next = node === ROOT || step > 0 ? tokens[step] : undefined
      const others = (this.#followers.get(tree.token[node]) ?? []).filter((id) => id !== next)
      ids.set((next === undefined ? others : [next, ...others]).slice(0, k), node * k)
    }
    // As likely as the target usually finds them, about.
    return { k, ids, logProbs: Float32Array.from(ids, (_, i) => Math.log(0.5) * ((i % k) + 1)), seconds: 0 }
  }
}
