/** Checks of options that are numbers. */
import { CoppiceError } from '../errors.ts'
import { parseBytes } from '../runtime/sizes.ts'

/** @throws CoppiceError INVALID_OPTION */
export function integerOption(name: string, value: number, least: number, most: number): number {
  if (!Number.isInteger(value) || value < least || value > most) {
    throw new CoppiceError('INVALID_OPTION', `${name} must be an integer from ${least} to ${most}, not ${value}`)
  }
  return value
}

/** @param value bytes, or text such as '2GB' @returns whole bytes @throws CoppiceError INVALID_OPTION */
export function sizeOption(name: string, value: number | string): number {
  const bytes = typeof value === 'number' ? value : parseBytes(value)
  if (!Number.isFinite(bytes) || bytes <= 0) {
    throw new CoppiceError(
      'INVALID_OPTION',
      `${name} must be a positive number of bytes or text like '2GB', not ${value}`,
    )
  }
  return Math.floor(bytes)
}
