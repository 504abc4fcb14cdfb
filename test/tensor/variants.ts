/** Tests of what the variants of the kernels compute in different ways, on every one that this engine can be trusted with. */
import type { uvu } from 'uvu'
import { compileKernels } from '../../src/tensor/kernel-modules.ts'
import { KERNEL_VARIANTS, type KernelVariant } from '../../src/tensor/kernels.ts'
import { answersAreRight } from '../../src/tensor/self-test.ts'
import { announceSkip } from '../e2e/models.ts'
import { Bench } from './harness.ts'

/** Why a variant cannot be used here. */
function problemOf(variant: KernelVariant): string | undefined {
  try {
    return answersAreRight(compileKernels(variant)) ? undefined : 'gives wrong results on this engine'
  } catch (error) {
    if (error instanceof WebAssembly.CompileError) return 'cannot be compiled by this engine'
    throw error
  }
}

const problems = new Map(KERNEL_VARIANTS.map((variant) => [variant, problemOf(variant)]))

/** The variants that can be used here; says loudly which cannot. `simd128` always must. */
export const usableVariants: readonly KernelVariant[] = KERNEL_VARIANTS.filter((variant) => {
  const problem = problems.get(variant)
  if (problem !== undefined) announceSkip(`kernels ${variant}: ${problem}`)
  return problem === undefined || variant === 'simd128'
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
