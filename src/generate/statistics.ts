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
    acceptedHistogram: [],
    perDrafter: {},
    bytesRead: 0,
    seconds: { total: 0, prefill: 0, draft: 0, draftHidden: 0, verify: 0, wait: 0, compute: 0, read: 0, check: 0 },
    peakMemory,
  }
}
