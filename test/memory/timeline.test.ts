import { Worker } from 'node:worker_threads'
import * as fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { type SpanKind, SpanRecord, SpanRing, Timeline } from '../../src/memory/timeline.ts'
import { clockOrigin, now } from '../../src/runtime/platform.ts'

const test = suite('timeline')

const sumOf = (record: SpanRecord, kind: SpanKind): number =>
  [...record].filter((span) => span.kind === kind).reduce((sum, { ms }) => sum + ms, 0)

test('sums are those of the recorded spans, of the engine and of loaders', () => {
  const kinds: SpanKind[] = ['read', 'check', 'wait', 'execute', 'propose', 'grow']
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.nat(2), fc.nat(5), fc.nat(9)), { maxLength: 200 }), (spans) => {
      const timeline = new Timeline(2)
      const rings = [0, 1].map((loader) => new SpanRing(timeline.buffer, loader))
      const record = new SpanRecord()
      timeline.begin(record)
      for (const [where, kind, ago] of spans) (rings[where] ?? timeline).add(kinds[kind], now() - ago, kind, ago)
      timeline.end()
      assert.is(record.count, spans.length)
      for (const kind of kinds) {
        const sum = sumOf(record, kind)
        assert.ok(Math.abs(timeline.ms(kind) - sum) <= 1e-9 * sum, `${kind}: ${timeline.ms(kind)} ms and ${sum} ms`)
      }
      const written = (loader: number): number[] => spans.filter(([where]) => where === loader).map(([, kind]) => kind)
      for (const loader of [0, 1]) {
        const kept = [...record].filter((span) => span.loader === loader).map(({ unit }) => unit)
        assert.equal(kept, written(loader))
      }
    }),
    { numRuns: 50 },
  )
})

test('a loader whose ring is full goes on, and what is lost is counted', () => {
  const timeline = new Timeline(1)
  const ring = new SpanRing(timeline.buffer, 0)
  const record = new SpanRecord()
  timeline.begin(record)
  for (let i = 0; i < 1500; i++) ring.add('read', now(), i, 0)
  timeline.end()
  assert.is(record.count + record.dropped, 1500)
  assert.ok(record.dropped > 0 && record.count > 1000, `${record.dropped} dropped`)
  // The oldest ones are kept, and there is room again.
  assert.is([...record][999].unit, 999)
  const next = new SpanRecord()
  timeline.begin(next)
  ring.add('read', now(), 7, 0)
  timeline.end()
  assert.equal(
    [...next].map(({ unit }) => unit),
    [7],
  )
  assert.is(next.dropped, 0)
})

test('a record that is full counts what it cannot keep', () => {
  const timeline = new Timeline(0)
  const record = new SpanRecord(2000)
  timeline.begin(record)
  for (let i = 0; i < 2500; i++) timeline.add('execute', now() - 1, i, 1)
  timeline.end()
  assert.is(record.count, 2000)
  assert.is(record.dropped, 500)
  assert.ok(timeline.ms('execute') >= 2500, 'sums know all of them')
})

test('what happened before or after a call is none of its', () => {
  const timeline = new Timeline(1)
  const ring = new SpanRing(timeline.buffer, 0)
  ring.add('read', now() - 100, 0, 0)
  timeline.begin(undefined)
  ring.add('read', now() - 10, 0, 0)
  timeline.end()
  const ms = timeline.ms('read')
  ring.add('read', now() - 100, 0, 0)
  assert.ok(ms >= 10 && ms < 60, `${ms}`)
  assert.is(timeline.ms('read'), ms)
})

/** Answers each number that comes in word 0 with the same in word 1 and the time at byte 8. */
const CLOCK = `
  const { workerData } = require('node:worker_threads')
  const words = new Int32Array(workerData, 0, 2)
  const time = new Float64Array(workerData, 8, 1)
  for (let last = 0; last >= 0; ) {
    const asked = Atomics.load(words, 0)
    if (asked === last) continue
    time[0] = performance.timeOrigin + performance.now()
    Atomics.store(words, 1, asked)
    last = asked
  }`

test('clocks of two threads agree once their origins are taken into account', async () => {
  const shared = new SharedArrayBuffer(16)
  const words = new Int32Array(shared, 0, 2)
  const time = new Float64Array(shared, 8, 1)
  // Origins differ where a thread's clock begins with the thread.
  await new Promise((resolve) => setTimeout(resolve, 50))
  const worker = new Worker(CLOCK, { eval: true, workerData: shared })
  const gone = new Promise((resolve) => worker.once('exit', resolve))
  let [least, most] = [Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY]
  await new Promise((resolve) => worker.once('online', resolve))
  for (let i = 1; i <= 2000; i++) {
    const before = clockOrigin() + now()
    Atomics.store(words, 0, i)
    while (Atomics.load(words, 1) !== i);
    // The worker's answer was given between the two.
    least = Math.max(least, time[0] - (clockOrigin() + now()))
    most = Math.min(most, time[0] - before)
  }
  Atomics.store(words, 0, -1)
  await gone
  assert.ok(least < 0.05 && most > -0.05, `the worker's clock is ahead by ${least} to ${most} ms`)
})

test.run()
