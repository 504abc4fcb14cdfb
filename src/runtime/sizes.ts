/** Byte sizes as people write them. */
import { CoppiceError } from '../errors.ts'

/** Bytes per unit: powers of 1000 for SI prefixes, of 1024 for binary ones (IEC 80000-13). */
const UNITS: Readonly<Record<string, number>> = {
  '': 1,
  b: 1,
  k: 1e3,
  kb: 1e3,
  m: 1e6,
  mb: 1e6,
  g: 1e9,
  gb: 1e9,
  t: 1e12,
  tb: 1e12,
  kib: 2 ** 10,
  mib: 2 ** 20,
  gib: 2 ** 30,
  tib: 2 ** 40,
}

/**
 * '22MB', '1.5 GiB', '4096': bytes, rounded down to a whole number. Case does not matter.
 * @throws CoppiceError INVALID_OPTION
 */
export function parseBytes(text: string): number {
  const match = /^(\d+(?:\.\d+)?|\.\d+)\s*([a-z]*)$/i.exec(text.trim())
  const unit = match === null ? undefined : UNITS[match[2].toLowerCase()]
  const bytes = match === null || unit === undefined ? Number.NaN : Math.floor(Number(match[1]) * unit)
  if (!Number.isSafeInteger(bytes)) {
    throw new CoppiceError(
      'INVALID_OPTION',
      `"${text}" is not a size; write a number of bytes or use a unit, such as 22MB, 512MiB or 1.5GB`,
    )
  }
  return bytes
}

const STEPS = ['B', 'kB', 'MB', 'GB', 'TB', 'PB']

/** For people: '0 B', '999 B', '1.23 kB', '29.4 MB', '512 MB'. Three significant digits, powers of 1000. */
export function formatBytes(bytes: number): string {
  if (bytes < 0) return `-${formatBytes(-bytes)}`
  let value = bytes
  let step = 0
  // 999.5 would be shown as 1000.
  while (value >= 999.5 && step < STEPS.length - 1) {
    value /= 1000
    step++
  }
  if (step === 0) return `${Math.round(value)} B`
  const decimals = value < 9.995 ? 2 : value < 99.95 ? 1 : 0
  return `${value.toFixed(decimals)} ${STEPS[step]}`
}
