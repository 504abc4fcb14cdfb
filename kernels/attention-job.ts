// What the words of an attention record stand for: addresses and limits that every phase asks for.
import { q8VectorBytes } from './kv-vector'
import { ATTENTION_ANCESTOR_OFFSETS, ATTENTION_ANCESTOR_SLOTS, ATTENTION_HEAD_SIZE, ATTENTION_HEAD_STRIDE, ATTENTION_HEADS, ATTENTION_KEYS, ATTENTION_KV_HEADS, ATTENTION_OUTPUT, ATTENTION_OUTPUT_STRIDE, ATTENTION_PREFIXES, ATTENTION_QUERIES, ATTENTION_QUERY_STRIDE, ATTENTION_ROWS, ATTENTION_SCALE, ATTENTION_SCALES_OFFSET, ATTENTION_SCORE_STRIDE, ATTENTION_SCORES, ATTENTION_VALUES, ATTENTION_WINDOW, float, int, pointer } from './record'

// Positions whose keys or values stay in the first-level cache while all queries use them.
export const BLOCK: i32 = 64
// Dimensions of a head that are a unit of work in the last phase: a cache line of f32.
export const STRIPE: i32 = 16

@inline
export function prefixOf(record: usize, row: i32): i32 {
  return load<i32>(pointer(record, ATTENTION_PREFIXES) + (<usize>row << 2))
}

// Address of the row's ancestor slots.
@inline
export function ancestorsOf(record: usize, row: i32): usize {
  const first = load<i32>(pointer(record, ATTENTION_ANCESTOR_OFFSETS) + (<usize>row << 2))
  return pointer(record, ATTENTION_ANCESTOR_SLOTS) + (<usize>first << 2)
}

// Position behind the row's own.
@inline
export function visibleEnd(record: usize, row: i32): i32 {
  const at = pointer(record, ATTENTION_ANCESTOR_OFFSETS) + (<usize>row << 2)
  return prefixOf(record, row) + load<i32>(at, 4) - load<i32>(at)
}

// First position that the row sees.
@inline
export function visibleBegin(record: usize, row: i32): i32 {
  const window = int(record, ATTENTION_WINDOW)
  return window > 0 ? max(0, visibleEnd(record, row) - window) : 0
}

@inline
export function longestPrefix(record: usize): i32 {
  let longest = 0
  for (let row = 0; row < int(record, ATTENTION_ROWS); row++) longest = max(longest, prefixOf(record, row))
  return longest
}

// The start of the vector of four positions that holds the first one that any row sees.
@inline
export function earliestPosition(record: usize): i32 {
  let earliest = i32.MAX_VALUE
  for (let row = 0; row < int(record, ATTENTION_ROWS); row++) earliest = min(earliest, visibleBegin(record, row))
  return earliest & ~3
}

@inline
export function isQ8(record: usize): bool {
  return int(record, ATTENTION_SCALES_OFFSET) != 0
}

// Bytes of one key or value in the cache.
@inline
export function vectorBytes(record: usize): usize {
  const size = int(record, ATTENTION_HEAD_SIZE)
  return isQ8(record) ? q8VectorBytes(size) : <usize>size << 2
}

@inline
export function groupOf(record: usize): i32 {
  return int(record, ATTENTION_HEADS) / int(record, ATTENTION_KV_HEADS)
}

@inline
export function headBytes(record: usize): usize {
  return <usize>int(record, ATTENTION_HEAD_SIZE) << 2
}

@inline
export function outputOf(record: usize, row: i32, head: i32): usize {
  const start = pointer(record, ATTENTION_OUTPUT) + <usize>row * pointer(record, ATTENTION_OUTPUT_STRIDE)
  return start + <usize>head * headBytes(record)
}

@inline
export function f32QueryOf(record: usize, row: i32, head: i32): usize {
  const start = pointer(record, ATTENTION_QUERIES) + <usize>row * pointer(record, ATTENTION_QUERY_STRIDE)
  return start + <usize>head * headBytes(record)
}

// Where scores read a query: quantised ones lie in the output, which nothing else needs before the last phase.
@inline
export function queryOf(record: usize, row: i32, head: i32): usize {
  return isQ8(record) ? outputOf(record, row, head) : f32QueryOf(record, row, head)
}

// What a dot product with the query is multiplied by.
@inline
export function factorOf(record: usize, query: usize): f32 {
  return isQ8(record) ? load<f32>(query + 2 * vectorBytes(record)) : float(record, ATTENTION_SCALE)
}

// Scores by position. Behind them in the stride: the table of exp, and 16 bytes for the sum of the weights.
@inline
export function scoresOf(record: usize, row: i32, head: i32): usize {
  const index = row * int(record, ATTENTION_HEADS) + head
  return pointer(record, ATTENTION_SCORES) + <usize>index * pointer(record, ATTENTION_SCORE_STRIDE)
}

@inline
export function sumOf(record: usize, row: i32, head: i32): usize {
  return scoresOf(record, row, head) + pointer(record, ATTENTION_SCORE_STRIDE) - 16
}

@inline
export function keysOf(record: usize, kvHead: i32): usize {
  return pointer(record, ATTENTION_KEYS) + <usize>kvHead * pointer(record, ATTENTION_HEAD_STRIDE)
}

@inline
export function valuesOf(record: usize, kvHead: i32): usize {
  return pointer(record, ATTENTION_VALUES) + <usize>kvHead * pointer(record, ATTENTION_HEAD_STRIDE)
}

// Neighbouring slots among the ancestors from `index` on.
@inline
export function runLength(ancestors: usize, index: i32, count: i32): i32 {
  const slot = load<i32>(ancestors + (<usize>index << 2))
  let length = 1
  while (index + length < count && load<i32>(ancestors + (<usize>(index + length) << 2)) == slot + length) length++
  return length
}
