/** Where the matrices of a small model lie in those of a large one. See inflation.ts. */
import type { ModelConfig } from '../src/weights/model-config.ts'

/** Columns [from, from + count) of a small matrix go to [to, to + count) of the large one. */
export interface ColumnRun {
  readonly from: number
  readonly to: number
  readonly count: number
}

/** The row of the small matrix that a row of the large one holds, or what it holds instead. */
export type RowPlace = number | 'zero' | 'made up'

export interface Placement {
  readonly rowOf: (row: number) => RowPlace
  readonly columnRuns: readonly ColumnRun[]
  /** Whether what no row and no column of the small matrix holds is made up: nothing but zeros is multiplied by it,
   * or its results are multiplied by zeros. Else it must be zero itself. */
  readonly free: boolean
  /** Factor of the small weights. */
  readonly scale: number
}

/** @param name of a matrix in a checkpoint */
export function placementOf(name: string, small: ModelConfig, large: ModelConfig): Placement {
  const module = /(\w+)\.weight$/.exec(name)?.[1]
  /** Inputs that are zero beyond the small model's. */
  const hidden = [{ from: 0, to: 0, count: small.hidden }]
  switch (module) {
    case 'embed_tokens':
      return { rowOf: (row) => row, columnRuns: hidden, free: false, scale: 1 }
    case 'lm_head':
      return { rowOf: (row) => row, columnRuns: hidden, free: true, scale: 1 }
    case 'q_proj': {
      const headOf = queryHeads(small, large)
      const scale = Math.sqrt(large.headSize / small.headSize)
      return { rowOf: headRows(small, large, headOf, rotaryElement), columnRuns: hidden, free: true, scale }
    }
    case 'k_proj':
      return { rowOf: headRows(small, large, keyHeads(small), rotaryElement), columnRuns: hidden, free: true, scale: 1 }
    case 'v_proj':
      return { rowOf: headRows(small, large, keyHeads(small), firstElement), columnRuns: hidden, free: true, scale: 1 }
    case 'o_proj': {
      const rowOf = firstRows(small.hidden, 'zero')
      return { rowOf, columnRuns: headColumns(small, large), free: false, scale: 1 }
    }
    case 'gate_proj':
    case 'up_proj':
      return { rowOf: firstRows(small.intermediate, 'made up'), columnRuns: hidden, free: true, scale: 1 }
    case 'down_proj': {
      const columnRuns = [{ from: 0, to: 0, count: small.intermediate }]
      return { rowOf: firstRows(small.hidden, 'zero'), columnRuns, free: false, scale: 1 }
    }
    default:
      throw new Error(`nobody knows where ${name} goes in a larger model`)
  }
}

const firstRows = (count: number, others: 'zero' | 'made up'): Placement['rowOf'] => {
  return (row) => (row < count ? row : others)
}

/** The small model's head for a head of the large one; undefined for those that were added. */
type HeadOf = (head: number) => number | undefined

/** Every query head stays with its KV head. */
function queryHeads(small: ModelConfig, large: ModelConfig): HeadOf {
  const [few, many] = [small.heads / small.kvHeads, large.heads / large.kvHeads]
  return (head) => {
    const [group, place] = [Math.floor(head / many), head % many]
    return group < small.kvHeads && place < few ? group * few + place : undefined
  }
}

const keyHeads = ({ kvHeads }: ModelConfig): HeadOf => {
  return (head) => (head < kvHeads ? head : undefined)
}

/** The element of a small head that an element of a large one holds; undefined where it holds none. */
type ElementOf = (element: number, small: number, large: number) => number | undefined

/** Pair i of a head is its elements i and i + size / 2, and turns by theta^(-2i / size) per position. */
const rotaryElement: ElementOf = (element, small, large) => {
  const [side, pair] = element < large / 2 ? [0, element] : [1, element - large / 2]
  const step = large / small
  return pair % step === 0 ? (side * small) / 2 + pair / step : undefined
}

const firstElement: ElementOf = (element, small) => (element < small ? element : undefined)

function headRows(small: ModelConfig, large: ModelConfig, headOf: HeadOf, elementOf: ElementOf): Placement['rowOf'] {
  return (row) => {
    const head = headOf(Math.floor(row / large.headSize))
    if (head === undefined) return 'made up'
    const element = elementOf(row % large.headSize, small.headSize, large.headSize)
    // Made up on both sides, queries and keys would add to the scores.
    return element === undefined ? 'zero' : head * small.headSize + element
  }
}

/** What the heads give is at the front of each, as the values are. */
function headColumns(small: ModelConfig, large: ModelConfig): ColumnRun[] {
  const headOf = queryHeads(small, large)
  return Array.from({ length: large.heads }, (_, head) => ({ head, original: headOf(head) })).flatMap(
    ({ head, original }) =>
      original === undefined
        ? []
        : [{ from: original * small.headSize, to: head * large.headSize, count: small.headSize }],
  )
}
