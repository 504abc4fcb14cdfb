/** A plan as a picture: of every layer, how much stays in memory and how much streams. */
import type { ModelPlan } from '../index.ts'
import { formatBytes } from '../runtime/sizes.ts'

const STAYS = '█'
const STREAMS = '░'

/** So many layers have a line each; more stand side by side. */
const MOST_LINES = 16
const WIDEST_BAR = 40
const NARROWEST_BAR = 4
/** Of layers side by side. */
const SMALL_BAR = 8
/** Between neighbours on a line. */
const GAP = '  '

interface Part {
  readonly label: string
  readonly pinnedBytes: number
  readonly bytes: number
  /** What stands behind the bar. */
  readonly note: string
}

/** Lines of at most `columns` columns, without escape codes. */
export function layerBars(plan: ModelPlan, columns: number): string[] {
  const layers = plan.layerGroups.map((groups, layer) => {
    const sum = (kept: (pinned: boolean) => boolean): number =>
      groups.filter(({ pinned }) => kept(pinned)).reduce((bytes, group) => bytes + group.bytes, 0)
    return part(
      `layer ${layer}`,
      sum(Boolean),
      sum(() => true),
    )
  })
  const edges = [part('output head', plan.headPinned ? plan.headBytes : 0, plan.headBytes)]
  if (plan.embeddingBytes > 0) {
    const { embeddingBytes, embeddingPinned } = plan
    const embedding = part('embedding', embeddingPinned ? embeddingBytes : 0, embeddingBytes)
    edges.push(embeddingPinned ? embedding : { ...embedding, note: 'by rows' })
  }
  const legend = `${STAYS} stays  ${STREAMS} streams: bytes per pass`
  if (layers.length <= MOST_LINES) return [legend, ...list([...layers, ...edges], columns)]
  return [legend, ...grid(layers, columns), ...list(edges, columns)]
}

const part = (label: string, pinnedBytes: number, bytes: number): Part => ({
  label,
  pinnedBytes,
  bytes,
  note: pinnedBytes === bytes ? '' : formatBytes(bytes - pinnedBytes),
})

function list(parts: readonly Part[], columns: number): string[] {
  const label = Math.max(...parts.map((p) => p.label.length))
  const note = Math.max(...parts.map((p) => p.note.length))
  const room = columns - label - note - 2 * GAP.length
  const width = Math.max(NARROWEST_BAR, Math.min(WIDEST_BAR, room))
  return parts.map((p) => `${p.label.padEnd(label)}${GAP}${bar(p, width)}${GAP}${p.note.padStart(note)}`.trimEnd())
}

/** Numbers and small bars, column after column. */
function grid(layers: readonly Part[], columns: number): string[] {
  const digits = String(layers.length - 1).length
  const cell = digits + 1 + SMALL_BAR
  const across = Math.max(1, Math.floor((columns + GAP.length) / (cell + GAP.length)))
  const lines = Math.ceil(layers.length / across)
  return Array.from({ length: lines }, (_, line) => {
    const own = layers.flatMap((p, layer) =>
      layer % lines === line ? [`${String(layer).padStart(digits)} ${bar(p, SMALL_BAR)}`] : [],
    )
    return own.join(GAP)
  })
}

/** A part of either, however small, is seen. */
function bar({ pinnedBytes, bytes }: Part, width: number): string {
  let cells = Math.round((pinnedBytes / bytes) * width)
  if (pinnedBytes > 0) cells = Math.max(1, cells)
  if (pinnedBytes < bytes) cells = Math.min(width - 1, cells)
  return STAYS.repeat(cells) + STREAMS.repeat(width - cells)
}
