/**
 * Draws some passes of a trace, as `coppice run --trace FILE` writes it, as an SVG that is read on light and on dark
 * pages. docs/pass-timeline.svg comes from here:
 *
 *     coppice run embedded --weights f32 --memory 20MB --ctx-size 512 --io direct --temp 0.4 --seed 2 -n 96 \
 *       --trace trace.json "The old house stood at the end of the lane, and"
 *     node .build/bench/trace-picture.js trace.json docs/pass-timeline.svg --first 5 --passes 3
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import type { SpanKind } from '../src/memory/timeline.ts'

interface TraceEvent {
  readonly name: string
  readonly cat: SpanKind
  readonly ph: string
  /** Microseconds. */
  readonly ts: number
  readonly dur: number
  readonly tid: number
  readonly args: { readonly name: string }
}

/** What is drawn of each kind: on light pages and on dark ones. */
const COLOURS = {
  read: ['#2f6fb3', '#5b9bd8', 'read'],
  check: ['#8a5fb5', '#b48ad9', 'checksum'],
  execute: ['#2e8b57', '#5fbf8a', 'execute'],
  wait: ['#c0504d', '#e07a76', 'wait for disk'],
  propose: ['#c77d1e', '#e5a552', 'propose'],
  grow: ['#e3b062', '#a8762c', 'grow while waiting'],
} as const satisfies Partial<Record<SpanKind, readonly [string, string, string]>>
type Drawn = keyof typeof COLOURS
const KINDS = Object.keys(COLOURS) as Drawn[]

const WIDTH = 960
const LEFT = 76
const RIGHT = 12
const TOP = 26
const LANE = 34
const BAR = 24
const FOOT = 56
/** What is narrower would not be seen. */
const LEAST = 0.2

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { first: { type: 'string', default: '10' }, passes: { type: 'string', default: '3' } },
})
const [source, target] = positionals
if (target === undefined) {
  console.error('usage: trace-picture TRACE.json PICTURE.svg [--first PASS] [--passes COUNT]')
  process.exit(2)
}
const { traceEvents } = JSON.parse(readFileSync(source, 'utf8')) as { traceEvents: TraceEvent[] }
writeFileSync(target, draw(traceEvents, Number(values.first), Number(values.passes)))

function draw(events: readonly TraceEvent[], first: number, count: number): string {
  const passes = events.filter(({ cat, name }) => {
    const number = Number(name.replace('pass ', ''))
    return cat === 'pass' && number >= first && number < first + count
  })
  if (passes.length < count) throw new Error(`${source} has no passes ${first} to ${first + count - 1}`)
  // A pass is preceded by its proposal.
  const proposals = events.filter(({ cat, ts }) => cat === 'propose' && ts < passes[0].ts)
  const from = proposals.at(-1)?.ts ?? passes[0].ts
  const to = Math.max(...passes.map(({ ts, dur }) => ts + dur))
  const scale = (WIDTH - LEFT - RIGHT) / (to - from)
  const x = (time: number): number => LEFT + (Math.min(to, Math.max(from, time)) - from) * scale
  const lanes = events.filter(({ name, ph }) => ph === 'M' && name === 'thread_name')
  const bottom = TOP + lanes.length * LANE
  const height = bottom + FOOT
  const parts: string[] = []
  const drawn = new Set<Drawn>()
  lanes.forEach(({ tid, args }, lane) => {
    const y = TOP + lane * LANE + (LANE - BAR) / 2
    parts.push(`<text x="${LEFT - 8}" y="${y + BAR / 2 + 4}" text-anchor="end">${args.name}</text>`)
    for (const kind of KINDS) {
      const shape = bars(
        events.filter(
          (event) => event.tid === tid && event.cat === kind && event.ts + event.dur > from && event.ts < to,
        ),
        x,
        y,
      )
      if (shape === '') continue
      parts.push(`<path class="${kind}" d="${shape}"/>`)
      drawn.add(kind)
    }
  })
  for (const { ts, name } of passes) {
    parts.push(`<path class="line" d="M${fixed(x(ts))} ${TOP - 4}V${bottom}"/>`)
    parts.push(`<text x="${fixed(x(ts) + 4)}" y="${TOP - 8}">${name}</text>`)
  }
  parts.push(...axis(from, to, x, bottom))
  let at = LEFT
  for (const kind of KINDS) {
    if (!drawn.has(kind)) continue
    const label = COLOURS[kind][2]
    parts.push(`<path class="${kind}" d="M${at} ${height - 18}h12v12h-12z"/>`)
    parts.push(`<text x="${at + 17}" y="${height - 8}">${label}</text>`)
    at += 17 + label.length * 7 + 20
  }
  const style = (shade: 0 | 1): string => KINDS.map((kind) => `.${kind}{fill:${COLOURS[kind][shade]}}`).join('')
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" role="img" aria-label="Timeline of ${count} passes: disk, compute and draft">
<style>text{font:12px system-ui,sans-serif;fill:#57606a}.line{fill:none;stroke:#8b949e;stroke-width:1}${style(0)}@media(prefers-color-scheme:dark){text{fill:#a8b1bb}${style(1)}}</style>
${parts.join('\n')}
</svg>
`
}

/** All bars of a kind as one path; those that touch on the screen are one. */
function bars(events: readonly TraceEvent[], x: (time: number) => number, y: number): string {
  const runs: [number, number][] = []
  for (const { ts, dur } of [...events].sort((a, b) => a.ts - b.ts)) {
    const [begin, end] = [x(ts), x(ts + dur)]
    if (end - begin < LEAST) continue
    const last = runs.at(-1)
    if (last !== undefined && begin - last[1] < 0.4) last[1] = Math.max(last[1], end)
    else runs.push([begin, end])
  }
  return runs.map(([begin, end]) => `M${fixed(begin)} ${y}h${fixed(end - begin)}v${BAR}H${fixed(begin)}z`).join('')
}

function axis(from: number, to: number, x: (time: number) => number, y: number): string[] {
  const step =
    [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000].find((ms) => (to - from) / 1000 / ms <= 10) ?? 10000
  const parts: string[] = []
  for (let ms = 0; ms * 1000 <= to - from; ms += step) {
    const at = fixed(x(from + ms * 1000))
    parts.push(
      `<path class="line" d="M${at} ${y}v4"/>`,
      `<text x="${at}" y="${y + 16}" text-anchor="middle">${ms} ms</text>`,
    )
  }
  return parts
}

function fixed(value: number): string {
  return String(Math.round(value * 10) / 10)
}
