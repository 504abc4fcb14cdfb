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
    `  if (bias != 0) out_${r}_${v} = f32x4.add(out_${r}_${v}, v128.load(bias, ${offset}))`,
    `  if (accumulate) out_${r}_${v} = f32x4.add(v128.load(y + ${r} * yStride, ${offset}), out_${r}_${v})`,
    `  v128.store(y + ${r} * yStride, out_${r}_${v}, ${offset})`,
  ])

/** Bytes of one inner value of 8 outputs. */
const STEP_BYTES = { f32: 32, f16: 16 }

/** Inner values per turn of the loop: one, but see kernels/README.md. */
const stepsPerTurn = (kind, rows) => (kind === 'f16' && rows === 4 ? 2 : 1)

/** The weights of inner value u of a turn, as f32. */
function loadWeights(kind, u, groups) {
  return range(2 * groups).map((v) => {
    const offset = u * STEP_BYTES[kind] + ((v & 1) * STEP_BYTES[kind]) / 2
    const f32 = `v128.load(w_${v >> 1}, ${offset})`
    const f16 = `halves4(w_${v >> 1} + ${offset}, c_halfBits, c_halfRebase)`
    return `    let w_${u}_${v} = ${kind === 'f32' ? f32 : f16}`
  })
}

function floatTile(kind, [rows, groups]) {
  const steps = stepsPerTurn(kind, rows)
  const cells = range(rows).flatMap((r) => range(2 * groups).map((v) => [r, v]))
  const step = (u) => [
    ...loadWeights(kind, u, groups),
    ...range(rows).flatMap((r) => [
      `    let x_${u}_${r} = v128.load32_splat(x_${r}, ${u * 4})`,
      ...range(2 * groups).map((v) => `    a_${r}_${v} = f32x4.add(a_${r}_${v}, f32x4.mul(x_${u}_${r}, w_${u}_${v}))`),
    ]),
  ]
  return lines([
    `function ${kind}_${rows}x${groups}(`,
    '  x: usize, xStride: usize, w: usize, columns: i32,',
    ...RESULT_PARAMETERS,
    `  const groupBytes = <usize>columns * ${STEP_BYTES[kind]}`,
    ...(kind === 'f16' ? ['halfBits', 'halfRebase'] : []).map((name) => `  const c_${name} = ${name}`),
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

/** Bytes of a block of 8 outputs x 32 inner values: values, then scales, then (q4a) minimums. */
const VALUE_BYTES = { q8: 256, q4a: 128, q4: 128 }
const SCALE_BYTES = { q8: 16, q4a: 32, q4: 16 }

/**
 * How a variant multiplies integers of a kind; `quantise.ts` lays activations out accordingly.
 *
 * wide: both sides as i16, two by two into i32 lanes (pmaddwd).
 * short: unsigned nibbles with int8, two by two into i16 lanes, widened at the end of the block. A pair is
 * at most 2 * 15 * 127, and eight of them fit; lanes of q4 start at -8 times their activations, so that
 * whatever they hold on the way, the end is within 8 * 16 * 127 of zero.
 * long: unsigned nibbles with int8, four by four into i32 lanes. Bytes are two nibbles: b + 128 = 16 * high + low.
 */
function wayOf(variant, kind) {
  if (variant === 'simd128') return 'wide'
  if (variant === 'relaxed-i16') return kind === 'q8' ? 'wide' : 'short'
  return kind === 'q8' ? 'longBytes' : 'long'
}

/** The ways: what is read before the loops, and one step of 4 inner values of 8 (or 4) outputs. */
const WAYS = {
  wide: {
    quadBytes: 8,
    constants: (kind) => (kind === 'q8' ? [] : ['shortNibbles']),
    weights: (kind, g) =>
      kind === 'q8'
        ? range(2).flatMap((h) => [
            `      const b_${g}_${h} = v128.load(w_${g}, ${16 * h})`,
            `      const even_${g}_${h} = i16x8.shr_s(i16x8.shl(b_${g}_${h}, 8), 8)`,
            `      const odd_${g}_${h} = i16x8.shr_s(b_${g}_${h}, 8)`,
          ])
        : [
            `      const b_${g} = v128.load(w_${g})`,
            `      const even_${g}_0 = v128.and(b_${g}, c_shortNibbles)`,
            `      const odd_${g}_0 = v128.and(i16x8.shr_u(b_${g}, 8), c_shortNibbles)`,
            `      const even_${g}_1 = v128.and(i16x8.shr_u(b_${g}, 4), c_shortNibbles)`,
            `      const odd_${g}_1 = i16x8.shr_u(b_${g}, 12)`,
          ],
    products: (r, at, halves) =>
      ['even', 'odd'].flatMap((which, part) => [
        `      const x_${which}_${r} = v128.load32_splat(x, ${at + 4 * part})`,
        ...halves.map(([g, h]) => {
          const sum = `i_${r}_${g}_${h}`
          return `      ${sum} = i32x4.add(${sum}, i32x4.dot_i16x8_s(${which}_${g}_${h}, x_${which}_${r}))`
        }),
      ]),
    total: (r, g, h) => `i_${r}_${g}_${h}`,
  },
  short: {
    quadBytes: 4,
    constants: () => ['byteNibbles'],
    weights: (_, g) => nibbles(g),
    products: (r, at, halves) => [
      `      const x_${r} = v128.load32_splat(x, ${at})`,
      ...halves.map(([g, h]) => {
        const sum = `i_${r}_${g}_${h}`
        return `      ${sum} = i16x8.add(${sum}, i16x8.relaxed_dot_i8x16_i7x16_s(x_${r}, n_${g}_${h}))`
      }),
    ],
    total: (r, g, h) => `i32x4.extadd_pairwise_i16x8_s(i_${r}_${g}_${h})`,
  },
  long: {
    quadBytes: 4,
    constants: () => ['byteNibbles'],
    weights: (_, g) => nibbles(g),
    products: (r, at, halves) => [
      `      const x_${r} = v128.load32_splat(x, ${at})`,
      ...halves.map(([g, h]) => {
        const sum = `i_${r}_${g}_${h}`
        return `      ${sum} = i32x4.relaxed_dot_i8x16_i7x16_add_s(x_${r}, n_${g}_${h}, ${sum})`
      }),
    ],
    total: (r, g, h) => `i_${r}_${g}_${h}`,
  },
  longBytes: {
    quadBytes: 4,
    constants: () => ['byteNibbles', 'byteSigns'],
    weights: (_, g, [h]) => [
      `      const b_${g} = v128.xor(v128.load(w_${g}, ${16 * h}), c_byteSigns)`,
      `      const low_${g} = v128.and(b_${g}, c_byteNibbles)`,
      `      const high_${g} = v128.and(i16x8.shr_u(b_${g}, 4), c_byteNibbles)`,
    ],
    products: (r, at, halves) => [
      `      const x_${r} = v128.load32_splat(x, ${at})`,
      ...halves.flatMap(([g, h]) => [
        `      i_${r}_${g}_${h} = i32x4.relaxed_dot_i8x16_i7x16_add_s(x_${r}, low_${g}, i_${r}_${g}_${h})`,
        `      j_${r}_${g}_${h} = i32x4.relaxed_dot_i8x16_i7x16_add_s(x_${r}, high_${g}, j_${r}_${g}_${h})`,
      ]),
    ],
    total: (r, g, h) => `i32x4.add(i_${r}_${g}_${h}, i32x4.shl(j_${r}_${g}_${h}, 4))`,
  },
}

const nibbles = (g) => [
  `      const b_${g} = v128.load(w_${g})`,
  `      const n_${g}_0 = v128.and(b_${g}, c_byteNibbles)`,
  `      const n_${g}_1 = v128.and(i16x8.shr_u(b_${g}, 4), c_byteNibbles)`,
]

/**
 * Integers are exact, so the order within a block does not matter. Floats: acc = acc + f32(dot) * (weight
 * scale * activation scale), and for q4a then acc = acc + f32(sum) * (minimum * activation scale).
 *
 * x is one tile of rows (operand.ts): per block and 4 inner values those of all rows, then their scales,
 * then the words their sums start at.
 */
function intTile(variant, kind, [rows, groups]) {
  const way = WAYS[wayOf(variant, kind)]
  const bytesOfHalves = wayOf(variant, kind) === 'longBytes'
  const halves = range(groups).flatMap((g) => [
    [g, 0],
    [g, 1],
  ])
  // Low and high nibbles of bytes have sums of their own, twice as many: one half of the outputs at a time.
  const passes = bytesOfHalves ? [0, 1].map((h) => halves.filter((half) => half[1] === h)) : [halves]
  const cells = range(rows).flatMap((r) => halves.map(([g, h]) => [r, g, h]))
  const constants = [...way.constants(kind), 'halfBits', 'halfRebase']
  const quads = rows * way.quadBytes
  const stepBytes = VALUE_BYTES[kind] / 8
  const startsAt = quads * 8 + rows * 4
  const loop = (pass, index) => [
    ...range(rows).flatMap((r) =>
      pass.flatMap(([g, h]) => [
        `    let i_${r}_${g}_${h} = ${kind === 'q4a' || (kind === 'q8' && !bytesOfHalves) ? 'i32x4.splat(0)' : `start_${r}`}`,
        bytesOfHalves ? `    let j_${r}_${g}_${h} = i32x4.splat(0)` : '',
      ]),
    ),
    '    do {',
    ...range(groups).flatMap((g) => way.weights(kind, g, [pass[0][1]])),
    ...range(rows).flatMap((r) => way.products(r, r * way.quadBytes, pass)),
    `      x += ${quads}`,
    ...range(groups).map((g) => `      w_${g} += ${stepBytes}`),
    '    } while (w_0 < values)',
    ...(index < passes.length - 1
      ? [`    x -= ${8 * quads}`, ...range(groups).map((g) => `    w_${g} -= ${VALUE_BYTES[kind]}`)]
      : []),
  ]
  return lines([
    `function ${kind}_${rows}x${groups}(`,
    '  x: usize, w: usize, groupBytes: usize,',
    ...RESULT_PARAMETERS,
    ...constants.map((name) => `  const c_${name} = ${name}`),
    ...cells.map((cell) => `  let a_${cell.join('_')} = f32x4.splat(0)`),
    ...range(groups).map((g) => `  let w_${g} = w + ${g} * groupBytes`),
    '  const end = w + groupBytes',
    '  while (w_0 < end) {',
    ...(kind === 'q4' || bytesOfHalves
      ? range(rows).map((r) => `    const start_${r} = v128.load32_splat(x, ${startsAt + 4 * r})`)
      : []),
    `    const values = w_0 + ${VALUE_BYTES[kind]}`,
    ...passes.flatMap(loop),
    ...halves.map(([g, h]) => `    const scale_${g}_${h} = halves4(w_${g} + ${8 * h}, c_halfBits, c_halfRebase)`),
    ...range(rows).flatMap((r) => [
      `    const s_${r} = v128.load32_splat(x, ${4 * r})`,
      ...halves.map(([g, h]) => {
        const sum = `a_${r}_${g}_${h}`
        const dot = `f32x4.convert_i32x4_s(${way.total(r, g, h)})`
        return `    ${sum} = f32x4.add(${sum}, f32x4.mul(${dot}, f32x4.mul(scale_${g}_${h}, s_${r})))`
      }),
    ]),
    ...(kind === 'q4a' ? addMinimums(rows, halves) : []),
    `    x += ${8 * rows}`,
    ...range(groups).map((g) => `    w_${g} += ${SCALE_BYTES[kind]}`),
    '  }',
    ...cells.map(([r, g, h]) => epilogue(r, 2 * g + h, `a_${r}_${g}_${h}`, 32 * g + 16 * h)),
    '}',
  ])
}

/** What the minimums of a q4a block add: the sum of each row's activations times the minimum. */
function addMinimums(rows, halves) {
  return [
    ...halves.map(
      ([g, h]) => `    const minimum_${g}_${h} = halves4(w_${g} + ${16 + 8 * h}, c_halfBits, c_halfRebase)`,
    ),
    ...range(rows).flatMap((r) => [
      `    const sum_${r} = f32x4.convert_i32x4_s(v128.load32_splat(x, ${4 * (rows + r)}))`,
      ...halves.map(([g, h]) => {
        const sum = `a_${r}_${g}_${h}`
        return `    ${sum} = f32x4.add(${sum}, f32x4.mul(sum_${r}, f32x4.mul(minimum_${g}_${h}, s_${r})))`
      }),
    ]),
  ]
}

/** The text of kernels/generated/gemm.ts for one variant. */
export function generateGemm(variant) {
  return `${[
    '// Printed by kernels/generate.mjs; change that instead.',
    "import { byteNibbles, byteSigns, halfBits, halfRebase, shortNibbles } from '../constants'",
    "import { halves4 } from '../half'",
    ...['f32', 'f16'].flatMap((kind) => FLOAT_TILES.map((tile) => `export ${floatTile(kind, tile)}`)),
    ...['q8', 'q4a', 'q4'].flatMap((kind) => INT_TILES.map((tile) => `export ${intTile(variant, kind, tile)}`)),
  ].join('\n\n')}\n`
}
