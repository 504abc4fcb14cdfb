/** What a call cost and what speculation brought. */
export interface DrafterStatistics {
  /** Nodes put before the target. */
  proposed: number
  /** Of these, nodes whose token the target took. */
  accepted: number
}

export interface Stats {
  /** Target passes after prefill. */
  passes: number
  /** Tokens that the target decided in those passes, an end-of-sequence token included. */
  tokens: number
  tokensPerPass: number
  /** `acceptedHistogram[k]`: passes in which k drafted tokens were accepted. */
  acceptedHistogram: number[]
  perDrafter: Record<string, DrafterStatistics>
  /** Bytes of the target that came from disk during the call. */
  bytesRead: number
  seconds: {
    total: number
    prefill: number
    /** Drafting, between target passes and in their waiting times. */
    draft: number
    /** Target passes without waiting for disk, sampling included. */
    verify: number
    /** Waiting for disk, prefill included. */
    wait: number
  }
  /** Bytes of WASM memory that the model holds. */
  peakMemory: number
}

export function emptyStats(peakMemory: number): Stats {
  return {
    passes: 0,
    tokens: 0,
    tokensPerPass: 0,
    acceptedHistogram: [],
    perDrafter: {},
    bytesRead: 0,
    seconds: { total: 0, prefill: 0, draft: 0, verify: 0, wait: 0 },
    peakMemory,
  }
}
