/** Whether a draft model could pay on a machine at all, whatever it guesses: by what passes turned out to cost. */
import type { PassCosts } from './pass-costs.ts'

/** What can be hoped of a draft model that was not tried on an owner's texts: so often a guess is right after one that was, down to this depth. */
const HOPED_CHANCE = 0.8
const HOPED_DEPTH = 8
/**
 * What draft passes took so many passes ago is not held against them any more: the first ones run in young code, and
 * machines have bad minutes.
 */
const LONGEST_AGE = 2048

interface Prospects {
  /** Of the largest tree. */
  readonly nodes: number
  /** Tokens that the draft has to read first. */
  readonly unread: number
  /** For which they would be read. */
  readonly passes: number
  /** Tokens per second that are worth drafting for, as a multiple of plain decoding's. */
  readonly least: number
}

/**
 * Whether the best of chains would pay if guesses were right as often as one can hope.
 * @returns true, too, when too little is known
 */
export function mayPay(costs: PassCosts, { nodes, unread, passes, least }: Prospects): boolean {
  const plain = costs.pass(1)
  const { draftPass, readToken, age } = costs.lastDraft
  if (draftPass === 0 || age > LONGEST_AGE || !costs.isSure(1)) return true
  let isKnown = false
  let tokens = 1
  let speedUp = 0
  for (let depth = 1; depth <= Math.min(HOPED_DEPTH, nodes); depth++) {
    tokens += HOPED_CHANCE ** depth
    speedUp = Math.max(speedUp, tokens / (depth * draftPass + costs.pass(depth + 1) / plain))
    isKnown ||= costs.isSure(depth + 1)
  }
  return !isKnown || (speedUp - least) * passes >= unread * readToken
}
