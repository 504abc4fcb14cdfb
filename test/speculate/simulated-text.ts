/**
 * A text that exists only as numbers: at every node it is fixed which guess is right, and with what chance a draft
 * could have known. All who walk along it see the same text, so what they gain can be compared.
 */
import { CandidateTree, type Judge } from '../../src/speculate/candidate-tree.ts'
import type { Growth, Pacing } from '../../src/speculate/pacing.ts'
import { ROOT, TokenTree } from '../../src/speculate/token-tree.ts'

const RANKS = 8
/** What the text takes when no guess is right. */
const MISS = 100

export interface SimulatedText {
  /** Mean chance of the likeliest guess. */
  readonly fit: number
  /** The draft's probabilities are the true chances to this power, made to add up. */
  readonly distortion: number
}

export interface SimulatedCosts {
  /** Seconds of a pass of so many rows. */
  readonly pass: (rows: number) => number
  /** Seconds of a draft pass of so many rows. */
  readonly draft: (rows: number) => number
  /** Share by which every figure may be off. */
  readonly noise: number
  /** What everything takes at a pass, as a multiple of the above; nothing: 1. */
  readonly pace?: (pass: number) => number
  /** Seconds of reading a token that was not drafted for; nothing: none. */
  readonly read?: number
}

/** What a drafter learns from. */
export interface Learner {
  readonly pacing: Pacing
  readonly judge: Judge
  readonly observePass: (rows: number, seconds: number) => void
  readonly observeDraft: (rows: number, seconds: number) => void
  readonly observeRead?: (tokens: number, seconds: number) => void
}

const mix = (a: number, b: number): number => {
  let x = Math.imul(a ^ Math.imul(b + 1, 0x9e3779b1), 0x85ebca6b)
  x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35)
  return (x ^ (x >>> 16)) >>> 0
}
const unit = (state: number, salt: number): number => mix(state, salt + 1000) / 4294967296

/** Chances of the guesses at a state, likeliest first. */
function chancesAt({ fit }: SimulatedText, state: number): number[] {
  // Easy and hard places, `fit` on the average.
  const top = Math.min(0.98, Math.max(0.02, fit + (unit(state, 1) - 0.5) * 2 * Math.min(fit, 1 - fit)))
  const chances = [top]
  let rest = (1 - top) * 0.9
  for (let rank = 1; rank < RANKS; rank++) {
    const next = Math.min(chances[rank - 1], rest * 0.5)
    chances.push(next)
    rest -= next
  }
  return chances
}

function promises(chances: readonly number[], distortion: number): number[] {
  const raised = chances.map((chance) => chance ** distortion)
  const left = (1 - chances.reduce((a, b) => a + b, 0)) ** distortion
  const sum = raised.reduce((a, b) => a + b, left)
  return raised.map((value) => value / sum)
}

/** The guess that is right at a state. */
function truth(chances: readonly number[], state: number): number {
  let u = unit(state, 2)
  for (let rank = 0; rank < RANKS; rank++) {
    u -= chances[rank]
    if (u < 0) return rank
  }
  return MISS
}

export interface SimulatedRun {
  readonly nodes: number
  /** Of the largest draft pass. */
  readonly rows: number
  readonly passes: number
  readonly seed: number
  /** Tokens of every text and its prompt; nothing: one text without a prompt. */
  readonly texts?: { readonly tokens: number; readonly prompt: number }
}

const ONE_TEXT = { tokens: Number.POSITIVE_INFINITY, prompt: 0 }

/** Tokens per second over some passes. */
export function simulate(
  text: SimulatedText,
  costs: SimulatedCosts,
  learner: Learner,
  { nodes, rows, passes, seed, texts = ONE_TEXT }: SimulatedRun,
): number {
  let state = seed
  let seconds = 0
  let gained = 0
  let noises = 0
  let pace = 1
  const noisy = (value: number): number => value * pace * (1 + costs.noise * (2 * unit(noises++, 3) - 1))
  const grown = new CandidateTree(4096, [1])
  const states = new Uint32Array(4097)
  const { pacing, judge } = learner
  let unread = 0
  let left = 0
  for (let pass = 0; pass < passes; pass++) {
    pace = costs.pace?.(pass) ?? 1
    let drafting = 0
    let count = 0
    const expand = (list: readonly number[]): void => {
      const cost = noisy(costs.draft(list.length))
      for (const node of list) {
        const first = grown.tree.count
        const ids = Array.from({ length: RANKS }, (_, rank) => rank)
        const promised = promises(chancesAt(text, states[node]), text.distortion)
        grown.offer(node, 0, { ids, promised, count: RANKS })
        grown.settle(judge)
        for (let child = first; child < grown.tree.count; child++) {
          states[child] = mix(states[node], grown.tree.token[child])
        }
      }
      learner.observeDraft(list.length, cost)
      drafting += cost
    }
    if (left <= 0) {
      pacing.startText?.()
      unread = texts.prompt
      left = texts.tokens
    }
    grown.reset(0)
    states[ROOT] = state
    const isDrafted = pacing.shouldDraft(unread)
    if (isDrafted) {
      if (unread > 0 && costs.read !== undefined) {
        const cost = noisy(unread * costs.read)
        learner.observeRead?.(unread, cost)
        seconds += cost
      }
      unread = 0
      expand([ROOT])
      for (;;) {
        const next = [...grown.bestUnexpanded(1, rows, 32, nodes)]
        const growth: Growth = {
          size: Math.min(nodes, grown.size),
          chanceAt: (place) => grown.chanceAt(place),
          next: next.map((node) => Math.exp(grown.tree.logProb[node])),
          depth: next.length > 0 ? grown.tree.depth[next[0]] : 0,
          seconds: drafting,
        }
        count = Math.min(nodes, grown.size)
        const more = next.length === 0 || grown.room < rows * RANKS ? 0 : pacing.expand(growth)
        if (more === 0) {
          count = pacing.cut(growth)
          break
        }
        expand(next.slice(0, more))
      }
    }
    const tree = new TokenTree(Math.max(1, count))
    tree.reset(0)
    grown.copyBest(count, tree)
    const cost = noisy(costs.pass(count + 1))
    learner.observePass(count + 1, cost)
    // The walk, and what it teaches.
    let node: number = ROOT
    let at: number = ROOT
    let tokens = 0
    for (;;) {
      const right = truth(chancesAt(text, state), state)
      tokens++
      if (at >= 0 && grown.expanded[at] === 1) {
        for (const child of grown.tree.children(at)) {
          judge.observe(grown, child, grown.tree.token[child] === right)
        }
      }
      state = mix(state, right)
      at = at < 0 ? -1 : grown.tree.child(at, right)
      node = tree.child(node, right)
      if (node < 0) break
    }
    pacing.observe({ nodes: count, tokens, draftSeconds: drafting, passSeconds: cost })
    seconds += drafting + cost
    gained += tokens
    left -= tokens
    if (!isDrafted) unread += tokens
  }
  return gained / seconds
}
