/** Errors on their way between threads, which would lose their class. */
import { CoppiceError } from '../errors.ts'
import type { ErrorReport } from './protocol.ts'
import type { Completion } from './types.ts'

/** A call that was aborted, with what it had written until then. */
export class AbortError extends CoppiceError {
  readonly partial: Completion | undefined

  constructor(message: string, partial: Completion | undefined, options?: { cause?: unknown }) {
    super('ABORTED', message, options)
    this.name = 'AbortError'
    this.partial = partial
  }
}

export function reportError(error: unknown): ErrorReport {
  if (error instanceof CoppiceError) return { code: error.code, message: error.message }
  return { code: undefined, message: error instanceof Error ? (error.stack ?? error.message) : String(error) }
}

/** @param reason why the call was aborted, if it was */
export function errorFrom(report: ErrorReport, partial?: Completion, reason?: unknown): Error {
  if (report.code === 'ABORTED') return new AbortError(report.message, partial, { cause: reason })
  if (report.code !== undefined) return new CoppiceError(report.code, report.message)
  return new Error(`internal error in the engine: ${report.message}`)
}
