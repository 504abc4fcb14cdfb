/**
 * Prints kernels/generated/gemm.ts: the inner loops of matrix multiplication for each tile size.
 * Accumulators must be locals to stay in registers, and AssemblyScript has no macros that would
 * write them, so the loops are printed.
 *
 * A tile is some rows of x times some groups of 8 outputs. The engines load everything that one turn
 * of a loop needs before they calculate, so accumulators and loads of a turn together have to fit
 * sixteen SIMD registers; kernels/README.md has the measurements.
 */

/** rows, groups of 8 outputs side by side (independent weight streams). */
const FLOAT_TILES = [
  [1, 2],
  [1, 1],
  [2, 2],
  [2, 1],
  [3, 1],
  [4, 1],
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

/** Bytes of one inner value of 8 outputs. */
const STEP_BYTES = { f32: 32, f16: 16 }

/** Inner values per turn of the loop: one, but see kernels/README.md. */
const stepsPerTurn = (kind, rows) => (kind === 'f16' && rows === 4 ? 2 : 1)

/** The weights of inner value u of a turn, as f32. */
function loadWeights(kind, u, groups) {
  return range(2 * groups).map((v) => {
    const at = `w_${v >> 1} + ${u * STEP_BYTES[kind] + ((v & 1) * STEP_BYTES[kind]) / 2}`
    return `    let w_${u}_${v} = ${kind === 'f32' ? `v128.load(${at})` : `widenHalves(${at}, mask, rebase)`}`
  })
}

function floatTile(kind, [rows, groups]) {
  const steps = stepsPerTurn(kind, rows)
  const cells = range(rows).flatMap((r) => range(2 * groups).map((v) => [r, v]))
  const step = (u) => [
    ...loadWeights(kind, u, groups),
    ...range(rows).flatMap((r) => [
      `    let x_${u}_${r} = v128.load32_splat(x_${r} + ${u * 4})`,
      ...range(2 * groups).map((v) => `    a_${r}_${v} = f32x4.add(a_${r}_${v}, f32x4.mul(x_${u}_${r}, w_${u}_${v}))`),
    ]),
  ]
  return lines([
    `function ${kind}_${rows}x${groups}(`,
    '  x: usize, xStride: usize, w: usize, columns: i32,',
    ...RESULT_PARAMETERS,
    `  const groupBytes = <usize>columns * ${STEP_BYTES[kind]}`,
    ...(kind === 'f16' ? ['  const mask = halvesMask(columns)', '  const rebase = halvesRebase(columns)'] : []),
    ...cells.map(([r, v]) => `  let a_${r}_${v} = f32x4.splat(0)`),
    ...range(rows).map((r) => `  let x_${r} = x + ${r} * xStride`),
    ...range(groups).map((g) => `  let w_${g} = w + ${g} * groupBytes`),
    '  const end = w + groupBytes',
    '  do {',
    ...range(steps).flatMap(step),
    ...range(rows).map((r) => `    x_${r} += ${steps * 4}`),
    ...range(groups).map((g) => `    w_${g} += ${steps * STEP_BYTES[kind]}`),
    '  } while (w_0 < end)',
    ...cells.map(([r, v]) => epilogue(r, v, `a_${r}_${v}`, v * 16)),
    '}',
  ])
}

const BLOCK_BYTES = { q8: 272, q4a: 160, q4: 144 }

/** Bytes of a block's scales, and of its minimums behind them. */
const SCALE_BYTES = { q8: 16, q4a: 32, q4: 16 }

/**
 * Bytes (q8) or nibbles (q4a, q4) of 8 outputs x 4 inner values as four i16 vectors: inner values 0 and 2
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

/**
 * Integers are exact, so the order within a block does not matter; the zero point of q4 is taken out
 * by starting at -8 times the sum of the block's activations. Floats: acc = acc + f32(dot) * (weight
 * scale * activation scale), and for q4a then acc = acc + f32(sum) * (minimum * activation scale).
 */
function intTile(kind, [rows, groups]) {
  const halves = range(groups).flatMap((g) => [
    [g, 0],
    [g, 1],
  ])
  const cells = range(rows).flatMap((r) => halves.map(([g, h]) => [r, g, h]))
  const name = (prefix, ...indices) => [prefix, ...indices].join('_')
  const zero = (r) => (kind === 'q4' ? `zero_${r}` : 'i32x4.splat(0)')
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
    `    const values = w_0 + ${BLOCK_BYTES[kind] - SCALE_BYTES[kind]}`,
    '    do {',
    ...range(groups).flatMap((g) => widen(kind, g)),
    ...range(rows).flatMap((r) => [
      `      let b_x_${r} = v128.load32_splat(x_${r})`,
      `      let x_even_${r} = i16x8.shr_s(i16x8.shl(b_x_${r}, 8), 8)`,
      `      let x_odd_${r} = i16x8.shr_s(b_x_${r}, 8)`,
      ...halves.flatMap(([g, h]) => {
        const sum = name('i', r, g, h)
        return [
          `      ${sum} = i32x4.add(${sum}, i32x4.dot_i16x8_s(even_${g}_${h}, x_even_${r}))`,
          `      ${sum} = i32x4.add(${sum}, i32x4.dot_i16x8_s(odd_${g}_${h}, x_odd_${r}))`,
        ]
      }),
      `      x_${r} += 4`,
    ]),
    ...range(groups).map((g) => `      w_${g} += ${kind === 'q8' ? 32 : 16}`),
    '    } while (w_0 < values)',
    ...halves.map(([g, h]) => `    const scale_${g}_${h} = halves4(w_${g} + ${8 * h})`),
    ...range(rows).map((r) => `    const s_${r} = v128.load32_splat(scales + ${r} * blockRow)`),
    ...cells.map(([r, g, h]) => {
      const sum = name('a', r, g, h)
      const dot = `f32x4.convert_i32x4_s(${name('i', r, g, h)})`
      return `    ${sum} = f32x4.add(${sum}, f32x4.mul(${dot}, f32x4.mul(scale_${g}_${h}, s_${r})))`
    }),
    ...(kind === 'q4a' ? addMinimums(rows, halves, name) : []),
    '    scales += 4',
    kind === 'q8' ? '' : '    sums += 4',
    ...range(groups).map((g) => `    w_${g} += ${SCALE_BYTES[kind]}`),
    '  }',
    ...cells.map(([r, g, h]) => epilogue(r, 2 * g + h, name('a', r, g, h), 32 * g + 16 * h)),
    '}',
  ])
}

/** What the minimums of a q4a block add: each inner value's activation times the minimum. */
function addMinimums(rows, halves, name) {
  return [
    ...halves.map(([g, h]) => `    const minimum_${g}_${h} = halves4(w_${g} + ${16 + 8 * h})`),
    ...range(rows).flatMap((r) => [
      `    const sum_${r} = f32x4.convert_i32x4_s(v128.load32_splat(sums + ${r} * blockRow))`,
      ...halves.map(([g, h]) => {
        const sum = name('a', r, g, h)
        return `    ${sum} = f32x4.add(${sum}, f32x4.mul(sum_${r}, f32x4.mul(minimum_${g}_${h}, s_${r})))`
      }),
    ]),
  ]
}

/** The text of kernels/generated/gemm.ts. */
export function generateGemm() {
  return `${[
    '// Printed by kernels/generate.mjs; change that instead.',
    "import { halves4, halvesMask, halvesRebase, widenHalves } from '../half'",
    ...['f32', 'f16'].flatMap((kind) => FLOAT_TILES.map((tile) => `export ${floatTile(kind, tile)}`)),
    ...['q8', 'q4a', 'q4'].flatMap((kind) => INT_TILES.map((tile) => `export ${intTile(kind, tile)}`)),
  ].join('\n\n')}\n`
}
