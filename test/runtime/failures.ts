import * as assert from 'uvu/assert'
import { CoppiceError, type ErrorCode } from '../../src/errors.ts'

/** The coded error that `action` throws; anything else fails the test. */
export function assertFails(action: () => unknown, code: ErrorCode): CoppiceError {
  try {
    action()
  } catch (error) {
    assert.instance(error, CoppiceError)
    assert.is((error as CoppiceError).code, code)
    return error as CoppiceError
  }
  throw new assert.Assertion({
    message: `expected a ${code} error`,
    operator: 'throws',
    generated: false,
    actual: undefined,
    expects: code,
  })
}
