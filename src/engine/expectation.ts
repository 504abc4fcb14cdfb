/**
 * What a plan's passes will take, by the law of streaming: a pass takes as long as the disk or the processor,
 * whichever is slower, and gains as many tokens as its tree brings.
 */
import type { ReadSpeeds } from '../memory/read-speed.ts'
import type { Kind } from '../tensor/layout.ts'
import { type KernelSpeed, productSeconds } from './kernel-speed.ts'
import type { Expectation, PassExpectation } from './types.ts'

/** Weights of one kind that a pass multiplies with. */
export interface Weights {
  readonly kind: Kind
  readonly bytes: number
}

export interface ExpectationRequest {
  readonly streamedBytesPerPass: number
  /** Whether what streams stays in the page cache. Otherwise every pass reads from the disk itself, in whichever way. */
  readonly cached: boolean
  readonly loaders: number
  /** Absent when nothing was measured; needed only where something streams. */
  readonly read: ReadSpeeds | undefined
  /** Of every kind in `target` and `draft`. */
  readonly kernels: ReadonlyMap<Kind, KernelSpeed>
  readonly target: readonly Weights[]
  readonly draft: readonly Weights[]
  /** Tree nodes per pass; 0: plain decoding. */
  readonly nodes: number
  /** Whether `nodes` is only a limit: then the number that pays best is expected. */
  readonly isPlanned: boolean
}

/**
 * Draft passes that grow a best-first tree, per square root of its nodes: the embedded pair takes 3.4 for 4 nodes,
 * 6.6 for 16, 11.9 for 64. The tree is about that deep.
 */
const PASSES_PER_ROOT = 1.65
/** Rows of a draft pass. */
const DRAFT_ROWS = 8

/**
 * Chances that the next guess along the path is right: of a draft that seldom fits the text, and of one that mostly
 * does. With 16 nodes they make 2.5 and 4.1 tokens per pass; the embedded pair has 4.
 */
export const ASSUMED_ACCEPTANCE: readonly [number, number] = [0.6, 0.8]
/**
 * The same without a draft model: of a text that says new things, and of one that repeats itself or its prompt. The
 * embedded target has 2.1 tokens per pass at temperature 0.8 and 4.6 at 0.
 */
export const ASSUMED_WITHOUT_MODEL: readonly [number, number] = [0.3, 0.6]

/** @returns `undefined` when a figure is missing */
export function expectationOf(request: ExpectationRequest): Expectation | undefined {
  const { streamedBytesPerPass, cached, loaders, read, kernels, target, draft, nodes, isPlanned } = request
  // More reads at once are no slower in loader threads, whatever they were in the measurement.
  const speeds = read?.[cached ? 'buffered' : 'direct']?.slice(0, Math.max(1, loaders))
  const speed = speeds && Math.max(...speeds)
  if (streamedBytesPerPass > 0 && speed === undefined) return undefined
  if (![...target, ...draft].every(({ kind }) => kernels.has(kind))) return undefined
  const reading = streamedBytesPerPass === 0 ? 0 : streamedBytesPerPass / speed!
  const multiplying = (weights: readonly Weights[], rows: number): number =>
    weights.reduce((sum, { kind, bytes }) => sum + productSeconds(kernels.get(kind)!, bytes, rows), 0)
  const pass = (rows: number, drafting: number): PassExpectation => {
    const computing = multiplying(target, rows)
    return {
      secondsReading: reading,
      secondsComputing: computing,
      secondsDrafting: drafting,
      secondsPerPass: Math.max(reading, computing + drafting),
    }
  }
  const plain = pass(1, 0)
  const expectation: Expectation = {
    ...(speed !== undefined && { readBytesPerSecond: speed }),
    plain: { ...plain, tokensPerSecond: 1 / plain.secondsPerPass },
  }
  if (nodes === 0) return expectation
  const drafting = multiplying(draft, DRAFT_ROWS)
  const acceptance = draft.length > 0 ? ASSUMED_ACCEPTANCE : ASSUMED_WITHOUT_MODEL
  const withNodes = (n: number): NonNullable<Expectation['speculative']> => {
    const depth = PASSES_PER_ROOT * Math.sqrt(n)
    const drafted = pass(n + 1, depth * drafting)
    const [low, high] = acceptance.map((chance) => tokensPerPass(chance, Math.min(depth, n)))
    return {
      ...drafted,
      nodes: n,
      acceptance,
      tokensPerPass: [low, high],
      tokensPerSecond: [low / drafted.secondsPerPass, high / drafted.secondsPerPass],
    }
  }
  const sizes = isPlanned ? Array.from({ length: nodes }, (_, i) => i + 1) : [nodes]
  const middle = ({ tokensPerSecond: [low, high] }: NonNullable<Expectation['speculative']>): number => low + high
  const best = sizes.map(withNodes).reduce((a, b) => (middle(b) > middle(a) ? b : a))
  // A planner that finds no gain decodes plainly.
  return isPlanned && middle(best) < 2 / plain.secondsPerPass ? expectation : { ...expectation, speculative: best }
}

/** The target's own token, and every guess before the first that is wrong, on a path of `depth` guesses. */
const tokensPerPass = (chance: number, depth: number): number => (1 - chance ** (depth + 1)) / (1 - chance)
