/**
 * Writes kernels/generated/gemm.ts: the inner loops of matrix multiplication, unrolled for each
 * number of rows. AssemblyScript does not unroll, and accumulators must be locals to stay in
 * registers, so the loops are printed rather than written.
 *
 * A tile is `rows` rows of x times `vectors` vectors of 4 outputs. Sixteen SIMD registers hold
 * everything a tile keeps, which is what limits the sizes below.
 */

/** rows, groups of 8 outputs side by side (independent weight streams), inner values per turn. */
const F32_TILES = [
  [1, 4, 4],
  [1, 1, 4],
  [2, 2, 1],
  [2, 1, 2],
  [3, 1, 1],
  [4, 1, 1],
]

/** rows -> halves of a group (4 outputs each) that are computed together. */
const INT_TILES = [
  [1, 2],
  [2, 2],
  [3, 1],
  [4, 1],
]

const range = (n) => Array.from({ length: n }, (_, i) => i)
const lines = (list) => list.filter((line) => line !== '').join('\n')

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
    ...range(2 * groups).map(
      (v) => `    let w_${u}_${v} = v128.load(w_${v >> 1} + ${u * 32 + (v & 1) * 16})`,
    ),
    ...range(rows).flatMap((r) => [
      `    let x_${u}_${r} = v128.load32_splat(x_${r} + ${u * 4})`,
      ...range(2 * groups).map(
        (v) => `    a_${r}_${v} = f32x4.add(a_${r}_${v}, f32x4.mul(x_${u}_${r}, w_${u}_${v}))`,
      ),
    ]),
  ]
  return lines([
    `function f32_${rows}x${groups}(x: usize, xStride: usize, w: usize, groupBytes: usize, columns: i32, y: usize, yStride: usize, bias: usize, accumulate: bool): void {`,
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

/** Bytes (q8) or nibbles (q4) of 4 outputs x 4 inner values, widened to two i16 vectors. */
function widen(kind, g, half) {
  if (kind === 'q8') {
    const load = `    let b_${g}_${half} = v128.load(at + ${g * 32} + halfBytes * ${half})`
    return [
      load,
      `    let lo_${g}_${half} = i16x8.extend_low_i8x16_s(b_${g}_${half})`,
      `    let hi_${g}_${half} = i16x8.extend_high_i8x16_s(b_${g}_${half})`,
    ]
  }
  return [
    `    let b_${g}_${half} = v128.and(i8x16.shr_u(v128.load(at + ${g * 16}), shift + 4 * ${half}), nibbles)`,
    `    let lo_${g}_${half} = i16x8.extend_low_i8x16_u(b_${g}_${half})`,
    `    let hi_${g}_${half} = i16x8.extend_high_i8x16_u(b_${g}_${half})`,
  ]
}

/**
 * `firstHalf` says which half of the group a tile of one half computes. Two partial sums per output
 * (inner values 0-1 and 2-3 of each run of 4) are added at the end of a block; integers are exact,
 * so the order does not matter. Floats: acc = acc + f32(dot) * (weight scale * activation scale).
 */
function intTile(kind, [rows, halves]) {
  const cells = range(rows).flatMap((r) => range(halves).map((h) => [r, h]))
  const body = [
    ...cells.flatMap(([r, h]) => [`    let i_${r}_${h}_0 = i32x4.splat(0)`, `    let i_${r}_${h}_1 = i32x4.splat(0)`]),
    ...range(8).flatMap((g) => [
      ...range(halves).flatMap((h) => widen(kind, g, h)),
      ...range(rows).flatMap((r) => [
        `    let x_${g}_${r} = i16x8.extend_low_i8x16_s(v128.load32_splat(x_${r} + ${g * 4}))`,
        ...range(halves).flatMap((h) => [
          `    i_${r}_${h}_0 = i32x4.add(i_${r}_${h}_0, i32x4.dot_i16x8_s(lo_${g}_${h}, x_${g}_${r}))`,
          `    i_${r}_${h}_1 = i32x4.add(i_${r}_${h}_1, i32x4.dot_i16x8_s(hi_${g}_${h}, x_${g}_${r}))`,
        ]),
      ]),
    ]),
    ...range(halves).map(
      (h) => `    let scale_${h} = halves4(at + ${BLOCK_BYTES[kind] - 16} + (firstHalf + ${h}) * 8)`,
    ),
    ...cells.flatMap(([r, h]) => {
      const even = `v128.shuffle<i32>(i_${r}_${h}_0, i_${r}_${h}_1, 0, 2, 4, 6)`
      const odd = `v128.shuffle<i32>(i_${r}_${h}_0, i_${r}_${h}_1, 1, 3, 5, 7)`
      const dot = `i32x4.add(${even}, ${odd})`
      const exact =
        kind === 'q8' ? dot : `i32x4.sub(${dot}, i32x4.shl(v128.load32_splat(sums + ${r} * blockRow + block * 4), 3))`
      const scale = `f32x4.mul(scale_${h}, v128.load32_splat(scales + ${r} * blockRow + block * 4))`
      return [`    a_${r}_${h} = f32x4.add(a_${r}_${h}, f32x4.mul(f32x4.convert_i32x4_s(${exact}), ${scale}))`]
    }),
  ]
  const first = kind === 'q8' ? ['  const halfBytes: usize = 16'] : ['  const nibbles = i8x16.splat(15)']
  const start =
    kind === 'q8' ? '  let at = w + firstHalf * halfBytes' : '  const shift = <i32>firstHalf * 4\n  let at = w'
  // The scales lie behind the block's values whichever half is computed.
  const scaleAt = kind === 'q8' ? '(at - firstHalf * halfBytes)' : 'at'
  return lines([
    `function ${kind}_${rows}x${halves}(x: usize, xStride: usize, scales: usize, sums: usize, w: usize, blocks: i32, firstHalf: usize, y: usize, yStride: usize, bias: usize, accumulate: bool): void {`,
    ...first,
    start,
    '  const blockRow = <usize>blocks * 4',
    ...cells.map(([r, h]) => `  let a_${r}_${h} = f32x4.splat(0)`),
    ...range(rows).map((r) => `  let x_${r} = x + ${r} * xStride`),
    '  for (let block: usize = 0; block < <usize>blocks; block++) {',
    ...body.map((line) => line.replace(/halves4\(at/, `halves4(${scaleAt}`)),
    ...range(rows).map((r) => `    x_${r} += 32`),
    `    at += ${BLOCK_BYTES[kind]}`,
    '  }',
    ...cells.map(([r, h]) => epilogue(r, h, `a_${r}_${h}`, h * 16)),
    '}',
  ])
}

/** The text of kernels/generated/gemm.ts. */
export function generateGemm() {
  return `${[
    '// Printed by kernels/generate.mjs; change that instead.',
    "import { halves4 } from '../half'",
    ...F32_TILES.map((tile) => `export ${f32Tile(tile)}`),
    ...['q8', 'q4'].flatMap((kind) => INT_TILES.map((tile) => `export ${intTile(kind, tile)}`)),
  ].join('\n\n')}\n`
}
