/** Checks of options that are numbers. */
import { CoppiceError } from '../errors.ts'

/** @throws CoppiceError INVALID_OPTION */
export function integerOption(name: string, value: number, least: number, most: number): number {
  if (!Number.isInteger(value) || value < least || value > most) {
    throw new CoppiceError('INVALID_OPTION', `${name} must be an integer from ${least} to ${most}, not ${value}`)
  }
  return value
}
