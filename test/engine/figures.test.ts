import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { type Figures, figuresOf } from '../../src/engine/figures.ts'
import { cacheDirectory } from '../../src/runtime/files.ts'
import './harness.ts'

interface Length {
  readonly metres: number
}

const DAY = 24 * 60 * 60 * 1000

const lengths = (situation: string, today = 1000 * DAY): Figures<Length> =>
  figuresOf<Length>({
    folder: 'lengths',
    situation: [situation, 'x'],
    isValid: ({ metres }) => typeof metres === 'number',
    oldestMs: 30 * DAY,
    today: () => today,
  })

const fileOf = (): string => {
  const directory = join(cacheDirectory(), 'lengths')
  return join(directory, readdirSync(directory)[0])
}

const test = suite('figures in the cache')

test('nothing is known at first; then what was written is', () => {
  assert.is(lengths('a').read(), undefined)
  lengths('a').write({ metres: 3 })
  assert.equal(lengths('a').read(), { metres: 3 })
  assert.is(lengths('b').read(), undefined)
})

test('figures are believed until they are too old, and none from the far future', () => {
  for (const [days, known] of [
    [0, true],
    [29, true],
    [31, false],
    [-29, true],
    [-31, false],
  ] as const) {
    assert.is(lengths('a', (1000 + days) * DAY).read() !== undefined, known, `${days} days`)
  }
})

test('a damaged, foreign or incomplete file is as good as none', () => {
  const file = fileOf()
  const whole = JSON.parse(readFileSync(file, 'utf8')) as object
  const damages = [
    '',
    '{',
    'null',
    '[]',
    JSON.stringify({ ...whole, key: 'another' }),
    JSON.stringify({ ...whole, written: undefined }),
    JSON.stringify({ ...whole, value: {} }),
    JSON.stringify({ ...whole, value: null }),
  ]
  for (const damage of damages) {
    writeFileSync(file, damage)
    assert.is(lengths('a').read(), undefined, damage)
  }
  lengths('a').write({ metres: 4 })
  assert.equal(lengths('a').read(), { metres: 4 })
})

test.run()
