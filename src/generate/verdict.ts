/** Whether guessing pays, and why: in one sentence. */
import { decodingSeconds, type SpeculationStatistics, type Stats } from './statistics.ts'

/** Trees in fewer of the passes than this are told with their share. */
const MOST_PASSES = 0.8
/** Slower than plain decoding by more than what figures vary. */
const SLOWER = 0.95
/** The same on the other side: then no planner's doubt counts. */
const FASTER = 1.05
/** A pass with a tree takes as long as one without, but for what figures vary: the disk takes longer than either. */
const HIDDEN = 1.15
/** Drafting, in the way of everything else, that is worth a word. */
const MUCH_DRAFTING = 0.2

/**
 * @param measured the speed-up over plain decoding, where that was run too; without it the estimate is told, as such
 * @returns `undefined` where nothing was drafted for
 */
export function verdictOn(stats: Stats, measured?: number): string | undefined {
  const { speculation, passes } = stats
  if (speculation === undefined || passes === 0) return undefined
  const drafted = passes - (stats.depths[0] ?? 0)
  const pays = (measured ?? speculation.speedUp ?? 0) > FASTER && drafted > 0
  if (speculation.declined > passes / 2 && !pays) return againstGuessing(stats, speculation, drafted, measured)
  const place = speculation.streams ? 'streaming' : 'resident'
  if (drafted === 0) return `${place}: nothing was guessed in ${passes === 1 ? 'the one pass' : `${passes} passes`}`
  const nodes = (stats.nodesPerPass * passes) / drafted
  const tokens = `${stats.tokensPerPass.toFixed(1)} tokens per pass`
  const parts = [costOf(speculation, nodes, drafted / passes), tokens, ...draftingOf(stats)]
  return `${place}: ${parts.join(', ')}${speedUp(speculation, measured)}`
}

/** What a pass takes with so many nodes in it. */
function costOf(speculation: SpeculationStatistics, nodes: number, share: number): string {
  const count = nodesOf(nodes)
  const often = share < MOST_PASSES ? ` in ${Math.round(share * 100)} % of the passes` : ''
  const ratio = passRatio(speculation)
  if (ratio === undefined) return `${count}${often}`
  if (speculation.streams && ratio <= HIDDEN)
    return `${count}${often} ${isOne(nodes) ? 'hides' : 'hide'} under the disk`
  return `a pass with ${count}${often} takes about ${times(ratio)} a plain one`
}

function draftingOf(stats: Stats): string[] {
  const { draft, draftHidden } = stats.seconds
  const share = (draft - draftHidden) / decodingSeconds(stats)
  return share < MUCH_DRAFTING ? [] : [`${Math.round(share * 100)} % of the time drafting`]
}

function speedUp(speculation: SpeculationStatistics, measured: number | undefined): string {
  const ratio = measured ?? speculation.speedUp
  if (ratio === undefined) return '; what a plain pass takes is not known yet'
  const slower = ratio < SLOWER ? ': plain decoding is faster' : ''
  return `, ${measured === undefined ? 'about ' : ''}${times(ratio)} plain${slower}`
}

function againstGuessing(
  stats: Stats,
  speculation: SpeculationStatistics,
  drafted: number,
  measured: number | undefined,
): string {
  const reasons: string[] = []
  const ratio = passRatio(speculation)
  if (drafted > 0 && ratio !== undefined) {
    const rows = Math.round((stats.nodesPerPass * stats.passes) / drafted) + 1
    const accepted = stats.acceptedHistogram.reduce((sum, count, k) => sum + count * k, 0)
    reasons.push(
      `a pass of ${rows} rows takes about ${times(ratio)} one of 1 and brings ${(1 + accepted / drafted).toFixed(1)} tokens`,
    )
  }
  const { declinedSpeedUp } = speculation
  if (declinedSpeedUp !== undefined) reasons.push(`with drafting that is about ${times(declinedSpeedUp)} plain`)
  const why = reasons.length === 0 ? '' : `: ${reasons.join(', ')}`
  const outcome = measured === undefined ? '' : ` in most passes, ${times(measured)} plain with all trials`
  return `guessing does not pay here${why}; plain decoding${outcome}`
}

function passRatio({ draftedSecondsPerPass, plainSecondsPerPass }: SpeculationStatistics): number | undefined {
  if (draftedSecondsPerPass === undefined || plainSecondsPerPass === undefined) return undefined
  return draftedSecondsPerPass / plainSecondsPerPass
}

const isOne = (nodes: number): boolean => Math.round(nodes) === 1
const nodesOf = (nodes: number): string => `${Math.round(nodes)} ${isOne(nodes) ? 'node' : 'nodes'}`
const times = (ratio: number): string => `${ratio.toFixed(ratio < 9.95 ? (ratio < 0.995 ? 2 : 1) : 0)}x`
