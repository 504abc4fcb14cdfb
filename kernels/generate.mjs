/**
 * Prints kernels/generated/gemm.ts: the inner loops of matrix multiplication for each tile size.
 * Accumulators must be locals to stay in registers, and AssemblyScript has no macros that would
 * write them, so the loops are printed.
 *
 * A tile is some rows of x times some groups of 8 outputs. The engines load everything that one turn
 * of a loop needs before they calculate, so accumulators and loads of a turn together have to fit
 * sixteen SIMD registers; kernels/README.md has the measurements.
 */

/** rows, groups of 8 outputs side by side (independent weight streams), inner values per turn. */
const F32_TILES = [
  [1, 2, 2],
  [1, 1, 2],
  [2, 2, 1],
  [2, 1, 2],
  [3, 1, 1],
  [4, 1, 1],
]

/** rows, groups side by side. */
const INT_TILES = [
  [1, 4],
  [1, 1],
  [2, 2],
  [2, 1],
  [3, 1],
  [4, 1],
  [5, 1],
]

const range = (n) => Array.from({ length: n }, (_, i) => i)
const lines = (list) => list.filter((line) => line !== '').join('\n')

const RESULT_PARAMETERS = ['  y: usize, yStride: usize, bias: usize, accumulate: bool,', '): void {']

/** Stores vector v of row r: y = acc (+ bias), y = previous + y. */
const epilogue = (r, v, acc, offset) =>
  lines([
    `  let out_${r}_${v} = ${acc}`,
    `  if (bias != 0) out_${r}_${v} = f32x4.add(out_${r}_${v}, v128.load(bias + ${offset}))`,
    `  if (accumulate) out_${r}_${v} = f32x4.add(v128.load(y + ${r} * yStride + ${offset}), out_${r}_${v})`,
    `  v128.store(y + ${r} * yStride + ${offset}, out_${r}_${v})`,
  ])

function f32Tile([rows, groups, unroll]) {
  const cells = range(rows).flatMap((r) => range(2 * groups).map((v) => [r, v]))
  const step = (u) => [
    ...range(2 * groups).map((v) => `    let w_${u}_${v} = v128.load(w_${v >> 1} + ${u * 32 + (v & 1) * 16})`),
    ...range(rows).flatMap((r) => [
      `    let x_${u}_${r} = v128.load32_splat(x_${r} + ${u * 4})`,
      ...range(2 * groups).map((v) => `    a_${r}_${v} = f32x4.add(a_${r}_${v}, f32x4.mul(x_${u}_${r}, w_${u}_${v}))`),
    ]),
  ]
  return lines([
    `function f32_${rows}x${groups}(`,
    '  x: usize, xStride: usize, w: usize, groupBytes: usize, columns: i32,',
    ...RESULT_PARAMETERS,
    ...cells.map(([r, v]) => `  let a_${r}_${v} = f32x4.splat(0)`),
    ...range(rows).map((r) => `  let x_${r} = x + ${r} * xStride`),
    ...range(groups).map((g) => `  let w_${g} = w + ${g} * groupBytes`),
    `  for (let k = 0; k < columns; k += ${unroll}) {`,
    ...range(unroll).flatMap(step),
    ...range(rows).map((r) => `    x_${r} += ${unroll * 4}`),
    ...range(groups).map((g) => `    w_${g} += ${unroll * 32}`),
    '  }',
    ...cells.map(([r, v]) => epilogue(r, v, `a_${r}_${v}`, v * 16)),
    '}',
  ])
}

const BLOCK_BYTES = { q8: 272, q4: 144 }

/**
 * Bytes (q8) or nibbles (q4) of 8 outputs x 4 inner values as four i16 vectors: inner values 0 and 2
 * (even) and 1 and 3 (odd) of outputs 0-3 and 4-7, so that a dot product leaves one sum per output.
 */
function widen(kind, g) {
  if (kind === 'q8') {
    return range(2).flatMap((h) => [
      `      let b_${g}_${h} = v128.load(w_${g} + ${16 * h})`,
      `      let even_${g}_${h} = i16x8.shr_s(i16x8.shl(b_${g}_${h}, 8), 8)`,
      `      let odd_${g}_${h} = i16x8.shr_s(b_${g}_${h}, 8)`,
    ])
  }
  return [
    `      let b_${g} = v128.load(w_${g})`,
    `      let even_${g}_0 = i16x8.shr_u(i16x8.shl(b_${g}, 12), 12)`,
    `      let odd_${g}_0 = i16x8.shr_u(i16x8.shl(b_${g}, 4), 12)`,
    `      let even_${g}_1 = i16x8.shr_u(i16x8.shl(b_${g}, 8), 12)`,
    `      let odd_${g}_1 = i16x8.shr_u(b_${g}, 12)`,
  ]
}

function widenedStep(kind, rows, groups) {
  return [
    ...range(groups).flatMap((g) => widen(kind, g)),
    ...range(rows).flatMap((r) => [
      `      let b_x_${r} = v128.load32_splat(x_${r})`,
      `      let x_even_${r} = i16x8.shr_s(i16x8.shl(b_x_${r}, 8), 8)`,
      `      let x_odd_${r} = i16x8.shr_s(b_x_${r}, 8)`,
      ...range(groups).flatMap((g) =>
        range(2).flatMap((h) => [
          `      i_${r}_${g}_${h} = i32x4.add(i_${r}_${g}_${h}, i32x4.dot_i16x8_s(even_${g}_${h}, x_even_${r}))`,
          `      i_${r}_${g}_${h} = i32x4.add(i_${r}_${g}_${h}, i32x4.dot_i16x8_s(odd_${g}_${h}, x_odd_${r}))`,
        ]),
      ),
    ]),
  ]
}

const relaxed = (instruction, type) => `${type}.relaxed_dot_i8x16_i7x16_${instruction}`

/**
 * Relaxed dot products take int8 activations and unsigned nibbles as they lie in memory: four inner values
 * of one output are one 32-bit lane. i16 lanes hold the sums of a whole block: 16 * 127 * 15 < 2^15.
 */
function relaxedStep(rows, groups, dot) {
  return [
    ...range(groups).flatMap((g) => [
      `      let b_${g} = v128.load(w_${g})`,
      `      let n_${g}_0 = v128.and(b_${g}, i8x16.splat(15))`,
      `      let n_${g}_1 = v128.and(i16x8.shr_u(b_${g}, 4), i8x16.splat(15))`,
    ]),
    ...range(rows).flatMap((r) => [
      `      let b_x_${r} = v128.load32_splat(x_${r})`,
      ...range(groups).flatMap((g) => range(2).map((h) => dot(`${r}_${g}_${h}`, `b_x_${r}, n_${g}_${h}`))),
    ]),
  ]
}

const relaxedI16Step = (rows, groups) =>
  relaxedStep(rows, groups, (c, xw) => `      h_${c} = i16x8.add(h_${c}, ${relaxed('s', 'i16x8')}(${xw}))`)

const relaxedI32Step = (rows, groups) =>
  relaxedStep(rows, groups, (c, xw) => `      i_${c} = ${relaxed('add_s', 'i32x4')}(${xw}, i_${c})`)

/**
 * Integers are exact, so the order within a block does not matter; the zero point of q4 is taken out
 * by starting at -8 times the sum of the block's activations. Floats: acc = acc + f32(dot) * (weight
 * scale * activation scale).
 */
function intTile(kind, [rows, groups]) {
  const halves = range(groups).flatMap((g) => [
    [g, 0],
    [g, 1],
  ])
  const cells = range(rows).flatMap((r) => halves.map(([g, h]) => [r, g, h]))
  const name = (prefix, ...indices) => [prefix, ...indices].join('_')
  const zero = (r) => (kind === 'q8' ? 'i32x4.splat(0)' : `zero_${r}`)
  return lines([
    `function ${kind}_${rows}x${groups}(`,
    '  x: usize, xStride: usize, scales: usize, sums: usize, w: usize, groupBytes: usize, blocks: i32,',
    ...RESULT_PARAMETERS,
    '  const blockRow = <usize>blocks * 4',
    ...cells.map((cell) => `  let ${name('a', ...cell)} = f32x4.splat(0)`),
    ...range(rows).map((r) => `  let x_${r} = x + ${r} * xStride`),
    ...range(groups).map((g) => `  let w_${g} = w + ${g} * groupBytes`),
    '  const end = w + groupBytes',
    '  while (w_0 < end) {',
    ...(kind === 'q4'
      ? range(rows).map(
          (r) => `    const zero_${r} = i32x4.neg(i32x4.shl(v128.load32_splat(sums + ${r} * blockRow), 3))`,
        )
      : []),
    ...cells.map((cell) => `    let ${name('i', ...cell)} = ${zero(cell[0])}`),
    ...(kind === 'q4' ? cells.map((cell) => `    let ${name('h', ...cell)} = i16x8.splat(0)`) : []),
    `    const values = w_0 + ${BLOCK_BYTES[kind] - 16}`,
    '    do {',
    ...(kind === 'q8'
      ? widenedStep(kind, rows, groups)
      : [
          '    if (VARIANT == SIMD128) {',
          ...widenedStep(kind, rows, groups),
          '    } else if (VARIANT == RELAXED_I16) {',
          ...relaxedI16Step(rows, groups),
          '    } else {',
          ...relaxedI32Step(rows, groups),
          '    }',
        ]),
    ...range(rows).map((r) => `      x_${r} += 4`),
    ...range(groups).map((g) => `      w_${g} += ${kind === 'q8' ? 32 : 16}`),
    '    } while (w_0 < values)',
    ...(kind === 'q4'
      ? [
          '    if (VARIANT == RELAXED_I16) {',
          ...cells.map((cell) => {
            const sum = name('i', ...cell)
            return `      ${sum} = i32x4.add(${sum}, i32x4.extadd_pairwise_i16x8_s(${name('h', ...cell)}))`
          }),
          '    }',
        ]
      : []),
    ...halves.map(([g, h]) => `    const scale_${g}_${h} = halves4(w_${g} + ${8 * h})`),
    ...range(rows).map((r) => `    const s_${r} = v128.load32_splat(scales + ${r} * blockRow)`),
    ...cells.map(([r, g, h]) => {
      const sum = name('a', r, g, h)
      const dot = `f32x4.convert_i32x4_s(${name('i', r, g, h)})`
      return `    ${sum} = f32x4.add(${sum}, f32x4.mul(${dot}, f32x4.mul(scale_${g}_${h}, s_${r})))`
    }),
    '    scales += 4',
    kind === 'q4' ? '    sums += 4' : '',
    ...range(groups).map((g) => `    w_${g} += 16`),
    '  }',
    ...cells.map(([r, g, h]) => epilogue(r, 2 * g + h, name('a', r, g, h), 32 * g + 16 * h)),
    '}',
  ])
}

/** The text of kernels/generated/gemm.ts. */
export function generateGemm() {
  return `${[
    '// Printed by kernels/generate.mjs; change that instead.',
    "import { halves4 } from '../half'",
    "import { RELAXED_I16, SIMD128, VARIANT } from '../variant'",
    ...F32_TILES.map((tile) => `export ${f32Tile(tile)}`),
    ...['q8', 'q4'].flatMap((kind) => INT_TILES.map((tile) => `export ${intTile(kind, tile)}`)),
  ].join('\n\n')}\n`
}
