/** The main loop: draft a tree, run it through the target, keep what the target would have said. */
import { CoppiceError } from '../errors.ts'
import type { SpanRecord, Timeline } from '../memory/timeline.ts'
import type { Transformer } from '../model/transformer.ts'
import { now } from '../runtime/platform.ts'
import { Context } from '../speculate/context.ts'
import { type Budget, DRAFTERS, type Drafter, sourceOf } from '../speculate/drafter.ts'
import type { PassCosts } from '../speculate/pass-costs.ts'
import { type ResidualDrafter, verifyResidual } from '../speculate/residual.ts'
import { ROOT, type SourceMask, TokenTree } from '../speculate/token-tree.ts'
import { type Verification, verify } from '../speculate/verify.ts'
import { LogitsReader } from './logits-reader.ts'
import type { Sampler } from './sampler.ts'
import type { RankStatistics, Stats } from './statistics.ts'

export interface DecodeRequest {
  readonly prompt: readonly number[]
  readonly sampler: Sampler
  /** Guesses for this text, verified by the residual rule; absent: the decoder's drafter and the exact walk. */
  readonly residual?: ResidualDrafter | undefined
  /** Undefined: until the context is full. */
  readonly maxTokens: number | undefined
  /** Tokens that are taken in place of the sampler's own; the text ends after them. Only with the exact walk. */
  readonly replay?: readonly number[] | undefined
  /** Tokens after which the text ends. */
  readonly isEnd: (token: number) => boolean
  /**
   * Takes the tokens of one pass, in order.
   * @returns false when the text ends with this token
   */
  readonly emit: (token: DecodedToken) => boolean
  /** Called after each pass, when its tokens have been emitted. */
  readonly afterPass: () => void
  readonly logprobs: boolean
  readonly onPrefill: (done: number, total: number) => void
  /** Where to keep what every thread does, if that is wanted. */
  readonly record?: SpanRecord | undefined
}

export interface DecodedToken {
  readonly token: number
  readonly drafted: boolean
  readonly isEnd: boolean
  readonly logprob: number | undefined
}

export type DecodeEnd = 'stop' | 'length' | 'context'

/** What came from disk so far. */
export interface DiskMeter {
  readonly bytesRead: number
}

export interface DecoderParts {
  readonly target: Transformer
  readonly drafter: Drafter | undefined
  /** Tree nodes per pass. */
  readonly nodes: number
  readonly depth: number
  readonly disk: DiskMeter
  /** Where the target's transformer, its store and its loaders put their time. */
  readonly timeline: Timeline
  /** Takes what the target's passes cost. */
  readonly costs: PassCosts
  /** Whether a drafter may go on while the target waits for the disk. */
  readonly pipeline: boolean
  /** Whether everything that stays in memory is there. */
  readonly isWarm: () => boolean
  /** Tells the layer store whether the coming passes use the output head. */
  readonly expectHead: (follows: boolean) => void
}

export class Decoder {
  readonly #parts: DecoderParts
  readonly #tree: TokenTree
  readonly #logits: LogitsReader
  /** Of the text that is being written. */
  #drafter: Drafter | undefined
  /** Nodes put before the target. */
  #proposed = 0

  constructor(parts: DecoderParts) {
    this.#parts = parts
    this.#tree = new TokenTree(parts.nodes)
    this.#logits = new LogitsReader(parts.target, this.#tree)
  }

  /**
   * Writes one text.
   * @param stats filled while the text grows, so that it is true also when the call is aborted
   */
  run(request: DecodeRequest, stats: Stats): DecodeEnd {
    const { target, disk, timeline } = this.#parts
    const began = now()
    const bytesBefore = disk.bytesRead
    this.#drafter = request.residual ?? this.#parts.drafter
    this.#proposed = 0
    timeline.begin(request.record)
    try {
      const context = this.#begin(request)
      this.#prefill(context, request)
      this.#drafter?.startText?.(context)
      stats.seconds.prefill = (now() - began) / 1000
      const room = target.cache.context - request.prompt.length
      return this.#decode(context, request, Math.min(mostTokens(request) ?? room, room), stats)
    } finally {
      this.#drafter?.endText?.()
      stats.bytesRead = disk.bytesRead - bytesBefore
      timeline.end()
      addTimes(stats, timeline)
      stats.seconds.total = (now() - began) / 1000
      if (stats.passes > 0) {
        stats.tokensPerPass = stats.tokens / stats.passes
        stats.nodesPerPass = this.#proposed / stats.passes
      }
    }
  }

  #begin(request: DecodeRequest): Context {
    const { target } = this.#parts
    const { prompt, replay } = request
    checkTokens('prompt', prompt, target.config.vocabulary)
    if (replay !== undefined) checkTokens('replay', replay, target.config.vocabulary)
    checkRoom(prompt.length, mostTokens(request), target.cache.context)
    target.cache.truncate(0)
    // Room for the tokens of one path beyond the end: penalties look at the path while it is walked.
    return new Context(prompt, target.cache.context + this.#parts.depth + 2)
  }

  /** All prompt tokens but the last, which is the root of the first tree. */
  #prefill(context: Context, request: DecodeRequest): void {
    const { target, expectHead, timeline, costs, isWarm } = this.#parts
    const total = context.length - 1
    expectHead(false)
    for (let pass = 0; target.cache.length < total; pass++) {
      const began = now()
      const waited = timeline.ms('wait')
      const wasWarm = isWarm()
      const start = target.cache.length
      const end = Math.min(start + target.batch.capacity, total)
      target.batch.clear()
      for (let p = start; p < end; p++) target.batch.addPrefixRow(context.tokens[p], p)
      target.forward()
      target.cache.extend(end - start)
      const whole = (now() - began) / 1000
      costs.observePrompt(end - start, whole - (timeline.ms('wait') - waited) / 1000, wasWarm ? whole : undefined)
      timeline.add('prefill', began, pass, end - start)
      request.onPrefill(end, total)
    }
    expectHead(true)
  }

  #decode(context: Context, request: DecodeRequest, limit: number, stats: Stats): DecodeEnd {
    const { timeline, costs, isWarm } = this.#parts
    let written = 0
    for (;;) {
      const drafting = now()
      const tree = this.#draft(context, limit - written)
      const began = now()
      const others = timeline.ms('wait') + timeline.ms('grow')
      const wasWarm = isWarm()
      this.#forward(tree, context)
      const behindLayers = now() - timeline.ms('wait')
      this.#logits.reset(this.#drafter?.topTokens)
      const result = this.#verify(tree, context, request)
      const top = this.#logits.top()
      const ended = now()
      const whole = (ended - began) / 1000
      const compute = whole - (timeline.ms('wait') + timeline.ms('grow') - others) / 1000
      const head = (ended - timeline.ms('wait') - behindLayers) / 1000
      stats.seconds.verify += compute
      costs.observePass(tree.count, compute, wasWarm ? whole : undefined, (began - drafting) / 1000, head)
      timeline.add('pass', began, stats.passes, tree.count)
      const before = stats.tokens
      const end = this.#commit(result, request, limit - written, stats)
      const kept = stats.tokens - before
      written += result.tokens.length
      request.afterPass()
      // Of the last pass too: what ends texts is worth knowing in the next one.
      this.#drafter?.observe(kept < result.tokens.length ? beginning(result, kept) : result, whole, top)
      if (end !== undefined) return end
      if (written >= limit) return limit === mostTokens(request) ? 'length' : 'context'
      for (const token of result.tokens) context.push(token)
    }
  }

  #draft(context: Context, remaining: number): TokenTree {
    const { nodes, depth, timeline } = this.#parts
    const drafter = this.#drafter
    const tree = this.#tree
    const began = now()
    tree.reset(context.root)
    // The last token comes from the target in any case.
    const budget: Budget = { nodes: remaining > 1 ? nodes : 0, depth: Math.min(depth, remaining - 1) }
    if (drafter !== undefined) {
      drafter.propose(context, tree, budget)
      timeline.add('propose', began, -1, tree.size)
    }
    return tree
  }

  /** Root and nodes in one pass. The root's key and value go to the prefix: it is accepted already. */
  #forward(tree: TokenTree, context: Context): void {
    const { target, pipeline } = this.#parts
    const drafter = this.#drafter
    const { batch, cache } = target
    const position = context.length - 1
    batch.clear()
    batch.addPrefixRow(context.root, position)
    for (let node = 1; node < tree.count; node++) {
      const slot = cache.scratchStart + node - 1
      tree.targetSlot[node] = slot
      const parent = tree.parent[node]
      batch.addTreeRow(tree.token[node], slot, position + 1, parent === ROOT ? -1 : parent)
    }
    // Without a proposal the text is about to end, and there is nothing to grow for.
    const grows = pipeline && tree.size > 0 && drafter?.grow !== undefined
    target.forward(grows ? (deadline) => this.#grow(drafter, tree, deadline) : undefined)
    cache.extend(1)
  }

  #grow(drafter: Drafter, tree: TokenTree, deadline: number): boolean {
    const began = now()
    const more = drafter.grow?.(tree, deadline) ?? false
    this.#parts.timeline.add('grow', began, -1, 0)
    return more
  }

  #verify(tree: TokenTree, context: Context, request: DecodeRequest): Verification {
    const { sampler, isEnd, residual, replay } = request
    if (residual !== undefined) return this.#verifyResidual(tree, context, request, residual)
    const choose = (node: number, path: readonly number[]): number => {
      const depth = path.length
      if (depth > 0) context.tokens[context.length + depth - 1] = tree.token[node]
      const length = context.length + depth
      // Also where its choice is overridden: a replay is to cost what writing costs.
      const own = sampler.sample(this.#logits.after(node), length, context.tokens, length, context.promptLength)
      return replay?.[length - context.promptLength] ?? own
    }
    return verify(tree, choose, isEnd)
  }

  #verifyResidual(
    tree: TokenTree,
    { tokens, length, promptLength }: Context,
    { sampler, isEnd }: DecodeRequest,
    drafter: ResidualDrafter,
  ): Verification {
    const target = (node: number, path: readonly number[]): Float64Array => {
      const end = length + path.length
      if (path.length > 0) tokens[end - 1] = tree.token[node]
      return sampler.distribution(this.#logits.after(node), tokens, end, promptLength)
    }
    const draft = (node: number): Float32Array => drafter.drawnFrom(node)
    return verifyResidual(tree, { position: length, target, draft, uniform: sampler.uniform }, isEnd)
  }

  /** Makes the accepted path part of the cache, and hands the tokens out. */
  #commit(result: Verification, request: DecodeRequest, remaining: number, stats: Stats): DecodeEnd | undefined {
    const { target } = this.#parts
    const { tree, path, tokens } = result
    const kept = Math.min(tokens.length, remaining)
    const slots = path.slice(0, kept).map((node) => tree.targetSlot[node])
    target.cache.commit(slots, slots.length)
    stats.passes++
    this.#proposed += tree.size
    count(stats, result, kept)
    for (let i = 0; i < kept; i++) {
      stats.tokens++
      const isEnd = request.isEnd(tokens[i])
      const node = i === 0 ? ROOT : path[i - 1]
      const logprob = request.logprobs ? request.sampler.logprob(this.#logits.after(node), tokens[i]) : undefined
      const goOn = request.emit({ token: tokens[i], drafted: i < path.length, isEnd, logprob })
      if (isEnd || !goOn) return 'stop'
    }
    return undefined
  }
}

function addTimes({ seconds }: Stats, timeline: Timeline): void {
  seconds.wait = timeline.ms('wait') / 1000
  seconds.compute = timeline.ms('execute') / 1000
  seconds.read = timeline.ms('read') / 1000
  seconds.check = timeline.ms('check') / 1000
  seconds.draftHidden = timeline.ms('grow') / 1000
  seconds.draft = seconds.draftHidden + timeline.ms('propose') / 1000
}

/** @param kept tokens of the pass that are part of the text */
function count(stats: Stats, { tree, path }: Verification, kept: number): void {
  const accepted = Math.min(path.length, kept)
  countAt(stats.acceptedHistogram, accepted)
  let depth = 0
  let sources = 0
  for (let node = 1; node < tree.count; node++) {
    depth = Math.max(depth, tree.depth[node])
    sources |= tree.source[node]
  }
  countAt(stats.depths, depth)
  for (const name of DRAFTERS) {
    const bit = sourceOf(name)
    if ((sources & bit) === 0) continue
    stats.perDrafter[name] ??= { proposed: 0, accepted: 0, ranks: [] }
    const counts = stats.perDrafter[name]
    for (let node = 1; node < tree.count; node++) if ((tree.source[node] & bit) !== 0) counts.proposed++
    for (let i = 0; i < accepted; i++) if ((tree.source[path[i]] & bit) !== 0) counts.accepted++
    for (let i = 0; i < kept; i++) countRanks(counts.ranks, tree, i === 0 ? ROOT : path[i - 1], path[i], bit)
  }
}

/** What a pass gained as far as it is part of the text. */
const beginning = ({ tree, path, tokens }: Verification, kept: number): Verification => ({
  tree,
  path: path.slice(0, kept),
  tokens: tokens.slice(0, kept),
})

function countAt(histogram: number[], place: number): void {
  while (histogram.length <= place) histogram.push(0)
  histogram[place]++
}

/** @param taken the child that the target took, if it took one @param source whose guesses count */
function countRanks(
  ranks: RankStatistics[],
  tree: TokenTree,
  node: number,
  taken: number | undefined,
  source: SourceMask,
): void {
  const { logProb } = tree
  const siblings = tree.children(node).filter((child) => (tree.source[child] & source) !== 0)
  siblings.sort((a, b) => logProb[b] - logProb[a] || a - b)
  for (const [rank, sibling] of siblings.entries()) {
    ranks[rank] ??= { seen: 0, accepted: 0 }
    ranks[rank].seen++
    if (sibling === taken) ranks[rank].accepted++
  }
}

/** Undefined: as many as there is room for. */
const mostTokens = ({ maxTokens, replay }: DecodeRequest): number | undefined =>
  replay === undefined ? maxTokens : Math.min(maxTokens ?? replay.length, replay.length)

function checkTokens(what: 'prompt' | 'replay', tokens: readonly number[], vocabulary: number): void {
  if (tokens.length === 0) {
    throw new CoppiceError('INVALID_INPUT', `the ${what} has no tokens; give at least one`)
  }
  tokens.forEach((token, i) => {
    if (!Number.isInteger(token) || token < 0 || token >= vocabulary) {
      throw new CoppiceError(
        'INVALID_INPUT',
        `${what} token ${i} is ${token}; token ids of this model are integers from 0 to ${vocabulary - 1}`,
      )
    }
  })
}

function checkRoom(prompt: number, maxTokens: number | undefined, context: number): void {
  const wanted = prompt + (maxTokens ?? 1)
  if (wanted <= context) return
  const what = maxTokens === undefined ? 'at least 1 token' : `${maxTokens} tokens`
  throw new CoppiceError(
    'CONTEXT_OVERFLOW',
    `a prompt of ${prompt} tokens and ${what} of output need a context of ${wanted}, but this model was loaded with ${context}; shorten the prompt, ask for fewer tokens, or load with a larger context`,
  )
}
