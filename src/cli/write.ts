/** One text, to its end or to Ctrl-C. */
import { AbortError, type Completion, type GenerateOptions, type Model, type Piece, type Prompt } from '../index.ts'

export interface Written {
  readonly completion: Completion
  /** Then the completion is what was written until the interruption. */
  readonly interrupted: boolean
}

/** Throws what `generate` throws, but for the interruption of a text that was begun. */
export async function write(
  model: Model,
  prompt: Prompt,
  options: GenerateOptions,
  onPiece: (piece: Piece) => void,
): Promise<Written> {
  const pieces = model.generate(prompt, options)
  try {
    for (;;) {
      const next = await pieces.next()
      if (next.done) return { completion: next.value, interrupted: false }
      onPiece(next.value)
    }
  } catch (error) {
    if (error instanceof AbortError && error.partial !== undefined) {
      return { completion: error.partial, interrupted: true }
    }
    throw error
  }
}
