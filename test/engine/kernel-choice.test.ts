import { spawnSync } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { chooseKernels, describeChoice, fastestVariant } from '../../src/engine/kernel-choice.ts'
import { CoppiceError } from '../../src/errors.ts'
import { type KernelInfo, load } from '../../src/index.ts'
import { runtimeName, runtimeVersion } from '../../src/runtime/platform.ts'
import { compileKernels } from '../../src/tensor/kernel-modules.ts'
import type { SelfTestReport } from '../../src/tensor/self-test.ts'
import { coppice } from '../cli/cli-process.ts'
import { announceSkip, TARGET } from '../e2e/models.ts'
import { usableVariants } from '../tensor/variants.ts'
import { wrongModule } from '../tensor/wrong-module.ts'
import { scratch } from './harness.ts'
import { GREEDY, outcome, PROMPT, withModel } from './open-model.ts'

const passed = (time: number) => ({ result: 'passed', time }) as const
const report = (i16: SelfTestReport['relaxed-i16'], i32: SelfTestReport['relaxed-i32']): SelfTestReport => ({
  simd128: passed(1),
  'relaxed-i16': i16,
  'relaxed-i32': i32,
})

const choosing = suite('choosing among the variants')

choosing('the fastest one that passed is taken', () => {
  assert.is(fastestVariant(report(passed(0.7), passed(0.8))), 'relaxed-i16')
  assert.is(fastestVariant(report(passed(0.8), passed(0.7))), 'relaxed-i32')
  assert.is(fastestVariant(report({ result: 'wrong' }, passed(0.8))), 'relaxed-i32')
  for (const result of ['wrong', 'unproven', 'unsupported'] as const) {
    assert.is(fastestVariant(report({ result }, { result })), 'simd128')
  }
})

choosing('a few percent are noise and change nothing', () => {
  assert.is(fastestVariant(report(passed(0.96), passed(0.99))), 'simd128')
  assert.is(fastestVariant(report(passed(0.94), passed(1.2))), 'relaxed-i16')
})

choosing('the reason is told in words', () => {
  const describe = (...verdicts: Parameters<typeof report>): string => {
    const given = report(...verdicts)
    return describeChoice(fastestVariant(given), given, false)
  }
  assert.is(
    describe(passed(0.5), passed(1)),
    'relaxed-i16 (self-test passed; simd128 2.00x slower; relaxed-i32 2.00x slower)',
  )
  assert.match(describe({ result: 'wrong' }, { result: 'unproven' }), 'relaxed-i16: wrong results, not used')
  assert.match(describe({ result: 'wrong' }, { result: 'unproven' }), 'relaxed-i32: optimised code not seen')
  assert.match(describe({ result: 'unsupported' }, passed(2)), `not supported by ${runtimeName()}`)
  const named = report(passed(0.5), passed(1))
  assert.match(describeChoice('simd128', named, true), 'set by COPPICE_KERNELS; relaxed-i16 2.00x faster')
})

choosing.run()

/** The choice with a cache and an environment of its own. */
function choose(cache: string, kernels = ''): ReturnType<typeof chooseKernels> {
  const before = { ...process.env }
  process.env.COPPICE_CACHE = cache
  process.env.COPPICE_KERNELS = kernels
  try {
    return chooseKernels(undefined)
  } finally {
    for (const name of ['COPPICE_CACHE', 'COPPICE_KERNELS']) {
      if (before[name] === undefined) delete process.env[name]
      else process.env[name] = before[name]
    }
  }
}

const codeOf = (use: () => unknown): [string, string] => {
  try {
    use()
  } catch (error) {
    assert.instance(error, CoppiceError)
    return [(error as CoppiceError).code, (error as CoppiceError).message]
  }
  return ['nothing', '']
}

const cacheOf = (name: string): string => join(scratch, `kernel-cache-${name}`)
const reportsIn = (cache: string): string[] => readdirSync(join(cache, 'kernels')).map((f) => join(cache, 'kernels', f))

/** Replaces what the cached report of this engine says. */
function forge(cache: string, forged: unknown): void {
  const [file] = reportsIn(cache)
  writeFileSync(file, JSON.stringify({ ...JSON.parse(readFileSync(file, 'utf8')), value: forged }))
}

/** A cache with a report in it, however busy the machine is. */
function filledCache(name: string): string {
  const cache = cacheOf(name)
  for (let attempt = 0; attempt < 10; attempt++) {
    choose(cache)
    try {
      if (reportsIn(cache).length > 0) return cache
    } catch {
      // A report with an unproven variant is not kept.
    }
  }
  throw new Error('no self-test could be finished in time')
}

const caching = suite('the cached report')

caching('a second choice does not test again', () => {
  const cache = filledCache('twice')
  assert.is(reportsIn(cache).length, 1)
  forge(cache, report({ result: 'wrong' }, { result: 'wrong' }))
  const { variant, description } = choose(cache)
  assert.is(variant, 'simd128')
  assert.match(description, 'wrong results')
})

caching('a damaged, foreign or incomplete report is ignored and written anew', () => {
  const cache = filledCache('damaged')
  const [file] = reportsIn(cache)
  const whole = JSON.parse(readFileSync(file, 'utf8')) as { key: string; written: number; value: SelfTestReport }
  const lie = report(passed(0.001), { result: 'wrong' })
  const damages = [
    '',
    '{',
    'null',
    '[]',
    JSON.stringify({ ...whole, key: `${whole.key} and more`, value: lie }),
    JSON.stringify({ ...whole, value: { ...lie, 'relaxed-i32': undefined } }),
    JSON.stringify({ ...whole, value: { ...lie, 'relaxed-i16': { result: 'passed' } } }),
    JSON.stringify({ ...whole, value: { ...lie, 'relaxed-i16': { result: 'unproven' } } }),
  ]
  for (const damage of damages) {
    writeFileSync(file, damage)
    assert.not.match(choose(cache).description, /relaxed-i32: wrong results/, damage)
  }
  rmSync(file)
  assert.equal(reportsIn(filledCache('damaged')), [file])
})

caching('a cache that cannot be written fails nothing', () => {
  const cache = cacheOf('file')
  writeFileSync(cache, 'a file where the directory should be')
  assert.ok(choose(cache).module instanceof WebAssembly.Module)
  const directory = cacheOf('directory')
  mkdirSync(join(directory, 'kernels'), { recursive: true })
  const [name] = reportsIn(filledCache('twice')).map((file) => file.split(/[\\/]/).at(-1)!)
  mkdirSync(join(directory, 'kernels', name))
  assert.ok(choose(directory).module instanceof WebAssembly.Module)
})

caching.run()

const naming = suite('COPPICE_KERNELS and load({ kernels })')

naming('a variant that is named is used when the self-test vouches for it', () => {
  const cache = filledCache('named')
  assert.is(choose(cache, 'simd128').variant, 'simd128')
  forge(cache, report(passed(3), { result: 'wrong' }))
  assert.is(choose(cache).variant, 'simd128')
  const [code, message] = codeOf(() => choose(cache, 'relaxed-i32'))
  assert.is(code, 'INVALID_OPTION')
  assert.match(message, 'wrong results')
  forge(cache, report({ result: 'unsupported' }, { result: 'wrong' }))
  assert.match(codeOf(() => choose(cache, 'relaxed-i16'))[1], 'cannot compile')
  if (usableVariants.includes('relaxed-i16')) {
    forge(cache, report(passed(3), { result: 'wrong' }))
    const { variant, description } = choose(cache, 'relaxed-i16')
    assert.is(variant, 'relaxed-i16')
    assert.match(description, 'set by COPPICE_KERNELS')
  }
})

naming('an engine that fails the plain variant runs nothing', () => {
  const cache = filledCache('broken')
  forge(cache, { ...report(passed(0.5), passed(0.5)), simd128: { result: 'wrong' } })
  assert.is(codeOf(() => choose(cache))[0], 'UNSUPPORTED_RUNTIME')
})

naming('an unknown name is refused with the known ones', () => {
  const [code, message] = codeOf(() => choose(cacheOf('unknown'), 'fast'))
  assert.is(code, 'INVALID_OPTION')
  assert.match(message, 'simd128, relaxed-i16, relaxed-i32')
})

naming('what is given as kernels must be a module that knows the answers', () => {
  assert.is(chooseKernels(compileKernels('simd128')).variant, 'given')
  for (const given of [wrongModule(), new WebAssembly.Module(Uint8Array.of(0, 97, 115, 109, 1, 0, 0, 0)), 5, {}]) {
    assert.is(codeOf(() => chooseKernels(given as WebAssembly.Module))[0], 'INVALID_OPTION')
  }
})

naming('a model says what it runs on, and all threads write the same text with every variant', async () => {
  let expected: unknown
  for (const variant of usableVariants) {
    await withModel(
      async (model) => {
        assert.is(model.kernels.variant, 'given')
        const text = outcome(await model.complete(PROMPT, GREEDY))
        expected ??= text
        assert.equal(text, expected, variant)
      },
      { weights: 'q4', threads: 2, kernels: compileKernels(variant) },
    )
  }
  await withModel(async (model) => {
    assert.match(model.kernels.description, model.kernels.variant)
    assert.ok(['simd128', 'relaxed-i16', 'relaxed-i32'].includes(model.kernels.variant))
  })
})

naming('a load is refused for a wrong module and for an unknown name', async () => {
  const refusal = (kernels: WebAssembly.Module | undefined): Promise<unknown> =>
    load(TARGET, { weights: 'q8', threads: 2, ...(kernels && { kernels }) }).then(
      (model) => model.close(),
      (error) => (error as CoppiceError).code,
    )
  assert.is(await refusal(wrongModule()), 'INVALID_OPTION')
  const { code, stderr } = await coppice(['inspect', TARGET], { environment: { COPPICE_KERNELS: 'fast' } })
  assert.is(code, 2)
  assert.match(stderr, 'relaxed-i16')
})

naming.run()

const doubling = suite('the doubled sums of Node 20')
const KNOWN_BUG = 'the baseline compiler of Node 20 doubles relaxed sums, and the self-test finds it'

if (runtimeName() === 'node' && runtimeVersion().startsWith('20.') && process.arch === 'x64') {
  doubling(KNOWN_BUG, () => {
    const main = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url))
    const args = ['--experimental-wasm-relaxed-simd', main, 'inspect', TARGET, '--weights', 'q8', '--json']
    const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' })
    assert.is(status, 0, stderr)
    const { runtime } = JSON.parse(stdout) as { runtime: { kernels: KernelInfo } }
    assert.is.not(runtime.kernels.variant, 'relaxed-i32')
    assert.match(runtime.kernels.description, 'relaxed-i32: wrong results, not used')
  })
} else {
  announceSkip(`only Node 20 on x64 has the bug that ${runtimeName()} ${runtimeVersion()} cannot show`)
  doubling.skip(KNOWN_BUG, () => {})
}

doubling.run()
