/**
 * A call as a Chrome trace: the Trace Event Format's JSON object with complete events ('X'), which Perfetto
 * (ui.perfetto.dev) and chrome://tracing open. A lane per loader, one for the engine's passes, one for the draft.
 */
import type { Stats } from '../generate/statistics.ts'
import type { Span, SpanKind, SpanRecord } from '../memory/timeline.ts'
import { baseName } from '../runtime/files.ts'
import type { PackedModel } from '../weights/packed.ts'
import type { Preparation } from './prepare.ts'

type Lane = 'disk' | 'compute' | 'draft'

const LANES: Readonly<Record<SpanKind, Lane>> = {
  read: 'disk',
  check: 'disk',
  wait: 'compute',
  execute: 'compute',
  prefill: 'compute',
  pass: 'compute',
  propose: 'draft',
  grow: 'draft',
}

/**
 * JSON text. Times are in microseconds; the category of an event is its kind of span, and events of a kind add up to
 * the seconds that the statistics name, unless `otherData.droppedSpans` says that some are missing.
 */
export function chromeTrace(record: SpanRecord, preparation: Preparation, stats: Stats): string {
  const { target, loaders, threads, plan, layout } = preparation
  const units = unitNames(preparation)
  const lanes = Math.max(1, loaders)
  const thread = ({ kind, loader }: Span): number =>
    ({ disk: 1 + loader, compute: 1 + lanes, draft: 2 + lanes })[LANES[kind]]
  const events: string[] = [
    named('process_name', 0, `coppice ${baseName(target.packed.directory)}`),
    ...Array.from({ length: lanes }, (_, i) => named('thread_name', 1 + i, lanes === 1 ? 'disk' : `disk ${1 + i}`)),
    named('thread_name', 1 + lanes, 'compute'),
    named('thread_name', 2 + lanes, 'draft'),
  ]
  for (const span of record) {
    const event = {
      name: spanName(span, units),
      cat: span.kind,
      ph: 'X',
      ts: microseconds(span.began),
      dur: microseconds(span.ms),
      pid: 1,
      tid: thread(span),
      args: spanArguments(span, plan.io),
    }
    events.push(JSON.stringify(event))
  }
  const otherData = {
    model: target.packed.manifest.source.name,
    layers: layout.plan.layers,
    threads,
    loaders,
    io: plan.io,
    residency: layout.plan.residency,
    droppedSpans: record.dropped,
    seconds: stats.seconds,
  }
  return `{"displayTimeUnit":"ms","otherData":${JSON.stringify(otherData)},"traceEvents":[\n${events.join(',\n')}\n]}\n`
}

/** To the nanosecond. */
const microseconds = (ms: number): number => Math.round(ms * 1e6) / 1e3

const named = (name: string, tid: number, value: string): string =>
  JSON.stringify({ name, ph: 'M', pid: 1, tid, args: { name: value } })

function spanName({ kind, unit, amount }: Span, units: readonly string[]): string {
  switch (kind) {
    case 'read':
    case 'check':
      return `${kind} ${units[unit]}`
    case 'wait':
      return unit < 0 ? 'read embedding rows' : `wait for ${units[unit]}`
    case 'execute': {
      if (unit < 0) return 'gather embedding rows'
      const [first, ...others] = units.slice(unit, unit + amount)
      return [first, ...others.map((name) => name.slice(name.lastIndexOf(' ') + 1))].join(' + ')
    }
    case 'prefill':
      return `prefill ${unit}`
    case 'pass':
      return `pass ${unit}`
    default:
      return kind
  }
}

function spanArguments({ kind, amount }: Span, mode: string): object {
  switch (LANES[kind]) {
    case 'disk':
      return kind === 'read' ? { bytes: amount, io: mode } : { bytes: amount }
    case 'compute':
      return kind === 'pass' || kind === 'prefill' ? { rows: amount } : {}
    case 'draft':
      return kind === 'propose' ? { nodes: amount } : {}
  }
}

/** Such as `layer 3 gate_up`, by unit. */
function unitNames({ target, draft, layout, draftUnits }: Preparation): string[] {
  const names: string[] = []
  const nameLayers = (prefix: string, { manifest }: PackedModel, layers: readonly (readonly number[])[]): void => {
    layers.forEach((units, layer) => {
      units.forEach((unit, i) => {
        names[unit] = `${prefix}layer ${layer} ${manifest.layers[layer].segments[i].name}`
      })
    })
  }
  nameLayers('', target.packed, layout.layerUnits)
  layout.headUnits.forEach((unit, i) => {
    names[unit] = layout.headUnits.length === 1 ? 'head' : `head ${i + 1}/${layout.headUnits.length}`
  })
  if (layout.embeddingUnit !== undefined) names[layout.embeddingUnit] = 'embedding'
  if (draft !== undefined && draftUnits !== undefined) {
    nameLayers('draft ', draft.packed, draftUnits.layers)
    names[draftUnits.head] = 'draft head'
    if (draftUnits.embedding !== undefined) names[draftUnits.embedding] = 'draft embedding'
  }
  return names
}
