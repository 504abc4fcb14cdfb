/**
 * Prints kernels/generated/attention.ts: the inner loops of attention. A tile is one or two queries
 * times four keys (scores) or four vectors of a value (weighted values), over a run of neighbouring
 * cache slots; a second query shares every load of the cache. As with matrix products, accumulators
 * and loads of one turn have to fit sixteen SIMD registers.
 */

const KINDS = ['f32', 'q8']
/** Queries side by side. */
const QUERIES = [1, 2]
/** Neighbouring keys side by side; the last keys of a run go one at a time. */
const KEYS = 4
/** Vectors of four dimensions side by side; the end of a head size that four do not divide goes one at a time. */
const VECTORS = [4, 1]

const range = (n) => Array.from({ length: n }, (_, i) => i)
// A turn brings some of what the next block reads into the cache: a load whose value nobody uses.
const AHEAD = 'ahead: usize, aheadStep: usize'
const TOUCH = ['      load<u8>(ahead)', '      ahead += aheadStep']
// The same for all turns of four int8 keys, whose turns are so short that it would take a tenth of them.
const TOUCH_KEYS = [
  '    const touched = ahead + aheadStep * (keyBytes >> 3)',
  '    for (let line = ahead; line < touched; line += 64) load<u8>(line)',
  '    ahead = touched',
]

const lines = (list) => list.filter((line) => line !== '').join('\n')

/** Bytes of a query that one turn multiplies: four f32, or eight i16 with eight int8 of a key. */
const STEP = { f32: { query: 16, key: 16 }, q8: { query: 16, key: 8 } }

const loadKey = (kind, pointer) => (kind === 'f32' ? `v128.load(${pointer})` : `v128.load_ext<i8>(${pointer})`)

const multiplyAdd = (kind, sum, x, y) =>
  kind === 'f32'
    ? `${sum} = f32x4.add(${sum}, f32x4.mul(${x}, ${y}))`
    : `${sum} = i32x4.add(${sum}, i32x4.dot_i16x8_s(${x}, ${y}))`

/** The loop over the head dimension for `keys` keys: sums `a_query_key`. */
function dots(kind, queries, keys, touch = false) {
  const cells = range(queries).flatMap((q) => range(keys).map((k) => [q, k]))
  return [
    ...cells.map(([q, k]) => `    let a_${q}_${k} = ${kind === 'f32' ? 'f32x4' : 'i32x4'}.splat(0)`),
    ...range(queries).map((q) => `    let x_${q} = query${q}`),
    ...range(keys).map((k) => `    let k_${k} = ${k === 0 ? 'key' : `k_${k - 1} + keyBytes`}`),
    '    const end = key + keyBytes',
    '    while (k_0 < end) {',
    ...(touch && kind === 'f32' ? TOUCH : []),
    ...range(keys).map((k) => `      const y_${k} = ${loadKey(kind, `k_${k}`)}`),
    ...range(queries).flatMap((q) => [
      `      const v_${q} = v128.load(x_${q})`,
      ...range(keys).map((k) => `      ${multiplyAdd(kind, `a_${q}_${k}`, `v_${q}`, `y_${k}`)}`),
    ]),
    ...range(queries).map((q) => `      x_${q} += ${STEP[kind].query}`),
    ...range(keys).map((k) => `      k_${k} += ${STEP[kind].key}`),
    '    }',
  ]
}

/**
 * Scores of a run of `count` neighbouring keys. f32: `(l0 + l1) + (l2 + l3)` of four lanes over the head
 * dimension, times the factor. q8: an exact integer dot product, times (key's scale * factor).
 */
function scores(kind, queries) {
  const each = (text) => range(queries).map(text)
  const sums = (q) => `sumColumns_${kind}(${range(KEYS).map((k) => `a_${q}_${k}`)})`
  const factor4 = (q) => (kind === 'f32' ? `factors${q}` : `f32x4.mul(v128.load(keyScales), factors${q})`)
  const factor1 = (q) => (kind === 'f32' ? `factor${q}` : `load<f32>(keyScales) * factor${q}`)
  const sum1 = (q) => (kind === 'f32' ? `sum4(a_${q}_0)` : `<f32>sum4i(a_${q}_0)`)
  const advance = (keys) => [
    `    key += ${keys === 1 ? '' : `${keys} * `}keyBytes`,
    kind === 'q8' ? `    keyScales += ${4 * keys}` : '',
    ...each((q) => `    target${q} += ${4 * keys}`),
  ]
  return lines([
    `export function ${kind}Scores${queries}(`,
    `  ${each((q) => `query${q}: usize, factor${q}: f32, target${q}: usize`).join(', ')},`,
    `  key: usize, keyBytes: usize,${kind === 'q8' ? ' keyScales: usize,' : ''} count: i32, ${AHEAD},`,
    '): void {',
    ...each((q) => `  const factors${q} = f32x4.splat(factor${q})`),
    `  for (; count >= ${KEYS}; count -= ${KEYS}) {`,
    ...(kind === 'q8' ? TOUCH_KEYS : []),
    ...dots(kind, queries, KEYS, true),
    ...each((q) => `    v128.store(target${q}, f32x4.mul(${sums(q)}, ${factor4(q)}))`),
    ...advance(KEYS),
    '  }',
    '  for (; count > 0; count--) {',
    ...dots(kind, queries, 1),
    ...each((q) => `    store<f32>(target${q}, ${sum1(q)} * (${factor1(q)}))`),
    ...advance(1),
    '  }',
    '}',
  ])
}

/** output += weight * value for a run of `count` neighbouring slots, one position after the other. */
function values(queries, vectors) {
  const touches = vectors > 1
  const each = (text) => range(queries).map(text)
  const cells = range(queries).flatMap((q) => range(vectors).map((v) => [q, v]))
  return lines([
    `export function values${queries}x${vectors}(`,
    `  ${each((q) => `output${q}: usize, weights${q}: usize`).join(', ')},`,
    `  value: usize, valueBytes: usize, count: i32,${touches ? ` ${AHEAD},` : ''}`,
    '): void {',
    ...cells.map(([q, v]) => `  let a_${q}_${v} = v128.load(output${q}, ${16 * v})`),
    '  const end = weights0 + (<usize>count << 2)',
    '  while (weights0 < end) {',
    ...(touches ? TOUCH : []),
    ...range(vectors).map((v) => `    const d_${v} = v128.load(value, ${16 * v})`),
    ...range(queries).flatMap((q) => [
      `    const w_${q} = v128.load32_splat(weights${q})`,
      ...range(vectors).map((v) => `    ${multiplyAdd('f32', `a_${q}_${v}`, `w_${q}`, `d_${v}`)}`),
    ]),
    '    value += valueBytes',
    ...each((q) => `    weights${q} += 4`),
    '  }',
    ...cells.map(([q, v]) => `  v128.store(output${q}, a_${q}_${v}, ${16 * v})`),
    '}',
  ])
}

/** The sum of each of four vectors, by a transposition; for f32 in the order of `sum4`. */
function sumColumns(kind) {
  const add = kind === 'f32' ? 'f32x4.add' : 'i32x4.add'
  const sum = `${add}(${add}(lane0, lane1), ${add}(lane2, lane3))`
  return lines([
    '@inline',
    `function sumColumns_${kind}(a: v128, b: v128, c: v128, d: v128): v128 {`,
    '  const ab01 = v128.shuffle<f32>(a, b, 0, 4, 1, 5)',
    '  const ab23 = v128.shuffle<f32>(a, b, 2, 6, 3, 7)',
    '  const cd01 = v128.shuffle<f32>(c, d, 0, 4, 1, 5)',
    '  const cd23 = v128.shuffle<f32>(c, d, 2, 6, 3, 7)',
    '  const lane0 = v128.shuffle<f32>(ab01, cd01, 0, 1, 4, 5)',
    '  const lane1 = v128.shuffle<f32>(ab01, cd01, 2, 3, 6, 7)',
    '  const lane2 = v128.shuffle<f32>(ab23, cd23, 0, 1, 4, 5)',
    '  const lane3 = v128.shuffle<f32>(ab23, cd23, 2, 3, 6, 7)',
    `  return ${kind === 'f32' ? sum : `f32x4.convert_i32x4_s(${sum})`}`,
    '}',
  ])
}

/** The text of kernels/generated/attention.ts. */
export function generateAttention() {
  return `${[
    '// Printed by kernels/generate-attention.mjs; change that instead.',
    "import { sum4, sum4i } from '../lanes'",
    ...KINDS.map(sumColumns),
    ...KINDS.flatMap((kind) => QUERIES.map((queries) => scores(kind, queries))),
    ...QUERIES.flatMap((queries) => VECTORS.map((vectors) => values(queries, vectors))),
  ].join('\n\n')}\n`
}
