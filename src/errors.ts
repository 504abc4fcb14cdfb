/** Every failure that coppice reports on purpose. The code is stable; the message is for people. */
export type ErrorCode =
  | 'MODEL_NOT_FOUND'
  | 'UNSUPPORTED_ARCHITECTURE'
  | 'UNSUPPORTED_FORMAT'
  | 'UNSUPPORTED_RUNTIME'
  | 'CORRUPT_FILE'
  | 'FILE_SYSTEM'
  | 'OUT_OF_BUDGET'
  | 'CONTEXT_OVERFLOW'
  | 'INCOMPATIBLE_DRAFT'
  | 'INCOMPATIBLE_STATE'
  | 'INVALID_OPTION'
  | 'INVALID_INPUT'
  | 'NO_TOKENIZER'
  | 'NO_CHAT_TEMPLATE'
  | 'WORKER_FAILED'
  | 'CLOSED'
  | 'ABORTED'

/**
 * An error with a stable `code`. The message says what was expected, what was found, where, and
 * what to do about it.
 */
export class CoppiceError extends Error {
  readonly code: ErrorCode

  constructor(code: ErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options)
    this.name = 'CoppiceError'
    this.code = code
  }
}
