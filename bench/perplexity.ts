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

/** How near a model's logits are to those of a model that should be the same. */
export interface Nearness {
  readonly tokens: number
  /** Largest of any two logits. */
  readonly difference: number
  /** Share of the tokens after which both find the same token likeliest. */
  readonly agreement: number
  /** The same where the reference's best logit is more than CLEAR_MARGIN above its second. */
  readonly clearAgreement: number
}

/** Logits that are nearer may change places by the order of sums. */
const CLEAR_MARGIN = 1e-3

export async function compareLogits(
  model: Predict,
  reference: Predict,
  windows: readonly (readonly number[])[],
): Promise<Nearness> {
  let tokens = 0
  let difference = 0
  let agreeing = 0
  let clear = 0
  let clearAgreeing = 0
  for (const window of windows) {
    const [said, expected] = [await model(window), await reference(window)]
    for (let row = 0; row < window.length; row++) {
      const [a, b] = [rowOf(expected, row), rowOf(said, row)]
      const best = likeliest(a)
      const second = a.reduce((most, value, id) => (id === best ? most : Math.max(most, value)), -Infinity)
      const agrees = likeliest(b) === best ? 1 : 0
      difference = a.reduce((most, value, id) => Math.max(most, Math.abs(value - b[id])), difference)
      tokens++
      agreeing += agrees
      if (a[best] - second <= CLEAR_MARGIN) continue
      clear++
      clearAgreeing += agrees
    }
  }
  return { tokens, difference, agreement: agreeing / tokens, clearAgreement: clearAgreeing / clear }
}

const rowOf = ({ data, vocab }: Logits, row: number): Float32Array => data.subarray(row * vocab, (row + 1) * vocab)

/** Natural logarithms of one row's probabilities, in f64. */
function logSoftmax(logits: Logits, row: number): Float64Array {
  const values = Float64Array.from(rowOf(logits, row))
  const largest = values.reduce((a, b) => Math.max(a, b))
  const logSum = largest + Math.log(values.reduce((sum, value) => sum + Math.exp(value - largest), 0))
  return values.map((value) => value - logSum)
}

function likeliest(values: Float32Array | Float64Array): number {
  let best = 0
  for (let id = 1; id < values.length; id++) if (values[id] > values[best]) best = id
  return best
}
