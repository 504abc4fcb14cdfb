// Attention of rows that share a prefix and differ in their ancestors, in phases: every phase is a job
// that divides over all threads, and begins when the one before is done. Scores are indexed by absolute
// position, so lane = position mod 4 wherever lanes are summed, and a tree node repeats the operations
// of the same token in plain decoding.
import { prefixOf, ancestorsOf, visibleEnd, visibleBegin, isQ8, groupOf, scoresOf, sumOf, valuesOf, runLength } from './attention-job'
import { quantiseQueries, scorePrefix, scoreOne } from './attention-scores'
import { addValues } from './attention-values'
import { EXP_TABLE_BYTES } from './exp'
import { ATTENTION_HEADS, ATTENTION_PHASE, ATTENTION_ROWS, ATTENTION_SCALES_OFFSET, ATTENTION_SCORE_STRIDE, ATTENTION_SOFTCAP, float, int, PHASE_QUERIES, PHASE_SCORES, PHASE_VALUES, PHASE_WEIGHTS, pointer, shareBegin } from './record'
import { softmax } from './softmax'

export function attention(record: usize, part: i32, parts: i32): void {
  switch (int(record, ATTENTION_PHASE)) {
    case PHASE_QUERIES:
      return quantiseQueries(record, part, parts)
    case PHASE_SCORES:
      return scorePrefix(record, part, parts)
    case PHASE_WEIGHTS:
      return weighRows(record, part, parts)
    case PHASE_VALUES:
      return addValues(record, part, parts)
    default:
      unreachable()
  }
}

// Phase 2: scores of the ancestors, softmax, and for q8 the values' scales. Shares are runs of (row, head).
function weighRows(record: usize, part: i32, parts: i32): void {
  const heads = int(record, ATTENTION_HEADS)
  const group = groupOf(record)
  const end = shareBegin(int(record, ATTENTION_ROWS) * heads, part + 1, parts)
  for (let unit = shareBegin(int(record, ATTENTION_ROWS) * heads, part, parts); unit < end; unit++) {
    const row = unit / heads
    const head = unit % heads
    const kvHead = head / group
    const scores = scoresOf(record, row, head)
    const prefix = prefixOf(record, row)
    const begin = visibleBegin(record, row)
    const visible = visibleEnd(record, row)
    const ancestors = ancestorsOf(record, row)
    const count = visible - prefix
    for (let i = max(0, begin - prefix); i < count; ) {
      const run = runLength(ancestors, i, count)
      scoreOne(record, kvHead, row, head, load<i32>(ancestors + (<usize>i << 2)), prefix + i, run, scores, 0)
      i += run
    }
    const table = scores + pointer(record, ATTENTION_SCORE_STRIDE) - 16 - EXP_TABLE_BYTES
    const sum = softmax(scores, begin, visible, float(record, ATTENTION_SOFTCAP), table)
    store<f32>(sumOf(record, row, head), sum)
    if (isQ8(record)) {
      const scales = valuesOf(record, kvHead) + pointer(record, ATTENTION_SCALES_OFFSET)
      scaleWeights(scores, scales, begin, min(prefix, visible))
      for (let i = max(0, begin - prefix); i < count; i++) {
        const scale = load<f32>(scales + (<usize>load<i32>(ancestors + (<usize>i << 2)) << 2))
        const at = scores + (<usize>(prefix + i) << 2)
        store<f32>(at, load<f32>(at) * scale)
      }
    }
  }
}

@inline
function scaleWeights(weights: usize, scales: usize, begin: i32, end: i32): void {
  let position = begin
  for (; position + 4 <= end; position += 4) {
    const at = <usize>position << 2
    v128.store(weights + at, f32x4.mul(v128.load(weights + at), v128.load(scales + at)))
  }
  for (; position < end; position++) {
    const at = <usize>position << 2
    store<f32>(weights + at, load<f32>(weights + at) * load<f32>(scales + at))
  }
}
