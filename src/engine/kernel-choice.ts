/**
 * Which kernels a model runs on: the fastest variant that the self-test found right, unless the caller or
 * COPPICE_KERNELS says otherwise. The self-test's report is kept in the cache directory.
 */
import { CoppiceError } from '../errors.ts'
import { engineFlags, environment, processor, runtimeName, runtimeVersion } from '../runtime/platform.ts'
import { compileKernels, compileKernelsAfresh, KERNEL_BUILD } from '../tensor/kernel-modules.ts'
import { instantiateKernels, KERNEL_VARIANTS, type KernelVariant } from '../tensor/kernels.ts'
import { answersAreRight, type SelfTestReport, selfTest, type Verdict } from '../tensor/self-test.ts'
import { figuresOf } from './figures.ts'
import type { KernelInfo } from './types.ts'

/** Noise must not choose: another variant takes at most this share of the time of `simd128`. */
const WORTH_CHANGING = 0.95

export interface KernelChoice extends KernelInfo {
  readonly module: WebAssembly.Module
}

/**
 * @param given a module that the caller compiled
 * @throws CoppiceError INVALID_OPTION for a module or a COPPICE_KERNELS that cannot be used,
 *   UNSUPPORTED_RUNTIME when this engine has no WebAssembly SIMD, or gets it wrong
 */
export function chooseKernels(given: WebAssembly.Module | undefined): KernelChoice {
  if (given !== undefined) return checkGiven(given)
  const named = namedVariant(environment('COPPICE_KERNELS'))
  const report = currentReport()
  requirePassed('simd128', report, 'UNSUPPORTED_RUNTIME')
  if (named !== undefined) requirePassed(named, report, 'INVALID_OPTION')
  const variant = named ?? fastestVariant(report)
  return { variant, description: describeChoice(variant, report, named !== undefined), module: compileKernels(variant) }
}

function checkGiven(module: WebAssembly.Module): KernelChoice {
  if (!(module instanceof WebAssembly.Module)) {
    throw new CoppiceError('INVALID_OPTION', 'kernels must be a WebAssembly.Module: a compiled kernels.<variant>.wasm')
  }
  if (!answersAreRight(module)) {
    throw new CoppiceError(
      'INVALID_OPTION',
      `the module given as \`kernels\` computes wrong products on ${runtimeName()} ${runtimeVersion()}; compile another kernels.<variant>.wasm of this very version (kernels.simd128.wasm runs everywhere), or leave \`kernels\` out`,
    )
  }
  return { variant: 'given', description: 'given by the caller (known answers passed)', module }
}

function namedVariant(name: string | undefined): KernelVariant | undefined {
  if (name === undefined) return undefined
  const variant = KERNEL_VARIANTS.find((known) => known === name)
  if (variant !== undefined) return variant
  throw new CoppiceError(
    'INVALID_OPTION',
    `COPPICE_KERNELS is "${name}", but there are only ${KERNEL_VARIANTS.join(', ')}; choose one of them or unset it`,
  )
}

/** @throws CoppiceError with `code` when the report does not vouch for the variant */
function requirePassed(variant: KernelVariant, report: SelfTestReport, code: 'INVALID_OPTION' | 'UNSUPPORTED_RUNTIME') {
  const { result } = report[variant]
  if (result === 'passed') return
  const where = `${runtimeName()} ${runtimeVersion()}`
  const advice =
    code === 'INVALID_OPTION'
      ? 'unset COPPICE_KERNELS, or set it to another variant'
      : 'use Node 20 or later, Deno 2 or Bun 1, or give a compiled module as `kernels` where compiling is forbidden'
  throw new CoppiceError(code, `the kernels ${variant} cannot be used: ${problemOf(result, where)}; ${advice}`)
}

const problemOf = (result: Exclude<Verdict['result'], 'passed'>, where: string): string =>
  ({
    wrong: `they gave wrong results on ${where}`,
    unproven: `optimised code of ${where} did not come within the time of the self-test`,
    unsupported: `${where} cannot compile them`,
  })[result]

/** The variant of the least time; `simd128` unless another is clearly faster. */
export function fastestVariant(report: SelfTestReport): KernelVariant {
  let best: KernelVariant = 'simd128'
  let least = WORTH_CHANGING
  for (const variant of KERNEL_VARIANTS) {
    const verdict = report[variant]
    if (verdict.result !== 'passed' || variant === 'simd128' || verdict.time > least) continue
    best = variant
    least = verdict.time
  }
  return best
}

/** Such as `relaxed-i16 (self-test passed; simd128 1.31x slower; relaxed-i32: wrong results, not used)`. */
export function describeChoice(variant: KernelVariant, report: SelfTestReport, named: boolean): string {
  const own = report[variant]
  const others = KERNEL_VARIANTS.filter((other) => other !== variant).map((other) => {
    const verdict = report[other]
    if (verdict.result === 'passed' && own.result === 'passed') {
      const times = verdict.time / own.time
      return `${other} ${times >= 1 ? `${times.toFixed(2)}x slower` : `${(1 / times).toFixed(2)}x faster`}`
    }
    if (verdict.result === 'wrong') return `${other}: wrong results, not used`
    if (verdict.result === 'unsupported') return `${other}: not supported by ${runtimeName()} ${runtimeVersion()}`
    return `${other}: optimised code not seen, not used`
  })
  return `${variant} (${[`self-test passed${named ? ', set by COPPICE_KERNELS' : ''}`, ...others].join('; ')})`
}

/** The report of the cache, else a new one. */
function currentReport(): SelfTestReport {
  const figures = figuresOf<SelfTestReport>({
    folder: 'kernels',
    situation: [`${runtimeName()} ${runtimeVersion()}`, ...engineFlags(), processor(), `kernels ${KERNEL_BUILD}`],
    isValid: (report) => KERNEL_VARIANTS.every((variant) => isVerdict(report[variant])),
  })
  const known = figures.read()
  if (known !== undefined) return known
  const report = selfTest((variant, memory) => {
    const module = compiled(variant)
    return module === undefined ? undefined : instantiateKernels(memory, module)
  })
  // Tomorrow the machine may be less busy.
  if (Object.values(report).every(({ result }) => result !== 'unproven')) figures.write(report)
  return report
}

function compiled(variant: KernelVariant): WebAssembly.Module | undefined {
  try {
    return compileKernelsAfresh(variant)
  } catch (error) {
    if (error instanceof WebAssembly.CompileError) return undefined
    throw error
  }
}

function isVerdict(value: Verdict | undefined): boolean {
  if (value?.result === 'passed') return Number.isFinite(value.time) && value.time > 0
  return value?.result === 'wrong' || value?.result === 'unsupported'
}
