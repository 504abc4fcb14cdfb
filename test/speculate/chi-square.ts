/** Pearson's chi-square test of counts against probabilities. Seeds are fixed, so it passes always or never. */

/** Cells that are expected less often than this are counted as one. */
const LEAST_EXPECTED = 8
/** Standard normal quantile of 0.999: one right distribution in a thousand would exceed the critical value. */
const QUANTILE = 3.0902

export interface ChiSquare {
  readonly statistic: number
  readonly critical: number
}

/** @param probabilities by cell; what they leave to 1, and cells that are not among them, are one more cell */
export function chiSquare(counts: ReadonlyMap<string, number>, probabilities: ReadonlyMap<string, number>): ChiSquare {
  const total = [...counts.values()].reduce((a, b) => a + b, 0)
  let restExpected = total
  let restObserved = total
  let statistic = 0
  let cells = 0
  for (const [cell, probability] of probabilities) {
    const expected = probability * total
    if (expected < LEAST_EXPECTED) continue
    const observed = counts.get(cell) ?? 0
    statistic += (observed - expected) ** 2 / expected
    restExpected -= expected
    restObserved -= observed
    cells++
  }
  if (restExpected >= LEAST_EXPECTED) {
    statistic += (restObserved - restExpected) ** 2 / restExpected
    cells++
  } else if (restExpected < 1e-6 * total && restObserved > 0) statistic = Number.POSITIVE_INFINITY
  return { statistic, critical: criticalValue(cells - 1) }
}

/** By Wilson and Hilferty's approximation: 18.5 for 4 degrees of freedom, where tables say 18.47. */
function criticalValue(freedom: number): number {
  const width = 2 / (9 * freedom)
  return freedom * (1 - width + QUANTILE * Math.sqrt(width)) ** 3
}

export function tally(counts: Map<string, number>, cell: string): void {
  counts.set(cell, (counts.get(cell) ?? 0) + 1)
}
