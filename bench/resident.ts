/** What a process has taken from the machine. */
import { readFileSync } from 'node:fs'

/**
 * The most bytes that this process has had resident. Where Linux tells it is asked: what the runtimes report counts
 * the process that started this one as well.
 */
export function peakResidentBytes(): number {
  try {
    const match = /^VmHWM:\s*(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'utf8'))
    if (match !== null) return Number(match[1]) * 1024
  } catch {
    // Another system.
  }
  return process.resourceUsage().maxRSS * 1024
}
