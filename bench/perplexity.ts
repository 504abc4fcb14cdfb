/** How well a model predicts a text, and how far its predictions are from another model's. */
import type { Logits } from '../src/index.ts'

/** What a model says after each of the tokens. */
export type Predict = (tokens: readonly number[]) => Logits | Promise<Logits>

export interface Quality {
  /** Tokens predicted. */
  readonly tokens: number
  /** exp of the mean of -ln p(token | tokens before it in its window). */
  readonly perplexity: number
  /** Mean over the tokens of KL(reference || model), in nats. */
  readonly divergence: number
  /** Share of the tokens for which model and reference find the same token likeliest. */
  readonly agreement: number
}

/**
 * Windows of at most `size` tokens. Each begins with the last token of the one before it, so that
 * every token but the text's first is predicted once.
 */
export function windowsOf(tokens: readonly number[], size: number): number[][] {
  const windows: number[][] = []
  for (let start = 0; start < tokens.length - 1; start += size - 1) windows.push(tokens.slice(start, start + size))
  return windows
}

/** Measures `model` over the windows, next to `reference`; compare a model with itself for its perplexity alone. */
export async function measureQuality(
  model: Predict,
  reference: Predict,
  windows: readonly (readonly number[])[],
): Promise<Quality> {
  let tokens = 0
  let surprise = 0
  let divergence = 0
  let agreeing = 0
  for (const window of windows) {
    const said = await model(window)
    const expected = model === reference ? said : await reference(window)
    for (let row = 0; row + 1 < window.length; row++) {
      const p = logSoftmax(expected, row)
      const q = logSoftmax(said, row)
      tokens++
      surprise -= q[window[row + 1]]
      divergence += p.reduce((sum, value, id) => sum + Math.exp(value) * (value - q[id]), 0)
      if (likeliest(p) === likeliest(q)) agreeing++
    }
  }
  const perplexity = Math.exp(surprise / tokens)
  return { tokens, perplexity, divergence: divergence / tokens, agreement: agreeing / tokens }
}

/** Natural logarithms of one row's probabilities, in f64. */
function logSoftmax({ data, vocab }: Logits, row: number): Float64Array {
  const values = Float64Array.from(data.subarray(row * vocab, (row + 1) * vocab))
  const largest = values.reduce((a, b) => Math.max(a, b))
  const logSum = largest + Math.log(values.reduce((sum, value) => sum + Math.exp(value - largest), 0))
  return values.map((value) => value - logSum)
}

const likeliest = (values: Float64Array): number => values.reduce((best, v, id) => (v > values[best] ? id : best), 0)
