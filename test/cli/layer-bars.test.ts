import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { layerBars } from '../../src/cli/layer-bars.ts'
import type { ModelPlan } from '../../src/index.ts'

const GROUPS = [30e6, 60e6, 30e6]

/** A plan of which only the picture's part matters. @param pinned groups of each layer that stay */
function planOf(pinned: readonly number[], more: Partial<ModelPlan> = {}): ModelPlan {
  return {
    layerGroups: pinned.map((count) => GROUPS.map((bytes, i) => ({ bytes, pinned: i < count }))),
    headBytes: 100e6,
    headPinned: true,
    embeddingBytes: 0,
    embeddingPinned: false,
    ...more,
  } as ModelPlan
}

const cells = (line: string, cell: string): number => line.split(cell).length - 1

const test = suite('bars of layers')

test('each layer has a bar of what stays and what streams', () => {
  const [, ...lines] = layerBars(planOf([3, 0, 1, 2]), 80)
  assert.equal(lines, [
    `layer 0      ${'█'.repeat(40)}`,
    `layer 1      ${'░'.repeat(40)}   120 MB`,
    `layer 2      ${'█'.repeat(10)}${'░'.repeat(30)}  90.0 MB`,
    `layer 3      ${'█'.repeat(30)}${'░'.repeat(10)}  30.0 MB`,
    `output head  ${'█'.repeat(40)}`,
  ])
})

test('head and embedding are told apart', () => {
  const own = layerBars(planOf([3], { headPinned: false, embeddingBytes: 50e6 }), 60).slice(2)
  assert.match(own[0], /^output head {2}░+ {3}100 MB$/)
  assert.match(own[1], /^embedding {4}░+ {2}by rows$/)
  const pinned = layerBars(planOf([3], { embeddingBytes: 50e6, embeddingPinned: true }), 60).slice(2)
  assert.match(pinned[1], /^embedding {4}█+$/)
})

test('a small share is seen', () => {
  const plan = planOf([0])
  const layerGroups = [
    [
      { bytes: 1, pinned: true },
      { bytes: 1e9, pinned: false },
    ],
    [
      { bytes: 1e9, pinned: true },
      { bytes: 1, pinned: false },
    ],
  ]
  const [, first, second] = layerBars({ ...plan, layerGroups }, 80)
  assert.is(cells(first, '█'), 1)
  assert.is(cells(second, '░'), 1)
})

test('80 layers stand side by side, each once, in 40 columns and in 120', () => {
  const plan = planOf(Array.from({ length: 80 }, (_, layer) => (layer % 3 === 0 ? 3 : 0)))
  for (const [columns, lines] of [
    [40, 27],
    [80, 14],
    [120, 9],
  ]) {
    const drawn = layerBars(plan, columns).slice(1)
    for (const line of drawn) assert.ok(line.length <= columns, line)
    assert.is(drawn.length, lines + 1, `${columns} columns`)
    const layers = [...drawn.join('\n').matchAll(/(\d+) ([█░]{8})/g)]
    assert.equal(
      layers.map(([, layer]) => Number(layer)).sort((a, b) => a - b),
      Array.from({ length: 80 }, (_, layer) => layer),
    )
    for (const [, layer, bar] of layers) assert.is(bar, (Number(layer) % 3 === 0 ? '█' : '░').repeat(8))
  }
})

for (const columns of [34, 40, 57, 100, 200]) {
  test(`nothing is wider than ${columns} columns`, () => {
    for (const layers of [1, 12, 17, 126]) {
      const plan = planOf(new Array<number>(layers).fill(1), { headPinned: false, embeddingBytes: 1e9 })
      for (const line of layerBars(plan, columns)) assert.ok(line.length <= columns, line)
    }
  })
}

test.run()
