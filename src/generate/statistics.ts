/** What a call cost and what speculation brought. */

/** Of the guesses that were put before the target at nodes that it came to. */
export interface RankStatistics {
  seen: number
  accepted: number
}

export interface DrafterStatistics {
  /** Nodes put before the target. */
  proposed: number
  /** Of these, nodes whose token the target took. */
  accepted: number
  /** By rank among the guesses of one node, likeliest first. Their `accepted` add up to the one above. */
  ranks: RankStatistics[]
}

/** What guessing brought in seconds. What is called estimated goes by what passes of late took. */
export interface SpeculationStatistics {
  /** Whether weights come from disk in every pass. */
  streams: boolean
  /** Passes that the planner left without guesses because none seemed to pay. */
  declined: number
  /** Estimated seconds of a pass with this call's mean tree, drafting not included. Absent if it had none. */
  draftedSecondsPerPass?: number
  /** Estimated seconds of a pass without guesses. Absent until it is known. */
  plainSecondsPerPass?: number
  /** Estimated: tokens per second of this call, drafting included, as a multiple of plain decoding's. */
  speedUp?: number
  /** The same of the passes by which the planner last decided against guessing, as it stood then. */
  declinedSpeedUp?: number
}

export interface Stats {
  /** Target passes after prefill. */
  passes: number
  /** Tokens that the target decided in those passes, an end-of-sequence token included. */
  tokens: number
  tokensPerPass: number
  /** Guesses put before the target per pass, passes without any included. */
  nodesPerPass: number
  /** `acceptedHistogram[k]`: passes in which k drafted tokens were accepted. */
  acceptedHistogram: number[]
  /** `depths[d]`: passes whose longest path of guesses had d of them; 0: nothing was guessed. */
  depths: number[]
  /** By drafter; guesses and acceptances that several share count for each. */
  perDrafter: Record<string, DrafterStatistics>
  /** Absent without a drafter and before the first pass. */
  speculation?: SpeculationStatistics
  /** The same in one sentence. */
  verdict?: string
  /** Bytes of the target that came from disk during the call. */
  bytesRead: number
  seconds: {
    total: number
    prefill: number
    /** Drafting, between target passes and in their waiting times. */
    draft: number
    /** The part of `draft` that was done while weights were on their way from disk. */
    draftHidden: number
    /** Target passes without waiting for disk, sampling included. */
    verify: number
    /** Waiting for disk, prefill included. */
    wait: number
    /** Executing the target's layers and output head, prefill included. */
    compute: number
    /** Reading from disk. Of several loader threads the sum; beside everything else. */
    read: number
    /** Checking what was read for the first time, in the loader threads. */
    check: number
  }
  /** Bytes of WASM memory that the model holds. */
  peakMemory: number
}

export function emptyStats(peakMemory: number): Stats {
  return {
    passes: 0,
    tokens: 0,
    tokensPerPass: 0,
    nodesPerPass: 0,
    acceptedHistogram: [],
    depths: [],
    perDrafter: {},
    bytesRead: 0,
    seconds: { total: 0, prefill: 0, draft: 0, draftHidden: 0, verify: 0, wait: 0, compute: 0, read: 0, check: 0 },
    peakMemory,
  }
}

/** Seconds of a call that went into tokens and not into reading the prompt. */
export const decodingSeconds = ({ seconds: s }: Stats): number => s.total - s.prefill

export const tokensPerSecond = (stats: Stats): number =>
  stats.tokens === 0 ? 0 : stats.tokens / Math.max(1e-9, decodingSeconds(stats))

/**
 * Several calls of one model as if they had been one. Estimates are those of the last call that has them, and the
 * verdict is left out: it is another one.
 */
export function sumOfStats(calls: readonly Stats[]): Stats {
  const sum = emptyStats(Math.max(0, ...calls.map(({ peakMemory }) => peakMemory)))
  let nodes = 0
  for (const call of calls) {
    sum.passes += call.passes
    sum.tokens += call.tokens
    sum.bytesRead += call.bytesRead
    nodes += call.nodesPerPass * call.passes
    addCounts(sum.acceptedHistogram, call.acceptedHistogram)
    addCounts(sum.depths, call.depths)
    for (const [name, drafter] of Object.entries(call.perDrafter)) {
      sum.perDrafter[name] ??= { proposed: 0, accepted: 0, ranks: [] }
      addDrafter(sum.perDrafter[name], drafter)
    }
    for (const key of Object.keys(sum.seconds) as (keyof Stats['seconds'])[]) sum.seconds[key] += call.seconds[key]
    if (call.speculation !== undefined) {
      const declined = (sum.speculation?.declined ?? 0) + call.speculation.declined
      sum.speculation = { ...sum.speculation, ...call.speculation, declined }
    }
  }
  if (sum.passes > 0) {
    sum.tokensPerPass = sum.tokens / sum.passes
    sum.nodesPerPass = nodes / sum.passes
  }
  const plain = sum.speculation?.plainSecondsPerPass
  if (sum.speculation !== undefined && plain !== undefined) sum.speculation.speedUp = tokensPerSecond(sum) * plain
  return sum
}

function addCounts(sum: number[], counts: readonly number[]): void {
  for (const [i, count] of counts.entries()) sum[i] = (sum[i] ?? 0) + count
}

function addDrafter(sum: DrafterStatistics, { proposed, accepted, ranks }: DrafterStatistics): void {
  sum.proposed += proposed
  sum.accepted += accepted
  for (const [rank, counts] of ranks.entries()) {
    sum.ranks[rank] ??= { seen: 0, accepted: 0 }
    sum.ranks[rank].seen += counts.seen
    sum.ranks[rank].accepted += counts.accepted
  }
}
