/** The texts that every runtime must write bit for bit: what is asked for, and how it is written down. */
import { join } from 'node:path'
import type { CallOptions } from '../../src/engine/protocol.ts'
import { compileKernels } from '../../src/tensor/kernel-modules.ts'
import type { KernelVariant } from '../../src/tensor/kernels.ts'
import type { Kind } from '../../src/tensor/layout.ts'
import { openInline } from '../engine/harness.ts'
import { root } from '../paths.ts'
import { TARGET } from './models.ts'

export const GOLDEN_FILE = join(root, 'test', 'e2e', 'golden.json')

export interface GoldenText {
  readonly weights: Kind
  readonly call: string
  readonly prompt: string
  readonly tokens: readonly number[]
  readonly text: string
  /** The tokens' log-probabilities as the 16 hexadecimal digits of each double. */
  readonly logprobs: readonly string[]
}

const PROMPTS = [
  'The old house stood at the end of the lane, and',
  'def add(a, b):\n',
  '<|im_start|>user\nWhat is 12 plus 30?<|im_end|>\n<|im_start|>assistant\n',
]

const CALLS: readonly [string, Partial<CallOptions>][] = [
  ['greedy', { temperature: 0 }],
  ['sampled', { temperature: 0.8, seed: 42 }],
  ['sampled with penalties', { temperature: 1.1, topK: 40, minP: 0.02, repeatPenalty: 1.15, seed: 7 }],
]

const bitsOf = (value: number): string => {
  const view = new DataView(new ArrayBuffer(8))
  view.setFloat64(0, value)
  return view.getBigUint64(0).toString(16).padStart(16, '0')
}

/** Writes the texts by plain decoding, on this thread. */
export function writeGoldenTexts(weights: Kind, variant: KernelVariant = 'simd128'): GoldenText[] {
  const model = openInline(TARGET, { weights, context: 128, kernels: compileKernels(variant) })
  return PROMPTS.flatMap((prompt) =>
    CALLS.map(([call, options]) => {
      const { tokens, text, pieces } = model.generate(prompt, { maxTokens: 24, logprobs: true, ...options })
      return { weights, call, prompt, tokens, text, logprobs: pieces.map((piece) => bitsOf(piece.logprob!)) }
    }),
  )
}
