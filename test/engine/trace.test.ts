/** The trace of a call: that it is well-formed, agrees with the statistics, and tells what happened in what order. */
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { SHAPES } from '../../bench/shapes.ts'
import { writeSyntheticModel } from '../../bench/synthetic-files.ts'
import { AbortError, type Completion, load, type Stats } from '../../src/index.ts'
import type { SpanKind } from '../../src/memory/timeline.ts'
import { DRAFT, TARGET } from '../e2e/models.ts'
import { openInline, scratch } from './harness.ts'
import { GREEDY, LONG, outcome, PROMPT, withModel } from './open-model.ts'

interface TraceEvent {
  readonly name: string
  readonly cat: SpanKind
  readonly ph: 'X' | 'M'
  /** Microseconds. */
  readonly ts: number
  readonly dur: number
  readonly tid: number
  readonly args: { readonly name?: string; readonly bytes?: number; readonly rows?: number; readonly io?: string }
}

interface Trace {
  readonly events: readonly TraceEvent[]
  readonly lanes: ReadonlyMap<number, string>
  readonly dropped: number
}

function parse(completion: Completion): Trace {
  const { traceEvents, otherData } = JSON.parse(completion.trace!) as {
    traceEvents: TraceEvent[]
    otherData: { droppedSpans: number; seconds: Stats['seconds'] }
  }
  assert.equal(otherData.seconds, completion.stats.seconds)
  const lanes = traceEvents.filter(({ name }) => name === 'thread_name')
  return {
    events: traceEvents.filter(({ ph }) => ph === 'X'),
    lanes: new Map(lanes.map(({ tid, args }) => [tid, args.name!])),
    dropped: otherData.droppedSpans,
  }
}

const secondsOf = ({ events }: Trace, ...kinds: SpanKind[]): number =>
  events.filter(({ cat }) => kinds.includes(cat)).reduce((sum, { dur }) => sum + dur, 0) / 1e6

/** Events are rounded to the nanosecond. */
function checkSums(completion: Completion): void {
  const trace = parse(completion)
  const { seconds } = completion.stats
  assert.is(trace.dropped, 0)
  const sums: [keyof typeof seconds, SpanKind[]][] = [
    ['read', ['read']],
    ['check', ['check']],
    ['compute', ['execute']],
    ['wait', ['wait']],
    ['draft', ['propose', 'grow']],
    ['draftHidden', ['grow']],
  ]
  for (const [name, kinds] of sums) {
    const traced = secondsOf(trace, ...kinds)
    const close = Math.abs(traced - seconds[name]) <= 1e-9 * trace.events.length
    assert.ok(close, `${name}: ${traced} s traced, ${seconds[name]} s in the statistics`)
  }
  assert.is(trace.events.filter(({ cat }) => cat === 'pass').length, completion.stats.passes)
}

/** Events of one lane follow each other, or lie one inside the other. */
function checkNesting({ events, lanes }: Trace): void {
  for (const [lane, name] of lanes) {
    const own = events.filter(({ tid }) => tid === lane).sort((a, b) => a.ts - b.ts || b.dur - a.dur)
    const open: TraceEvent[] = []
    for (const event of own) {
      while (open.length > 0 && open.at(-1)!.ts + open.at(-1)!.dur <= event.ts + 0.002) open.pop()
      const around = open.at(-1)
      if (around !== undefined) {
        const inside = event.ts + event.dur <= around.ts + around.dur + 0.002
        assert.ok(inside, `${name}: ${event.name} ends after ${around.name}, in which it began`)
      }
      open.push(event)
    }
  }
}

const test = suite('trace')
const streamed = { weights: 'f32', context: 256, memory: '22MB', draft: DRAFT, nodes: 8 } as const

test('sums of the events are the sums of the statistics, with files read inline', () => {
  const model = openInline(TARGET, streamed)
  for (const maxTokens of [1, 12]) {
    const completion = model.generate(PROMPT, { temperature: 0, maxTokens, trace: true })
    checkSums(completion)
    checkNesting(parse(completion))
  }
})

test('with threads and loaders too, call after call, and the text is the same', async () => {
  await withModel(
    async (model) => {
      const plain = await model.complete(PROMPT, { ...GREEDY, maxTokens: 16 })
      assert.not('trace' in plain)
      for (let call = 0; call < 3; call++) {
        const traced = await model.complete(PROMPT, { ...GREEDY, maxTokens: 16, trace: true })
        assert.equal(outcome(traced), outcome(plain))
        checkSums(traced)
        checkNesting(parse(traced))
        const { read, compute, total } = traced.stats.seconds
        assert.ok(read > 0 && compute > 0 && compute < total)
      }
    },
    { ...streamed, threads: 2 },
  )
})

test('each unit is read before it is used, by the clock that all lanes share', async () => {
  await withModel(
    async (model) => {
      const trace = parse(await model.complete(PROMPT, { ...GREEDY, maxTokens: 12, trace: true }))
      const ends = new Map<string, number[]>()
      for (const { name, cat, ts, dur } of trace.events) {
        if (cat !== 'read') continue
        const unit = name.replace(/^read /, '')
        ends.set(unit, [...(ends.get(unit) ?? []), ts + dur])
      }
      let checked = 0
      for (const [unit, reads] of ends) {
        const uses = trace.events
          .filter(({ cat, name }) => cat === 'execute' && name === unit)
          .sort((a, b) => a.ts - b.ts)
        if (reads.length < 2) continue
        uses.forEach(({ ts }, use) => {
          const before = reads.filter((end) => end <= ts + 50).length
          // One may have been read before the call began.
          assert.ok(before >= use, `use ${use} of ${unit} came after ${before} reads`)
          checked++
        })
      }
      assert.ok(checked > 20, `${checked} uses`)
    },
    { ...streamed, threads: 1 },
  )
})

test('lanes are named, bytes and rows are told', async () => {
  await withModel(
    async (model) => {
      const completion = await model.complete(PROMPT, { ...GREEDY, trace: true })
      const { events, lanes } = parse(completion)
      assert.equal([...lanes.values()].sort(), ['compute', 'disk', 'draft'])
      const of = (kind: SpanKind) => events.filter(({ cat }) => cat === kind)
      assert.is(
        of('prefill').reduce((sum, { args }) => sum + args.rows!, 0),
        completion.usage.promptTokens - 1,
      )
      assert.ok(of('pass').every(({ args }) => args.rows! >= 1 && args.rows! <= 9))
      assert.ok(of('read').every(({ args }) => args.bytes! % 4096 === 0 && args.io === 'buffered'))
      assert.ok(of('execute').some(({ name }) => /^layer 3( |$)/.test(name)))
      assert.ok(of('execute').some(({ name }) => /^head/.test(name)))
      for (const { name } of events) assert.not.match(name, 'undefined')
    },
    { ...streamed, io: 'buffered' },
  )
})

test('a call that is aborted has a trace of what it did until then', async () => {
  await withModel(async (model) => {
    const controller = new AbortController()
    try {
      for await (const _ of model.generate(PROMPT, {
        ...LONG,
        maxTokens: 200,
        signal: controller.signal,
        trace: true,
      })) {
        controller.abort()
      }
      assert.unreachable('it was not aborted')
    } catch (error) {
      assert.instance(error, AbortError)
      checkSums((error as AbortError).partial!)
    }
  }, streamed)
})

test('four loaders read large units, each with a lane, and what is written is what a resident model writes', async () => {
  const large = join(scratch, 'large-units')
  const sizes = { vocabulary: 512, hidden: 512, layers: 3, intermediate: 1536, windows: [0, 0, 0] }
  await writeSyntheticModel(large, { ...SHAPES['135M'], ...sizes }, 'f32')
  const prompt = { tokens: [1, 2, 3] }
  const options = { context: 64, threads: 2 }
  const resident = openInline(large, options)
  const expected = resident.generate(prompt, { ...GREEDY, maxTokens: 12, ignoreEos: true })
  const model = await load(large, { ...options, memory: resident.plan.smallestBudgetBytes })
  try {
    assert.is(model.plan.loaders, 4)
    const completion = await model.complete(prompt, { ...GREEDY, maxTokens: 12, ignoreEos: true, trace: true })
    assert.equal(completion.tokens, expected.tokens)
    checkSums(completion)
    const trace = parse(completion)
    checkNesting(trace)
    const lanes = ['compute', 'disk 1', 'disk 2', 'disk 3', 'disk 4', 'draft']
    assert.equal([...trace.lanes.values()].sort(), lanes)
  } finally {
    await model.close()
  }
})

test.run()
