/** Tests of what the variants of the kernels compute in different ways, on every one that this engine runs. */
import type { uvu } from 'uvu'
import { runtimeName, runtimeVersion } from '../../src/runtime/platform.ts'
import { compileKernels } from '../../src/tensor/kernel-modules.ts'
import { KERNEL_VARIANTS, type KernelVariant } from '../../src/tensor/kernels.ts'
import { answersAreRight } from '../../src/tensor/self-test.ts'
import { announceSkip } from '../e2e/models.ts'
import { Bench } from './harness.ts'

/** Behind its flag, the baseline compiler of Node 20 doubles the sums of relaxed dot products (src/tensor/self-test.ts). */
const isKnownToBeWrong = (variant: KernelVariant): boolean =>
  variant === 'relaxed-i32' && runtimeName() === 'node' && runtimeVersion().startsWith('20.')

/**
 * Why a variant is left out here: an engine without relaxed SIMD, or its one bug that is known.
 * @throws Error when a variant is wrong for another reason, which is ours
 */
function problemOf(variant: KernelVariant): string | undefined {
  try {
    if (answersAreRight(compileKernels(variant))) return undefined
  } catch (error) {
    if (error instanceof WebAssembly.CompileError && variant !== 'simd128') return 'cannot be compiled by this engine'
    throw error
  }
  if (isKnownToBeWrong(variant)) return 'WRONG RESULTS, by the known bug of Node 20'
  throw new Error(`kernels ${variant}: wrong results on ${runtimeName()} ${runtimeVersion()}`)
}

/** The variants that can be used here; says loudly which cannot. */
export const usableVariants: readonly KernelVariant[] = KERNEL_VARIANTS.filter((variant) => {
  const problem = problemOf(variant)
  if (problem !== undefined) announceSkip(`kernels ${variant}: ${problem}`)
  return problem === undefined
})

/**
 * @param use takes the variant's kernels before each run
 * @returns a function that registers a test once per variant
 */
export function everyVariant<T>(
  test: uvu.Test<T>,
  use: (bench: Bench) => void,
): (name: string, run: () => void | Promise<void>) => void {
  const benches = new Map(usableVariants.map((variant) => [variant, new Bench(16, variant)]))
  return (name, run) => {
    for (const variant of KERNEL_VARIANTS) {
      const bench = benches.get(variant)
      if (bench === undefined) {
        test.skip(`${variant}: ${name}`, () => {})
        continue
      }
      test(`${variant}: ${name}`, () => {
        use(bench)
        return run()
      })
    }
  }
}
